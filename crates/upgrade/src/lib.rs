//! Upgrading QCOW version 1 images to qcow2 where they lie: only tables and one sector are
//! written. `docs/upgrade.md` is the document behind this crate.
//!
//! ```text
//! survey      walks the old tables and proves what is needed; nothing is written
//! tables      puts moved clusters and the new tables behind the end of the file
//! upgrade     the order: append, sync, undo record, one sector, sync, verify
//! undo        what the undo record allows: to go back, to recover, to give the way back up
//! ```

mod contents;
mod counters;
mod error;
mod fates;
mod files;
mod layout;
mod record;
mod survey;
mod tables;
mod times;
mod undo;
mod upgrade;
mod verify;
mod view;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use calve_disk::StorageMut;
use calve_inplace::{Journal, NoJournal};

pub use error::{Error, Result};
pub use files::{FoundRecord, forget, reflink_to, set_written, state_by, state_of, written};
pub use record::Time;
pub use survey::Plan;
pub use undo::{Recovered, State};

/// How an image is upgraded.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// The format of the backing file, which qcow2 records. Wanted where there is one.
    pub backing_format: Option<String>,
    /// The name of the backing file that is recorded, where the image's own does not lead to it any
    /// more.
    pub backing_name: Option<Vec<u8>>,
    /// Whether the old tables, and what nothing refers to, are counted as in use, so that nothing
    /// that writes to the image reuses them.
    pub holds: bool,
    /// What is compared afterwards.
    pub verify: Verify,
    /// The time that the file is to have; now, where none is given.
    pub time: Option<Time>,
}

/// What is compared after an upgrade.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum Verify {
    /// Every guest cluster has the same bytes in the same place, and every count is right.
    #[default]
    Tables,
    /// That, and all bytes that the image stores are read before and after.
    Full,
}

/// An image that is upgraded where it lies, and the journal beside it.
///
/// Nobody else may write to it in the meantime: whoever opens the storage locks it.
pub struct InPlace {
    storage: Arc<dyn StorageMut>,
    journal: Box<dyn Journal>,
}

impl InPlace {
    /// The image in `storage`.
    pub fn new(storage: Arc<dyn StorageMut>, journal: Box<dyn Journal>) -> Self {
        Self { storage, journal }
    }

    /// An image that is nobody's yet: what goes wrong with it need not be taken back, and there
    /// is no undo record.
    pub fn of_clone(storage: Arc<dyn StorageMut>) -> Self {
        Self::new(storage, Box::new(NoJournal))
    }

    /// What an upgrade would do. Nothing is written, and `stop` is heeded.
    ///
    /// # Errors
    /// Every reason for which [`InPlace::upgrade`] would refuse.
    pub fn plan(&self, options: &Options, stop: &AtomicBool) -> Result<Plan> {
        upgrade::plan(&self.storage, options, stop)
    }

    /// Makes a version 1 image a qcow2 image. `stop` is heeded as long as it is
    /// not both one and verified.
    ///
    /// # Errors
    /// Whatever fails, the image is as it was, but for [`Error::HalfWay`].
    pub fn upgrade(&self, options: &Options, stop: &AtomicBool) -> Result<Plan> {
        upgrade::run(&self.storage, &*self.journal, options, stop)
    }

    /// What state the image is in, if there is an undo record.
    ///
    /// # Errors
    /// Where the record cannot be read.
    pub fn state(&self) -> Result<Option<State>> {
        undo::state(&*self.storage, &*self.journal)
    }

    /// Makes the image what it was before it was upgraded, to the bit. `force` allows it also
    /// where the file's time says that something has written to it: bytes of the disk that were
    /// written in place then stay.
    ///
    /// # Errors
    /// [`Error::Refused`] where there is no record, and where something that was written since
    /// would be lost.
    pub fn undo(&self, force: bool) -> Result<()> {
        undo::undo(&self.storage, &*self.journal, force)
    }

    /// Settles an upgrade, or an undo, that was interrupted.
    ///
    /// # Errors
    /// [`Error::Refused`] where there is no record.
    pub fn recover(&self) -> Result<Recovered> {
        undo::recover(&self.storage, &*self.journal)
    }

    /// Gives up the way back, frees what was held for it, and returns how many bytes that is.
    ///
    /// # Errors
    /// [`Error::Refused`] where there is no record, and where the image is still version 1.
    pub fn release(&self) -> Result<u64> {
        undo::release(&self.storage, &*self.journal)
    }
}
