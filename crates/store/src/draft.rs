//! A draft: an object as it would be if something were written to it. What is written stays here
//! until the draft is published as one.

use std::io;
use std::ops::Range;
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::sync::{Mutex, MutexGuard, PoisonError};

use calve_disk::units::{HostOffset, in_memory};
use calve_disk::{HostFile, Storage, StorageMut};

use crate::error::{Error, Kind, Result};
use crate::file::ObjectFile;
use crate::journal::ObjectJournal;
use crate::limits::{BLOCK, KEPT_RANGES, LONG_READ, LONGEST_OBJECT, MOST_PARTS, SPOOLED_READ};
use crate::object::{Condition, Object};
use crate::pieces::{self, Piece};
use crate::ranges::Ranges;
use crate::upload::{Unfinished, Upload};

/// An object and what was written over it. Bytes lie in a file of the host that has no name, each
/// where it is in the object: those that were written, and those that were read.
pub struct Draft {
    file: ObjectFile,
    spool: HostFile,
    state: Mutex<State>,
}

struct State {
    /// How long it is.
    size: u64,
    /// Up to where it is the object, but for what was written.
    old: u64,
    /// What lies in the file.
    here: Ranges,
    /// What is not as in the object.
    changed: Ranges,
}

impl Draft {
    /// A draft over an object.
    ///
    /// # Errors
    /// Where the host has no room for temporary files.
    pub fn over(file: ObjectFile) -> Result<Self> {
        let path = file.path().to_owned();
        let spool = tempfile::tempfile()
            .map_err(|error| Error::host(&path, "making a temporary file for it", &error))?;
        let size = file.length();
        let state = State { size, old: size, here: Ranges::default(), changed: Ranges::default() };
        Ok(Self { file, spool: HostFile::new(spool, path), state: Mutex::new(state) })
    }

    /// Makes an object of the draft, in the place of the one that it is over or, where `target` is
    /// another one, beside it. What did not change is copied by the store. The note in `journal`
    /// is there before the object is another one, or until it is.
    ///
    /// # Errors
    /// Where the object is not made. It is what it was then, and so is the note.
    pub fn publish(
        &self,
        target: Option<&Object>,
        journal: Option<&ObjectJournal>,
        stop: &AtomicBool,
    ) -> Result<()> {
        let original = self.file.object();
        let (size, old, changed) = {
            let state = self.lock();
            (state.size, state.old, state.changed.list())
        };
        let is_same = changed.is_empty() && size == old && old == self.file.length();
        let path = self.path();
        let look = || {
            let head = original.head()?.filter(|head| head.tag == *self.file.tag());
            head.ok_or_else(|| Error::new(Kind::Changed, path, "writing it", "failed: it changed"))
        };
        if target.is_none() && is_same {
            let Some(journal) = journal else { return Ok(()) };
            look()?;
            journal.write()?;
            return journal.settle();
        }
        let pieces = pieces::over(size, old, &changed);
        if pieces.len() as u64 > MOST_PARTS {
            let why = "would take more parts than an object may have";
            return Err(Error::new(Kind::Odd, path, "writing it", why));
        }
        let head = look()?;
        let upload = Upload::begin(target.unwrap_or(original), Some(&head))?;
        let source = Some((original, self.file.tag()));
        upload.put(&pieces, &Sent { draft: self, pieces: &pieces }, source, stop, &|_| {})?;
        let Some(target) = target else {
            if let Some(journal) = journal {
                // No note is about an object that is not there any more.
                look()?;
                journal.write()?;
            }
            let done = upload.finish(&Condition::Is(self.file.tag().clone()), size);
            return match (done, journal) {
                (Ok(_), Some(journal)) => journal.settle(),
                (Err(unfinished), Some(journal)) => Err(self.without_note(unfinished, journal)),
                (done, None) => done.map(|_| ()).map_err(|unfinished| unfinished.error),
            };
        };
        debug_assert_ne!(target.name(), original.name(), "another one");
        upload.complete(&Condition::IsNew, size).map(|_| ())
    }

    /// Takes the note back where the object is surely what it was. Where it may be another one the
    /// note may be about it, and stays.
    fn without_note(&self, unfinished: Unfinished, journal: &ObjectJournal) -> Error {
        let Unfinished { error, may_be } = unfinished;
        if !journal.is_written() {
            return error;
        }
        let is_old = || match self.file.object().last_head() {
            Ok(head) => head.is_some_and(|head| head.tag == *self.file.tag()),
            Err(_) => false,
        };
        if !may_be && is_old() && matches!(journal.take_back(), Ok(true)) {
            return error;
        }
        let why = format!(
            "{}; the undo record stays, since it may be about what is there now: \
             calve upgrade --recover looks",
            error.why
        );
        Error { why, ..error }
    }

    /// Has all of a range here, so that it is fetched at once and no more than once.
    fn hold(&self, range: Range<u64>) -> Result<()> {
        let mut state = self.lock();
        let end = range.end.min(state.old);
        for (piece, is_here) in state.here.pieces(range.start.min(end)..end) {
            if is_here {
                continue;
            }
            let mut at = piece.start;
            while at < piece.end {
                let mut bytes = vec![0; in_memory((piece.end - at).min(SPOOLED_READ))];
                self.file.read(&mut bytes, at)?;
                self.keep(&bytes, at)?;
                at += bytes.len() as u64;
            }
            state.here.add(piece);
        }
        Ok(())
    }

