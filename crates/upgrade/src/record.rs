//! The undo record: what makes the old image of the new one, and how to tell whether it still
//! would.

use calve_disk::units::SECTOR;
use calve_inplace::{Journal, NoteError, note};
use serde::{Deserialize, Serialize};

use crate::error::Result;

const KIND: &str = "calve undo record";
const CALLED: &str = "undo record";
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
    #[serde(with = "note::bytes")]
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
    #[serde(with = "note::bytes")]
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
        let Some(record) = note::read::<Self>(journal, CALLED)? else { return Ok(None) };
        if record.kind != KIND || record.version != VERSION {
            let why = format!("is of version {}, which is not known", record.version);
            return Err(NoteError::new(journal, why).into());
        }
        match record.is_sound() {
            true => Ok(Some(record)),
            false => Err(note::broken(journal, CALLED).into()),
        }
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
}

#[cfg(test)]
mod tests {
    use calve_testkit::Notes;

    use super::*;

    fn read(note: Vec<u8>) -> Result<Option<Record>> {
        Record::read(&Notes::new(Some(note)))
    }

    fn sealed(record: &Record) -> Vec<u8> {
        let notes = Notes::new(None);
        note::put(&notes, record).unwrap();
        notes.note().unwrap()
    }

    #[test]
    fn a_record_is_believed_only_if_it_is_whole_and_makes_sense() {
        let record = Record::new(4096, vec![7; 512], "digest".into());
        let good = sealed(&record);
        assert_eq!(read(good.clone()).unwrap(), Some(record.clone()));
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 1;
            assert!(read(bad).is_err(), "byte {at} changed");
            assert!(read(good[..at].to_vec()).is_err(), "cut at {at}");
        }
        let new = New {
            length: 8192,
            start: vec![1; 512],
            appended_at: 4096,
            appended: String::new(),
            time: None,
        };
        let with = |new| sealed(&Record { new: Some(new), ..record.clone() });
        assert!(read(with(new.clone())).is_ok());
        for odd in [
            with(New { start: vec![1; 100], ..new.clone() }),
            with(New { appended_at: 100, ..new.clone() }),
            with(New { length: 5, ..new }),
            sealed(&Record { old_start: vec![], ..record.clone() }),
            sealed(&Record { version: 2, ..record }),
        ] {
            assert!(read(odd).is_err());
        }
    }
}
