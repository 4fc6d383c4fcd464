//! What `migrate` and `work` have in common: a plan, or some families of it, is carried out.

use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use calve_disk::may_replace;
use calve_migrate::{
    Budget, Cause, Configurations, Dials, Hooks, Journal, Limits, RunRecord, Settings, Summary,
};
use calve_plan::{Plan, Window};
use jiff::{SignedDuration, ZonedDateTime};

use super::told::{self, EventFile, Teller};
use super::{control, view};
use crate::args::CarryArgs;
use crate::command::scan;
use crate::exit::{Code, Failure};
use crate::{print, signals, size, store};

/// The run of a plan with this digest: the one that was begun, or a new one.
pub(crate) fn begin(
    journal: &Journal,
    path: &Path,
    (plan, digest): (&Plan, &str),
) -> Result<RunRecord, Failure> {
    let path = path
        .canonicalize()
        .map_err(|error| Failure::from(calve_disk::Error::host("reading the plan", path, error)))?;
    Ok(journal.begin(&path, digest, &plan.head.wishes.kept)?)
}

/// What the words of a command line mean.
pub(crate) struct Understood {
    settings: Settings,
    budget: Budget,
    /// The share of families that may fail, 0 to 1.
    most_failures: f64,
    /// Where events go.
    events: Option<EventFile>,
}

/// Finds words that make no sense, and files that cannot be had, before anything is begun.
pub(crate) fn understand(args: &CarryArgs) -> Result<Understood, Failure> {
    if !(0.0..=100.0).contains(&args.max_failures) {
        return Err(Failure::usage("--max-failures: is not a share from 0 to 100"));
    }
    if let Some(path) = &args.metrics {
        may_replace(path)?;
    }
    let (settings, budget) = (settings(args)?, budget(args)?);
    let events = args.events.as_deref().map(told::open_events).transpose()?;
    Ok(Understood { settings, budget, most_failures: args.max_failures / 100.0, events })
}

fn settings(args: &CarryArgs) -> Result<Settings, Failure> {
    let jobs = scan::jobs(args.jobs.as_deref())?.get();
    let per_device = match &args.per_device {
        None => jobs,
        Some(asked) => scan::jobs(Some(asked))?.get(),
    };
    let rate = args.rate_limit.as_deref();
    let rate = rate.map(|rate| size::parse("--rate-limit", rate)).transpose()?;
    if rate == Some(0) {
        return Err(Failure::usage("--rate-limit: 0 bytes a second is no rate")
            .next("leave it away for no limit; --control pauses a run"));
    }
    Ok(Settings { is_paused: false, jobs, per_device, rate })
}

fn budget(args: &CarryArgs) -> Result<Budget, Failure> {
    let bytes = args.max_bytes.as_deref();
    let bytes = bytes.map(|text| size::parse("--max-bytes", text)).transpose()?;
    let duration = args.max_duration.as_deref().map(duration).transpose()?;
    Ok(Budget { duration, bytes })
}

/// A length of time, as people write it.
fn duration(text: &str) -> Result<Duration, Failure> {
    let parsed = text.parse::<SignedDuration>().ok();
    parsed.and_then(|duration| duration.try_into().ok()).ok_or_else(|| {
        Failure::usage(format!("--max-duration: '{text}' is no length of time"))
            .next("write 30s, 90m, or 2h 30m")
    })
}

/// What came of families, and whether it could be told to the end.
pub(crate) type Carried = (Summary, Result<(), Failure>);

/// Carries out a plan, or the families at `places` of it.
pub(crate) fn carry_out(
    (args, understood): (&CarryArgs, Understood),
    canary: Option<usize>,
    (plan, record, places): (&Plan, &RunRecord, Option<&[usize]>),
    journal: &Mutex<Journal>,
    configurations: Option<&Configurations>,
    program: &str,
) -> Result<Carried, Failure> {
    let dials = Dials::new(understood.settings);
    let window = plan.head.wishes.window.filter(|_| !args.any_time);
    let is_open = || window.is_none_or(is_now);
    let limits = Limits {
        canary,
        most_failures: understood.most_failures,
        is_open: &is_open,
        places,
        budget: understood.budget,
        digests: args.digests,
        stores: store::stores(),
    };
    if !is_open() && !args.quiet {
        let window = window.map(|window| window.to_string()).unwrap_or_default();
        print::note(program, &format!("waiting for the hours {window}; --any-time does not"));
    }
    let hooks =
        Hooks { before: args.before.clone(), after: args.after.clone(), are_heard: args.live };
    let flags = signals::install()?;
    let teller = Teller::new((args, understood.events), plan, record.number, program);
    let window = teller.screen().map(|_| view::Window::open()).transpose()?;
    let over = AtomicBool::new(false);
    let listener = args.control.as_deref().map(control::Listener::bind).transpose()?;
    let pause = signals::install_pause()?;
    let summary = std::thread::scope(|scope| {
        // Whatever becomes of the run, nobody waits for more of it.
        let _over = Over(&over);
        if let Some((screen, window)) = teller.screen().zip(window) {
            scope.spawn(|| window.show(screen, &dials, &over));
        }
        scope.spawn(|| control::serve(listener, &dials, &pause, (&flags.stop, &over), &teller));
        let tell = |event: &calve_migrate::Event<'_>| teller.tell(event);
        calve_migrate::run(
            (plan, record),
            journal,
            (&limits, &dials, &hooks),
            configurations,
            &flags.stop,
            &tell,
        )
    })?;
    let told = teller.finish(&summary);
    Ok((summary, told))
}

