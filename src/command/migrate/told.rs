//! What a run tells while it goes on: lines for people, JSON Lines, and numbers for Prometheus.

use std::collections::VecDeque;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use calve_disk::PendingFile;
use calve_disk::open::{escaped, shown};
use calve_migrate::{Event, Outcome, Summary};
use calve_plan::{Family, Plan};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::view::Screen;
use crate::args::CarryArgs;
use crate::exit::{Code, Failure};
use crate::{print, writing};

/// How often the file for Prometheus is written anew.
const EVERY: Duration = Duration::from_secs(1);

/// Lines for people that wait while the terminal shows something else.
const MOST_HELD: usize = 200;

/// Tells of events, from any thread.
pub(super) struct Teller {
    program: String,
    run: i64,
    is_shown: bool,
    is_quiet: bool,
    metrics: Option<PathBuf>,
    /// What is shown on the terminal, where that is wanted.
    screen: Option<Mutex<Screen>>,
    state: Mutex<State>,
}

/// What has happened so far.
struct State {
    events: Option<EventFile>,
    /// Counts one up with each event.
    sequence: u64,
    counts: Counts,
    /// When the file for Prometheus was written last.
    written: Option<Instant>,
    problem: Option<Failure>,
    /// Lines for people that wait until the terminal is free, and those of commands, which have
    /// room of their own: one that says much hides no failure.
    held: Held,
    said: Held,
}

/// The last lines of a kind, and how many there were.
#[derive(Default)]
struct Held {
    lines: VecDeque<String>,
    count: usize,
}

impl Held {
    fn add(&mut self, line: String) {
        self.lines.push_back(line);
        self.count += 1;
        if self.lines.len() > MOST_HELD {
            self.lines.pop_front();
        }
    }

    /// Tells them; `where_all` is who has those that are left out.
    fn tell(self, program: &str, where_all: &str) {
        let missing = self.count - self.lines.len();
        if missing > 0 {
            let text = format!("{missing} earlier lines are left out here: {where_all}");
            print::note(program, &text);
        }
        self.lines.iter().for_each(|line| print::line(line));
    }
}

/// Numbers of a run.
#[derive(Clone, Copy, Default)]
struct Counts {
    families: u64,
    active: u64,
    done: u64,
    known: u64,
    failed: u64,
    bytes_done: u64,
    bytes: u64,
}

/// A file that events are appended to.
pub(super) type EventFile = (PathBuf, File);

/// Opens the file for events, and waits for nobody: a pipe that nobody reads is refused.
pub(super) fn open_events(path: &Path) -> Result<EventFile, Failure> {
    let opened = writing::open(File::options().append(true).create(true), path);
    let file = opened.map_err(|error| match writing::unread(&error) {
        Some((why, next)) => {
            Failure::new(Code::Refused, format!("{}: {why}", shown(path))).next(next)
        }
        None => calve_disk::Error::host("opening", path, error).into(),
    })?;
    Ok((path.to_owned(), file))
}

impl Teller {
    pub(super) fn new(
        (args, events): (&CarryArgs, Option<EventFile>),
        plan: &Plan,
        run: i64,
        program: &str,
    ) -> Self {
        let meant = plan.families.iter().filter(|family| family.is_migrated());
        let counts = Counts {
            families: u64::try_from(meant.clone().count()).unwrap_or(u64::MAX),
            bytes: meant.map(Family::bytes).sum(),
            ..Counts::default()
        };
        let state = State {
            events,
            sequence: 0,
            counts,
            written: None,
            problem: None,
            held: Held::default(),
            said: Held::default(),
        };
        Self {
            program: program.to_owned(),
            run,
            is_shown: args.show,
            is_quiet: args.quiet,
            metrics: args.metrics.clone(),
            screen: args.live.then(|| Mutex::new(Screen::new(plan, run))),
            state: Mutex::new(state),
        }
    }

    /// What is shown on the terminal.
    pub(super) fn screen(&self) -> Option<&Mutex<Screen>> {
        self.screen.as_ref()
    }