    fn keep(&self, bytes: &[u8], at: u64) -> Result<()> {
        self.spool.write_at(bytes, HostOffset::new(at)).map_err(|error| self.failed(&error))
    }

    fn failed(&self, error: &io::Error) -> Error {
        Error::host(self.path(), "using a temporary file for it", error)
    }

    /// Fills `out` from `at` of the object: from what is here, what was read before, or the store.
    fn read(&self, out: &mut [u8], at: u64) -> Result<()> {
        let mut state = self.lock();
        let range = at..at.saturating_add(out.len() as u64);
        if range.end > state.size {
            let why = format!("ends before byte {}", range.end);
            let kind = Kind::Host(io::ErrorKind::UnexpectedEof);
            return Err(Error::new(kind, self.path(), "", why));
        }
        if (out.len() as u64) < LONG_READ && state.here.count() < KEPT_RANGES {
            let around = range.start / BLOCK * BLOCK..range.end.next_multiple_of(BLOCK);
            let around = around.start..around.end.min(state.old);
            let lacks = |(piece, is_here): &(Range<u64>, bool)| {
                !is_here && piece.start < range.end && piece.end > range.start
            };
            for (piece, _) in state
                .here
                .pieces(around.start.min(around.end)..around.end)
                .into_iter()
                .filter(lacks)
            {
                let mut bytes = vec![0; in_memory(piece.end - piece.start)];
                self.file.read(&mut bytes, piece.start)?;
                self.keep(&bytes, piece.start)?;
                state.here.add(piece);
            }
        }
        for (piece, is_here) in state.here.pieces(range) {
            let part = &mut out[in_memory(piece.start - at)..in_memory(piece.end - at)];
            if is_here {
                let place = HostOffset::new(piece.start);
                self.spool.read_at(part, place).map_err(|error| self.failed(&error))?;
                continue;
            }
            let length = in_memory(state.old.clamp(piece.start, piece.end) - piece.start);
            let (old, new) = part.split_at_mut(length);
            self.file.read(old, piece.start)?;
            new.fill(0);
        }
        Ok(())
    }

    fn write(&self, range: Range<u64>, write: impl FnOnce() -> io::Result<()>) -> Result<()> {
        if range.end > LONGEST_OBJECT {
            let kind = Kind::Host(io::ErrorKind::FileTooLarge);
            return Err(Error::new(kind, self.path(), "writing it", "would make it too long"));
        }
        let mut state = self.lock();
        write().map_err(|error| self.failed(&error))?;
        state.size = state.size.max(range.end);
        state.here.add(range.clone());
        state.changed.add(range);
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The draft as it is sent: each piece is here as a whole before it is read.
struct Sent<'a> {
    draft: &'a Draft,
    pieces: &'a [Piece],
}

impl Storage for Sent<'_> {
    fn path(&self) -> &Path {
        self.draft.path()
    }

    fn size(&self) -> io::Result<u64> {
        self.draft.size()
    }

    fn read_at(&self, out: &mut [u8], at: HostOffset) -> io::Result<()> {
        // The start of each piece is read first.
        if let Ok(found) = self.pieces.binary_search_by_key(&at.get(), |piece| piece.at) {
            let piece = self.pieces[found];
            self.draft.hold(piece.at..piece.at + piece.length)?;
        }
        self.draft.read_at(out, at)
    }
}

impl Storage for Draft {
    fn path(&self) -> &Path {
        self.file.path()
    }

    fn size(&self) -> io::Result<u64> {
        Ok(self.lock().size)
    }

    fn read_at(&self, out: &mut [u8], at: HostOffset) -> io::Result<()> {
        Ok(self.read(out, at.get())?)
    }

    fn will_read(&self, at: HostOffset, length: u64) {
        let state = self.lock();
        let end = at.get().saturating_add(length).min(state.old);
        let is_lacking =
            at.get() < end && state.here.pieces(at.get()..end).iter().any(|(_, is_here)| !is_here);
        drop(state);
        if is_lacking {
            self.file.will_read(at, end - at.get());
        }
    }
}

impl StorageMut for Draft {
    fn write_at(&self, bytes: &[u8], at: HostOffset) -> io::Result<()> {
        let range = at.get()..at.get().saturating_add(bytes.len() as u64);
        Ok(self.write(range, || self.spool.write_at(bytes, at))?)
    }

    fn set_size(&self, size: u64) -> io::Result<()> {
        let mut state = self.lock();
        state.size = size;
        state.old = state.old.min(size);
        state.here.cut(size);
        state.changed.cut(size);
        Ok(())
    }

    fn write_zeros(&self, at: HostOffset, length: u64) -> io::Result<()> {
        let range = at.get()..at.get().saturating_add(length);
        let write = || {
            // A hole is made only where there is something.
            let end = self.spool.size()?;
            self.spool.set_size(end.max(range.end))?;
            self.spool.write_zeros(at, length)
        };
        Ok(self.write(range.clone(), write)?)
    }

    fn allocate(&self, at: HostOffset, length: u64) -> io::Result<()> {
        // Behind the end everything reads as zeros already.
        let mut state = self.lock();
        state.size = state.size.max(at.get().saturating_add(length));
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        // It is nobody's until it is published.
        Ok(())
    }
}
