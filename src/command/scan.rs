//! `scan`: which images there are, in folders and archives, and what they are.
//!
//! This process walks, opens and takes down; workers that can open nothing look at what was
//! opened. Objects of stores are listed, and looked at here. No backing file is opened.

mod objects;
mod record;
mod report;
mod table;

use std::num::NonZeroUsize;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::atomic::Ordering;

use calve_disk::open::shown;
use calve_fleet::Catalogue;
use calve_scan::{Event, ForThread, Here, Known, Looker, NothingKnown, ScanOptions, scan};
use calve_store::Folder;
use calve_store::limits::LOOKERS;
use serde_json::Value;

use crate::args::{SandboxMode, ScanArgs, ScanShape};
use crate::exit::{self, Code, Failure};
use crate::print;
use crate::progress::{self, Reporter};
use crate::signals::{self, Flags};
use crate::store;
use crate::worker::{self, Handed};
use objects::Objects;

/// Threads, and workers, at most.
const MOST_JOBS: usize = 64;

pub(crate) fn run(args: &ScanArgs, program: &str) -> Result<Code, Failure> {
    if worker::is_worker() {
        return worker::serve(spools(args));
    }
    if args.output != ScanShape::Human {
        progress::refuse_mixed(&args.progress, "--output: the result")?;
    }
    let options = options(args)?;
    if args.sandbox == SandboxMode::Require {
        store::refuse("scan --sandbox=require", args.paths.iter().map(|path| &**path))?;
    }
    let objects = Objects::among(&args.paths)?;
    let (roots, removed) = (roots(&args.paths)?, removed(&args.removed)?);
    let mut catalogue = match &args.catalogue {
        Some(path) => Catalogue::open(path)?,
        None => Catalogue::temporary()?,
    };
    let flags = signals::install()?;
    let first = if roots.is_empty() { None } else { looker(args, program)? };
    let places = Places { roots, objects };
    let walked = (&places, &options, &*removed);
    let scanned = walk(args, &mut catalogue, walked, first, flags)?;
    report::tell(args, &catalogue, &scanned)?;
    code(args, program, &catalogue, &scanned)
}

/// Where a scan looks.
struct Places {
    /// Folders and files.
    roots: Vec<PathBuf>,
    objects: Option<Objects>,
}

impl Places {
    /// All of them, as the catalogue knows them.
    fn all(&self) -> Vec<PathBuf> {
        let folders = self.objects.iter().flat_map(|objects| &objects.folders);
        self.roots.iter().cloned().chain(folders.map(Folder::path)).collect()
    }
}

/// What came of a walk.
struct Scanned {
    /// The number of the scan.
    number: i64,
    /// The number of the last one before it that was ended.
    before: Option<i64>,
    /// Files that were read.
    read: u64,
    /// Files that were known and have not changed.
    unchanged: u64,
    /// Things that could not be looked at.
    troubles: u64,
    /// Paths that were said to be removed, and how many version 1 images were there.
    removed: Vec<(PathBuf, u64)>,
    /// What went to and fro between here and a store, where one was asked.
    traffic: Option<Value>,
}

impl Scanned {
    fn begun(number: i64, before: Option<i64>) -> Self {
        let (read, unchanged, troubles) = (0, 0, 0);
        Self { number, before, read, unchanged, troubles, removed: Vec::new(), traffic: None }
    }

    /// The last scan that knew what is not new.
    fn known(&self) -> i64 {
        self.before.unwrap_or(0)
    }
}

fn options(args: &ScanArgs) -> Result<ScanOptions, Failure> {
    Ok(ScanOptions {
        is_deep: args.deep,
        with_archives: !args.no_archives,
        is_one_file_system: args.one_file_system,
        jobs: jobs(args.jobs.as_deref())?.get(),
    })
}

/// Whether whoever looks at files needs a spool: for tables of images that are packed.
fn spools(args: &ScanArgs) -> bool {
    args.deep && !args.no_archives
}

/// How many threads `--jobs` asks for: as many as there are processors where it says nothing.
pub(crate) fn jobs(asked: Option<&str>) -> Result<NonZeroUsize, Failure> {
    let asked = match asked {
        None => std::thread::available_parallelism().map_or(1, NonZeroUsize::get).min(MOST_JOBS),
        Some(asked) => asked.parse().unwrap_or(0),
    };
    NonZeroUsize::new(asked)
        .filter(|count| count.get() <= MOST_JOBS)
        .ok_or_else(|| Failure::usage(format!("--jobs: is not a number from 1 to {MOST_JOBS}")))
}

