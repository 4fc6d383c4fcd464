//! `migrate`: carries out a plan, takes a run back, gives ways back up.

mod control;
mod told;
mod view;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use calve_disk::open::escaped;
use calve_migrate::{Cause, Dials, Hooks, Journal, Limits, RunRecord, Settings, Summary};
use calve_plan::{Plan, Window};
use jiff::ZonedDateTime;
use serde_json::json;

use crate::args::{MigrateArgs, Shape};
use crate::command::{plan, scan};
use crate::exit::{self, Code, Failure};
use crate::{print, signals, size};
use told::Teller;

pub(crate) fn run(args: &MigrateArgs, program: &str) -> Result<Code, Failure> {
    let action = &args.action;
    if let Some(number) = action.undo {
        return undo(args, number, program);
    }
    if let Some(number) = action.release {
        return release(args, number, program);
    }
    if action.list {
        return list(args);
    }
    let plan = plan::read(&args.file)?;
    let file = lock(&args.file)?;
    let path = args.journal.clone().unwrap_or_else(|| plan.head.catalogue.0.clone());
    let journal = Journal::open(&path)?;
    let record = begin(&journal, &args.file, &plan)?;
    let done = carry_out(args, (&plan, &record, None), Mutex::new(journal), program);
    drop(file);
    let summary = done?;
    tell(args, &record, &summary)?;
    code(args, &record, &summary, program)
}

/// Locks the plan, so that no two processes carry it out into one journal.
fn lock(path: &Path) -> Result<File, Failure> {
    let failed = |error| Failure::from(calve_disk::Error::host("locking", path, error));
    let file = File::open(path).map_err(failed)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(std::fs::TryLockError::WouldBlock) => {
            let text = format!("{}: is being carried out by another process", path.display());
            Err(Failure::new(Code::InUse, text).next("wait for it, or end it"))
        }
        Err(std::fs::TryLockError::Error(error)) => Err(failed(error)),
    }
}

/// The run of this plan: the one that was begun, or a new one.
fn begin(journal: &Journal, path: &Path, plan: &Plan) -> Result<RunRecord, Failure> {
    let failed = |error| Failure::from(calve_disk::Error::host("reading the plan", path, error));
    let bytes = std::fs::read(path).map_err(failed)?;
    let digest = blake3::hash(&bytes).to_hex().to_string();
    let path = path.canonicalize().map_err(failed)?;
    Ok(journal.begin(&path, &digest, &plan.head.wishes.kept)?)
}

fn settings(args: &MigrateArgs) -> Result<Settings, Failure> {
    let jobs = scan::jobs(args.jobs.as_deref())?.get();
    let per_device = match &args.per_device {
        None => jobs,
        Some(asked) => scan::jobs(Some(asked))?.get(),
    };
    let rate = args.rate_limit.as_deref();
    let rate = rate.map(|rate| size::parse("--rate-limit", rate)).transpose()?;
    Ok(Settings { is_paused: false, jobs, per_device, rate })
}

fn carry_out(
    args: &MigrateArgs,
    (plan, record, places): (&Plan, &RunRecord, Option<&[usize]>),
    journal: Mutex<Journal>,
    program: &str,
) -> Result<Summary, Failure> {
    let dials = Dials::new(settings(args)?);
    if !(0.0..=100.0).contains(&args.max_failures) {
        return Err(Failure::usage("--max-failures: is not a share from 0 to 100"));
    }
    let window = plan.head.wishes.window.filter(|_| !args.any_time);
    let is_open = || window.is_none_or(is_now);
    let limits = Limits {
        canary: args.canary,
        most_failures: args.max_failures / 100.0,
        is_open: &is_open,
        places,
    };
    if !is_open() && !args.quiet {
        let window = window.map(|window| window.to_string()).unwrap_or_default();
        print::note(program, &format!("waiting for the hours {window}; --any-time does not"));
    }
    let hooks = Hooks { before: args.before.clone(), after: args.after.clone() };
    let flags = signals::install()?;
    let teller = Teller::new(args, plan, record.number, program)?;
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
        calve_migrate::run((plan, record), &journal, (&limits, &dials, &hooks), &flags.stop, &tell)
    })?;
    teller.finish(&summary)?;
    Ok(summary)
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

fn tell(args: &MigrateArgs, run: &RunRecord, summary: &Summary) -> Result<(), Failure> {
    match args.output {
        Shape::Json => print::json(&told::summary(run.number, summary)),
        Shape::Human if args.quiet => Ok(()),
        Shape::Human => {
            let families = |count: u64| match count {
                1 => "1 family".to_owned(),
                count => format!("{count} families"),
            };
            let mut line = format!("run {}: {} migrated", run.number, families(summary.done));
            for (count, what) in [
                (summary.known, "were before"),
                (summary.failures(), "failed and are as they were"),
                (summary.left, "were not begun"),
            ] {
                if count > 0 {
                    line.push_str(&format!(", {count} {what}"));
                }
            }
            print::out(&print::wrapped(&line, 0))
        }
    }
}

