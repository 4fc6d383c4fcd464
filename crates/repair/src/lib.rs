//! Mends what can be mended in a QCOW version 1 image without guessing, where it lies.
//! `docs/repair.md` is the document behind this crate.
//!
//! ```text
//! find        the table entries that can be mended, so many at a time
//! cut         whether the file ends inside of something, and must not become longer
//! spared      entries that must not change, since something else stands there too
//! round       mends those: note, copies, sync, entries, sync, note away; and takes that back
//! record      the note
//! tail        the room at the end that nothing refers to
//! ```
//!
//! After every single write the image is one with the same disk: a round changes entries, and
//! each of them is right before and after it was changed, whatever became of the others.

mod cut;
mod error;
mod find;
mod record;
mod round;
mod spared;
mod tail;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use calve_disk::StorageMut;
use calve_disk::units::{GuestRange, HostOffset};
use calve_inplace::{Journal, NoteKind};

pub use error::{Error, Result};
use find::Round;

/// The note as a file beside the image: what one round of entries was, at most 65,536 of them.
pub const RECORD: NoteKind = NoteKind { suffix: ".calve-repair", longest: 16 << 20 };

/// What is to be mended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Scope {
    /// The room at the end of the file that nothing refers to.
    Leaks,
    /// That, and table entries.
    All,
}

/// One thing that was mended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mend {
    /// An entry that led behind the end of the file stands for nothing now: what was not there
    /// reads as the base has it, or as zeros.
    Unallocated {
        /// The entry.
        place: HostOffset,
        /// What it was, as it stood in the file.
        old: [u8; 8],
        /// The guest bytes that it stands for.
        guest: GuestRange,
    },
    /// One of several entries for the same cluster has a copy of its own now.
    CopiedApart {
        /// The entry.
        place: HostOffset,
        /// The cluster that it shared.
        old: HostOffset,
        /// The copy.
        new: HostOffset,
        /// The guest bytes that it stands for.
        guest: GuestRange,
    },
    /// The file ends here now.
    Trimmed {
        /// Its new end.
        at: HostOffset,
        /// Bytes that were behind it.
        length: u64,
    },
}

/// What became of a repair that was interrupted earlier.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Settled {
    /// Its last round was taken back.
    TakenBack,
    /// Its last round was finished.
    Finished,
    /// Something has written to the image since. Its entries are sound as they are.
    Kept,
}

/// Why room at the end of the file that nothing refers to was left.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TailKept {
    /// Tables are damaged or suspect: it may be what they should refer to.
    Damage,
    /// Entries were made unallocated just now: it may be what they should have referred to.
    Unallocated,
}

/// What was mended.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Mended {
    /// What was settled first.
    pub settled: Option<Settled>,
    /// Entries that stand for nothing now.
    pub unallocated: u64,
    /// Clusters that were copied apart.
    pub copied: u64,
    /// Whether shared clusters were left, since the file ends inside something and must not
    /// become longer.
    pub is_cut: bool,
    /// Bytes that the file became shorter at its end.
    pub trimmed: u64,
    /// Why it did not, where it could have.
    pub tail: Option<TailKept>,
}

/// Mends the version 1 image in `storage`, and tells `tell` of everything when it is on the
/// medium. Nobody else may write to it in the meantime: whoever opens the storage locks it.
///
/// # Errors
/// Where the host fails, or `stop` is heeded, the entries of the round at hand are what they were,
/// but for [`Error::HalfWay`]; those that were told of stay mended.
pub fn repair(
    storage: &Arc<dyn StorageMut>,
    journal: &dyn Journal,
    scope: Scope,
    stop: &AtomicBool,
    tell: &mut dyn FnMut(&Mend),
) -> Result<Mended> {
    let mut mended = Mended { settled: round::settle(storage, journal)?, ..Mended::default() };
    if scope == Scope::All {
        let mut mend = |round: &Round| -> Result<u64> {
            round::run(storage, journal, round, stop)?;
            round.edits.iter().for_each(|edit| tell(&edit.mend()));
            Ok(round.edits.len() as u64)
        };
        while let Some(round) = find::behind_the_end(storage)? {
            mended.unallocated += mend(&round)?;
        }
        let mut from = Some(0);
        while let Some(start) = from {
            let found = find::shared(storage, start)?;
            mended.is_cut |= found.is_cut;
            if let Some(round) = found.round {
                mended.copied += mend(&round)?;
            }
            from = found.next;
        }
    }
    match tail::trim(storage, mended.unallocated > 0)? {
        tail::Tail::None => {}
        tail::Tail::Kept(why) => mended.tail = Some(why),
        tail::Tail::Trimmed { at, length } => {
            mended.trimmed = length;
            tell(&Mend::Trimmed { at, length });
        }
    }
    Ok(mended)
}
