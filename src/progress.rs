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
    phase: Option<Phase>,
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
        let state = State { view: view(args)?, started: Instant::now(), last: None, phase: None };
        Ok(Self { flags, state: Mutex::new(state) })
    }

    /// Takes note of how far the run is, and shows it where it is time to.
    pub(crate) fn tell(&self, progress: Progress) {
        let is_asked = self.flags.tell.swap(false, Ordering::Relaxed);
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.show(progress);
        if is_asked {
            let line = format!("    ({:.2}/100%)", percent(progress));
            match &state.view {
                View::Bar(bar) => bar.suspend(|| crate::print::line(&line)),
                _ => crate::print::line(&line),
            }
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
    let mode = args.progress.as_deref().unwrap_or_default();
    if sandbox.untrusted && mode.starts_with("json=") {
        return Err(Failure::usage(
            "--untrusted: the worker gets no descriptor to tell progress on",
        )
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

fn style(phase: Phase) -> ProgressStyle {
    let template = match phase {
        Phase::Syncing => "{msg} {spinner}",
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

fn name(phase: Phase) -> &'static str {
    match phase {
        Phase::Copying => "copying",
        Phase::Syncing => "syncing",
        Phase::Verifying => "verifying",
        Phase::Comparing => "comparing",
    }
}

#[expect(clippy::cast_precision_loss, reason = "two decimals are printed")]
fn percent(progress: Progress) -> f64 {
    if progress.total == 0 {
        return 100.0;
    }
    100.0 * progress.done.min(progress.total) as f64 / progress.total as f64
}

impl State {
    fn show(&mut self, progress: Progress) {
        let is_new_phase = self.phase != Some(progress.phase);
        if is_new_phase {
            (self.phase, self.started) = (Some(progress.phase), Instant::now());
        }
        let now = Instant::now();
        let is_time = is_new_phase
            || progress.done >= progress.total
            || self.last.is_none_or(|last| now - last >= PERIOD);
        match &mut self.view {
            View::Nowhere => {}
            View::Bar(bar) => {
                if is_new_phase {
                    bar.set_style(style(progress.phase));
                    bar.set_message(name(progress.phase));
                    bar.reset();
                }
                bar.set_length(progress.total);
                bar.set_position(progress.done);
            }
            View::Percent { shown } => {
                // The percentage of copying is the one that is shown, as programs expect it to
                // rise once.
                #[expect(
                    clippy::cast_possible_truncation,
                    clippy::cast_sign_loss,
                    reason = "0 to 100"
                )]
                let whole = percent(progress) as u64;
                let is_shown = matches!(progress.phase, Phase::Copying | Phase::Comparing);
                if is_shown && shown.is_none_or(|shown| shown < whole) {
                    *shown = Some(whole);
                    let _ = crate::print::out(&format!("    ({:.2}/100%)\r", percent(progress)));
                }
            }
            View::Json(to) => {
                if !is_time {
                    return;
                }
                self.last = Some(now);
                let line = json_line(progress, now - self.started);
                // Who asked for progress and went away does not end the run.
                let _ = writeln!(to, "{line}").and_then(|()| to.flush());
            }
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "a rate needs no 53 bits")]
fn json_line(progress: Progress, elapsed: Duration) -> serde_json::Value {
    let rate = progress.done as f64 / elapsed.as_secs_f64().max(0.001);
    let left = progress.total.saturating_sub(progress.done) as f64;
    json!({
        "phase": name(progress.phase),
        "done": progress.done,
        "total": progress.total,
        "percent": (percent(progress) * 100.0).round() / 100.0,
        "bytes-per-second": rate.round(),
        "eta-seconds": if rate > 0.0 { json!((left / rate).round()) } else { json!(null) },
    })
}
