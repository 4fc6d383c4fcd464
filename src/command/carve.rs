//! `carve`: what nothing refers to any more, to files of its own.

use std::fmt::Write;
use std::path::Path;
use std::sync::atomic::Ordering;

use calve_disk::open::shown;
use calve_disk::{Disk, Error as DiskError, PendingFile, Status};
use calve_examine::{Carved, Carver, Ending, Kind, MOST_FILES, MOST_GROWTH};

use crate::args::CarveArgs;
use crate::evidence::Evidence;
use crate::exit::{self, Code, Failure};
use crate::source::{self, Request};
use crate::worker::{self, Death, Plan};
use crate::{print, signals};

pub(crate) fn run(args: &CarveArgs, program: &str, evidence: &Evidence) -> Result<Code, Failure> {
    let mut request = Request::new(&args.file, None, false, &args.open)?;
    let is_new = make_folder(&args.folder)?;
    let done = run_in(args, program, evidence, &mut request);
    if is_new && !matches!(done, Ok(Code::Done | Code::Losses)) {
        // It stays where something is in it.
        let _ = std::fs::remove_dir(&args.folder);
    }
    done
}

/// Makes the folder where it is not there, and says whether it did. A worker finds it made.
fn make_folder(folder: &Path) -> Result<bool, Failure> {
    let failed = |doing, source: std::io::Error| DiskError::host(doing, folder, source);
    match std::fs::create_dir(folder) {
        Ok(()) => return Ok(true),
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
            return Err(failed("making the folder", error).into());
        }
        Err(_) => {}
    }
    let mut entries =
        std::fs::read_dir(folder).map_err(|error| failed("looking into the folder", error))?;
    if entries.next().is_some() {
        let error = DiskError::Refused { path: folder.to_owned(), why: "is not empty".into() };
        return Err(Failure::from(error).next("name a folder that is empty or not there"));
    }
    Ok(false)
}

fn run_in(
    args: &CarveArgs,
    program: &str,
    evidence: &Evidence,
    request: &mut Request,
) -> Result<Code, Failure> {
    let died = |death: &Death| {
        PendingFile::remove_leftovers(&args.folder.join("manifest.json"));
        worker::told(death)
    };
    let mut plan = Plan::new(program, &args.open.sandbox, evidence);
    (plan.folders, plan.is_tidy, plan.died) = (vec![args.folder.clone()], true, &died);
    if let Some(code) = worker::enter(&plan, request)? {
        return Ok(code);
    }
    let flags = signals::install()?;
    let disk = evidence.opening(request, |request| request.open())?;
    source::announce_upgrades(program, request, &disk);
    if disk.top().facts().is_encrypted {
        let name = shown(disk.path());
        let text = format!(
            "{name}: is encrypted, and what is found stays so: to decrypt a cluster its place on \
             the disk has to be known"
        );
        print::note(program, &text);
    }
    let is_stopped = || flags.stop.load(Ordering::Relaxed);
    let mut carver = Carver::new(disk.top(), env!("CARGO_PKG_VERSION"), &is_stopped)?;
    let carved = carver.run(&args.folder, mode(&disk));
    let carved = carved.map_err(Failure::from).and_then(|carved| match carved.ending {
        Ending::Stopped => Err(exit::stopped()),
        _ => Ok(carved),
    });
    let carved =
        carved.map_err(|failure| unfinished(failure, carver.files_made(), &args.folder))?;
    disk.unchanged()?;
    print::out(&told(&carved, &args.folder))?;
    match carved.ending {
        Ending::Limit { at } => {
            let name = shown(disk.path());
            let text = format!(
                "{name}: nothing from {at} on was looked at: no more than {MOST_FILES} files are \
                 made, and no more is unpacked than {MOST_GROWTH} times the length of the file"
            );
            print::note(program, &text);
            Ok(Code::Losses)
        }
        Ending::Whole | Ending::Stopped => Ok(Code::Done),
    }
}

/// The permissions of the source, which those of its parts are not to exceed.
fn mode(disk: &Disk) -> u32 {
    let file = disk.top().storage().as_file();
    let status = file.and_then(|file| Status::of(file).ok());
    // Files of data are not to be run, and the owner can always read and remove them.
    status.map_or(0o600, |status| status.mode & 0o666 | 0o600)
}

/// A failure, with what it left behind.
fn unfinished(failure: Failure, files: u64, folder: &Path) -> Failure {
    let folder = shown(folder);
    let left = match files {
        0 => "nothing was left behind".to_owned(),
        _ => format!("{files} files are in {folder}, without a manifest; remove it"),
    };
    let next = match failure.code {
        Code::Signal(_) => left,
        _ => failure.next.map(|next| format!("{left}; {next}")).unwrap_or(left),
    };
    Failure { next: Some(next), ..failure }
}

fn told(carved: &Carved, folder: &Path) -> String {
    let folder = shown(folder);
    let files: u64 = carved.files.iter().sum();
    let unreferenced = print::size(carved.unreferenced);
    if files == 0 {
        return format!("nothing found in {unreferenced} that nothing refers to\n");
    }
    let mut text = format!("{unreferenced} that nothing refers to; in {folder}:\n");
    let words = [
        (Kind::Cluster, "runs of clusters"),
        (Kind::Packed, "packed clusters, unpacked"),
        (Kind::Table, "L2 tables"),
        (Kind::Rest, "others, which are none of these"),
    ];
    for (kind, words) in words {
        let (files, bytes) = (carved.files[kind as usize], carved.bytes[kind as usize]);
        if files > 0 {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "{files:>8} {words} ({})", print::size(bytes));
        }
    }
    text + "manifest.json tells of each of them\n"
}
