//! Progress: a bar on a terminal, JSON Lines for programs, one line for whoever sends SIGUSR1.

use std::fs::File;
use std::io::{IsTerminal, Write};
use std::sync::atomic::Ordering;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use calve_convert::{Phase, Progress};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::json;

use crate::args::{ProgressArgs, SandboxArgs};
use crate::exit::{Code, Failure};
use crate::signals::Flags;

/// Tells how far a run is.
pub(crate) struct Reporter {
    flags: &'static Flags,
    state: Mutex<State>,
}

struct State {
    view: View,
    started: Instant,
    last: Option<Instant>,
    stage: Option<Stage>,
}

/// What takes time.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// A phase of the work itself.
    Work(Phase),
    /// Making digests of the sources.
    Digesting,
    /// Sending an object to its store.
    Sending,
    /// Looking at files, of which nobody knows how many there are.
    Scanning,
}

/// How far a stage is, in bytes; in files, where that is what it goes through.
#[derive(Clone, Copy)]
struct Reached {
    stage: Stage,
    done: u64,
    total: u64,
}

/// Where progress is shown.
enum View {
    Nowhere,
    Bar(ProgressBar),
    /// Rewritten percentages, as `qemu-img -p` puts them on a pipe.
    Percent {
        shown: Option<u64>,
    },
    Json(Box<dyn Write + Send>),
}

/// The time between two JSON lines.
const PERIOD: Duration = Duration::from_millis(200);

impl Reporter {
    pub(crate) fn new(args: &ProgressArgs, flags: &'static Flags) -> Result<Self, Failure> {
        let state = State { view: view(args)?, started: Instant::now(), last: None, stage: None };
        Ok(Self { flags, state: Mutex::new(state) })
    }

    /// Takes note of how far the run is, and shows it where it is time to.
    pub(crate) fn tell(&self, Progress { phase, done, total }: Progress) {
        self.reached(Reached { stage: Stage::Work(phase), done, total });
    }

    /// Takes note of how many bytes of a source have gone into its digests.
    pub(crate) fn tell_digested(&self, done: u64, total: u64) {
        self.reached(Reached { stage: Stage::Digesting, done, total });
    }

    /// Takes note of how many bytes of an object were sent.
    pub(crate) fn tell_sent(&self, done: u64, total: u64) {
        self.reached(Reached { stage: Stage::Sending, done, total });
    }

    /// Takes note of how many files have been looked at.
    pub(crate) fn tell_scanned(&self, done: u64) {
        self.reached(Reached { stage: Stage::Scanning, done, total: done });
    }

    fn reached(&self, reached: Reached) {
        let is_asked = self.flags.tell.swap(false, Ordering::Relaxed);
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.show(reached);
        if is_asked {
            let line = match reached.stage {
                Stage::Scanning => format!("    ({} files)", reached.done),
                _ => format!("    ({:.2}/100%)", percent(reached)),
            };
            match &state.view {
                View::Bar(bar) => bar.suspend(|| crate::print::line(&line)),
                _ => crate::print::line(&line),
            }
        }
    }

    /// Ends the display of something that is not all there is to do.
    pub(crate) fn pause(&self) {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if let View::Bar(bar) = &state.view {
            bar.finish_and_clear();
        }
    }

    /// Ends the display. `is_done` says whether all of it was done.
    pub(crate) fn finish(&self, is_done: bool) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        match &mut state.view {
            View::Nowhere => {}
            View::Bar(bar) => bar.finish_and_clear(),
            View::Percent { .. } => {
                let text = if is_done { "    (100.00/100%)\r\n" } else { "\n" };
                // Nobody may be there to see it, and the run does not depend on it.
                let _ = crate::print::out(text);
            }
            View::Json(to) => {
                let phase = if is_done { "done" } else { "failed" };
                let _ = writeln!(to, "{}", json!({ "phase": phase }));
            }
        }
    }
}

/// Refuses to hand a descriptor to a worker, which gets none.
pub(crate) fn refuse_descriptor(args: &ProgressArgs, sandbox: &SandboxArgs) -> Result<(), Failure> {
    if sandbox.untrusted {
        return refuse_any_descriptor(args, "--untrusted");
    }
    Ok(())
}

/// The same for a verb that takes a worker without `--untrusted`. `who` is what has one.
pub(crate) fn refuse_any_descriptor(args: &ProgressArgs, who: &str) -> Result<(), Failure> {
    let mode = args.progress.as_deref().unwrap_or_default();
    if mode.starts_with("json=") {
        let text = format!("{who}: the worker gets no descriptor to tell progress on");
        return Err(Failure::usage(text).next("--progress json tells it on standard error"));
    }
    Ok(())
}

/// Refuses progress on standard output, where `what` goes there, which is for programs.
pub(crate) fn refuse_mixed(args: &ProgressArgs, what: &str) -> Result<(), Failure> {
    if args.show || args.progress.as_deref() == Some("bar") {
        return Err(Failure::usage(format!("{what} would be mixed with progress"))
            .next("--progress json tells it on standard error"));
    }
    Ok(())
}

