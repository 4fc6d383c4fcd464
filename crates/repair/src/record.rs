//! The note beside an image that is being mended: what its entries were.

use calve_inplace::{Journal, note};
use serde::{Deserialize, Serialize};

use crate::error::Result;
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
    #[serde(with = "note::bytes")]
    pub(crate) old: Vec<u8>,
    /// What they become.
    #[serde(with = "note::bytes")]
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
        let Some(record) = note::read::<Self>(journal, KIND)? else { return Ok(None) };
        if record.kind != KIND || record.version != VERSION {
            return Err(note::broken(journal, KIND).into());
        }
        let is_sound = |run: &Run| {
            run.old.len() == run.new.len()
                && run.old.len().is_multiple_of(8)
                && run.at.checked_add(run.old.len() as u64).is_some_and(|end| end <= record.length)
        };
        match record.runs.iter().all(is_sound) {
            true => Ok(Some(record)),
            false => Err(note::broken(journal, KIND).into()),
        }
    }
}
