//! The note beside an object, which is an object too.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use calve_inplace::{Journal, NoteKind};

use crate::error::Result;
use crate::object::Object;

/// The note beside an object. What is put into it stays here until the object itself is another
/// one: only then it says anything.
#[derive(Clone)]
pub struct ObjectJournal {
    object: Object,
    path: PathBuf,
    longest: u64,
    /// What it is to be, where that was said.
    wanted: Arc<Mutex<Wanted>>,
}

#[derive(Default)]
enum Wanted {
    #[default]
    AsItIs,
    Note(Vec<u8>),
    Nothing,
}

impl ObjectJournal {
    /// The journal of an object, for notes of one kind.
    pub fn of(object: &Object, kind: NoteKind) -> Self {
        let object = object.with_suffix(kind.suffix);
        let path = object.name().path();
        Self { object, path, longest: kind.longest, wanted: Arc::default() }
    }

    /// Writes the note into the store, where there is to be one.
    pub(crate) fn write(&self) -> Result<()> {
        match &*self.lock() {
            Wanted::Note(note) => self.object.write(note),
            Wanted::AsItIs | Wanted::Nothing => Ok(()),
        }
    }

    /// Takes the note out of the store again that was written.
    pub(crate) fn take_back(&self) -> Result<()> {
        match &*self.lock() {
            Wanted::Note(_) => self.object.remove(),
            Wanted::AsItIs | Wanted::Nothing => Ok(()),
        }
    }

    /// Takes the note out of the store, where there is to be none.
    pub(crate) fn settle(&self) -> Result<()> {
        match &*self.lock() {
            Wanted::Nothing => self.object.remove(),
            Wanted::AsItIs | Wanted::Note(_) => Ok(()),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Wanted> {
        self.wanted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Journal for ObjectJournal {
    fn path(&self) -> &Path {
        &self.path
    }

    fn read(&self) -> io::Result<Option<Vec<u8>>> {
        match &*self.lock() {
            Wanted::Note(note) => Ok(Some(note.clone())),
            Wanted::Nothing => Ok(None),
            Wanted::AsItIs => Ok(self.object.read(self.longest)?),
        }
    }

    fn put(&self, note: &[u8]) -> io::Result<()> {
        *self.lock() = Wanted::Note(note.to_vec());
        Ok(())
    }

    fn remove(&self) -> io::Result<()> {
        *self.lock() = Wanted::Nothing;
        Ok(())
    }
}
