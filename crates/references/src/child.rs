//! An overlay whose base changes: its header is planned, written and taken back.

mod header;
mod name;
mod record;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use calve_disk::open::{escaped, shown};
use calve_disk::units::{HostOffset, SECTOR, in_memory};
use calve_disk::{Error as DiskError, Format, StorageMut};
use calve_inplace::{FileJournal, Journal, NoteKind, UNDO_RECORD, note, size_of, sync};

use crate::Changes;
use crate::error::{Error, Result};
use header::{Header, Objection, cluster_length};
pub use record::HeaderChange;

/// The note beside an overlay whose header is being changed.
pub const HEADER_RECORD: NoteKind =
    NoteKind { suffix: ".calve-header", longest: crate::limits::MAX_NOTE };

/// What an overlay records of its base.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Backing {
    /// Its name.
    pub name: Vec<u8>,
    /// The name of its format, where one is recorded.
    pub format: Option<Vec<u8>>,
}

/// What became of a change that was interrupted earlier.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Settled {
    /// It was taken back.
    TakenBack,
    /// All of it was there.
    Finished,
}

/// A qcow2 image that lies on another one.
pub struct Child {
    storage: Arc<dyn StorageMut>,
    journal: Box<dyn Journal>,
    /// The paths from whose folders the name of its base may be meant, absolute.
    places: Vec<PathBuf>,
}

impl Child {
    /// Opens the overlay at `path` for writing, so that nobody else may. A link is followed: the
    /// note is beside the file itself.
    ///
    /// # Errors
    /// [`Error::Disk`] where somebody else has it open and where it is no regular file;
    /// [`Error::Refused`] where it has an undo record beside it: a header that was written since
    /// ends the way back of an upgrade.
    pub fn open(path: &Path) -> Result<Self> {
        let (file, real) = calve_inplace::open_for_writing(path)?;
        let record = UNDO_RECORD.beside(&real);
        if record.symlink_metadata().is_ok() {
            return Err(Error::Refused {
                path: path.to_owned(),
                why: format!("can still be what it was before its upgrade: {}", shown(&record)),
                next: "take the upgrade back, or give that up with `calve upgrade --release`",
            });
        }
        let named = std::path::absolute(path).unwrap_or_else(|_| real.clone());
        let journal = FileJournal::of(&real, HEADER_RECORD);
        Ok(Self::new(Arc::new(file), Box::new(journal), vec![named, real]))
    }

    /// The overlay in `storage`, which nobody else may write to; its base is looked for from the
    /// folders of `places`, absolute paths of the overlay.
    pub fn new(
        storage: Arc<dyn StorageMut>,
        journal: Box<dyn Journal>,
        places: Vec<PathBuf>,
    ) -> Self {
        Self { storage, journal, places }
    }

    /// Settles a change that was interrupted, if there is a note of one: afterwards the header is
    /// what it was, or what it was to be.
    ///
    /// # Errors
    /// [`Error::Refused`] where it is neither, nor anything between; nothing is written then.
    pub fn settle(&self) -> Result<Option<Settled>> {
        let Some(change) = record::read(&*self.journal)? else { return Ok(None) };
        let now = self.read(change.at, change.old.len())?;
        let sector = in_memory(SECTOR);
        let sectors = now.chunks(sector).zip(change.old.chunks(sector));
        let mut sectors = sectors.zip(change.new.chunks(sector));
        let settled = if now == change.new {
            Settled::Finished
        } else if sectors.all(|((now, old), new)| now == old || now == new) {
            self.put(change.at, &change.old)?;
            Settled::TakenBack
        } else {
            let why = "has a header that was changed by another program in the midst of a change";
            return Err(self.refused(why, "look at the note beside it, which has both headers"));
        };
        sync(&*self.storage)?;
        note::remove(&*self.journal)?;
        Ok(Some(settled))
    }

    /// What it records of its base.
    ///
    /// # Errors
    /// [`Error::Refused`] where it is no qcow2 image over a base, and where its header may not be
    /// changed: it was not closed, is corrupt or damaged, or has features that are not known.
    pub fn backing(&self) -> Result<Backing> {
        let cluster = self.first_cluster()?;
        Ok(self.header(&cluster)?.backing())
    }

    /// What has to change in its header so that it follows its base, if that is one of those that
    /// change. A change that was interrupted is settled first; nothing else is written.
    ///
    /// # Errors
    /// As [`Child::backing`]; and [`Error::Refused`] where it records that its base is of another
    /// format than version 1, where it names the base in a way that is not followed, and where
    /// there is no room.
    pub fn follow(&self, changes: &Changes) -> Result<Option<HeaderChange>> {
        self.settle()?;
        let backing = self.backing()?;
        let (change, name) = match name::follow(&backing.name, &self.places, changes) {
            Ok(Some(found)) => found,
            Ok(None) => return Ok(None),
            Err(why) => return Err(self.refused(why, "name it with `qemu-img rebase -u`")),
        };
        let format = change.format.name().as_bytes();
        match &backing.format {
            Some(old) if old != Format::Qcow1.name().as_bytes() && old != format => {
                let why = format!("records that its base is {}, not qcow", escaped(old));
                Err(self.refused(why, "look at what its disk holds, and with which format"))
            }
            _ => self.plan(&name, change.format),
        }
    }

