//! Entries that must not change: what stands there is something else too.

use std::ops::Range;

use calve_disk::formats::qcow1::{Dialect, Qcow1Image};
use calve_disk::{Claim, Image, Owner, Specific};

use crate::error::Result;

/// Ranges that are remembered: 1 MiB. All behind the last one is spared where there are more.
const MOST: usize = 1 << 16;

/// Host bytes of tables that a repair leaves alone.
pub(crate) struct Spared {
    /// The entries that Xen's tapdisk has a checksum of: changing one would make the others
    /// suspect.
    guarded: Range<u64>,
    /// Bytes of tables that a packed cluster or the base's name has too. In the order of the
    /// file, without overlaps.
    shared: Vec<Range<u64>>,
    /// The first byte behind the tables, and behind the payloads and the name, that begin before
    /// the claim at hand.
    reached: [u64; 2],
}

impl Spared {
    pub(crate) fn of(image: &Qcow1Image) -> Result<Self> {
        let guarded = match &image.facts().specific {
            Specific::Qcow1(facts) if facts.dialect != Dialect::Qemu => {
                facts.l1_at..facts.l1_at.saturating_add(facts.l1_entries * 8)
            }
            _ => 0..0,
        };
        let mut spared = Self { guarded, shared: Vec::new(), reached: [0, 0] };
        image.claims(&mut |claim| {
            spared.add(&claim);
            Ok(())
        })?;
        Ok(spared)
    }

    /// Whether any of the eight bytes of the entry at this place is to stay.
    pub(crate) fn has(&self, place: u64) -> bool {
        let end = place.saturating_add(8);
        let behind = self.shared.partition_point(|range| range.end <= place);
        self.guarded.contains(&place)
            || self.shared.get(behind).is_some_and(|range| range.start < end)
    }

    /// Claims come in the order of the file.
    fn add(&mut self, claim: &Claim) {
        let (own, other) = match claim.owner {
            Owner::L1 | Owner::L2 => (0, 1),
            Owner::Packed | Owner::Name => (1, 0),
            Owner::Header | Owner::Extension | Owner::Data => return,
        };
        let (start, end) = (claim.at.get(), claim.end());
        self.spare(start..end.min(self.reached[other]));
        self.reached[own] = self.reached[own].max(end);
    }

    fn spare(&mut self, range: Range<u64>) {
        let is_full = self.shared.len() == MOST;
        match self.shared.last_mut() {
            _ if range.is_empty() => {}
            Some(last) if range.start <= last.end => last.end = last.end.max(range.end),
            Some(last) if is_full => last.end = u64::MAX,
            _ => self.shared.push(range),
        }
    }
}