/// What the run ends with, and what is to be said of it.
fn code(
    args: &MigrateArgs,
    run: &RunRecord,
    summary: &Summary,
    program: &str,
) -> Result<Code, Failure> {
    if summary.failed.contains_key(&Cause::Mismatch) {
        let text = summary.halted.clone().unwrap_or_default();
        return Err(Failure::new(Code::Mismatch, text).next(
            "its family is as it was; test this machine's memory and disks before anything else",
        ));
    }
    if signals::received().is_some() {
        return Err(exit::stopped().next("run the same again to go on"));
    }
    if let Some(why) = &summary.halted {
        return Err(Failure::new(Code::Partly, why.clone())
            .next("look at the failures, then run the same again"));
    }
    if summary.left > 0 {
        let text = format!("stopped: {} families were not begun", summary.left);
        return Err(Failure::new(Code::Partly, text).next("run the same again to go on"));
    }
    if summary.failures() > 0 {
        return Ok(Code::Partly);
    }
    if let Some(count) = args.canary.filter(|_| !args.quiet) {
        let text = format!(
            "only {count} families of each kind were meant: look at them, then go on without \
             --canary, or take them back: --undo {}",
            run.number
        );
        print::note(program, &text);
    }
    Ok(if summary.missing > 0 { Code::Losses } else { Code::Done })
}

/// The journal of a plan, or that in a catalogue.
fn journal_of(args: &MigrateArgs) -> Result<Journal, Failure> {
    let path = match &args.journal {
        Some(path) => path.clone(),
        None => match plan::read(&args.file) {
            Ok(plan) => plan.head.catalogue.0,
            Err(_) => args.file.clone(),
        },
    };
    if !path.exists() {
        let text = format!("{}: there is no such journal", path.display());
        return Err(Failure::new(Code::Failed, text).next("name it with --journal"));
    }
    Ok(Journal::open(&path)?)
}

fn undo(args: &MigrateArgs, number: i64, program: &str) -> Result<Code, Failure> {
    let journal = Mutex::new(journal_of(args)?);
    let _lock = lock_run(&journal, number)?;
    let undone = calve_migrate::undo(&journal, number, args.force)?;
    for (family, why) in &undone.failed {
        print::note(program, &format!("family {family} was not taken back: {why}"));
    }
    match args.output {
        Shape::Json => {
            let failed = undone.failed.iter();
            let failed: Vec<_> =
                failed.map(|(family, why)| json!({ "family": family, "problem": why })).collect();
            print::json(&json!({ "run": number, "images": undone.images, "failed": failed }))?;
        }
        Shape::Human if args.quiet => {}
        Shape::Human => {
            print::out(&format!("run {number}: {} images are what they were\n", undone.images))?;
        }
    }
    Ok(if undone.failed.is_empty() { Code::Done } else { Code::Partly })
}

fn release(args: &MigrateArgs, number: i64, program: &str) -> Result<Code, Failure> {
    let journal = Mutex::new(journal_of(args)?);
    let _lock = lock_run(&journal, number)?;
    let released = calve_migrate::release(&journal, number, args.force)?;
    for why in &released.failed {
        print::note(program, &format!("not released: {why}"));
    }
    if released.waiting > 0 && !args.quiet {
        let text = format!("{} images are kept for some more days", released.waiting);
        print::note(program, &text);
    }
    match args.output {
        Shape::Json => print::json(&json!({
            "run": number, "images": released.images, "freed-bytes": released.bytes,
            "waiting": released.waiting, "failed": released.failed,
        }))?,
        Shape::Human if args.quiet => {}
        Shape::Human => {
            let bytes = print::size(released.bytes);
            let text = format!("run {number}: {} images released, {bytes} free", released.images);
            print::out(&format!("{text}\n"))?;
        }
    }
    Ok(if released.failed.is_empty() { Code::Done } else { Code::Partly })
}

/// Locks the plan of a run, where it is still there.
fn lock_run(journal: &Mutex<Journal>, number: i64) -> Result<Option<File>, Failure> {
    let run = journal.lock().unwrap_or_else(PoisonError::into_inner).run(number)?;
    let plan: Option<PathBuf> = run.map(|run| run.plan).filter(|plan| plan.exists());
    plan.map(|plan| lock(&plan)).transpose()
}

fn list(args: &MigrateArgs) -> Result<Code, Failure> {
    let journal = journal_of(args)?;
    let (mut text, mut documents) = (String::new(), Vec::new());
    for run in journal.runs()? {
        let families = journal.families(run.number)?;
        let mut counts = std::collections::BTreeMap::new();
        for family in &families {
            *counts.entry(family.state.word()).or_insert(0_u64) += 1;
        }
        let state = match (run.undone, run.ended) {
            (Some(_), _) => "taken back",
            (None, Some(_)) => "done",
            (None, None) => "not done",
        };
        let plan = escaped(run.plan.as_os_str().as_encoded_bytes());
        let words: Vec<String> = counts.iter().map(|(word, it)| format!("{it} {word}")).collect();
        text.push_str(&format!("run {}: {state}, {plan}\n", run.number));
        text.push_str(&print::wrapped(&words.join(", "), 4));
        documents.push(json!({
            "run": run.number, "plan": plan, "began": run.began, "ended": run.ended,
            "undone": run.undone, "families": counts,
        }));
    }
    match args.output {
        Shape::Human => print::out(&text)?,
        Shape::Json => print::json(&json!(documents))?,
    }
    Ok(Code::Done)
}