/// What a run ends with where it could not be told as well: how it went comes first, and what kept it
/// from being told is a note.
pub(crate) fn ended(
    code: Result<Code, Failure>,
    told: Result<(), Failure>,
    program: &str,
) -> Result<Code, Failure> {
    match (code, told) {
        (Ok(Code::Done), Err(failure)) => Err(failure),
        (code, Err(failure)) => {
            print::note(program, &failure.text);
            code
        }
        (code, Ok(())) => code,
    }
}

/// Says at its end that a run is over.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Whether it is in these hours now.
fn is_now(window: Window) -> bool {
    let now = ZonedDateTime::now();
    let minute = i32::from(now.hour()) * 60 + i32::from(now.minute());
    window.holds(minute.unsigned_abs())
}

/// A run as a line for people; `of` says which, and `left` how many version 1 images are not meant.
pub(crate) fn line(of: &str, summary: &Summary, left: u64) -> String {
    if [summary.done, summary.known, summary.failures(), summary.left] == [0; 4] {
        let left = match left {
            0 => String::new(),
            1 => ": 1 image is left as it is".into(),
            left => format!(": {left} images are left as they are"),
        };
        return print::wrapped(&format!("{of}: nothing to do{left}"), 0);
    }
    let mut line = format!("{of}: {} migrated", print::families(summary.done));
    for (count, what) in [
        (summary.known, "were before"),
        (summary.failures() - summary.open, "failed and are as they were"),
        (summary.open, "failed and are half way"),
        (summary.left, "were not begun"),
    ] {
        if count > 0 {
            line.push_str(&format!(", {count} {what}"));
        }
    }
    print::wrapped(&line, 0)
}

/// What a run ends with; `again` is the command that goes on with it, and `stopped` what a signal makes
/// of it.
pub(crate) fn code(
    summary: &Summary,
    again: &str,
    stopped: impl FnOnce(u8) -> Option<Failure>,
) -> Result<Code, Failure> {
    if summary.failed.contains_key(&Cause::Mismatch) {
        let text = summary.halted.clone().unwrap_or_default();
        return Err(Failure::new(Code::Mismatch, text)
            .next("test this machine's memory and disks before anything else"));
    }
    if let Some(failure) = signals::received().and_then(stopped) {
        return Err(failure);
    }
    let open = summary.open.saturating_sub(summary.stuck);
    if open > 0 {
        let families = print::families(open);
        let text = format!("{families} could neither be migrated nor be taken back at once");
        return Err(Failure::new(Code::Later, text)
            .next("nothing is lost; run the same again to go on from there"));
    }
    if let Some(why) = &summary.halted {
        return Err(Failure::new(Code::Partly, why.clone())
            .next("look at the failures, then run the same again"));
    }
    if summary.is_spent {
        let text = format!("the budget is reached: not begun: {}", print::families(summary.left));
        return Err(Failure::new(Code::Later, text).next("run the same again to go on"));
    }
    if summary.left > 0 {
        let text = format!("stopped: not begun: {}", print::families(summary.left));
        return Err(Failure::new(Code::Partly, text).next("run the same again to go on"));
    }
    if summary.stuck > 0 {
        let families = print::families(summary.stuck);
        let text = format!(
            "{families} left half way 3 times in a row or more, for the cause that is told"
        );
        return Err(Failure::new(Code::Partly, text)
            .next(format!("nothing is lost; remove the cause, then the same again: {again}")));
    }
    if summary.failures() > 0 {
        return Ok(Code::Partly);
    }
    Ok(if summary.missing > 0 { Code::Losses } else { Code::Done })
}

#[cfg(test)]
mod tests {
    use super::duration;

    #[test]
    fn times_are_read_as_people_write_them() {
        for (text, seconds) in [("30s", 30), ("90m", 5400), ("2h 30m", 9000), ("PT1H", 3600)] {
            assert_eq!(duration(text).expect("a time").as_secs(), seconds, "{text}");
        }
        for text in ["", "5", "-5s", "soon"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }
}
