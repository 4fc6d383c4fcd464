//! `report`: what a run came to, and whether any version 1 image remains. Nothing is touched.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use calve_disk::open::shown;
use calve_disk::{Named, PendingFile, folder_of};
use calve_migrate::shard::Shard;
use calve_report::{Found, Looked, Report, Sources};
use calve_store::{Kind, ObjectFile};

use crate::args::{ReportArgs, ReportShape};
use crate::command::migrate::real;
use crate::command::work;
use crate::exit::{Code, Failure};
use crate::{print, store};

pub(crate) fn run(args: &ReportArgs, program: &str) -> Result<Code, Failure> {
    let _lock = lock(args)?;
    let sources = sources(args, program)?.with_objects(look);
    let report = Report::new(&sources, env!("CARGO_PKG_VERSION"), now())?;
    let write = |out: &mut dyn Write| match args.output {
        ReportShape::Human => Ok(out.write_all(folded(&calve_report::human(&report)?).as_bytes())?),
        ReportShape::Html => calve_report::write_html(&report, out),
        ReportShape::Csv => calve_report::write_csv(&report, out),
        ReportShape::Json => calve_report::write_json(&report, out),
        ReportShape::Premis => calve_report::write_premis(&report, out),
        ReportShape::Bagit => Ok(()),
    };
    match (&args.save, args.output) {
        (None, ReportShape::Bagit) => {
            return Err(Failure::usage("a bag is a folder: name a new one with --save"));
        }
        (Some(folder), ReportShape::Bagit) => {
            calve_report::write_bag(&report, folder).map_err(|error| match error.into() {
                refused @ Failure { code: Code::Refused, .. } => {
                    refused.next("name another folder with --save")
                }
                other => other,
            })?;
        }
        (Some(path), _) => save(path, write, &sources)?,
        (None, _) => {
            print_out(write)?;
            sources.assert_unchanged()?;
        }
    }
    let is_watched = args.watch_exit && !report.certificate.is_given();
    Ok(if is_watched { Code::Corruption } else { Code::Done })
}

/// What a report rests on: of a plan of which the catalogue knows no run, the journals of workers
/// that have carried it out.
fn sources(args: &ReportArgs, program: &str) -> Result<Sources, Failure> {
    let sources = Sources::open(&args.file, args.journal.as_deref(), args.run).map_err(at_work)?;
    if args.journal.is_some() || sources.has_run() {
        return Ok(sources);
    }
    let of_workers = work::shards_of(&args.file)
        .filter(|(_, agreed)| sources.plan_digest() == Some(&*agreed.plan_digest));
    let Some((folder, _)) = of_workers else { return Ok(sources) };
    print::note(program, &format!("it tells of what workers have done: {}", shown(&folder)));
    Sources::open(&args.file, Some(&folder), args.run).map_err(at_work)
}

/// The lines of a report in the width of a terminal, but for commands and names.
fn folded(text: &str) -> String {
    let mut folded = String::new();
    for line in text.lines() {
        let words = line.trim_start_matches(' ');
        match words.starts_with("$ ") || words.starts_with("first: ") {
            true => folded.push_str(&format!("{line}\n")),
            false => folded.push_str(&print::wrapped(words, line.len() - words.len())),
        }
    }
    folded
}

/// Looks at an object: what it begins with is asked for.
fn look(path: &Path) -> Looked {
    let file = match store::object(path).and_then(ObjectFile::open) {
        Ok(file) => file,
        Err(error) if error.kind == Kind::Missing => return Looked::nothing(Found::Missing),
        Err(error) => {
            let why = format!("{} {}", error.doing, error.why);
            return Looked::nothing(Found::Unreadable(why));
        }
    };
    let (size, inode) = (file.length(), file.tag().number());
    let mut start = [0; 8];
    let is_read = size >= 8 && file.read(&mut start, 0).is_ok();
    let found = if is_read { Found::by_start(&start) } else { Found::Other };
    Looked { found, is_in_use: false, inode, size, spent: size, modified: 0 }
}

/// Locks the shard whose journal is read, if it is one's: its worker lets nobody read it.
fn lock(args: &ReportArgs) -> Result<Option<File>, Failure> {
    let path = real(args.journal.as_deref().unwrap_or(&args.file));
    match Shard::of_journal(&path) {
        None => Ok(None),
        Some(shard) => shard.lock_for_reading(folder_of(&path)).map_err(at_work),
    }
}

/// What to do about a shard that somebody has.
pub(crate) fn at_work(error: impl Into<Failure>) -> Failure {
    let failure = error.into();
    match failure.code {
        Code::InUse => failure.next("its worker is at work: wait for it, or read what it tells"),
        _ => failure,
    }
}

/// Seconds since 1970.
fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

/// Writes to standard output. A reader who has gone away has seen enough.
fn print_out(
    write: impl FnOnce(&mut dyn Write) -> calve_report::Result<()>,
) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    match write(&mut stdout).and_then(|()| Ok(stdout.flush()?)) {
        Err(calve_report::Error::Write(error)) if error.kind() == io::ErrorKind::BrokenPipe => {
            Ok(())
        }
        Err(calve_report::Error::Write(error)) => Err(Failure::not_printed(&error)),
        done => Ok(done?),
    }
}

/// Writes to a new file, which bears its name when it is whole and what it rests on has not changed.
fn save(
    path: &Path,
    write: impl FnOnce(&mut dyn Write) -> calve_report::Result<()>,
    sources: &Sources,
) -> Result<(), Failure> {
    let (mut file, pending) = PendingFile::create(path, false, 0o666)?;
    write(&mut file).map_err(|error| match error {
        calve_report::Error::Write(source) => {
            calve_disk::Error::host("writing the report", path, source).into()
        }
        other => Failure::from(other),
    })?;
    file.sync_all().map_err(|error| calve_disk::Error::host("syncing", path, error))?;
    sources.assert_unchanged()?;
    match pending.take_name(true)? {
        Named::Yes => Ok(()),
        Named::Taken => {
            let text = format!("{}: exists already", shown(path));
            Err(Failure::new(Code::Refused, text).next("name another file with --save"))
        }
    }
}