    /// What has to change in its header so that it records that of its base, if anything. A change
    /// that was interrupted is settled first; nothing else is written.
    ///
    /// # Errors
    /// As [`Child::backing`]; and [`Error::Refused`] where there is no room.
    pub fn plan(&self, name: &[u8], format: Format) -> Result<Option<HeaderChange>> {
        self.settle()?;
        let cluster = self.first_cluster()?;
        let header = self.header(&cluster)?;
        let new = header.saying(name, format.name().as_bytes());
        let new = new.map_err(|objection| self.objected(objection))?;
        Ok(HeaderChange::between(&cluster, &new))
    }

    /// Makes a change, on the medium when this returns. Whether there was anything to do: `false`
    /// where it was made already, as after a crash. A change of one sector is written as one; for
    /// one of more a note is kept meanwhile.
    ///
    /// # Errors
    /// [`Error::Refused`] where the header is neither old nor new, and where it may not be changed.
    /// The header is what it was where anything fails, but for [`Error::HalfWay`], and where only
    /// the note could not be removed ([`Error::Record`]): both are settled by the next call.
    pub fn write(&self, change: &HeaderChange) -> Result<bool> {
        self.settle()?;
        if !change.is_sound() {
            return Err(self.refused("is to get a header that is none", "make the plan anew"));
        }
        self.header(&self.first_cluster()?)?;
        let now = self.read(change.at, change.old.len())?;
        if now == change.new {
            sync(&*self.storage)?;
            return Ok(false);
        }
        if now != change.old {
            let why = "has another header than when the change was planned";
            return Err(self.refused(why, "look at what became of it, and make the plan anew"));
        }
        if !change.is_one_sector()
            && let Err(failure) = record::put(&*self.journal, change)
        {
            // It may be there all the same. The header was not touched, so that it means nothing.
            let _ = self.journal.remove();
            return Err(failure);
        }
        let done = self.put(change.at, &change.new).and_then(|()| Ok(sync(&*self.storage)?));
        if let Err(failure) = done {
            return Err(self.take_back(change, failure));
        }
        if !change.is_one_sector() {
            note::remove(&*self.journal)?;
        }
        Ok(true)
    }

    /// Takes a change back: every byte is what it was. Whether there was anything to do.
    ///
    /// # Errors
    /// As [`Child::write`].
    pub fn undo(&self, change: &HeaderChange) -> Result<bool> {
        self.write(&change.clone().reversed())
    }

    /// What is told of a failure, when the header is what it was again or could not be made so.
    fn take_back(&self, change: &HeaderChange, failure: Error) -> Error {
        let taken_back = self
            .put(change.at, &change.old)
            .and_then(|()| Ok(sync(&*self.storage)?))
            .and_then(|()| Ok(note::remove(&*self.journal)?));
        match taken_back {
            Ok(()) => failure,
            Err(second) => Error::HalfWay {
                path: self.storage.path().to_owned(),
                failure: Box::new(failure),
                second: Box::new(second),
            },
        }
    }

    /// The first cluster, whole.
    fn first_cluster(&self) -> Result<Vec<u8>> {
        let not_ours = || {
            let why = "is no qcow2 image, and only those record the format of a base";
            self.refused(why, "upgrade or convert it")
        };
        let size = size_of(&*self.storage)?;
        let start = self.read(0, in_memory(size.min(24)))?;
        let length = cluster_length(&start).ok_or_else(not_ours)?;
        if (length as u64) > size {
            return Err(self.refused("ends inside its first cluster", "look at where it is from"));
        }
        self.read(0, length)
    }

    fn header<'c>(&self, cluster: &'c [u8]) -> Result<Header<'c>> {
        Header::parse(cluster).map_err(|objection| self.objected(objection))
    }

    fn read(&self, at: u64, length: usize) -> Result<Vec<u8>> {
        let (mut bytes, at) = (vec![0; length], HostOffset::new(at));
        self.storage
            .read_at(&mut bytes, at)
            .map_err(|source| DiskError::io("reading the header", &*self.storage, at, source))?;
        Ok(bytes)
    }

    fn put(&self, at: u64, bytes: &[u8]) -> Result<()> {
        let at = HostOffset::new(at);
        let failed = |source| DiskError::io("writing the header", &*self.storage, at, source);
        Ok(self.storage.write_at(bytes, at).map_err(failed)?)
    }

    fn objected(&self, objection: Objection) -> Error {
        self.refused(objection.why, objection.next)
    }

    fn refused(&self, why: impl Into<String>, next: &'static str) -> Error {
        Error::Refused { path: self.storage.path().to_owned(), why: why.into(), next }
    }
}
