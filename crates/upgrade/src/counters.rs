//! Reference counts of a stretch of host clusters.
//!
//! All counts of a large file would be more memory than anybody asked for, so they are made for
//! one window of the file after the other, each with a walk of its own.

use calve_disk::units::{ClusterSize, in_memory};
use calve_disk::{Encoding, Stored};

/// Host clusters in a window: 64 MiB of counts, which is all of a file of 128 GiB with clusters
/// of 4 KiB. Whole refcount blocks of any cluster size.
pub(crate) const WINDOW: u64 = 32 << 20;

/// Set in the count of a cluster that a plain cluster owns, which nobody else may.
const OWNED: u16 = 1 << 15;

/// The counts of the host clusters of one window.
pub(crate) struct Counters {
    cluster_size: ClusterSize,
    first: u64,
    counts: Vec<u16>,
}

/// Clusters of which one cannot be where it is, because another is there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Conflict {
    /// The cluster of this number, counted from the first of the run, has another owner.
    Owned(u64),
    /// A packed payload and a plain cluster overlap, or too many payloads touch one cluster.
    Packed,
}

impl Counters {
    /// No references yet to the clusters from `first` up to `end`.
    pub(crate) fn new(cluster_size: ClusterSize, first: u64, end: u64) -> Self {
        Self { cluster_size, first, counts: vec![0; in_memory(end - first)] }
    }

    /// The number of the first cluster.
    pub(crate) fn first(&self) -> u64 {
        self.first
    }

    /// Counts a cluster that holds a table or the header: it may hold payloads too.
    pub(crate) fn add_table(&mut self, first: u64, count: u64) {
        for count in self.part(first, count).0 {
            *count = count.saturating_add(1);
        }
    }

    /// Counts what `stored` refers to, and tells of what is there already, which is not counted.
    pub(crate) fn add(&mut self, stored: &Stored, conflict: &mut dyn FnMut(Conflict)) {
        let first = stored.at.get() >> self.cluster_size.bits();
        let end = stored.at.get() + stored.length;
        let touched = self.cluster_size.count(end) - first;
        let (part, skipped) = self.part(first, touched);
        if let Encoding::Packed { .. } = stored.encoding {
            for count in part {
                // Below the mark there is room for this many payloads in one cluster.
                if *count >= OWNED - 1 {
                    conflict(Conflict::Packed);
                } else {
                    *count += 1;
                }
            }
            return;
        }
        for (number, count) in (skipped..).zip(part) {
            match *count {
                0 => *count = OWNED | 1,
                mine if mine & OWNED != 0 => conflict(Conflict::Owned(number)),
                _ => conflict(Conflict::Packed),
            }
        }
    }

    /// The count of a cluster of this window.
    pub(crate) fn of(&self, cluster: u64) -> u16 {
        self.counts[in_memory(cluster - self.first)] & !OWNED
    }

    /// The counts of those of `count` clusters from `first` that are in this window, and how many
    /// of them come before it.
    fn part(&mut self, first: u64, count: u64) -> (&mut [u16], u64) {
        let window_end = self.first + self.counts.len() as u64;
        let start = first.clamp(self.first, window_end);
        let end = (first + count).clamp(start, window_end);
        let range = in_memory(start - self.first)..in_memory(end - self.first);
        (&mut self.counts[range], start - first.min(start))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use calve_disk::Codec;
    use calve_disk::units::HostOffset;

    fn stored(at: u64, length: u64, encoding: Encoding) -> Stored {
        Stored { layer: 0, at: HostOffset::new(at), length, encoding }
    }

    #[test]
    fn windows_together_count_what_one_counts() {
        let cluster_size = ClusterSize::from_bits(12).unwrap();
        let packed = Encoding::Packed { codec: Codec::Deflate, cluster: cluster_size, skip: 0 };
        let all = [
            stored(0x1000, 0x3000, Encoding::Plain),
            stored(0x4F00, 0x200, packed),
            stored(0x4100, 0x10, packed),
            stored(0x2000, 0x1800, Encoding::Plain),
            stored(0x3800, 0x10, packed),
        ];
        let count = |first, end| {
            let mut counters = Counters::new(cluster_size, first, end);
            let mut conflicts = Vec::new();
            counters.add_table(0, 1);
            for (number, stored) in all.iter().enumerate() {
                counters.add(stored, &mut |conflict| conflicts.push((number, conflict)));
            }
            let counts: Vec<u16> = (first..end).map(|cluster| counters.of(cluster)).collect();
            (counts, conflicts)
        };
        let (whole, mut conflicts) = count(0, 8);
        assert_eq!(whole, [1, 1, 1, 1, 2, 1, 0, 0]);
        let owned = |number| (3, Conflict::Owned(number));
        assert_eq!(conflicts, [owned(0), owned(1), (4, Conflict::Packed)]);
        let (mut parts, mut found) = (Vec::new(), Vec::new());
        for first in [0, 3, 6] {
            let (counts, conflicts) = count(first, (first + 3).min(8));
            parts.extend(counts);
            found.extend(conflicts);
        }
        let order = |(number, _): &(usize, Conflict)| *number;
        found.sort_by_key(order);
        conflicts.sort_by_key(order);
        assert_eq!((parts, found), (whole, conflicts));
    }
}
