//! The journals of all shards of a plan as one, for whoever tells what became of it as a whole.

use std::path::{Path, PathBuf};

use calve_plan::MOST_SHARDS;

use super::{Agreed, Shard};
use crate::error::{Error, Result};
use crate::journal::Journal;

/// What the journals in a folder of shards say.
#[derive(Debug)]
pub struct Journals {
    /// What the workers of the folder agreed on.
    pub agreed: Agreed,
    /// Shards that were begun, in order, and the numbers of their last runs.
    pub begun: Vec<(Shard, i64)>,
    /// One run of all families of these; no run where there are none.
    pub journal: Journal,
}

/// The journals of the shards that were begun in a folder, in order.
///
/// # Errors
/// [`Error::Refused`] where it is no folder of a plan's shards; [`Error::Disk`].
pub fn journals_in(folder: &Path) -> Result<Vec<PathBuf>> {
    let count = Agreed::of(folder)?.shards.min(MOST_SHARDS);
    let mut journals = Vec::new();
    for index in 0..count {
        let path = Shard { index, count }.journal(folder);
        if path.try_exists().map_err(|error| Error::host("looking for", &path, error))? {
            journals.push(path);
        }
    }
    Ok(journals)
}

impl Journals {
    /// The number of the run.
    pub const RUN: i64 = Journal::JOINED;

    /// Reads all of them, one after the other. No worker has a shard while it is read.
    ///
    /// # Errors
    /// [`Error::Refused`] where it is no folder of a plan's shards; [`Error::Disk`], also where a
    /// worker has one of them; [`Error::Journal`].
    pub fn of(folder: &Path) -> Result<Self> {
        let agreed = Agreed::of(folder)?;
        let (mut begun, joined) = (Vec::new(), Journal::temporary(folder)?);
        for path in journals_in(folder)? {
            let Some(shard) = Shard::of_journal(&path) else { continue };
            let _lock = shard.lock_for_reading(folder)?;
            let Some(journal) = Journal::open_for_reading(&path)? else { continue };
            let of_plan = |run: &crate::RunRecord| run.digest == agreed.plan_digest;
            if let Some(run) = journal.runs()?.into_iter().rfind(of_plan) {
                joined.add(&journal, &run)?;
                begun.push((shard, run.number));
            }
        }
        if u64::try_from(begun.len()).unwrap_or(u64::MAX) < agreed.shards {
            joined.set_not_over()?;
        }
        Ok(Self { agreed, begun, journal: joined })
    }
}
