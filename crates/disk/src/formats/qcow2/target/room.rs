//! The host clusters of a file that only grows: where the next ones are, and how often each is
//! referenced.
//!
//! Clusters are counted in ranges as long as one refcount block counts. The block of a range is
//! reserved when the first cluster of the range is: cluster 1 for the first range, which begins
//! with the header, and the range's own first cluster for every other. It is complete when the
//! next range begins, so that only one block is in memory, and none has to be looked up to know
//! where it is.

use super::limits;
use crate::target::TableWrite;
use crate::units::{ClusterSize, HostOffset, in_memory};

/// The most references a counter of 16 bits can count.
const MAX_REFERENCES: u16 = u16::MAX;

/// Consecutive host clusters.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Run {
    /// The number of the first.
    pub(super) first: u64,
    /// How many.
    pub(super) count: u64,
}

/// The end of the file: what can be placed only when everything else is.
pub(super) struct Tail {
    /// Where the L1 table is.
    pub(super) l1_at: HostOffset,
    /// Where the refcount table is.
    pub(super) table_at: HostOffset,
    /// How many clusters it has.
    pub(super) table_clusters: u64,
    /// Where the file ends.
    pub(super) file_size: u64,
    /// The last refcount blocks and the refcount table.
    pub(super) tables: Vec<TableWrite>,
}

/// The host clusters of a file that only grows.
pub(super) struct Room {
    cluster_size: ClusterSize,
    /// Clusters in a range.
    per_block: u64,
    /// The first cluster that is not to be had.
    limit: u64,
    /// The first cluster that is free, as are all behind it.
    next: u64,
    /// The counters of the range that was begun last.
    block: Vec<u8>,
    /// Where the last packed payload ends, if in the range that was begun last.
    packed_end: u64,
    /// Blocks that are complete.
    complete: Vec<TableWrite>,
}

impl Room {
    /// A file that has a header and the first refcount block, and at most `limit` clusters.
    pub(super) fn new(cluster_size: ClusterSize, limit: u64) -> Self {
        let mut room = Self {
            cluster_size,
            per_block: limits::per_block(cluster_size),
            limit,
            next: 2,
            block: vec![0; in_memory(cluster_size.bytes())],
            packed_end: 0,
            complete: Vec::new(),
        };
        room.count(Run { first: 0, count: 2 });
        room
    }

    /// As many of the `wanted` clusters as follow one another, at least one; `None` where the
    /// file can grow no further.
    pub(super) fn reserve(&mut self, wanted: u64) -> Option<Run> {
        self.begin_range();
        let left_in_range = self.per_block - self.next % self.per_block;
        let run = Run { first: self.next, count: wanted.min(left_in_range) };
        if run.first + run.count > self.limit {
            return None;
        }
        self.count(run);
        self.next += run.count;
        Some(run)
    }

    /// Room for a packed payload of `length` bytes, less than a cluster: right behind the one
    /// before where that is possible.
    pub(super) fn reserve_packed(&mut self, length: u64) -> Option<HostOffset> {
        let at = if self.continues(self.packed_end, length) {
            self.packed_end
        } else {
            self.reserve(1)?.first << self.cluster_size.bits()
        };
        self.packed_end = at + length;
        Some(HostOffset::new(at))
    }

    /// Refcount blocks that became complete since the last call.
    pub(super) fn take_complete(&mut self, tables: &mut Vec<TableWrite>) {
        tables.append(&mut self.complete);
    }

    /// Begins the range that the next cluster is the first of, if it is.
    fn begin_range(&mut self) {
        if !self.next.is_multiple_of(self.per_block) {
            return;
        }
        self.close_block(self.next / self.per_block - 1);
        // What is packed in the range before stays as it is: its counters are complete.
        self.packed_end = 0;
        self.count(Run { first: self.next, count: 1 });
        self.next += 1;
    }

    /// Hands out the counters of `range`, which was begun last.
    fn close_block(&mut self, range: u64) {
        let empty = vec![0; self.block.len()];
        let bytes = std::mem::replace(&mut self.block, empty);
        self.complete.push(TableWrite { at: self.offset(self.block_of(range)), bytes });
    }

    /// The cluster that is the block of a range which began in its turn.
    fn block_of(&self, range: u64) -> u64 {
        if range == 0 { 1 } else { range * self.per_block }
    }

