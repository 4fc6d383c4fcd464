//! `migrate`: carries out a plan, takes a run back, gives ways back up.

pub(crate) mod carry;
pub(crate) mod configurations;
mod control;
mod release;
pub(crate) mod told;
mod view;

use std::fs::File;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use calve_disk::{folder_of, open::shown, shell};
use calve_migrate::{FamilyRecord, Journal, RunRecord, Summary, shard::Shard};
use calve_plan::Plan;
use serde_json::json;

use crate::args::{MigrateArgs, Shape};
use crate::command::{plan, work};
use crate::exit::{self, Code, Failure};
use crate::reading::Unmixed;
use crate::{print, store};

pub(crate) fn run(args: &MigrateArgs, program: &str) -> Result<Code, Failure> {
    let action = &args.action;
    if let Some(number) = action.undo {
        return undo(args, number, program);
    }
    if let Some(number) = action.release {
        return release::run(args, number, program);
    }
    if action.list {
        return list(args);
    }
    let understood = carry::understand(&args.carry)?;
    let (plan, digest) = plan::read_whole(&args.file)?;
    let file = lock(&args.file, File::try_lock)?;
    let how = (program, args.carry.quiet);
    if !args.configs.is_empty() && !args.apply_configs {
        configurations::may_patch(args.patches.as_deref(), &args.file)?;
    }
    let configurations = configurations::find(&args.configs, &plan, how)?;
    let path = match &args.journal {
        Some(path) => path.clone(),
        None => journal_in_catalogue(&args.file, &plan, &digest)?,
    };
    if Shard::of_journal(&real(&path)).is_some() {
        let text = format!("{}: is the journal of one shard", shown(&path));
        return Err(Failure::new(Code::Refused, text).next("calve work goes on with a shard"));
    }
    let journal = Journal::open(&path)?;
    let alone = lock_journal(&journal)?;
    let record = carry::begin(&journal, &args.file, (&plan, &digest))?;
    let left = plan.total.version1.saturating_sub(plan.total.migrated);
    let (journal, plan) = (Mutex::new(journal), (&plan, &record, None));
    let applied = configurations.as_ref().filter(|_| args.apply_configs);
    let (words, canary) = ((&args.carry, understood), args.canary.map(NonZeroUsize::get));
    let (summary, told) = carry::carry_out(words, canary, plan, &journal, applied, program)?;
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
        tell(args, &record, (&summary, left), patch.as_ref())
    });
    drop((alone, file));
    let code = carry::ended(code, told, program)?;
    if let Some(count) = canary.filter(|_| code != Code::Partly && !args.carry.quiet) {
        let text = format!(
            "only so many of each kind were meant: {}: look at them, then go on without --canary, or \
             take them back: --undo {}",
            print::families(u64::try_from(count).unwrap_or(u64::MAX)),
            record.number
        );
        print::note(program, &text);
    }
    Ok(code)
}

/// The catalogue of a plan, as the place of its journal: where there is none any more, or where workers
/// have journals of their own, nothing would be known of what was done.
fn journal_in_catalogue(file: &Path, plan: &Plan, digest: &str) -> Result<PathBuf, Failure> {
    let path = &plan.head.catalogue.0;
    if !path.exists() {
        let name = shown(path);
        let text =
            format!("{name}: is gone, and the plan was made from it, and its journal is there");
        return Err(Failure::new(Code::Refused, text).next(
            "scan into it and plan anew; or name another file for the journal with --journal",
        ));
    }
    match work::shards_of(file).filter(|(_, of)| of.plan_digest == digest) {
        None => Ok(path.clone()),
        Some((folder, agreed)) => {
            let (file, folder) = (shell::path(file), shell::path(&folder));
            let text =
                format!("{file}: is carried out by workers, and {folder} has their journals");
            Err(Failure::new(Code::Refused, text).next(format!(
                "calve work --plan {file} --shard I/{} goes on, calve report --journal {folder} {file} tells of it; \
                 or name a journal apart from theirs with --journal",
                agreed.shards
            )))
        }
    }
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
            let text = format!("{}: is being carried out by another process", shown(path));
            Err(Failure::new(Code::InUse, text).next("wait for it, or end it"))
        }
        Err(std::fs::TryLockError::Error(error)) => Err(failed(error)),
    }
}

fn tell(
    args: &MigrateArgs,
    run: &RunRecord,
    (summary, left): (&Summary, u64),
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
            let mut text = carry::line(&format!("run {}", run.number), summary, left);
            if summary.followed > 0 {
                let files = print::count(summary.followed, "change", "changes");
                text.push_str(&format!("configurations: {files}\n"));
            }
            if let Some(patch) = patch {
                text.push_str(&patch.text(AGAIN));
            }
            print::out(&text)
        }
    }
}

/// What may be done in place of taking a patch.
const AGAIN: &str = "or run the same again with --apply-configs";

/// Locks a journal against whoever else carries out a run of it, or takes one back.
fn lock_journal(journal: &Journal) -> Result<File, Failure> {
    journal.lock().map_err(|error| match error {
        calve_migrate::Error::Disk(calve_disk::Error::InUse { path }) => {
            let path = shown(&path);
            let text = format!("{path}: another process carries out a run of this journal");
            Failure::new(Code::InUse, text).next("wait for it, or end it")
        }
        error => error.into(),
    })
}

/// A journal, its lock, and the shard that it is of.
struct Held {
    journal: Journal,
    shard: Option<Shard>,
    _lock: File,
}

