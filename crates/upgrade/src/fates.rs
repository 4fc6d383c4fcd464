//! What becomes of each cluster: most stay where they are.

use calve_disk::units::ClusterSize;
use calve_disk::{Disk, Encoding, Extent, Payload, Stored};

use crate::error::Result;

/// Why a cluster cannot stay where it is, if the cluster alone tells.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Unfit {
    /// A plain cluster that does not begin at a multiple of the cluster size.
    Misaligned,
    /// A payload in the first cluster of the file: writers of qcow2 rewrite all of that with the
    /// header.
    BesideHeader,
}

/// Why the clusters of `stored` cannot stay where they are, if they cannot.
pub(crate) fn unfit(stored: &Stored, size: ClusterSize) -> Option<Unfit> {
    match stored.encoding {
        Encoding::Packed { .. } if stored.at.get() < size.bytes() => Some(Unfit::BesideHeader),
        Encoding::Packed { .. } => None,
        _ if size.within(stored.at.get()) != 0 => Some(Unfit::Misaligned),
        _ => None,
    }
}

/// One stored run of the walk: clusters that follow one another in the disk and in the file.
pub(crate) struct StoredRun {
    /// The number of the first guest cluster.
    pub(crate) first: u64,
    /// How many clusters.
    pub(crate) count: u64,
    /// Where they are.
    pub(crate) stored: Stored,
}

impl StoredRun {
    /// Where the cluster is that comes `number` behind the first.
    pub(crate) fn cluster(&self, number: u64, size: ClusterSize) -> Stored {
        match self.stored.encoding {
            Encoding::Packed { .. } => self.stored,
            _ => Stored {
                at: self.stored.at + (number << size.bits()),
                length: size.bytes(),
                ..self.stored
            },
        }
    }
}

/// Tells `each` of all stored runs in the order of the disk, and `other` of everything else.
pub(crate) fn walk(
    disk: &Disk,
    size: ClusterSize,
    other: &mut dyn FnMut(&Extent) -> Result<()>,
    each: &mut dyn FnMut(&StoredRun) -> Result<()>,
) -> Result<()> {
    for extent in disk.extents(disk.range()) {
        let extent = extent?;
        let Payload::Stored(stored) = extent.payload else {
            other(&extent)?;
            continue;
        };
        each(&StoredRun {
            first: extent.range.start.get() >> size.bits(),
            count: size.count(extent.range.length),
            stored,
        })?;
    }
    Ok(())
}

/// The clusters that are moved because another owns the bytes: found in any order, then asked for
/// in the order of the disk.
#[derive(Default)]
pub(crate) struct Shared {
    clusters: Vec<u64>,
}

impl Shared {
    /// Adds a guest cluster.
    pub(crate) fn add(&mut self, cluster: u64) {
        self.clusters.push(cluster);
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.clusters.len()
    }

    /// Ends the adding.
    pub(crate) fn sort(&mut self) {
        self.clusters.sort_unstable();
    }

    /// Those of the `count` clusters from `first`.
    pub(crate) fn of(&self, first: u64, count: u64) -> &[u64] {
        let start = self.clusters.partition_point(|cluster| *cluster < first);
        let length = self.clusters[start..].partition_point(|cluster| *cluster < first + count);
        &self.clusters[start..start + length]
    }
}
