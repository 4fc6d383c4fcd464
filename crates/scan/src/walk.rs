//! The walk: every regular file below the roots, by several threads, each file once.

use std::collections::HashSet;
use std::fs::{File, Metadata};
use std::io;
use std::ops::ControlFlow;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Mutex, PoisonError};

use calve_disk::open::open_for_reading;
use calve_inplace::UNDO_RECORD;
use ignore::{DirEntry, WalkBuilder, WalkParallel, WalkState};

use crate::blocks::Blocks;
use crate::limits;
use crate::look::{Ask, look};
use crate::sighting::{Event, Look, Sighting, Stamp, shortened};
use crate::spool::Spool;

/// How folders are walked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ScanOptions {
    /// Whether all tables of images are walked.
    pub is_deep: bool,
    /// Whether archives are looked into.
    pub with_archives: bool,
    /// Whether the walk stays on the file system of each root.
    pub is_one_file_system: bool,
    /// Threads that walk and look.
    pub jobs: usize,
}

/// Reads files for one thread of a walk.
pub trait Looker: Send {
    /// Looks at an open file. Whatever happens to whoever looks, this returns.
    fn look(&mut self, file: &File, ask: &Ask) -> Look;
}

/// Looks at files in this process.
#[derive(Clone, Copy, Debug, Default)]
pub struct Here;

impl Looker for Here {
    fn look(&mut self, file: &File, ask: &Ask) -> Look {
        // The libraries that unpack archives are many, and none of them ends the walk.
        let looked = catch_unwind(AssertUnwindSafe(|| look(file, ask, &mut Spool::when_needed())));
        looked.unwrap_or_else(|_| Look::died("it panicked"))
    }
}

/// What was known before, asked by one thread of a walk.
pub trait Known: Send {
    /// Whether a file of this path was looked at as thoroughly as it is to be now, was this file,
    /// and need not be looked at again. `has_undo_record` says what lies beside it now.
    fn is_known(&mut self, path: &Path, stamp: &Stamp, has_undo_record: bool) -> bool;
}

/// Nothing is known.
#[derive(Clone, Copy, Debug, Default)]
pub struct NothingKnown;

impl Known for NothingKnown {
    fn is_known(&mut self, _: &Path, _: &Stamp, _: bool) -> bool {
        false
    }
}

/// What one thread of a walk has for itself: who reads, and what is known.
pub type ForThread = (Box<dyn Looker>, Box<dyn Known>);

/// Walks everything below `roots`, looks at every regular file that is not known, and tells of
/// each. Roots are taken as they are named; links below them are not followed.
///
/// `for_thread` is called for each thread that comes to look at a file: there are as many as `jobs`,
/// and one more where roots are files. `tell` is called in the calling thread, in no
/// particular order, and ends the walk by breaking. Where `stop` is set the walk ends as soon as
/// each thread is done with its file; whoever set it knows that not all was told.
pub fn scan(
    roots: &[PathBuf],
    options: &ScanOptions,
    stop: &AtomicBool,
    for_thread: impl FnMut() -> ForThread + Send,
    mut tell: impl FnMut(Event) -> ControlFlow<()>,
) {
    let Some(walk) = walk(roots, options) else { return };
    let shared = Shared { linked: Mutex::default(), for_thread: Mutex::new(for_thread) };
    let ended = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let (sender, receiver) = sync_channel(limits::WAITING);
        let (shared, ended) = (&shared, &ended);
        scope.spawn(move || {
            walk.run(|| {
                let events = sender.clone();
                let mut thread = Thread { options: *options, own: None, shared, events };
                Box::new(move |entry| {
                    if stop.load(Ordering::Relaxed) || ended.load(Ordering::Relaxed) {
                        return WalkState::Quit;
                    }
                    match thread.visit(entry) {
                        ControlFlow::Continue(()) => WalkState::Continue,
                        ControlFlow::Break(()) => WalkState::Quit,
                    }
                })
            });
        });
        for event in &receiver {
            if tell(event).is_break() {
                break;
            }
        }
        ended.store(true, Ordering::Relaxed);
        // Threads that wait to tell more find nobody there.
        drop(receiver);
    });
}

fn walk(roots: &[PathBuf], options: &ScanOptions) -> Option<WalkParallel> {
    let (first, others) = roots.split_first()?;
    let mut builder = WalkBuilder::new(first);
    others.iter().for_each(|root| _ = builder.add(root));
    builder
        .standard_filters(false)
        .follow_links(false)
        .same_file_system(options.is_one_file_system)
        .threads(options.jobs.max(1));
    Some(builder.build_parallel())
}

/// What the threads of a walk share.
struct Shared<F> {
    /// Files with several names that were come upon.
    linked: Mutex<HashSet<(u64, u64)>>,
    for_thread: Mutex<F>,
}

