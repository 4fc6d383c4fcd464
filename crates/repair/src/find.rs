//! The table entries that can be mended without guessing, so many at a time.

use std::collections::HashSet;
use std::ops::Range;
use std::sync::Arc;

use calve_disk::formats::qcow1::{Leads, MetEntry, Qcow1Image};
use calve_disk::units::{ClusterSize, GuestRange, HostOffset};
use calve_disk::{Claim, Error as DiskError, Image, Owner, StorageMut};

use crate::Mend;
use crate::cut::Cut;
use crate::error::Result;
use crate::spared::Spared;

/// Entries of one round, and shared clusters that are looked for at once: some MiB of memory.
const MOST: usize = 1 << 16;

/// Entries that are mended together.
#[derive(Debug)]
pub(crate) struct Round {
    /// How long the file is.
    pub(crate) length: u64,
    /// How long it will be.
    pub(crate) new_length: u64,
    pub(crate) cluster: ClusterSize,
    /// In the order of the disk.
    pub(crate) edits: Vec<Edit>,
}

/// One entry and what it will be.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Edit {
    pub(crate) place: HostOffset,
    pub(crate) old: [u8; 8],
    pub(crate) guest: GuestRange,
    /// The cluster that is copied and where to; no entry at all where there is none.
    pub(crate) copy: Option<(HostOffset, HostOffset)>,
}

impl Edit {
    pub(crate) fn new_entry(&self) -> [u8; 8] {
        self.copy.map_or([0; 8], |(_, to)| to.get().to_be_bytes())
    }

    pub(crate) fn mend(&self) -> Mend {
        let Edit { place, old, guest, copy } = *self;
        match copy {
            None => Mend::Unallocated { place, old, guest },
            Some((old, new)) => Mend::CopiedApart { place, old, new, guest },
        }
    }
}

/// Entries that lead behind the end of the file, the first ones, if there are any.
pub(crate) fn behind_the_end(storage: &Arc<dyn StorageMut>) -> Result<Option<Round>> {
    let image = open(storage)?;
    let (mut round, spared) = (Round::of(&image), Spared::of(&image)?);
    image.entries(&mut |met| {
        let is_ours = met.leads == Leads::Behind && !spared.has(met.place.get());
        if is_ours && round.edits.len() < MOST {
            round.edits.push(Edit::of(storage, &met, None)?);
        }
        Ok(())
    })?;
    Ok((!round.edits.is_empty()).then_some(round))
}

/// Shared clusters from a place of the file on.
pub(crate) struct Shared {
    /// Entries that get copies, if there are any.
    pub(crate) round: Option<Round>,
    /// Whether the file must not become longer: it ends inside something, of which the missing
    /// part would then read as zeros.
    pub(crate) is_cut: bool,
    /// From where to go on.
    pub(crate) next: Option<u64>,
}

/// The first clusters from host offset `from` on that several entries lead to, and of these
/// entries all but the first.
pub(crate) fn shared(storage: &Arc<dyn StorageMut>, from: u64) -> Result<Shared> {
    let image = open(storage)?;
    let mut round = Round::of(&image);
    let mut overlaps = Overlaps::new(from, round.length, round.cluster);
    let mut cut = Cut::new(&**storage, round.length, round.cluster);
    image.claims(&mut |claim| {
        overlaps.add(&claim);
        cut.add(&claim)
    })?;
    let next = overlaps.next;
    if overlaps.ranges.is_empty() {
        return Ok(Shared { round: None, is_cut: false, next });
    }
    round.new_length = round.cluster.ceil(overlaps.reach);
    let (spared, mut met_before, mut is_cut) =
        (Spared::of(&image)?, HashSet::new(), cut.is_found());
    image.entries(&mut |met| {
        is_cut |= matches!(met.leads, Leads::Cut | Leads::Behind);
        let Leads::Cluster(at) = met.leads else { return Ok(()) };
        let is_another = overlaps.contain(at.get()) && !met_before.insert(at);
        if is_another && !spared.has(met.place.get()) && round.edits.len() < MOST {
            let to = HostOffset::new(round.new_length);
            round.new_length += round.cluster.bytes();
            round.edits.push(Edit::of(storage, &met, Some((at, to)))?);
        }
        Ok(())
    })?;
    if round.edits.is_empty() {
        return Ok(Shared { round: None, is_cut: false, next });
    }
    if is_cut {
        return Ok(Shared { round: None, is_cut, next: None });
    }
    // More than a round takes: the rest of them is still there in the next one.
    let next = if round.edits.len() == MOST { Some(from) } else { next };
    Ok(Shared { round: Some(round), is_cut, next })
}

fn open(storage: &Arc<dyn StorageMut>) -> Result<Qcow1Image> {
    Ok(Qcow1Image::open(Box::new(Arc::clone(storage)), None)?)
}

impl Round {
    fn of(image: &Qcow1Image) -> Self {
        let facts = image.facts();
        let cluster = facts.cluster_size.unwrap_or(ClusterSize::SECTOR);
        let length = facts.file_size;
        Self { length, new_length: length, cluster, edits: Vec::new() }
    }
}

impl Edit {
    fn of(
        storage: &Arc<dyn StorageMut>,
        met: &MetEntry,
        copy: Option<(HostOffset, HostOffset)>,
    ) -> calve_disk::Result<Self> {
        let mut old = [0; 8];
        storage.read_at(&mut old, met.place).map_err(|source| {
            DiskError::io("reading a table entry", &**storage, met.place, source)
        })?;
        Ok(Self { place: met.place, old, guest: met.guest, copy })
    }
}

/// Host bytes that two runs of plain clusters claim, in the order of the file.
struct Overlaps {
    from: u64,
    file_size: u64,
    cluster: ClusterSize,
    ranges: Vec<Range<u64>>,
    /// Of the runs so far the end of the one that reaches farthest.
    covered: u64,
    /// The farthest end of anything that the file has a part of.
    reach: u64,
    /// Clusters that can still be told of.
    left: u64,
    next: Option<u64>,
}

impl Overlaps {
    fn new(from: u64, file_size: u64, cluster: ClusterSize) -> Self {
        let (ranges, left) = (Vec::new(), MOST as u64);
        Self { from, file_size, cluster, ranges, covered: 0, reach: file_size, left, next: None }
    }

    fn add(&mut self, claim: &Claim) {
        let at = claim.at.get();
        if at < self.file_size {
            self.reach = self.reach.max(claim.end());
        }
        if claim.owner != Owner::Data {
            return;
        }
        let end = claim.end().min(self.covered);
        self.covered = self.covered.max(claim.end());
        let start = self.ranges.last().map_or(at, |last| last.end.max(at)).max(self.from);
        if start >= end || self.next.is_some() {
            return;
        }
        let most = start.saturating_add(self.left * self.cluster.bytes());
        self.left = self.left.saturating_sub(self.cluster.count(end - start));
        self.ranges.push(start..end.min(most));
        if end > most || self.left == 0 {
            self.next = Some(end.min(most));
        }
    }

    fn contain(&self, at: u64) -> bool {
        let behind = self.ranges.partition_point(|range| range.end <= at);
        self.ranges.get(behind).is_some_and(|range| range.start <= at)
    }
}
