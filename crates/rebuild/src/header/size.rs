//! The virtual size: what the old header says where that can be, else what the disk says.

use calve_disk::formats::qcow1::Qcow1Image;
use calve_disk::units::{GuestOffset, SECTOR, in_memory};
use calve_disk::{Disk, Layer, Result, limits};

use super::{Work, put, step};
use crate::bytes::{big, read_up_to};
use crate::guest::{Sighting, look};
use crate::patched::Patches;
use crate::shape::{Entry, words};
use crate::step::{Confidence, Evidence, Step, Subject};

/// Bytes at the start of a disk that say something of its size.
const LOOKED_AT: u64 = 2048;

/// What speaks for a size.
struct Claimed {
    size: u64,
    is_exact: bool,
    evidence: Evidence,
}

/// What came of asking the disk.
#[derive(Clone, Copy)]
pub(super) struct Sized {
    /// The size is no more than a guess.
    pub(super) is_guess: bool,
    /// Something stands at the beginning of the disk that belongs there.
    pub(super) is_confirmed: bool,
}

impl Work<'_> {
    /// Sets the size.
    pub(super) fn size(&mut self, steps: &mut Vec<Step>) -> Result<Sized> {
        let (stored_end, most) = (self.stored_end()?, self.most());
        let claimed = self.claimed(stored_end)?;
        let old = big(&self.new, 24, 8);
        let is_confirmed = claimed.is_some();
        if let Some(size) = self.hints.size {
            let step = step(Subject::VirtualSize, 24, size, Confidence::Strong, Evidence::Pinned);
            self.set(24, 8, step, steps);
            return Ok(Sized { is_guess: false, is_confirmed });
        }
        let least = claimed.as_ref().map_or(0, |claimed| claimed.size);
        let granted = stored_end.saturating_sub(self.shape.cluster() - 1);
        let can_be = old >= 2 && old >= granted && old <= most;
        let exact = claimed.as_ref().filter(|claimed| claimed.is_exact);
        let is_flipped = exact.is_some_and(|exact| bytes_that_differ(old, exact.size) <= 1);
        if can_be && exact.is_none_or(|exact| exact.size == old || !is_flipped) {
            // A file system that is longer than its disk would be odder than a damaged number.
            if old >= least || bytes_that_differ(old, least) > 1 {
                return Ok(Sized { is_guess: false, is_confirmed });
            }
        }
        let step = match claimed {
            Some(claimed) if claimed.size >= granted && claimed.size <= most => {
                let sure = if claimed.is_exact { Confidence::Strong } else { Confidence::Likely };
                step(Subject::VirtualSize, 24, claimed.size, sure, claimed.evidence)
            }
            _ => {
                let size = stored_end.max(self.shape.cluster());
                step(Subject::VirtualSize, 24, size, Confidence::Guess, Evidence::LastCluster)
            }
        };
        let is_guess = step.confidence == Confidence::Guess;
        self.set(24, 8, step, steps);
        Ok(Sized { is_guess, is_confirmed })
    }

    /// The guest byte behind the last cluster that is stored.
    fn stored_end(&self) -> Result<u64> {
        let Some((slot, table)) = self.l1.used.last() else { return Ok(0) };
        let (shape, length) = (self.shape, self.source.length());
        let bytes = read_up_to(self.source, *table, shape.table_length())?;
        let can_be = |word: u64| !matches!(shape.entry(word, length), Entry::Empty | Entry::Bad);
        let last = words(&bytes).enumerate().filter(|(_, word)| can_be(*word)).last();
        let clusters = last.map_or(0, |(index, _)| index as u64 + 1);
        let end = slot.checked_mul(shape.coverage()).unwrap_or(limits::MAX_VIRTUAL_SIZE);
        Ok(end.saturating_add(clusters * shape.cluster()).min(limits::MAX_VIRTUAL_SIZE))
    }

    /// The largest disk whose L1 table ends before the first thing that it leads to.
    fn most(&self) -> u64 {
        let first = self.l1.used.iter().map(|(_, at)| *at).min();
        let room = first.unwrap_or(u64::MAX).saturating_sub(self.l1.at) / 8;
        let entries = room.min((1 << 28) - 1);
        (entries * self.shape.coverage()).min(limits::MAX_VIRTUAL_SIZE)
    }

    /// What the disk's first sectors say of its size.
    fn claimed(&self, stored_end: u64) -> Result<Option<Claimed>> {
        let size = stored_end.max(LOOKED_AT);
        let mut header = self.new;
        header[24..32].copy_from_slice(&size.to_be_bytes());
        // No key is known: what is encrypted says nothing.
        let mut patches = Patches::default();
        put(self.source, &mut patches, 0, &header)?;
        let Ok(image) = Qcow1Image::open(Box::new(self.source.with(&patches)?), None) else {
            return Ok(None);
        };
        let disk = Disk::of_layers(vec![Layer::detached(Box::new(image))]);
        let mut best: Option<Claimed> = None;
        for at in (0..LOOKED_AT).step_by(in_memory(SECTOR)) {
            let mut sector = [0; 512];
            if disk.read_at(&mut sector, GuestOffset::new(at)).is_err() {
                continue;
            }
            let Some(claimed) = look(&sector).and_then(|sighting| of(&sighting, at)) else {
                continue;
            };
            let rank = |claimed: &Claimed| (claimed.is_exact, claimed.size);
            if best.as_ref().is_none_or(|best| rank(&claimed) > rank(best)) {
                best = Some(claimed);
            }
        }
        Ok(best)
    }
}

/// What one sector of the disk's start says of the size.
fn of(sighting: &Sighting, at: u64) -> Option<Claimed> {
    let claimed = |size, is_exact, evidence| Some(Claimed { size, is_exact, evidence });
    match sighting {
        Sighting::Gpt { lba: 1, twin } if at == SECTOR => {
            claimed((twin + 1) * SECTOR, true, Evidence::Gpt { lba: 1 })
        }
        Sighting::PartitionTable { end, .. } if at == 0 && *end > 0 => {
            claimed(*end, false, Evidence::PartitionTable)
        }
        Sighting::Ext { group: 0, within, size } if at == *within => {
            claimed(*size, false, Evidence::ExtSuperblock { group: 0 })
        }
        Sighting::Boot { size, .. } if at == 0 => {
            claimed(*size, false, Evidence::BootSector { lba: 0 })
        }
        _ => None,
    }
}

fn bytes_that_differ(one: u64, other: u64) -> usize {
    (one ^ other).to_be_bytes().iter().filter(|byte| **byte != 0).count()
}
