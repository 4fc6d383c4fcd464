//! Objects: a list of them, and a look at what each begins with, several at the same time.

use std::io;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};

use calve_disk::Storage;
use calve_disk::units::HostOffset;
use calve_inplace::UNDO_RECORD;
use calve_scan::{
    Ask, Event, Known, Look, NothingKnown, ScanOptions, Sighting, Stamp, limits, look_elsewhere,
};
use calve_store::limits::UNREACHABLE_IN_A_ROW;
use calve_store::{Error, Folder, Kind, Listed, Listing, Object, ObjectFile, ObjectName, Store};

/// The places of stores that a scan looks in.
pub(super) struct Objects {
    pub(super) store: Arc<Store>,
    pub(super) folders: Vec<Folder>,
}

impl Objects {
    /// The places among the words; `None` where they are all files.
    pub(super) fn among(paths: &[PathBuf]) -> Result<Option<Self>, Error> {
        let mut folders = Vec::new();
        for path in paths.iter().filter(|path| ObjectName::is_meant_by(path)) {
            let folder = Folder::parse(path)?;
            if !folders.contains(&folder) {
                folders.push(folder);
            }
        }
        match paths.iter().find(|path| ObjectName::is_meant_by(path)) {
            None => Ok(None),
            Some(path) => Ok(Some(Self { store: crate::store::store(path)?, folders })),
        }
    }
}

/// Lists all places, looks at each object that is not known, and tells of each as a walk does.
///
/// # Errors
/// Where a place cannot be listed, or the store is not to be reached any more.
pub(super) fn scan(
    objects: &Objects,
    (options, lookers): (&ScanOptions, usize),
    stop: &AtomicBool,
    known: Option<Box<dyn Known>>,
    mut tell: impl FnMut(Event) -> ControlFlow<()>,
) -> Result<(), Error> {
    let ended = AtomicBool::new(false);
    let eyes = Eyes {
        store: &objects.store,
        options,
        is_over: &|| stop.load(Ordering::Relaxed) || ended.load(Ordering::Relaxed),
        unreachable: AtomicUsize::new(0),
        given_up: Mutex::new(None),
    };
    std::thread::scope(|scope| {
        let (events, told) = sync_channel(limits::WAITING);
        let (work, waiting) = sync_channel(lookers);
        let waiting = Arc::new(Mutex::new(waiting));
        for _ in 0..lookers {
            let (waiting, events, eyes) = (Arc::clone(&waiting), events.clone(), &eyes);
            scope.spawn(move || eyes.look_at_all(&waiting, &events));
        }
        // Whoever lists finds nobody where nobody looks any more.
        drop(waiting);
        let lister = scope.spawn(|| {
            let (work, events) = (work, events);
            let known = known.unwrap_or_else(|| Box::new(NothingKnown));
            eyes.list(&objects.folders, known, &work, &events)
        });
        for event in &told {
            if tell(event).is_break() {
                break;
            }
        }
        ended.store(true, Ordering::Relaxed);
        drop(told);
        let listed = lister.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        match eyes.given_up.lock().unwrap_or_else(PoisonError::into_inner).take() {
            Some(error) => Err(error),
            None => listed,
        }
    })
}

/// What the threads share.
struct Eyes<'a> {
    store: &'a Arc<Store>,
    options: &'a ScanOptions,
    is_over: &'a (dyn Fn() -> bool + Sync),
    /// Objects one after the other for which the store was not to be reached.
    unreachable: AtomicUsize,
    /// Why no further object is looked at.
    given_up: Mutex<Option<Error>>,
}

impl Eyes<'_> {
    fn list(
        &self,
        folders: &[Folder],
        mut known: Box<dyn Known>,
        work: &SyncSender<Listed>,
        events: &SyncSender<Event>,
    ) -> Result<(), Error> {
        for folder in folders {
            for listed in Listing::new(self.store, folder.clone(), UNDO_RECORD) {
                if (self.is_over)() {
                    return Ok(());
                }
                let listed = listed?;
                let stamp = stamp_of(&listed);
                // Some lists have no tags, and then nothing tells whether one has changed.
                let is_known =
                    listed.tag.is_some() && known.is_known(&listed.path, &stamp, listed.has_note);
                let sent = match is_known {
                    true => events.send(Event::Unchanged { path: listed.path, stamp }).is_ok(),
                    false => work.send(listed).is_ok(),
                };
                if !sent {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    fn look_at_all(&self, waiting: &Mutex<Receiver<Listed>>, events: &SyncSender<Event>) {
        loop {
            let next = waiting.lock().unwrap_or_else(PoisonError::into_inner).recv();
            let Ok(mut listed) = next else { return };
            if (self.is_over)() {
                return;
            }
            let look = match self.look_at(&mut listed) {
                Ok(look) => {
                    self.unreachable.store(0, Ordering::Relaxed);
                    look
                }
                Err(error) if error.kind == Kind::Unreachable => {
                    let count = self.unreachable.fetch_add(1, Ordering::Relaxed) + 1;
                    let why = format!("{} {}", error.doing, error.why);
                    if count >= UNREACHABLE_IN_A_ROW {
                        let mut given_up =
                            self.given_up.lock().unwrap_or_else(PoisonError::into_inner);
                        given_up.get_or_insert(error);
                        return;
                    }
                    Look::unreadable(&why)
                }
                Err(error) => {
                    self.unreachable.store(0, Ordering::Relaxed);
                    Look::unreadable(&format!("{} {}", error.doing, error.why))
                }
            };
            let stamp = stamp_of(&listed);
            let Listed { path, has_note: has_undo_record, .. } = listed;
            let sighting = Sighting { path, stamp, has_undo_record, look, blocks: None };
            if events.send(Event::Sighted(Box::new(sighting))).is_err() {
                return;
            }
        }
    }

    fn look_at(&self, listed: &mut Listed) -> Result<Look, Error> {
        let ask = Ask {
            name: last_part(&listed.path).to_vec(),
            has_undo_record: listed.has_note,
            is_deep: self.options.is_deep,
            with_archives: self.options.with_archives,
        };
        if listed.size == 0 {
            return Ok(look_elsewhere(Box::new(Nothing(listed.path.clone())), &ask));
        }
        let name = ObjectName::parse(&listed.path)?;
        let file = ObjectFile::open(Object::new(self.store, name))?;
        let tag = listed.tag.get_or_insert_with(|| file.tag().clone());
        if file.length() != listed.size || tag != file.tag() {
            return Ok(Look::unreadable("was replaced while it was scanned: scan it again"));
        }
        Ok(look_elsewhere(Box::new(file), &ask))
    }
}

fn last_part(path: &Path) -> &[u8] {
    let bytes = path.as_os_str().as_encoded_bytes();
    bytes.rsplit(|byte| *byte == b'/').next().unwrap_or(bytes)
}

fn stamp_of(listed: &Listed) -> Stamp {
    Stamp {
        device: listed.place,
        inode: listed.number(),
        links: 1,
        size: listed.size,
        modified: listed.modified,
        changed: 0,
    }
}

/// An object that holds nothing, which nobody has to ask for.
struct Nothing(PathBuf);

impl Storage for Nothing {
    fn path(&self) -> &Path {
        &self.0
    }

    fn size(&self) -> io::Result<u64> {
        Ok(0)
    }

    fn read_at(&self, out: &mut [u8], _: HostOffset) -> io::Result<()> {
        match out.is_empty() {
            true => Ok(()),
            false => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }
}
