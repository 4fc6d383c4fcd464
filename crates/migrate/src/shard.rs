//! Shards: a plan that several workers carry out, which have nothing in common but files. Each of
//! these is written by one worker under its lock:
//!
//! ```text
//! shards.json             which plan, and how many shards: whoever comes first writes it, once
//! shard-I-of-N.lock       held by whoever works on the shard, or takes it back
//! shard-I-of-N.journal    the journal of the shard
//! shard-I-of-N.report     what came of it, written when its worker begins and ends
//! ```

mod journals;
mod merge;
mod report;

use std::fs::{File, TryLockError};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use calve_disk::{Named, PendingFile};
use calve_plan::{Plan, Weight, shards};
use serde::{Deserialize, Serialize};

pub use journals::{Journals, journals_in};
pub use merge::{Failed, Merged, merge, reports_in};
pub use report::{Head, Status, Total, write};

use crate::error::{Error, Result};
use crate::{lock, names};

/// The name of the file that says which plan a folder is of.
const AGREED: &str = "shards.json";

/// The most bytes that are read of it.
const MOST_AGREED: u64 = 1 << 16;

/// One of so many parts of a plan.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Shard {
    /// Which one, from 0.
    pub index: u64,
    /// How many there are.
    pub count: u64,
}

impl std::fmt::Display for Shard {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "{} of {}", self.index, self.count)
    }
}

impl Shard {
    /// Its families, by their places in the plan.
    pub fn places(self, plan: &Plan, by: Weight) -> Vec<usize> {
        let count = usize::try_from(self.count).unwrap_or(usize::MAX);
        let index = usize::try_from(self.index).unwrap_or(usize::MAX);
        let mut all = shards(plan, count, by);
        if index < all.len() { all.swap_remove(index) } else { Vec::new() }
    }

    /// Its journal in a folder.
    pub fn journal(self, folder: &Path) -> PathBuf {
        folder.join(self.name("journal"))
    }

    /// Its report in a folder.
    pub fn report(self, folder: &Path) -> PathBuf {
        folder.join(self.name("report"))
    }

    fn name(self, end: &str) -> String {
        format!("shard-{}-of-{}.{end}", self.index, self.count)
    }

    /// The shard whose journal has this path, if it is one's. Only the real path says it: a link may
    /// bear any name.
    pub fn of_journal(path: &Path) -> Option<Self> {
        let name = path.file_name()?.to_str()?;
        let numbers = name.strip_prefix("shard-")?.strip_suffix(".journal")?;
        let (index, count) = numbers.split_once("-of-")?;
        let shard = Self { index: index.parse().ok()?, count: count.parse().ok()? };
        // No other spelling of the numbers.
        (shard.name("journal") == name).then_some(shard)
    }

    /// Locks it, until the result is dropped.
    ///
    /// # Errors
    /// [`Error::Disk`]: it is in use, or the host fails. [`Error::Refused`] where a link has the
    /// name of its lock.
    pub fn lock(self, folder: &Path) -> Result<File> {
        lock::take(&folder.join(self.name("lock")))
    }

    /// Locks it against its worker only, to read its journal; nothing where it was never locked.
    ///
    /// # Errors
    /// As [`Self::lock`].
    pub fn lock_for_reading(self, folder: &Path) -> Result<Option<File>> {
        let path = folder.join(self.name("lock"));
        let file = match File::open(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            file => file.map_err(|error| Error::host("opening", &path, error))?,
        };
        match file.try_lock_shared() {
            Ok(()) => Ok(Some(file)),
            Err(TryLockError::WouldBlock) => Err(calve_disk::Error::InUse { path }.into()),
            Err(TryLockError::Error(error)) => Err(Error::host("locking", &path, error)),
        }
    }

    /// Removes its report, durably: it will not be true any more.
    ///
    /// # Errors
    /// [`Error::Disk`].
    pub fn forget_report(self, folder: &Path) -> Result<()> {
        names::remove(&self.report(folder))
    }
}

