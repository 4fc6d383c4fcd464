//! Host bytes with two owners, and host bytes with none.

use super::super::claims;
use crate::claim::{Claim, Owner};
use crate::error::Result;
use crate::finding::{Finding, Rule};
use crate::formats::qcow1::Qcow1Image;
use crate::units::{GuestRange, HostOffset, SECTOR};

/// Tells of all that overlaps and of all that nobody claims, and says how many bytes the latter
/// are.
pub(super) fn run(image: &Qcow1Image, report: &mut dyn FnMut(Finding)) -> Result<u64> {
    let mut sweep = Sweep { image, report, farthest: [None; GROUPS], reached: 0, leaked: 0 };
    claims::run(image, claims::MOST, &mut |claim| {
        sweep.add(claim);
        Ok(())
    })?;
    let end = image.tables.pages.file_size;
    sweep.leak(sweep.reached, end);
    Ok(sweep.leaked)
}

/// Groups of owners: what overlaps one of another group is told of even where a long one of its
/// own hides it.
const GROUPS: usize = 4;

const fn group_of(owner: Owner) -> usize {
    match owner {
        Owner::Header | Owner::Extension | Owner::L1 => 0,
        Owner::Name => 1,
        Owner::L2 => 2,
        Owner::Data | Owner::Packed => 3,
    }
}

struct Sweep<'a> {
    image: &'a Qcow1Image,
    report: &'a mut dyn FnMut(Finding),
    /// Of the claims of each group so far the one that reaches farthest.
    farthest: [Option<Claim>; GROUPS],
    /// Where the one that reaches farthest of all ends.
    reached: u64,
    leaked: u64,
}

impl Sweep<'_> {
    fn add(&mut self, claim: Claim) {
        self.leak(self.reached, claim.at.get());
        self.reached = self.reached.max(claim.end());
        for before in self.farthest.into_iter().flatten() {
            if claim.at.get() < before.end() {
                self.overlap(&before, &claim);
            }
        }
        let farthest = &mut self.farthest[group_of(claim.owner)];
        if farthest.is_none_or(|before| before.end() < claim.end()) {
            *farthest = Some(claim);
        }
    }

    fn overlap(&mut self, first: &Claim, second: &Claim) {
        let Some(rule) = rule_of(first, second) else { return };
        let length = first.end().min(second.end()) - second.at.get();
        let finding = Finding::new(rule).at(second.at).value(length);
        let concerned = if second.guest.is_empty() { first } else { second };
        let other = if second.guest.is_empty() { None } else { self.guest(first, second.at) };
        let guest = match self.guest(concerned, second.at) {
            // As much of the disk as the shared bytes hold, where they hold the disk's bytes.
            Some(range) if concerned.owner == Owner::Data => {
                Some(GuestRange { length: range.length.min(length), ..range })
            }
            whole => whole,
        };
        (self.report)(Finding { guest, other: other.map(|range| range.start), ..finding });
    }

    /// The guest bytes that a claim has from host offset `at` on.
    fn guest(&self, claim: &Claim, at: HostOffset) -> Option<GuestRange> {
        let skipped = match claim.owner {
            Owner::Data => at.get().saturating_sub(claim.at.get()),
            _ => 0,
        };
        let start = claim.guest.start + skipped.min(claim.guest.length);
        let range = GuestRange::between(start, claim.guest.end());
        let range = range.clipped(GuestRange::at(0, self.image.header.size));
        (!range.is_empty()).then_some(range)
    }

    /// Where the padding of what ends at `start` ends, where it is none up to a multiple: QEMU
    /// writes the L1 table in whole sectors, wherever it begins.
    fn padded(&self, start: u64) -> u64 {
        let l1 = self.image.header.l1_range();
        match start == l1.end {
            true => l1.start + (l1.end - l1.start).next_multiple_of(SECTOR),
            false => start,
        }
    }

    /// Padding up to the next cluster or sector is how writers align; only more is a leak.
    fn leak(&mut self, start: u64, end: u64) {
        let end = end.min(self.image.tables.pages.file_size);
        // What was claimed may reach behind everything.
        if start >= end {
            return;
        }
        let aligned = self.image.header.cluster_size.ceil(self.padded(start));
        if aligned < end {
            self.leaked += end - aligned;
            let finding = Finding::new(Rule::Leak).at(HostOffset::new(aligned));
            (self.report)(finding.value(end - aligned));
        }
    }
}

/// The rule that two owners of one byte break, where the walk over the entries has not told of
/// it: a plain cluster on a table is lost, and a table on the head of the file is none.
fn rule_of(first: &Claim, second: &Claim) -> Option<Rule> {
    use Owner::{Data, Extension, Header, L1, L2, Name, Packed};
    match (first.owner.min(second.owner), first.owner.max(second.owner)) {
        (Data | Packed, _) => Some(Rule::ClusterShared),
        (L2, L2) if first.at == second.at => Some(Rule::L2Shared),
        (L2, L2) => Some(Rule::L2Overlap),
        (Name, _) | (Header | Extension, Name) => Some(Rule::NameShared),
        (Header | Extension | L1 | L2, Packed) => Some(Rule::PackedOnTable),
        (Header | Extension | L1 | L2, _) => None,
    }
}
