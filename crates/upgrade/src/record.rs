//! The undo record: what makes the old image of the new one, and how to tell whether it still
//! would.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use calve_disk::units::SECTOR;
use calve_inplace::{Journal, NoteKind, sealed, unsealed};
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// The undo record as a file beside the image: a few hundred bytes.
pub(crate) const UNDO: NoteKind = NoteKind { suffix: ".calve-undo", longest: 1 << 16 };

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
        let text = unsealed(&note).ok_or_else(broken)?;
        let record: Self = serde_json::from_slice(text).map_err(|_| broken())?;
        if record.kind != KIND || record.version != VERSION {
            return Err(bad(format!("is of version {}, which is not known", record.version)));
        }
        if !record.is_sound() {
            return Err(broken());
        }
        Ok(Some(record))
    }

    /// Whether the starts are as long as starts are.
    fn is_sound(&self) -> bool {
        let is_start = |start: &[u8], length: u64| start.len() as u64 == length.min(SECTOR);
        let is_new = |new: &New| {
            new.start.len() as u64 == SECTOR
                && new.appended_at >= self.old_length
                && new.length >= new.appended_at
        };
        is_start(&self.old_start, self.old_length) && self.new.as_ref().is_none_or(is_new)
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::io;
    use std::path::Path;

    /// A journal that has this note.
    struct Note(Vec<u8>);

    impl Journal for Note {
        fn path(&self) -> &Path {
            Path::new("note")
        }

        fn read(&self) -> io::Result<Option<Vec<u8>>> {
            Ok(Some(self.0.clone()))
        }

        fn put(&self, _note: &[u8]) -> io::Result<()> {
            Ok(())
        }

        fn remove(&self) -> io::Result<()> {
            Ok(())
        }
    }

    fn note(record: &Record) -> Vec<u8> {
        sealed(serde_json::to_vec(record).unwrap())
    }

    #[test]
    fn a_record_is_believed_only_if_it_is_whole_and_makes_sense() {
        let record = Record::new(4096, vec![7; 512], "digest".into());
        let good = note(&record);
        assert_eq!(Record::read(&Note(good.clone())).unwrap(), Some(record.clone()));
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 1;
            assert!(Record::read(&Note(bad)).is_err(), "byte {at} changed");
            assert!(Record::read(&Note(good[..at].to_vec())).is_err(), "cut at {at}");
        }
        let new = New {
            length: 8192,
            start: vec![1; 512],
            appended_at: 4096,
            appended: String::new(),
            time: None,
        };
        let with = |new| note(&Record { new: Some(new), ..record.clone() });
        assert!(Record::read(&Note(with(new.clone()))).is_ok());
        for odd in [
            with(New { start: vec![1; 100], ..new.clone() }),
            with(New { appended_at: 100, ..new.clone() }),
            with(New { length: 5, ..new }),
            note(&Record { old_start: vec![], ..record.clone() }),
            note(&Record { version: 2, ..record }),
        ] {
            assert!(Record::read(&Note(odd)).is_err());
        }
    }
}