/// The folders and files as the catalogue knows them: absolute, whatever links lead to them.
fn roots(paths: &[PathBuf]) -> Result<Vec<PathBuf>, Failure> {
    let mut roots = Vec::new();
    for path in paths.iter().filter(|path| !store::is_object(path)) {
        let root = path.canonicalize().map_err(|source| {
            Failure::from(calve_disk::Error::host("looking for it", path, source))
        })?;
        if !roots.contains(&root) {
            roots.push(root);
        }
    }
    Ok(roots)
}

/// Paths at which something was, as the catalogue knows them: what is above them says where they really
/// are. Where a link is, both it may be meant and what it leads to.
fn removed(paths: &[PathBuf]) -> Result<Vec<PathBuf>, Failure> {
    let mut removed = Vec::new();
    for path in paths {
        if store::is_object(path) {
            removed.push(Folder::parse(path)?.path());
            continue;
        }
        let whole = std::path::absolute(path).map_err(|source| {
            Failure::from(calve_disk::Error::host("looking for it", path, source))
        })?;
        // Without a slash at its end.
        let whole: PathBuf = whole.components().collect();
        // Of what is not there, the part that is.
        let above = whole.ancestors().skip(1).find_map(|it| Some((it, it.canonicalize().ok()?)));
        let itself = above.map_or_else(
            || whole.clone(),
            |(above, real)| {
                whole.strip_prefix(above).map_or_else(|_| whole.clone(), |below| real.join(below))
            },
        );
        let led_to = whole.canonicalize().ok().filter(|real| *real != itself);
        removed.push(itself);
        removed.extend(led_to);
    }
    Ok(removed)
}

/// Who looks at files, in the first thread; `None` where that is this process.
fn looker(args: &ScanArgs, program: &str) -> Result<Option<Handed>, Failure> {
    let is_required = args.sandbox == SandboxMode::Require;
    let note = |text: &str| {
        if !args.progress.quiet {
            print::note(program, text);
        }
    };
    if args.sandbox == SandboxMode::Off {
        return Ok(None);
    }
    let (handed, missing) = match Handed::start(spools(args)) {
        Ok(started) => started,
        Err(error) if is_required => {
            return Err(Failure::new(Code::Refused, format!("starting a worker: {error}"))
                .next("--sandbox=off reads without one"));
        }
        Err(error) => {
            note(&format!("no worker can be started ({error}); this process reads itself"));
            return Ok(None);
        }
    };
    if missing.is_empty() {
        return Ok(Some(handed));
    }
    let text = format!("this kernel cannot wholly confine the workers: {}", missing.join(", "));
    if is_required {
        return Err(Failure::new(Code::Refused, text)
            .next("nothing was read; --sandbox=auto confines them as far as that goes"));
    }
    note(&format!("{text}; they read all the same"));
    Ok(Some(handed))
}

