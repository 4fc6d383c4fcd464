//! The walk: every regular file below the roots, by several threads.

use std::fs::File;
use std::io;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};

use calve_disk::open::open_for_reading;
use ignore::{DirEntry, WalkBuilder, WalkParallel, WalkState};

use crate::finding::{Looked, Unread};
use crate::limits;
use crate::look::look;

/// Folders of version control: what is in them is no source.
const NO_SOURCES: [&str; 5] = [".git", ".hg", ".svn", ".bzr", "CVS"];

/// How folders are walked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct AuditOptions {
    /// Whether the walk stays on the file system of each root.
    pub is_one_file_system: bool,
    /// Threads that walk and look.
    pub jobs: usize,
}

/// What a walk tells.
#[derive(Debug)]
pub enum Event {
    /// A file was looked into.
    Looked {
        /// The file.
        path: PathBuf,
        /// What was found there, perhaps nothing.
        looked: Looked,
    },
    /// A file or a folder was not looked into.
    Trouble {
        /// Which.
        path: PathBuf,
        /// Why.
        what: String,
    },
}

/// Walks everything below `roots` and looks into every regular file. Roots are taken as they are
/// named; links below them are not followed.
///
/// `tell` is called in the calling thread, in no particular order, and ends the walk by breaking.
/// Where `stop` is set the walk ends as soon as each thread is done with its file.
pub fn audit(
    roots: &[PathBuf],
    options: &AuditOptions,
    stop: &AtomicBool,
    mut tell: impl FnMut(Event) -> ControlFlow<()>,
) {
    let Some(walk) = walk(roots, options) else { return };
    let ended = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let (sender, receiver) = sync_channel(limits::WAITING);
        let ended = &ended;
        scope.spawn(move || {
            walk.run(|| {
                let events = sender.clone();
                Box::new(move |entry| {
                    let is_over = stop.load(Ordering::Relaxed) || ended.load(Ordering::Relaxed);
                    match is_over || visit(entry, &events).is_break() {
                        true => WalkState::Quit,
                        false => WalkState::Continue,
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

fn walk(roots: &[PathBuf], options: &AuditOptions) -> Option<WalkParallel> {
    let (first, others) = roots.split_first()?;
    let mut builder = WalkBuilder::new(first);
    others.iter().for_each(|root| _ = builder.add(root));
    builder
        .standard_filters(false)
        .follow_links(false)
        .same_file_system(options.is_one_file_system)
        .filter_entry(|entry| {
            entry.depth() == 0 || !NO_SOURCES.iter().any(|name| entry.file_name() == *name)
        })
        .threads(options.jobs.max(1));
    Some(builder.build_parallel())
}

fn visit(entry: Result<DirEntry, ignore::Error>, events: &SyncSender<Event>) -> ControlFlow<()> {
    let event = match entry {
        Ok(entry) => event(entry),
        Err(error) => Some(trouble(&error)),
    };
    match event.map(|event| events.send(event)) {
        Some(Err(_)) => ControlFlow::Break(()),
        _ => ControlFlow::Continue(()),
    }
}

fn event(entry: DirEntry) -> Option<Event> {
    // What was named may be a link.
    let is_root = entry.depth() == 0;
    let kind = match is_root {
        true => entry.path().metadata().ok().map(|metadata| metadata.file_type()),
        false => entry.file_type(),
    };
    if !kind.is_some_and(|kind| kind.is_file()) {
        return None;
    }
    let path = entry.into_path();
    match opened(&path).and_then(|file| look(&file, path.file_name().unwrap_or_default())) {
        Ok(looked) => Some(Event::Looked { path, looked }),
        // It went away since its folder was read.
        Err(Unread::Host(error)) if error.kind() == io::ErrorKind::NotFound => None,
        Err(why) => Some(Event::Trouble { path, what: why.to_string() }),
    }
}

/// Opens a file that is one still.
fn opened(path: &Path) -> Result<File, Unread> {
    let file = open_for_reading(path)?;
    match file.metadata()?.is_file() {
        true => Ok(file),
        false => Err(io::Error::other("was replaced while it was looked for").into()),
    }
}

/// What could not be walked, and the host's words for it.
fn trouble(error: &ignore::Error) -> Event {
    let path = path_of(error).unwrap_or_default();
    let what = error.io_error().map_or_else(|| error.to_string(), ToString::to_string);
    Event::Trouble { path, what }
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
