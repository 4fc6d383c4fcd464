//! The undo record: what makes the old image of the new one, and how to tell whether it still
//! would.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::journal::Journal;

const KIND: &str = "calve undo record";
const VERSION: u32 = 1;

/// A time as the host keeps it: seconds since 1970 and nanoseconds.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Time {
    /// Seconds since 1970.
    pub seconds: i64,
    /// Nanoseconds, below 10^9.
    pub nanoseconds: i64,
}

/// What stands in the journal of an image that is being upgraded or was.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct Record {
    kind: String,
    version: u32,
    /// How long the old image was, in bytes.
    pub(crate) old_length: u64,
    /// What the old image began with: 512 bytes, or all of it.
    #[serde(with = "bytes")]
    pub(crate) old_start: Vec<u8>,
    /// Digest of the old tables.
    pub(crate) old_tables: String,
    /// When the old image was written last.
    pub(crate) old_time: Option<Time>,
    /// What the new image is, from the moment on in which it may become one.
    pub(crate) new: Option<New>,
    /// Whether the old tables are kept from being used for anything else.
    pub(crate) holds: bool,
}

/// What the new image is.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct New {
    /// How long it is, in bytes.
    pub(crate) length: u64,
    /// What it begins with: 512 bytes.
    #[serde(with = "bytes")]
    pub(crate) start: Vec<u8>,
    /// Where that begins which was put behind the old end: copied clusters, then tables.
    pub(crate) appended_at: u64,
    /// Digest of that, up to the end of the file.
    pub(crate) appended: String,
    /// When it was written last.
    pub(crate) time: Option<Time>,
}

impl Record {
    pub(crate) fn new(old_length: u64, old_start: Vec<u8>, old_tables: String) -> Self {
        Self {
            kind: KIND.into(),
            version: VERSION,
            old_length,
            old_start,
            old_tables,
            old_time: None,
            new: None,
            holds: false,
        }
    }

    /// The record in the journal, if there is one.
    pub(crate) fn read(journal: &dyn Journal) -> Result<Option<Self>> {
        let bad = |why: String| Error::Record { path: journal.path().to_owned(), why };
        let note = journal.read().map_err(|error| bad(format!("cannot be read: {error}")))?;
        let Some(note) = note else { return Ok(None) };
        let broken = || bad("is no undo record, or a damaged one".into());
        let end = note.iter().position(|byte| *byte == b'\n').ok_or_else(broken)?;
        let (text, digest) = note.split_at(end);
        if digest[1..].trim_ascii() != blake3::hash(text).to_hex().as_bytes() {
            return Err(broken());
        }
        let record: Self = serde_json::from_slice(text).map_err(|_| broken())?;
        if record.kind != KIND || record.version != VERSION {
            return Err(bad(format!("is of version {}, which is not known", record.version)));
        }
        Ok(Some(record))
    }

    pub(crate) fn put(&self, journal: &dyn Journal) -> Result<()> {
        let failed = |why| Error::Record { path: journal.path().to_owned(), why };
        let mut note = serde_json::to_vec(self).map_err(|error| failed(error.to_string()))?;
        let digest = blake3::hash(&note).to_hex();
        note.push(b'\n');
        note.extend_from_slice(digest.as_bytes());
        note.push(b'\n');
        journal.put(&note).map_err(|error| failed(format!("cannot be written: {error}")))
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