    /// What is known of the run now, for whoever asks.
    pub(super) fn status(&self) -> Value {
        let counts = self.state.lock().unwrap_or_else(PoisonError::into_inner).counts;
        json!({
            "run": self.run, "families": counts.families, "active": counts.active,
            "done": counts.done, "known": counts.known, "failed": counts.failed,
            "bytes": counts.bytes, "bytes-done": counts.bytes_done,
        })
    }

    pub(super) fn tell(&self, event: &Event<'_>) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.count(event);
        let document = document(event);
        state.append(self.run, document);
        match (self.line(event), &self.screen) {
            (Some(line), None) => print::line(&line),
            (Some(line), Some(_)) => state.held.add(line),
            (None, _) => {}
        }
        if let Some(line) = said(event) {
            state.said.add(line);
        }
        if let Some(screen) = &self.screen {
            screen.lock().unwrap_or_else(PoisonError::into_inner).take(event);
        }
        let is_due = state.written.is_none_or(|written| written.elapsed() >= EVERY);
        if is_due {
            self.write_metrics(&mut state);
        }
    }

    /// Tells how it ended. What could not be told before is a failure now: the images are what the
    /// journal says.
    pub(super) fn finish(&self, summary: &Summary) -> Result<(), Failure> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let mut document = self::summary(self.run, summary);
        document["event"] = json!("summary");
        state.append(self.run, document);
        self.write_metrics(&mut state);
        let kept = match state.events {
            Some(_) => "--events has all",
            None => "--events keeps all of a next run",
        };
        std::mem::take(&mut state.said).tell(&self.program, kept);
        std::mem::take(&mut state.held).tell(&self.program, "the journal has all");
        state.problem.take().map_or(Ok(()), Err)
    }

    /// What people are told of an event.
    fn line(&self, event: &Event<'_>) -> Option<String> {
        if self.is_quiet {
            return None;
        }
        let (program, first) = (&self.program, |family: &Family| {
            let path = family.images.last().map(|image| &image.path.0);
            path.map(|path| shown(path)).unwrap_or_default()
        });
        match event {
            Event::Ended { family, outcome: Outcome::Failed { problem, .. }, .. } => {
                let problem = escaped(problem.as_bytes());
                Some(format!("{program}: family {}, {}: {problem}", family.number, first(family)))
            }
            Event::Ended { family, outcome: Outcome::Done { missing }, seconds } => {
                let missing = match missing {
                    0 => String::new(),
                    bytes => format!(", {bytes} bytes are missing"),
                };
                let images = print::images(u64::try_from(family.images.len()).unwrap_or(u64::MAX));
                let text = format!(
                    "{program}: family {} ({images}), {}: migrated in {seconds:.1} s{missing}",
                    family.number,
                    first(family)
                );
                (self.is_shown || !missing.is_empty()).then_some(text)
            }
            Event::Followed { family, path } => {
                let path = shown(path);
                self.is_shown.then(|| format!("{program}: {path} follows family {family}"))
            }
            Event::Halted { why } => Some(format!("{program}: {why}")),
            _ => None,
        }
    }

    /// Writes the numbers to a new file that takes the place of the old one.
    fn write_metrics(&self, state: &mut State) {
        let Some(path) = &self.metrics else { return };
        state.written = Some(Instant::now());
        let text = metrics(self.run, &state.counts);
        let written = PendingFile::create(path, true, 0o644).and_then(|(mut file, pending)| {
            file.write_all(text.as_bytes())
                .map_err(|error| calve_disk::Error::host("writing", path, error))?;
            pending.take_name(false)
        });
        if let Err(error) = written {
            state.problem.get_or_insert_with(|| error.into());
        }
    }
}

impl State {
    fn count(&mut self, event: &Event<'_>) {
        let counts = &mut self.counts;
        match event {
            Event::Began { .. } => counts.active += 1,
            Event::Ended { family, outcome, .. } => {
                counts.active = counts.active.saturating_sub(1);
                counts.bytes_done += family.bytes();
                match outcome {
                    Outcome::Done { .. } => counts.done += 1,
                    Outcome::Known => counts.known += 1,
                    Outcome::Failed { .. } => counts.failed += 1,
                }
            }
            _ => {}
        }
    }

