//! Notes as documents: JSON on one line, sealed.

use std::path::PathBuf;

use calve_disk::open::shown;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::journal::{Journal, sealed, unsealed};

/// A note cannot be read, written or removed, or is none of the kind wanted.
#[derive(Debug, thiserror::Error)]
#[error("{}: {why}", shown(path))]
pub struct NoteError {
    /// The note.
    pub path: PathBuf,
    /// What is the matter with it.
    pub why: String,
}

impl NoteError {
    /// What is the matter with the note in `journal`.
    pub fn new(journal: &dyn Journal, why: impl Into<String>) -> Self {
        Self { path: journal.path().to_owned(), why: why.into() }
    }
}

/// The document in the journal, if there is one. What it is called is told where it is none.
///
/// # Errors
/// Where it cannot be read, is damaged, or is no such document.
pub fn read<T: DeserializeOwned>(
    journal: &dyn Journal,
    called: &str,
) -> Result<Option<T>, NoteError> {
    let note = journal
        .read()
        .map_err(|error| NoteError::new(journal, format!("cannot be read: {error}")))?;
    let Some(note) = note else { return Ok(None) };
    let document = unsealed(&note).and_then(|text| serde_json::from_slice(text).ok());
    match document {
        Some(document) => Ok(Some(document)),
        None => Err(broken(journal, called)),
    }
}

/// That the note is not what it is called.
pub fn broken(journal: &dyn Journal, called: &str) -> NoteError {
    NoteError::new(journal, format!("is no {called}, or a damaged one"))
}

/// Puts a document into the journal.
///
/// # Errors
/// Where it cannot be written.
pub fn put(journal: &dyn Journal, document: &impl Serialize) -> Result<(), NoteError> {
    let failed = |why: String| NoteError::new(journal, format!("cannot be written: {why}"));
    let text = serde_json::to_vec(document).map_err(|error| failed(error.to_string()))?;
    journal.put(&sealed(text)).map_err(|error| failed(error.to_string()))
}

/// Takes the note away.
///
/// # Errors
/// Where it cannot be removed.
pub fn remove(journal: &dyn Journal) -> Result<(), NoteError> {
    journal.remove().map_err(|error| NoteError::new(journal, format!("cannot be removed: {error}")))
}

/// Bytes in a document, for `#[serde(with = ...)]`.
pub mod bytes {
    use base64::Engine;
    use base64::prelude::BASE64_STANDARD;
    use serde::{Deserialize, Deserializer, Serializer};

    /// As text.
    ///
    /// # Errors
    /// Those of the serializer.
    pub fn serialize<S: Serializer>(bytes: &[u8], out: S) -> Result<S::Ok, S::Error> {
        out.serialize_str(&BASE64_STANDARD.encode(bytes))
    }

    /// From text.
    ///
    /// # Errors
    /// Where it is no text that bytes were made of.
    pub fn deserialize<'a, D: Deserializer<'a>>(from: D) -> Result<Vec<u8>, D::Error> {
        let text = String::deserialize(from)?;
        BASE64_STANDARD.decode(text).map_err(serde::de::Error::custom)
    }
}
