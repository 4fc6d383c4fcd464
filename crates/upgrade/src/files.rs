//! Images as files of the host: opened under QEMU's locks, or cloned.

use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use calve_disk::open::open_for_reading;
use calve_disk::open::shown;
use calve_disk::{Disk, Error as DiskError, HostFile, Named, PendingFile, Storage, folder_of};
use calve_inplace::{FileJournal, FoundNote, Journal, UNDO_RECORD, note};

use crate::error::{Error, Result};
use crate::record::Time;
use crate::survey::Plan;
use crate::undo::{self, State};
use crate::{InPlace, Options, times};

impl InPlace {
    /// Opens the image at `path` for writing, so that nobody else may. A link is followed: the
    /// undo record is beside the file itself.
    ///
    /// # Errors
    /// Where it is no regular file: a device cannot become longer.
    pub fn open(path: &Path) -> Result<Self> {
        let (file, real) = calve_inplace::open_for_writing(path)?;
        Ok(Self::new(Arc::new(file), Box::new(FileJournal::of(&real, UNDO_RECORD))))
    }

    /// Opens the image at `path` for reading: for a plan, and to tell its state.
    ///
    /// # Errors
    /// As [`InPlace::open`].
    pub fn open_for_reading(path: &Path) -> Result<Self> {
        let (file, real) = calve_inplace::open_for_reading(path)?;
        Ok(Self::new(Arc::new(file), Box::new(FileJournal::of(&real, UNDO_RECORD))))
    }
}

/// The undo record beside an image, open and not yet read: a process that may open nothing more
/// can still tell the image's state from it.
#[derive(Debug)]
pub struct FoundRecord(FoundNote);

impl FoundRecord {
    /// Opens the undo record of the image at `path`, where there is one.
    pub fn beside(path: &Path) -> Option<Self> {
        FoundNote::beside(path, UNDO_RECORD).map(Self)
    }

    /// What state the image in `storage` is in by this record.
    ///
    /// # Errors
    /// Where image or record cannot be read.
    pub fn state(&self, storage: &dyn Storage) -> Result<Option<State>> {
        undo::state(storage, &self.0)
    }
}

/// What state the image in `storage` is in by the note in `journal`, where there is one.
///
/// # Errors
/// Where image or record cannot be read.
pub fn state_by(storage: &dyn Storage, journal: &dyn Journal) -> Result<Option<State>> {
    undo::state(storage, journal)
}

/// What state the image at `path` is in, where there is an undo record beside it.
///
/// # Errors
/// Where image or record cannot be read.
pub fn state_of(path: &Path) -> Result<Option<State>> {
    let Some(record) = FoundRecord::beside(path) else { return Ok(None) };
    let file = open_for_reading(path).map_err(|source| DiskError::host("opening", path, source))?;
    record.state(&HostFile::new(file, path.to_owned()))
}

/// Removes the undo record of an image that another one has taken the place of.
///
/// # Errors
/// Where the host does not let it be removed.
pub fn forget(path: &Path) -> Result<()> {
    let real = path.canonicalize().map_err(|source| DiskError::host("opening", path, source))?;
    Ok(note::remove(&FileJournal::of(&real, UNDO_RECORD))?)
}

/// When the file at `path` was written last.
///
/// # Errors
/// Where the host does not tell.
pub fn written(path: &Path) -> Result<Time> {
    let metadata = std::fs::metadata(path)
        .map_err(|source| DiskError::host("looking at the file", path, source))?;
    Ok(Time { seconds: metadata.mtime(), nanoseconds: metadata.mtime_nsec() })
}

/// Says when the file at `path` was written last.
///
/// # Errors
/// Where the host does not let it be said.
pub fn set_written(path: &Path, time: Time) -> Result<()> {
    let file = File::options()
        .write(true)
        .open(path)
        .map_err(|source| DiskError::host("opening", path, source))?;
    times::set(&HostFile::new(file, path.to_owned()), Some(time));
    Ok(())
}

/// Clones the image of `source` to a new file at `target`, which shares all blocks with it, and
/// upgrades the clone. The source is only read. `target` bears its name when it is whole.
///
/// # Errors
/// [`DiskError::Unsupported`] where the file system cannot clone, or the two are not on the same
/// one. [`Error::Refused`] where `target` exists, and where it would find another backing file.
pub fn reflink_to(
    source: &Disk,
    target: &Path,
    options: &Options,
    stop: &AtomicBool,
) -> Result<Plan> {
    let refused =
        |why: &str, next| Error::Refused { path: target.to_owned(), why: why.into(), next };
    if target.symlink_metadata().is_ok() {
        return Err(refused("exists already", "name another target"));
    }
    let is_relative = |name: &[u8]| !name.starts_with(b"/");
    let backing = source.top().facts().backing.as_ref();
    if backing.is_some_and(|backing| is_relative(&backing.name))
        && !is_same_folder(source.path(), target)
    {
        let next = "name a target in the image's own folder";
        return Err(refused("would look for its backing file in another folder", next));
    }
    let storage = source.top().storage();
    let Some(original) = storage.as_file() else {
        return Err(refused("cannot be a clone of what is no file", "convert it instead"));
    };
    let looked = |source_error| DiskError::host("looking at the file", source.path(), source_error);
    let mode = original.metadata().map_err(looked)?.mode() & 0o7777;
    let (file, pending) = PendingFile::create(target, false, mode)?;
    rustix::fs::ioctl_ficlone(&file, original).map_err(|error| DiskError::Unsupported {
        path: target.to_owned(),
        what: format!(
            "cannot share blocks with {}: {}; upgrade that in place, or convert it",
            shown(source.path()),
            std::io::Error::from(error)
        ),
    })?;
    // What the umask took away. Where the host does not let it be given, the clone is as usual.
    let _ = rustix::fs::fchmod(&file, rustix::fs::Mode::from_raw_mode(mode));
    let clone = Arc::new(HostFile::new(file, target.to_owned()));
    let plan = InPlace::of_clone(Arc::clone(&clone) as Arc<_>).upgrade(options, stop)?;
    source.unchanged()?;
    clone
        .as_file()
        .map_or(Ok(()), File::sync_all)
        .map_err(|error| DiskError::host("syncing", target, error))?;
    match pending.take_name(true)? {
        Named::Yes => Ok(plan),
        Named::Taken => Err(refused("came into being meanwhile", "name another target")),
    }
}

fn is_same_folder(first: &Path, second: &Path) -> bool {
    match (folder_of(first).canonicalize(), folder_of(second).canonicalize()) {
        (Ok(first), Ok(second)) => first == second,
        _ => false,
    }
}
