//! What is written over in the header of an overlay, and the note beside it while that is more
//! than one sector.

use calve_disk::units::{SECTOR, in_memory};
use calve_inplace::{Journal, note};
use serde::{Deserialize, Serialize};

use crate::error::Result;

const KIND: &str = "calve header record";
const VERSION: u32 = 1;

/// Bytes of the largest cluster, which headers end in.
const LARGEST: u64 = 1 << 21;

/// Whole sectors of a header as they are and as they become: all that is needed to make the change,
/// and to take it back to the bit.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct HeaderChange {
    /// Where they begin in the file, in bytes.
    pub at: u64,
    /// What they are.
    #[serde(with = "note::bytes")]
    pub old: Vec<u8>,
    /// What they become.
    #[serde(with = "note::bytes")]
    pub new: Vec<u8>,
}

impl HeaderChange {
    /// From one first cluster to another of the same length, where they differ.
    pub(super) fn between(old: &[u8], new: &[u8]) -> Option<Self> {
        let sector = in_memory(SECTOR);
        let sectors = || old.chunks(sector).zip(new.chunks(sector));
        let first = sectors().position(|(old, new)| old != new)?;
        let last = sectors().rposition(|(old, new)| old != new)?;
        let range = first * sector..(last + 1) * sector;
        let [old, new] = [old, new].map(|bytes| bytes.get(range.clone()).map(<[u8]>::to_vec));
        Some(Self { at: range.start as u64, old: old?, new: new? })
    }

    /// The way back.
    #[must_use]
    pub fn reversed(self) -> Self {
        Self { at: self.at, old: self.new, new: self.old }
    }

    /// Whether it is about whole sectors of a first cluster.
    pub(super) fn is_sound(&self) -> bool {
        let length = self.old.len() as u64;
        length == self.new.len() as u64
            && length > 0
            && length.is_multiple_of(SECTOR)
            && self.at.is_multiple_of(SECTOR)
            && self.at.checked_add(length).is_some_and(|end| end <= LARGEST)
    }

    /// Whether it is one sector, which reaches the medium whole or not at all.
    pub(super) fn is_one_sector(&self) -> bool {
        self.old.len() as u64 == SECTOR
    }
}

/// The note.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct Record {
    kind: String,
    version: u32,
    change: HeaderChange,
}

/// The change in the journal, if there is one.
pub(super) fn read(journal: &dyn Journal) -> Result<Option<HeaderChange>> {
    let Some(record) = note::read::<Record>(journal, KIND)? else { return Ok(None) };
    if record.kind != KIND || record.version != VERSION || !record.change.is_sound() {
        return Err(note::broken(journal, KIND).into());
    }
    Ok(Some(record.change))
}

/// Puts a change into the journal.
pub(super) fn put(journal: &dyn Journal, change: &HeaderChange) -> Result<()> {
    let record = Record { kind: KIND.into(), version: VERSION, change: change.clone() };
    Ok(note::put(journal, &record)?)
}