fn view(args: &ProgressArgs) -> Result<View, Failure> {
    let is_terminal = std::io::stderr().is_terminal();
    match args.progress.as_deref() {
        _ if args.quiet => Ok(View::Nowhere),
        Some("none") => Ok(View::Nowhere),
        Some("bar") => Ok(if is_terminal { bar() } else { View::Percent { shown: None } }),
        Some("json") => Ok(View::Json(Box::new(std::io::stderr()))),
        Some(mode) => match mode.strip_prefix("json=").map(str::parse::<u32>) {
            Some(Ok(descriptor)) => Ok(View::Json(Box::new(open_descriptor(descriptor)?))),
            _ => Err(Failure::usage(format!("--progress: '{mode}' is no mode"))
                .next("bar, json, json=FD and none are")),
        },
        None if args.show && is_terminal => Ok(bar()),
        None if args.show => Ok(View::Percent { shown: None }),
        None => Ok(View::Nowhere),
    }
}

fn bar() -> View {
    let bar = ProgressBar::with_draw_target(Some(0), ProgressDrawTarget::stderr());
    View::Bar(bar)
}

fn style(stage: Stage) -> ProgressStyle {
    let template = match stage {
        Stage::Work(Phase::Syncing) => "{msg} {spinner}",
        Stage::Scanning => "{msg} {spinner} {human_pos} files {per_sec}",
        _ => "{msg} {wide_bar} {percent:>3}% {bytes} {bytes_per_sec} ETA {eta}",
    };
    ProgressStyle::with_template(template)
        .unwrap_or_else(|_| ProgressStyle::default_bar())
        .progress_chars("=> ")
}

/// Opens a descriptor that the caller passed, for appending: it may be a file.
fn open_descriptor(number: u32) -> Result<File, Failure> {
    File::options().append(true).open(format!("/dev/fd/{number}")).map_err(|error| {
        Failure::new(Code::Failed, format!("--progress: opening descriptor {number}: {error}"))
    })
}

fn name(stage: Stage) -> &'static str {
    match stage {
        Stage::Work(Phase::Copying) => "copying",
        Stage::Work(Phase::Syncing) => "syncing",
        Stage::Work(Phase::Verifying) => "verifying",
        Stage::Work(Phase::Comparing) => "comparing",
        Stage::Work(Phase::Checking) => "checking",
        Stage::Digesting => "digesting",
        Stage::Sending => "sending",
        Stage::Scanning => "scanning",
    }
}

#[expect(clippy::cast_precision_loss, reason = "two decimals are printed")]
fn percent(reached: Reached) -> f64 {
    if reached.total == 0 {
        return 100.0;
    }
    100.0 * reached.done.min(reached.total) as f64 / reached.total as f64
}

impl State {
    fn show(&mut self, reached: Reached) {
        let is_new_stage = self.stage != Some(reached.stage);
        if is_new_stage {
            (self.stage, self.started) = (Some(reached.stage), Instant::now());
        }
        let now = Instant::now();
        let is_time = is_new_stage
            || (reached.done >= reached.total && reached.stage != Stage::Scanning)
            || self.last.is_none_or(|last| now - last >= PERIOD);
        match &mut self.view {
            View::Nowhere => {}
            View::Bar(bar) => {
                if is_new_stage {
                    bar.set_style(style(reached.stage));
                    bar.set_message(name(reached.stage));
                    bar.reset();
                }
                bar.set_length(reached.total);
                bar.set_position(reached.done);
            }
            View::Percent { shown } => {
                // The percentage of copying is the one that is shown, as programs expect it to
                // rise once.
                #[expect(
                    clippy::cast_possible_truncation,
                    clippy::cast_sign_loss,
                    reason = "0 to 100"
                )]
                let whole = percent(reached) as u64;
                let is_shown = matches!(
                    reached.stage,
                    Stage::Work(Phase::Copying | Phase::Comparing | Phase::Checking)
                );
                if is_shown && shown.is_none_or(|shown| shown < whole) {
                    *shown = Some(whole);
                    let _ = crate::print::out(&format!("    ({:.2}/100%)\r", percent(reached)));
                }
            }
            View::Json(to) => {
                if !is_time {
                    return;
                }
                self.last = Some(now);
                let line = json_line(reached, now - self.started);
                // Who asked for progress and went away does not end the run.
                let _ = writeln!(to, "{line}").and_then(|()| to.flush());
            }
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "a rate needs no 53 bits")]
fn json_line(reached: Reached, elapsed: Duration) -> serde_json::Value {
    let rate = reached.done as f64 / elapsed.as_secs_f64().max(0.001);
    if reached.stage == Stage::Scanning {
        return json!({
            "phase": name(reached.stage),
            "files": reached.done,
            "files-per-second": rate.round(),
        });
    }
    let left = reached.total.saturating_sub(reached.done) as f64;
    json!({
        "phase": name(reached.stage),
        "done": reached.done,
        "total": reached.total,
        "percent": (percent(reached) * 100.0).round() / 100.0,
        "bytes-per-second": rate.round(),
        "eta-seconds": if rate > 0.0 { json!((left / rate).round()) } else { json!(null) },
    })
}