/// Walks, and takes down what is found.
fn walk(
    args: &ScanArgs,
    catalogue: &mut Catalogue,
    (places, options, removed): (&Places, &ScanOptions, &[PathBuf]),
    first: Option<Handed>,
    flags: &'static Flags,
) -> Result<Scanned, Failure> {
    let reporter = Reporter::new(&args.progress, flags)?;
    let for_thread = for_threads(catalogue, options, (first, spools(args)))?;
    let before = catalogue.last_scan()?;
    let known = catalogue.known(options)?;
    let mut run = catalogue.begin(&places.all(), options)?;
    let number = run.number();
    let mut scanned = Scanned::begun(number, before);
    let mut failure = None;
    let is_stopped = || flags.stop.load(Ordering::Relaxed);
    let mut take = |event: Event| {
        // What a worker said that the same signal has reached is worth nothing.
        if is_stopped() {
            return ControlFlow::Break(());
        }
        match &event {
            Event::Sighted(_) => scanned.read += 1,
            Event::Unchanged { .. } => scanned.unchanged += 1,
            Event::Linked { .. } => {}
            Event::Trouble { .. } => scanned.troubles += 1,
        }
        reporter.tell_scanned(scanned.read + scanned.unchanged);
        match run.take(&event) {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => {
                failure = Some(error);
                ControlFlow::Break(())
            }
        }
    };
    scan(&places.roots, options, &flags.stop, for_thread, &mut take);
    let listed = match &places.objects {
        Some(objects) => {
            let lookers = match args.jobs {
                Some(_) => options.jobs,
                None => LOOKERS,
            };
            objects::scan(objects, (options, lookers), &flags.stop, known, &mut take)
        }
        None => Ok(()),
    };
    let is_done = failure.is_none() && listed.is_ok() && !is_stopped();
    reporter.finish(is_done);
    if let Some(error) = failure {
        return Err(error.into());
    }
    scanned.traffic =
        places.objects.as_ref().map(|objects| store::traffic_json(objects.store.traffic()));
    if let (Err(error), false) = (listed, is_stopped()) {
        run.stop()?;
        return Err(error.into());
    }
    if !is_done {
        run.stop()?;
        return Err(match args.catalogue {
            Some(_) => exit::stopped().next("what was found is kept; run the same again to go on"),
            None => exit::stopped(),
        });
    }
    let ended = run.finish(removed)?;
    scanned.troubles += ended.empty_roots;
    scanned.removed = removed.iter().cloned().zip(ended.removed).collect();
    Ok(scanned)
}

/// Makes what each thread has for itself: who looks, and what is known.
fn for_threads(
    catalogue: &Catalogue,
    options: &ScanOptions,
    (first, spools): (Option<Handed>, bool),
) -> Result<impl FnMut() -> ForThread + Send + use<>, Failure> {
    // One more than there are threads: the walk begins in one of its own.
    let readers = (0..=options.jobs).map(|_| catalogue.known(options));
    let mut readers = readers.collect::<Result<Vec<Option<Box<dyn Known>>>, _>>()?;
    let is_confined = first.is_some();
    let mut first = first;
    Ok(move || {
        let known = readers.pop().flatten().unwrap_or_else(|| Box::new(NothingKnown));
        let looker: Box<dyn Looker> = match first.take() {
            Some(first) => Box::new(first),
            None if is_confined => Box::new(Handed::later(spools)),
            None => Box::new(Here),
        };
        (looker, known)
    })
}

/// The code, and what is to be said of it.
fn code(
    args: &ScanArgs,
    program: &str,
    catalogue: &Catalogue,
    scanned: &Scanned,
) -> Result<Code, Failure> {
    let note = |text: &str| {
        if !args.progress.quiet {
            print::note(program, text);
        }
    };
    let is_any = scanned.removed.iter().any(|(_, images)| *images > 0);
    for (path, images) in scanned.removed.iter().filter(|(_, images)| *images > 0 || !is_any) {
        let path = shown(path);
        let images = print::count(*images, "version 1 image", "version 1 images");
        note(&format!("{path}: removed on purpose, as you say: {images}"));
    }
    let gone = catalogue.count_gone_version1(scanned.number)?;
    if gone > 0 {
        let images = print::count(gone, "version 1 image", "version 1 images");
        note(&format!("not there any more: {images}"));
    }
    if args.watch_exit {
        match scanned.before {
            None => note("there was no scan before: later ones are compared with this one"),
            Some(before) => {
                let new = catalogue.count_new_version1(before)?;
                if new > 0 {
                    let images = print::count(new, "version 1 image", "version 1 images");
                    note(&format!("new since the last scan: {images}"));
                    return Ok(Code::Corruption);
                }
            }
        }
    }
    catalogue.troubles(scanned.number, |trouble| {
        let path = shown(&trouble.path);
        note(&format!("{path}: not looked at: {}", trouble.what));
        Ok::<(), Failure>(())
    })?;
    let archives = catalogue.count_archives_elsewhere()?;
    if archives > 0 {
        note(&format!("{archives} archives in stores were not looked into: fetch them first"));
    }
    let problems = catalogue.count_problems()?;
    if scanned.troubles + problems > 0 {
        note(&format!(
            "{} and {} could not be looked at, or not be looked into",
            print::count(scanned.troubles, "folder", "folders"),
            print::count(problems, "file", "files")
        ));
        return Ok(Code::Losses);
    }
    Ok(Code::Done)
}