    fn append(&mut self, run: i64, mut document: Value) {
        let Some((path, file)) = &mut self.events else { return };
        document["sequence"] = json!(self.sequence);
        document["time"] = json!(Timestamp::now().to_string());
        document["run"] = json!(run);
        self.sequence += 1;
        if let Err(error) = file.write_all(format!("{document}\n").as_bytes()) {
            let error = calve_disk::Error::host("writing", path, error);
            self.problem.get_or_insert_with(|| error.into());
        }
    }
}

/// What a command said, as a line for people.
pub(super) fn said(event: &Event<'_>) -> Option<String> {
    match event {
        Event::Said { family, hook, line, cut, .. } => {
            let more = match cut {
                0 => String::new(),
                bytes => format!(" ({bytes} more bytes)"),
            };
            Some(format!("family {family}, {hook}: {}{more}", escaped(line)))
        }
        Event::Unsaid { family, hook, lines, .. } => {
            Some(format!("family {family}, {hook}: {lines} more lines are left out"))
        }
        _ => None,
    }
}

fn document(event: &Event<'_>) -> Value {
    match event {
        Event::Began { family } => {
            let images = family.images.iter();
            let images: Vec<String> = images.map(|image| shown(&image.path.0)).collect();
            json!({ "event": "began", "family": family.number, "images": images })
        }
        Event::Ended { family, outcome, seconds } => {
            let mut document = json!({
                "event": "ended", "family": family.number, "bytes": family.bytes(),
                "seconds": seconds,
            });
            document["outcome"] = json!(match outcome {
                Outcome::Done { .. } => "done",
                Outcome::Known => "known",
                Outcome::Failed { .. } => "failed",
            });
            match outcome {
                Outcome::Done { missing } => document["missing-bytes"] = json!(missing),
                Outcome::Known => {}
                Outcome::Failed { cause, problem, is_open, is_stuck } => {
                    document["is-open"] = json!(is_open);
                    document["is-stuck"] = json!(is_stuck);
                    document["cause"] = json!(cause.word());
                    document["problem"] = json!(escaped(problem.as_bytes()));
                }
            }
            document
        }
        Event::Followed { family, path } => {
            let path = shown(path);
            json!({ "event": "followed", "family": family, "configuration": path })
        }
        Event::Said { family, path, hook, line, cut } => {
            let path = shown(path);
            let mut document = json!({
                "event": "said", "family": family, "image": path, "hook": hook,
                "line": escaped(line),
            });
            if *cut > 0 {
                document["left-out-bytes"] = json!(cut);
            }
            document
        }
        Event::Unsaid { family, path, hook, lines } => {
            let path = shown(path);
            json!({
                "event": "said", "family": family, "image": path, "hook": hook,
                "left-out-lines": lines,
            })
        }
        Event::Halted { why } => json!({ "event": "halted", "why": why }),
    }
}

/// A run in numbers, for programs.
pub(crate) fn summary(run: i64, summary: &Summary) -> Value {
    let failed: serde_json::Map<String, Value> =
        summary.failed.iter().map(|(cause, it)| (cause.word().into(), json!(it))).collect();
    json!({
        "run": run, "done": summary.done, "known": summary.known, "failed": failed,
        "open": summary.open, "stuck": summary.stuck, "left": summary.left, "missing-bytes": summary.missing, "halted": summary.halted,
        "is-spent": summary.is_spent, "followed": summary.followed,
    })
}

fn metrics(run: i64, counts: &Counts) -> String {
    let mut text = String::new();
    for (name, help, value) in [
        ("families", "Families that the plan migrates.", counts.families),
        ("families_active", "Families that were begun and are not over.", counts.active),
        ("families_done", "Families that are migrated.", counts.done),
        ("families_known", "Families that were migrated before.", counts.known),
        ("families_failed", "Families that failed and are as they were.", counts.failed),
        ("bytes", "Bytes of the images of all families.", counts.bytes),
        ("bytes_done", "Bytes of the images of families that are over.", counts.bytes_done),
    ] {
        text.push_str(&format!(
            "# HELP calve_migrate_{name} {help}\n# TYPE calve_migrate_{name} gauge\n\
             calve_migrate_{name}{{run=\"{run}\"}} {value}\n"
        ));
    }
    text
}