/// What all workers of a folder agree on.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Agreed {
    /// BLAKE3 of the plan's file.
    pub plan_digest: String,
    /// How many shards there are.
    pub shards: u64,
    /// What is as much for each.
    pub by: Weight,
}

impl Agreed {
    /// What the workers of a folder agreed on.
    ///
    /// # Errors
    /// [`Error::Refused`] where it is no folder of a plan's shards; [`Error::Disk`].
    pub fn of(folder: &Path) -> Result<Self> {
        let path = folder.join(AGREED);
        let mut bytes = Vec::new();
        let read =
            File::open(&path).and_then(|file| file.take(MOST_AGREED).read_to_end(&mut bytes));
        match read {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                let why = format!("has no {AGREED}: it is not the folder of a plan's shards");
                return Err(Error::refused(folder, why));
            }
            read => read.map_err(|error| Error::host("reading", &path, error))?,
        };
        serde_json::from_slice(&bytes)
            .map_err(|error| Error::refused(&path, format!("is not of a plan's shards: {error}")))
    }

    /// Has the folder be for this plan and this many shards, if it is not already. Workers of
    /// another number of shards would meet in the same families.
    ///
    /// # Errors
    /// [`Error::Refused`] where it is for another plan or number; [`Error::Disk`].
    pub fn keep(&self, folder: &Path) -> Result<()> {
        let path = folder.join(AGREED);
        let failed = |error| Error::host("writing", &path, error);
        if !path.exists() {
            let (mut file, pending) = PendingFile::create(&path, false, 0o666)?;
            let text = serde_json::to_string(self).map_err(|error| failed(error.into()))?;
            file.write_all(format!("{text}\n").as_bytes()).map_err(failed)?;
            file.sync_all().map_err(failed)?;
            if pending.take_name(true)? == Named::Yes {
                return Ok(());
            }
        }
        let found = Self::of(folder)?;
        if found.plan_digest != self.plan_digest {
            return Err(Error::refused(
                &path,
                "is of another plan, or of this one before a change",
            ));
        }
        if found != *self {
            let by = match found.by {
                Weight::Bytes => "bytes",
                Weight::Families => "families",
            };
            let why = format!("the plan is carried out in {} shards by {by} here", found.shards);
            return Err(Error::refused(&path, why));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shard_is_known_by_the_name_of_its_journal_and_by_no_other() {
        let shard = Shard { index: 3, count: 16 };
        let journal = shard.journal(Path::new("folder"));
        assert_eq!(journal, Path::new("folder/shard-3-of-16.journal"));
        assert_eq!(Shard::of_journal(&journal), Some(shard));
        for name in
            ["shard-03-of-16.journal", "shard-3-of-16.report", "catalogue", "shard-3.journal"]
        {
            assert_eq!(Shard::of_journal(Path::new(name)), None, "{name}");
        }
    }

    #[test]
    fn one_folder_is_for_one_plan_and_one_number_of_shards() {
        let folder = tempfile::tempdir().expect("a folder");
        let agreed = Agreed { plan_digest: "a".into(), shards: 4, by: Weight::Bytes };
        agreed.keep(folder.path()).expect("nobody was before");
        agreed.keep(folder.path()).expect("the same again");
        for other in [
            Agreed { shards: 5, ..agreed.clone() },
            Agreed { by: Weight::Families, ..agreed.clone() },
            Agreed { plan_digest: "b".into(), ..agreed },
        ] {
            let refused = other.keep(folder.path());
            assert!(matches!(refused, Err(Error::Refused { .. })), "{other:?}: {refused:?}");
        }
    }

    #[test]
    fn one_worker_has_a_shard() {
        let folder = tempfile::tempdir().expect("a folder");
        let shard = Shard { index: 0, count: 2 };
        let lock = shard.lock(folder.path()).expect("nobody has it");
        let second = shard.lock(folder.path());
        let in_use = matches!(second, Err(Error::Disk(calve_disk::Error::InUse { .. })));
        assert!(in_use, "{second:?}");
        Shard { index: 1, count: 2 }.lock(folder.path()).expect("another shard");
        drop(lock);
        shard.lock(folder.path()).expect("it was given back");
    }
}