/// Where a file really is, where it is.
pub(crate) fn real(path: &Path) -> PathBuf {
    path.canonicalize().unwrap_or_else(|_| path.to_owned())
}

/// Where the journal of a plan is, or that in a catalogue, or of a shard.
fn place_of(args: &MigrateArgs) -> Result<PathBuf, Failure> {
    let path = match &args.journal {
        Some(path) => path.clone(),
        None => match plan::read(&args.file) {
            Ok(plan) => plan.head.catalogue.0,
            Err(_) => args.file.clone(),
        },
    };
    if !path.exists() {
        let text = format!("{}: there is no such journal", shown(&path));
        return Err(Failure::new(Code::Failed, text).next("name it with --journal"));
    }
    // A link may bear any name.
    Ok(real(&path))
}

/// The journal for whoever takes back a run of it, or gives up its ways back.
fn journal_of(args: &MigrateArgs) -> Result<Held, Failure> {
    let path = place_of(args)?;
    let Some(shard) = Shard::of_journal(&path) else {
        let journal = Journal::open(&path)?;
        let lock = lock_journal(&journal)?;
        return Ok(Held { journal, shard: None, _lock: lock });
    };
    let lock = shard.lock(folder_of(&path))?;
    Ok(Held { journal: Journal::open_alone(&path)?, shard: Some(shard), _lock: lock })
}

fn undo(args: &MigrateArgs, number: i64, program: &str) -> Result<Code, Failure> {
    let Held { journal, shard, _lock } = journal_of(args)?;
    let journal = Mutex::new(journal);
    let (run, _plan) = lock_run(&journal, number, shard.is_some())?;
    calve_migrate::can_end(&journal, number)?;
    let is_shard = shard.is_some();
    if let Some(shard) = shard {
        let path = journal.lock().unwrap_or_else(PoisonError::into_inner).path().to_owned();
        shard.forget_report(folder_of(&path))?;
    }
    let undone = calve_migrate::undo((&journal, &store::stores()), number, args.force)?;
    for (family, why) in &undone.failed {
        print::note(program, &format!("family {family} was not taken back: {why}"));
    }
    for path in &undone.left {
        let path = shown(path);
        let why = "was changed by somebody else since, and stays: its images are version 1 again";
        print::note(program, &format!("{path}: {why}"));
    }
    let patch = run.as_ref().and_then(configurations::Written::of);
    if let Some(patch) = patch.as_ref().filter(|_| !args.carry.quiet) {
        print::note(program, &patch.note(!is_shard && undone.failed.is_empty()));
    }
    let patch = patch.and_then(|patch| patch.command());
    match args.carry.output {
        Shape::Json => {
            let failed = undone.failed.iter();
            let failed: Vec<_> =
                failed.map(|(family, why)| json!({ "family": family, "problem": why })).collect();
            let left = undone.left.iter();
            let left: Vec<_> = left.map(|path| shown(path)).collect();
            print::json(&json!({
                "run": number, "images": undone.images, "failed": failed,
                "configurations-left": left, "patch-back": patch,
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

/// Locks the plan of a run, where it is still there: against `migrate` alone where a shard is locked
/// by itself. Says what is known of the run.
fn lock_run(
    journal: &Mutex<Journal>,
    number: i64,
    is_shard: bool,
) -> Result<(Option<RunRecord>, Option<File>), Failure> {
    let how = if is_shard { File::try_lock_shared } else { File::try_lock };
    let run = journal.lock().unwrap_or_else(PoisonError::into_inner).run(number)?;
    let plan = run.as_ref().map(|run| &run.plan).filter(|plan| plan.exists());
    let lock = plan.map(|plan| lock(plan, how)).transpose()?;
    Ok((run, lock))
}

/// All runs with their families.
fn runs(journal: Option<&Journal>) -> Result<Vec<(RunRecord, Vec<FamilyRecord>)>, Failure> {
    let Some(journal) = journal else { return Ok(Vec::new()) };
    let mut runs = Vec::new();
    for run in journal.runs()? {
        let families = journal.families(run.number)?;
        runs.push((run, families));
    }
    Ok(runs)
}

fn list(args: &MigrateArgs) -> Result<Code, Failure> {
    let path = place_of(args)?;
    let shard = Shard::of_journal(&path);
    let _lock = shard.map(|shard| shard.lock_for_reading(folder_of(&path))).transpose()?;
    let read = Unmixed::of(&path)?;
    let journal = Journal::open_for_reading(&path)?;
    let (mut text, mut documents) = (String::new(), Vec::new());
    for (run, families) in runs(journal.as_ref())? {
        let mut counts = std::collections::BTreeMap::new();
        for family in &families {
            *counts.entry(family.state.word()).or_insert(0_u64) += 1;
        }
        let state = match (run.undone, run.ended) {
            (Some(_), _) => "taken back",
            (None, Some(_)) => "done",
            (None, None) => "not done",
        };
        let plan = shown(&run.plan);
        let words: Vec<String> = counts.iter().map(|(word, it)| format!("{it} {word}")).collect();
        text.push_str(&format!("run {}: {state}, {plan}\n", run.number));
        text.push_str(&print::wrapped(&words.join(", "), 4));
        documents.push(json!({
            "run": run.number, "plan": plan, "began": run.began, "ended": run.ended,
            "undone": run.undone, "families": counts,
        }));
    }
    read.assert()?;
    match args.carry.output {
        Shape::Human => print::out(&text)?,
        Shape::Json => print::json(&json!(documents))?,
    }
    Ok(Code::Done)
}
