//! `migrate`: carries out a plan, takes a run back, gives ways back up.

pub(crate) mod carry;
pub(crate) mod configurations;
mod control;
pub(crate) mod told;
mod view;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use calve_disk::{folder_of, open::escaped, shell};
use calve_migrate::{Journal, RunRecord, Summary, shard::Shard};
use serde_json::json;

use crate::args::{MigrateArgs, Shape};
use crate::command::plan;
use crate::exit::{self, Code, Failure};
use crate::{print, store};

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
    let understood = carry::understand(&args.carry)?;
    let (plan, digest) = plan::read_whole(&args.file)?;
    let file = lock(&args.file, File::try_lock)?;
    let how = (program, args.carry.quiet);
    let configurations = configurations::find(&args.configs, &plan, how)?;
    let path = args.journal.clone().unwrap_or_else(|| plan.head.catalogue.0.clone());
    if Shard::of_journal(&real(&path)).is_some() {
        let text = format!("{}: is the journal of one shard", path.display());
        return Err(Failure::new(Code::Refused, text).next("calve work goes on with a shard"));
    }
    let journal = Journal::open(&path)?;
    let record = carry::begin(&journal, &args.file, (&plan, &digest))?;
    let (journal, plan) = (Mutex::new(journal), (&plan, &record, None));
    let applied = configurations.as_ref().filter(|_| args.apply_configs);
    let words = (&args.carry, &understood);
    let (summary, told) = carry::carry_out(words, args.canary, plan, &journal, applied, program)?;
    let stopped = |_| Some(exit::stopped().next("run the same again to go on"));
    let words = args.journal.as_ref().map(|path| format!("--journal {} ", shell::path(path)));
    let words = words.unwrap_or_default();
    let again = format!("calve migrate {words}{}", shell::path(&args.file));
    let code = carry::code(&summary, &again, stopped);
    let told = told.and_then(|()| {
        let patch = match configurations.filter(|_| !args.apply_configs) {
            None => None,
            Some(it) => {
                let target = (args.patches.as_deref(), &*args.file);
                Some(configurations::write_patch(target, &it, (&journal, record.number))?)
            }
        };
        tell(args, &record, &summary, patch.as_ref())
    });
    drop(file);
    let code = carry::ended(code, told, program)?;
    if let Some(count) = args.canary.filter(|_| code != Code::Partly && !args.carry.quiet) {
        let text = format!(
            "only {count} families of each kind were meant: look at them, then go on without \
             --canary, or take them back: --undo {}",
            record.number
        );
        print::note(program, &text);
    }
    Ok(code)
}

/// Locks a plan: for one process that carries it out into one journal, or for several that each
/// have a shard.
pub(crate) fn lock(
    path: &Path,
    how: impl FnOnce(&File) -> Result<(), std::fs::TryLockError>,
) -> Result<File, Failure> {
    let failed = |error| Failure::from(calve_disk::Error::host("locking", path, error));
    let file = File::open(path).map_err(failed)?;
    match how(&file) {
        Ok(()) => Ok(file),
        Err(std::fs::TryLockError::WouldBlock) => {
            let text = format!("{}: is being carried out by another process", path.display());
            Err(Failure::new(Code::InUse, text).next("wait for it, or end it"))
        }
        Err(std::fs::TryLockError::Error(error)) => Err(failed(error)),
    }
}

fn tell(
    args: &MigrateArgs,
    run: &RunRecord,
    summary: &Summary,
    patch: Option<&configurations::Patch>,
) -> Result<(), Failure> {
    match args.carry.output {
        Shape::Json => {
            let mut document = told::summary(run.number, summary);
            if let Some(patch) = patch {
                document["patch"] = patch.json();
            }
            print::json(&document)
        }
        Shape::Human if args.carry.quiet => Ok(()),
        Shape::Human => {
            let mut text = carry::line(&format!("run {}", run.number), summary);
            if summary.followed > 0 {
                let files = print::count(summary.followed, "change", "changes");
                text.push_str(&format!("configurations: {files}\n"));
            }
            if let Some(patch) = patch {
                text.push_str(&print::wrapped(&patch.line(AGAIN), 0));
            }
            print::out(&text)
        }
    }
}

/// What may be done in place of taking a patch.
const AGAIN: &str = ", or run the same again with --apply-configs";

/// A journal, and the lock of the shard that it is of.
struct Held {
    journal: Journal,
    shard: Option<(Shard, File)>,
}

