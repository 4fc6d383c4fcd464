//! The note beside an object, which is an object too.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use calve_inplace::{Journal, NoteKind};

use crate::error::{Error, Kind, Result};
use crate::object::{Condition, Object, Tag};

/// The note beside an object. What is put into it stays here until the object itself is another
/// one: only then it says anything.
///
/// Other runs have notes of the same name: what is written replaces none that was not read here,
/// and what is removed is what was read or written here.
#[derive(Clone)]
pub struct ObjectJournal {
    object: Object,
    path: PathBuf,
    longest: u64,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    /// What it is to be, where that was said.
    wanted: Wanted,
    /// The tag of the one that was read.
    found: Option<Tag>,
    /// Whether it could not be told if there is one.
    is_hidden: bool,
    /// Whether one was written.
    is_written: bool,
    /// The tag of the one that was written, where it is surely from here.
    own: Option<Tag>,
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
        Self { object, path, longest: kind.longest, state: Arc::default() }
    }

    /// Whether the store did not let it be told if there is a note. It is taken to be missing
    /// then: one that is there all the same is not replaced.
    pub fn is_hidden(&self) -> bool {
        self.lock().is_hidden
    }

    /// Whether there is a note in the store that was written here.
    pub(crate) fn is_written(&self) -> bool {
        self.lock().is_written
    }

    /// Writes the note into the store, where there is to be one.
    pub(crate) fn write(&self) -> Result<()> {
        let mut state = self.lock();
        let Wanted::Note(note) = &state.wanted else { return Ok(()) };
        let condition = state.found.clone().map_or(Condition::IsNew, Condition::Is);
        let own = match self.object.write(note, &condition) {
            Ok(tag) => tag,
            Err(error) if matches!(error.kind, Kind::Exists | Kind::Changed) => {
                // The answer to the first try may be lost. Whose it is nobody knows.
                match self.object.read(self.longest)? {
                    Some((there, _)) if there == *note => None,
                    _ => {
                        let why = "failed: that of another run is there by now".into();
                        return Err(Error { kind: Kind::Changed, why, ..error });
                    }
                }
            }
            Err(error) => return Err(error),
        };
        (state.own, state.is_written) = (own, true);
        Ok(())
    }

    /// Takes the note out of the store again that was written, and says whether it is gone. One
    /// that may be another run's stays.
    pub(crate) fn take_back(&self) -> Result<bool> {
        match &self.lock().own {
            Some(own) => self.remove_that(own),
            None => Ok(false),
        }
    }

    /// Takes the note out of the store, where there is to be none; where there is to be one it is
    /// there then, even if another run took it for one that says nothing.
    pub(crate) fn settle(&self) -> Result<()> {
        let state = self.lock();
        match (&state.wanted, &state.found) {
            (Wanted::Nothing, Some(found)) => match self.remove_that(found)? {
                true => Ok(()),
                false => {
                    let why = "was left out: it is another run's by now";
                    Err(Error::new(Kind::Changed, &self.path, "removing it", why))
                }
            },
            (Wanted::Note(note), _) => match self.object.last_head() {
                Ok(None) => self.object.write(note, &Condition::IsNew).map(|_| ()),
                // It was written, and who may not look need not.
                Ok(Some(_)) | Err(_) => Ok(()),
            },
            (Wanted::AsItIs, _) | (Wanted::Nothing, None) => Ok(()),
        }
    }

    /// Removes the note of this tag, and says whether there is none any more.
    fn remove_that(&self, tag: &Tag) -> Result<bool> {
        match self.object.last_head()? {
            None => Ok(true),
            Some(head) if head.tag == *tag => self.object.remove().map(|()| true),
            Some(_) => Ok(false),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Journal for ObjectJournal {
    fn path(&self) -> &Path {
        &self.path
    }

    fn read(&self) -> io::Result<Option<Vec<u8>>> {
        let mut state = self.lock();
        match &state.wanted {
            Wanted::Note(note) => return Ok(Some(note.clone())),
            Wanted::Nothing => return Ok(None),
            Wanted::AsItIs => {}
        }
        let (note, tag) = match self.object.read(self.longest) {
            Ok(found) => found.unzip(),
            // Who may not list a bucket is told this of all that is missing in it.
            Err(Error { kind: Kind::Denied, .. }) => {
                state.is_hidden = true;
                (None, None)
            }
            Err(error) => return Err(error.into()),
        };
        state.found = tag;
        Ok(note)
    }

    fn put(&self, note: &[u8]) -> io::Result<()> {
        self.lock().wanted = Wanted::Note(note.to_vec());
        Ok(())
    }

    fn remove(&self) -> io::Result<()> {
        self.lock().wanted = Wanted::Nothing;
        Ok(())
    }
}
