//! A journal in memory.

use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use calve_inplace::Journal;

use crate::storage::{Access, Recorder};

type Step = Box<dyn Fn(Option<&[u8]>) -> io::Result<()> + Send + Sync>;

/// A journal in memory. Clones share the note.
#[derive(Clone)]
pub struct Notes {
    note: Arc<Mutex<Option<Vec<u8>>>>,
    step: Arc<Step>,
}

impl Notes {
    /// A journal with this note.
    pub fn new(note: Option<Vec<u8>>) -> Self {
        Self::with(note, |_| Ok(()))
    }

    /// A journal that asks before each change.
    pub fn with(
        note: Option<Vec<u8>>,
        step: impl Fn(Option<&[u8]>) -> io::Result<()> + Send + Sync + 'static,
    ) -> Self {
        Self { note: Arc::new(Mutex::new(note)), step: Arc::new(Box::new(step)) }
    }

    /// The note as it is now.
    pub fn note(&self) -> Option<Vec<u8>> {
        self.note.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// A journal that tells the recorder of everything that happens to it.
    pub fn recorded(note: Option<Vec<u8>>, recorder: &Recorder) -> Self {
        let recorder = recorder.clone();
        Self::with(note, move |note| {
            recorder.push(Access::Noted(note.map(<[u8]>::to_vec)));
            Ok(())
        })
    }

    fn set(&self, note: Option<Vec<u8>>) -> io::Result<()> {
        (self.step)(note.as_deref())?;
        *self.note.lock().unwrap_or_else(PoisonError::into_inner) = note;
        Ok(())
    }
}

impl Journal for Notes {
    fn path(&self) -> &Path {
        Path::new("memory.note")
    }

    fn read(&self) -> io::Result<Option<Vec<u8>>> {
        Ok(self.note())
    }

    fn put(&self, note: &[u8]) -> io::Result<()> {
        self.set(Some(note.to_vec()))
    }

    fn remove(&self) -> io::Result<()> {
        self.set(None)
    }
}