/// Where a file really is, where it is.
pub(crate) fn real(path: &Path) -> PathBuf {
    path.canonicalize().unwrap_or_else(|_| path.to_owned())
}

/// The journal of a plan, or that in a catalogue, or of a shard.
fn journal_of(args: &MigrateArgs) -> Result<Held, Failure> {
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
    // A link may bear any name.
    let path = real(&path);
    let Some(shard) = Shard::of_journal(&path) else {
        return Ok(Held { journal: Journal::open(&path)?, shard: None });
    };
    let lock = shard.lock(folder_of(&path))?;
    Ok(Held { journal: Journal::open_alone(&path)?, shard: Some((shard, lock)) })
}

fn undo(args: &MigrateArgs, number: i64, program: &str) -> Result<Code, Failure> {
    let Held { journal, shard } = journal_of(args)?;
    let journal = Mutex::new(journal);
    let _lock = lock_run(&journal, number, shard.is_some())?;
    calve_migrate::can_end(&journal, number)?;
    if let Some((shard, _)) = &shard {
        let path = journal.lock().unwrap_or_else(PoisonError::into_inner).path().to_owned();
        shard.forget_report(folder_of(&path))?;
    }
    let undone = calve_migrate::undo((&journal, &store::stores()), number, args.force)?;
    for (family, why) in &undone.failed {
        print::note(program, &format!("family {family} was not taken back: {why}"));
    }
    for path in &undone.left {
        let path = escaped(path.as_os_str().as_encoded_bytes());
        let why = "was changed by somebody else since, and stays: its images are version 1 again";
        print::note(program, &format!("{path}: {why}"));
    }
    match args.carry.output {
        Shape::Json => {
            let failed = undone.failed.iter();
            let failed: Vec<_> =
                failed.map(|(family, why)| json!({ "family": family, "problem": why })).collect();
            let left = undone.left.iter();
            let left: Vec<_> =
                left.map(|path| escaped(path.as_os_str().as_encoded_bytes())).collect();
            print::json(&json!({
                "run": number, "images": undone.images, "failed": failed,
                "configurations-left": left,
            }))?;
        }
        Shape::Human if args.carry.quiet => {}
        Shape::Human => {
            let text = match undone.images {
                1 => "1 image is what it was".into(),
                images => format!("{images} images are what they were"),
            };
            print::out(&format!("run {number}: {text}\n"))?;
        }
    }
    Ok(if undone.failed.is_empty() { Code::Done } else { Code::Partly })
}

fn release(args: &MigrateArgs, number: i64, program: &str) -> Result<Code, Failure> {
    let Held { journal, shard } = journal_of(args)?;
    let journal = Mutex::new(journal);
    let _lock = lock_run(&journal, number, shard.is_some())?;
    let released = calve_migrate::release((&journal, &store::stores()), number, args.force)?;
    for why in &released.failed {
        print::note(program, &format!("not released: {why}"));
    }
    if released.waiting > 0 && !args.carry.quiet {
        let text = format!("kept for some more days: {}", print::images(released.waiting));
        print::note(program, &text);
    }
    match args.carry.output {
        Shape::Json => print::json(&json!({
            "run": number, "images": released.images, "freed-bytes": released.bytes,
            "waiting": released.waiting, "failed": released.failed,
        }))?,
        Shape::Human if args.carry.quiet => {}
        Shape::Human => {
            let bytes = print::size(released.bytes);
            let images = print::images(released.images);
            let text = format!("run {number}: {images} released, {bytes} free");
            print::out(&format!("{text}\n"))?;
        }
    }
    Ok(if released.failed.is_empty() { Code::Done } else { Code::Partly })
}

/// Locks the plan of a run, where it is still there: against `migrate` alone where a shard is locked
/// by itself.
fn lock_run(
    journal: &Mutex<Journal>,
    number: i64,
    is_shard: bool,
) -> Result<Option<File>, Failure> {
    let how = if is_shard { File::try_lock_shared } else { File::try_lock };
    let run = journal.lock().unwrap_or_else(PoisonError::into_inner).run(number)?;
    let plan: Option<PathBuf> = run.map(|run| run.plan).filter(|plan| plan.exists());
    plan.map(|plan| lock(&plan, how)).transpose()
}

fn list(args: &MigrateArgs) -> Result<Code, Failure> {
    let Held { journal, shard: _shard } = journal_of(args)?;
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
    match args.carry.output {
        Shape::Human => print::out(&text)?,
        Shape::Json => print::json(&json!(documents))?,
    }
    Ok(Code::Done)
}
