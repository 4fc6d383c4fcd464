//! `work`: carries out one shard of a plan, as one worker of several that share nothing but files.

mod which;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use calve_disk::{shell, with_end};
use calve_migrate::shard::{self, Agreed, Head, Shard, Status, Total};
use calve_migrate::{Journal, RunRecord, Summary};
use serde_json::json;

use crate::args::{Shape, ShardBy, WorkArgs};
use crate::command::migrate::{carry, lock, told};
use crate::command::plan;
use crate::exit::{self, Code, Failure};
use crate::{print, signals};

/// How long SIGTERM waits for a tidy end. Whoever sends it kills after ten seconds or more, and a
/// worker that is killed loses nothing either.
const PATIENCE: Duration = Duration::from_secs(8);

/// How often it is looked for SIGTERM.
const STEP: Duration = Duration::from_millis(100);

pub(crate) fn run(args: &WorkArgs, program: &str) -> Result<Code, Failure> {
    // First of all: as the first process of a container it would not even be ended by a signal.
    signals::install()?;
    end_in_time(program)?;
    let understood = carry::understand(&args.carry)?;
    let variable = |name: &str| std::env::var(name).ok();
    let shard = which::shard(args.shard.as_deref(), args.shards, &variable)?;
    let (plan, plan_digest) = plan::read_whole(&args.plan)?;
    // Many of these at once, and no `migrate`.
    let file = lock(&args.plan, File::try_lock_shared)?;
    let folder = args.journals.clone().unwrap_or_else(|| beside(&args.plan));
    std::fs::create_dir_all(&folder)
        .map_err(|error| Failure::from(calve_disk::Error::host("making", &folder, error)))?;
    let agreed = Agreed { plan_digest, shards: shard.count, by: args.by.into() };
    agreed.keep(&folder).map_err(|error| match Failure::from(error) {
        refused @ Failure { code: Code::Refused, .. } => {
            refused.next("name another folder with --journals, or say as many as before")
        }
        other => other,
    })?;
    let held = shard.lock(&folder).map_err(|error| match error {
        error @ calve_migrate::Error::Disk(calve_disk::Error::InUse { .. }) => {
            let text = format!("shard {shard}: another worker has it: {error}");
            Failure::new(Code::InUse, text).next("wait for it, or end it")
        }
        error => error.into(),
    })?;
    let journal = Journal::open_alone(&shard.journal(&folder))?;
    let record = carry::begin(&journal, &args.plan, (&plan, &agreed.plan_digest))?;
    let head = Head::begun(&agreed, shard.index, &record);
    let places = shard.places(&plan, args.by.into());
    // What an earlier worker told is not true from now on.
    shard::write(&folder, head.clone(), (&plan, &places), &journal)?;
    let journal = Mutex::new(journal);
    let families = (&plan, &record, Some(&*places));
    let done = carry::carry_out((&args.carry, understood), None, families, &journal, None, program);
    let journal = journal.into_inner().unwrap_or_else(PoisonError::into_inner);
    let again = again(args, shard);
    let code = match &done {
        Ok((summary, _)) => carry::code(summary, &again, |signal| stopped(signal, summary)),
        Err(failure) => Err(failure.clone()),
    };
    let why = code.as_ref().err().map(|failure| failure.text.clone());
    let head = Head { status: Status::Unfinished, why, ..head };
    let reported = shard::write(&folder, head, (&plan, &places), &journal);
    drop((journal, held, file));
    // How it went comes before what kept that from being told.
    let told = match done {
        Err(_) => reported.map(drop).map_err(Failure::from),
        Ok((summary, told)) => told.and_then(|()| {
            let (status, total) = reported?;
            tell(args, (shard, &record), (&summary, status, &total))
        }),
    };
    carry::ended(code, told, program)
}

/// The command that goes on with a shard.
fn again(args: &WorkArgs, Shard { index, count }: Shard) -> String {
    let mut text = format!("calve work --plan {} --shard {index}/{count}", shell::path(&args.plan));
    if let Some(folder) = &args.journals {
        text.push_str(&format!(" --journals {}", shell::path(folder)));
    }
    if let ShardBy::Families = args.by {
        text.push_str(" --by families");
    }
    text
}

/// The folder of a plan's journals, where none is named and workers have carried it out, and on what
/// they agreed.
pub(crate) fn shards_of(plan: &Path) -> Option<(PathBuf, Agreed)> {
    let folder = beside(plan);
    let agreed = Agreed::of(&folder).ok()?;
    Some((folder, agreed))
}

/// The folder of a plan's journals, where none is named.
fn beside(plan: &Path) -> PathBuf {
    with_end(plan, ".shards")
}

/// Has SIGTERM end this process in time, whatever it waits for then: the next worker finds
/// everything as after a crash, which loses nothing.
fn end_in_time(program: &str) -> Result<(), Failure> {
    let program = program.to_owned();
    let watch = move || {
        while signals::received() != Some(TERM) {
            std::thread::sleep(STEP);
        }
        let asked = Instant::now();
        while asked.elapsed() < PATIENCE {
            std::thread::sleep(STEP);
        }
        let failure = Failure::new(Code::Checkpoint, "stopped by SIGTERM in the middle of a step")
            .next("run the same again: it goes on from there");
        let code = failure.code;
        // Whoever reads what is said here may be what it waits for.
        let said = std::thread::Builder::new().spawn(move || print::failure(&program, &failure));
        let is_saying = || said.as_ref().is_ok_and(|said| !said.is_finished());
        while is_saying() && asked.elapsed() < PATIENCE + Duration::from_secs(1) {
            std::thread::sleep(STEP);
        }
        std::process::exit(code.number().into());
    };
    let started = std::thread::Builder::new().spawn(watch);
    let failed = |error| Failure::new(Code::Failed, format!("starting a thread: {error}"));
    started.map(drop).map_err(failed)
}

/// The number of SIGTERM.
const TERM: u8 = 15;

/// What a signal makes of a worker; nothing where it had nothing left to do.
fn stopped(signal: u8, summary: &Summary) -> Option<Failure> {
    let left = summary.left + summary.open;
    if left == 0 {
        return None;
    }
    let failure = exit::stopped().next("run the same again to go on");
    Some(match signal {
        TERM => {
            let text = format!("stopped by SIGTERM: left: {}", print::families(left));
            Failure { code: Code::Checkpoint, text, ..failure }
        }
        _ => failure,
    })
}

fn tell(
    args: &WorkArgs,
    (shard, run): (Shard, &RunRecord),
    (summary, status, total): (&Summary, Status, &Total),
) -> Result<(), Failure> {
    match args.carry.output {
        Shape::Human if args.carry.quiet => Ok(()),
        Shape::Human => print::out(&carry::line(&format!("shard {shard}"), summary, 0)),
        Shape::Json => {
            let mut document = json!({
                "shard": shard.index, "shards": shard.count, "status": status, "total": total,
            });
            if let (Some(all), serde_json::Value::Object(more)) =
                (document.as_object_mut(), told::summary(run.number, summary))
            {
                all.extend(more);
            }
            print::json(&document)
        }
    }
}