    fn offset(&self, cluster: u64) -> HostOffset {
        HostOffset::new(cluster << self.cluster_size.bits())
    }

    /// Counts the first reference to clusters of the range that was begun last.
    fn count(&mut self, run: Run) {
        fill_with_ones(&mut self.block, run.first % self.per_block, run.count);
    }

    /// Takes what a payload needs right behind `end`, the end of the one before, if it can be had.
    fn continues(&mut self, end: u64, length: u64) -> bool {
        let cluster = end >> self.cluster_size.bits();
        let used = self.cluster_size.within(end);
        if used == 0 || !self.is_countable(cluster) {
            return false;
        }
        if used + length > self.cluster_size.bytes() {
            // The rest of the payload needs the next cluster, and nobody may be in between.
            let follows = self.next == cluster + 1 && !self.next.is_multiple_of(self.per_block);
            if !follows || self.reserve(1).is_none() {
                return false;
            }
        }
        self.count_again(cluster);
        true
    }

    fn references(&self, cluster: u64) -> u16 {
        let at = in_memory(cluster % self.per_block) * 2;
        u16::from_be_bytes([self.block[at], self.block[at + 1]])
    }

    fn is_countable(&self, cluster: u64) -> bool {
        self.references(cluster) < MAX_REFERENCES
    }

    fn count_again(&mut self, cluster: u64) {
        let at = in_memory(cluster % self.per_block) * 2;
        let references = self.references(cluster) + 1;
        self.block[at..][..2].copy_from_slice(&references.to_be_bytes());
    }

    /// Places what comes last: the L1 table of `l1_length` bytes, the refcount table, and the
    /// blocks of the ranges that these two begin. Those blocks come behind the tables, which
    /// have to be contiguous and can be longer than a range.
    pub(super) fn finish(&mut self, l1_length: u64) -> Tail {
        let start = self.next;
        let begun = start.div_ceil(self.per_block);
        let l1_clusters = self.cluster_size.count(l1_length);
        let (mut table_clusters, mut new_blocks) = (1, 0);
        // Every cluster has to be counted, those that count included.
        let end = loop {
            let end = start + l1_clusters + table_clusters + new_blocks;
            let blocks = end.div_ceil(self.per_block);
            let needed = (self.cluster_size.count(blocks * 8), blocks - begun);
            if needed == (table_clusters, new_blocks) {
                break end;
            }
            (table_clusters, new_blocks) = needed;
        };
        let in_begun = end.min(begun * self.per_block) - start;
        self.count(Run { first: start, count: in_begun });
        self.close_block(begun - 1);
        self.next = end;

        let table_at = start + l1_clusters;
        let blocks_at = table_at + table_clusters;
        let blocks = (0..begun).map(|range| self.block_of(range)).chain(blocks_at..end);
        let table = self.refcount_table(blocks, table_clusters);
        let mut tables = std::mem::take(&mut self.complete);
        tables.push(TableWrite { at: self.offset(table_at), bytes: table });
        tables.extend((begun..).zip(blocks_at..end).map(|(range, block)| {
            let mut bytes = vec![0; in_memory(self.cluster_size.bytes())];
            fill_with_ones(&mut bytes, 0, self.per_block.min(end - range * self.per_block));
            TableWrite { at: self.offset(block), bytes }
        }));
        Tail {
            l1_at: self.offset(start),
            table_at: self.offset(table_at),
            table_clusters,
            file_size: end << self.cluster_size.bits(),
            tables,
        }
    }

    fn refcount_table(&self, blocks: impl Iterator<Item = u64>, clusters: u64) -> Vec<u8> {
        let mut table = vec![0; in_memory(clusters << self.cluster_size.bits())];
        for (entry, block) in table.chunks_exact_mut(8).zip(blocks) {
            entry.copy_from_slice(&self.offset(block).get().to_be_bytes());
        }
        table
    }
}

/// Sets `count` counters of a refcount block to 1.
fn fill_with_ones(block: &mut [u8], first: u64, count: u64) {
    let counters = &mut block[in_memory(first) * 2..][..in_memory(count) * 2];
    for counter in counters.chunks_exact_mut(2) {
        counter.copy_from_slice(&[0, 1]);
    }
}
