//! The note beside an image that is being mended: what its entries were.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use calve_inplace::{Journal, sealed, unsealed};
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::find::Round;

const KIND: &str = "calve repair record";
const VERSION: u32 = 1;

/// What one round changes.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct Record {
    kind: String,
    version: u32,
    /// How long the file was, in bytes.
    pub(crate) length: u64,
    pub(crate) runs: Vec<Run>,
}

/// Entries that stand one behind the other.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct Run {
    /// Where the first one stands.
    pub(crate) at: u64,
    /// What they were.
    #[serde(with = "bytes")]
    pub(crate) old: Vec<u8>,
    /// What they become.
    #[serde(with = "bytes")]
    pub(crate) new: Vec<u8>,
}

impl Record {
    pub(crate) fn of(round: &Round) -> Self {
        let mut runs: Vec<Run> = Vec::new();
        for edit in &round.edits {
            let (at, new) = (edit.place.get(), edit.new_entry());
            match runs.last_mut().filter(|run| run.at + run.old.len() as u64 == at) {
                Some(run) => {
                    run.old.extend(edit.old);
                    run.new.extend(new);
                }
                None => runs.push(Run { at, old: edit.old.to_vec(), new: new.to_vec() }),
            }
        }
        Self { kind: KIND.into(), version: VERSION, length: round.length, runs }
    }

    /// The record in the journal, if there is one.
    pub(crate) fn read(journal: &dyn Journal) -> Result<Option<Self>> {
        let bad = |why: String| Error::Record { path: journal.path().to_owned(), why };
        let note = journal.read().map_err(|error| bad(format!("cannot be read: {error}")))?;
        let Some(note) = note else { return Ok(None) };
        let broken = || bad("is no repair record, or a damaged one".into());
        let text = unsealed(&note).ok_or_else(broken)?;
        let record: Self = serde_json::from_slice(text).map_err(|_| broken())?;
        if record.kind != KIND || record.version != VERSION {
            return Err(bad(format!("is of version {}, which is not known", record.version)));
        }
        let is_sound = |run: &Run| {
            run.old.len() == run.new.len()
                && run.old.len().is_multiple_of(8)
                && run.at.checked_add(run.old.len() as u64).is_some_and(|end| end <= record.length)
        };
        if record.runs.iter().all(is_sound) { Ok(Some(record)) } else { Err(broken()) }
    }

    pub(crate) fn put(&self, journal: &dyn Journal) -> Result<()> {
        let failed = |why| Error::Record { path: journal.path().to_owned(), why };
        let text = serde_json::to_vec(self).map_err(|error| failed(error.to_string()))?;
        journal.put(&sealed(text)).map_err(|error| failed(format!("cannot be written: {error}")))
    }
}

/// Takes the record away.
pub(crate) fn remove(journal: &dyn Journal) -> Result<()> {
    journal.remove().map_err(|error| Error::Record {
        path: journal.path().to_owned(),
        why: format!("cannot be removed: {error}"),
    })
}

mod bytes {
    use super::{BASE64_STANDARD, Engine};
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(bytes: &[u8], out: S) -> Result<S::Ok, S::Error> {
        out.serialize_str(&BASE64_STANDARD.encode(bytes))
    }

    pub(super) fn deserialize<'a, D: Deserializer<'a>>(from: D) -> Result<Vec<u8>, D::Error> {
        let text = String::deserialize(from)?;
        BASE64_STANDARD.decode(text).map_err(serde::de::Error::custom)
    }
}