/// One thread of a walk.
struct Thread<'a, F> {
    options: ScanOptions,
    /// What it has for itself, as soon as it has come upon a file.
    own: Option<ForThread>,
    shared: &'a Shared<F>,
    events: SyncSender<Event>,
}

impl<F: FnMut() -> ForThread> Thread<'_, F> {
    fn visit(&mut self, entry: Result<DirEntry, ignore::Error>) -> ControlFlow<()> {
        let event = match entry {
            Ok(entry) => self.event(entry),
            Err(error) => Some(trouble(&error)),
        };
        match event.map(|event| self.events.send(event)) {
            Some(Err(_)) => ControlFlow::Break(()),
            _ => ControlFlow::Continue(()),
        }
    }

    fn event(&mut self, entry: DirEntry) -> Option<Event> {
        if !entry.file_type().is_some_and(|kind| kind.is_file()) {
            return None;
        }
        let path = entry.into_path();
        let stamp = match path.symlink_metadata() {
            Ok(metadata) => stamp_of(&metadata),
            // It went away since its folder was read.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
            Err(error) => return Some(Event::Trouble { path, what: error.to_string() }),
        };
        if stamp.links > 1 && self.was_met(&stamp) {
            return Some(Event::Linked { path, stamp });
        }
        let has_undo_record = has_undo_record(&path);
        let (looker, known) = self.own.get_or_insert_with(|| {
            let mut for_thread =
                self.shared.for_thread.lock().unwrap_or_else(PoisonError::into_inner);
            for_thread()
        });
        if known.is_known(&path, &stamp, has_undo_record) {
            return Some(Event::Unchanged { path, stamp });
        }
        let ScanOptions { is_deep, with_archives, .. } = self.options;
        let name = path.file_name().unwrap_or_default().as_bytes().to_vec();
        let ask = Ask { name, has_undo_record, is_deep, with_archives };
        let mut blocks = None;
        let look = match opened(&path, &stamp) {
            Ok(file) => {
                let look = looker.look(&file, &ask);
                // The kernel answers this from its own tables, so that no worker has to ask.
                blocks = look.file.image.as_ref().and_then(|_| Blocks::of(&file).ok());
                look
            }
            Err(why) => Look::unreadable(&why),
        };
        Some(Event::Sighted(Box::new(Sighting { path, stamp, has_undo_record, look, blocks })))
    }

    fn was_met(&self, stamp: &Stamp) -> bool {
        let mut linked = self.shared.linked.lock().unwrap_or_else(PoisonError::into_inner);
        let place = (stamp.device, stamp.inode);
        linked.contains(&place) || (linked.len() < limits::LINKED && !linked.insert(place))
    }
}

/// Opens a file that was met, or says why not.
fn opened(path: &Path, stamp: &Stamp) -> Result<File, String> {
    let file = open_for_reading(path).map_err(|error| error.to_string())?;
    let metadata = file.metadata().map_err(|error| error.to_string())?;
    // Between the two somebody may have put something else there.
    match metadata.is_file() && is_same(stamp, &stamp_of(&metadata)) {
        true => Ok(file),
        false => Err("was replaced while it was scanned: scan it again".into()),
    }
}

fn is_same(one: &Stamp, other: &Stamp) -> bool {
    (one.device, one.inode) == (other.device, other.inode)
}

fn stamp_of(metadata: &Metadata) -> Stamp {
    let nanoseconds =
        |seconds: i64, rest: i64| seconds.saturating_mul(1_000_000_000).saturating_add(rest);
    Stamp {
        device: metadata.dev(),
        inode: metadata.ino(),
        links: metadata.nlink(),
        size: metadata.size(),
        modified: nanoseconds(metadata.mtime(), metadata.mtime_nsec()),
        changed: nanoseconds(metadata.ctime(), metadata.ctime_nsec()),
    }
}

/// Whether the undo record of an upgrade lies beside the file at `path`: that a file of that name
/// is there is all that is asked of it here.
pub fn has_undo_record(path: &Path) -> bool {
    UNDO_RECORD.beside(path).symlink_metadata().is_ok_and(|metadata| metadata.is_file())
}

/// What could not be walked, and the host's words for it.
fn trouble(error: &ignore::Error) -> Event {
    let path = path_of(error).unwrap_or_default();
    let what = error.io_error().map_or_else(|| error.to_string(), ToString::to_string);
    Event::Trouble { path, what: shortened(&what) }
}

fn path_of(error: &ignore::Error) -> Option<PathBuf> {
    match error {
        ignore::Error::WithPath { path, .. } => Some(path.clone()),
        ignore::Error::WithDepth { err, .. } | ignore::Error::WithLineNumber { err, .. } => {
            path_of(err)
        }
        ignore::Error::Partial(errors) => errors.iter().find_map(path_of),
        _ => None,
    }
}
