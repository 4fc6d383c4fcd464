//! Where everything goes that is put behind the end of the old image.

use calve_disk::formats::qcow2::{AdoptedImage, TablePlaces};
use calve_disk::units::HostOffset;

/// The clusters behind the old end, in their order in the file. Numbers are of host clusters.
#[derive(Clone, Debug)]
pub(crate) struct Layout {
    bits: u8,
    /// The first cluster behind the old end.
    pub(crate) base: u64,
    /// Clusters that cannot stay where they are.
    pub(crate) moved: u64,
    /// L2 tables, of one cluster each.
    pub(crate) l2_tables: u64,
    /// Clusters of the L1 table.
    pub(crate) l1_clusters: u64,
    /// The numbers of the refcount blocks that there are, ascending, of one cluster each.
    pub(crate) blocks: Vec<u64>,
    /// Clusters of the refcount table.
    pub(crate) table_clusters: u64,
}

/// Bytes of an entry of any table.
const ENTRY: u64 = 8;

impl Layout {
    /// The layout behind `base` clusters, of which those are counted that the refcount blocks
    /// `old_blocks` count.
    pub(crate) fn new(
        image: &AdoptedImage,
        base: u64,
        moved: u64,
        l2_tables: u64,
        old_blocks: &[u64],
    ) -> Self {
        let size = image.cluster_size();
        let mut layout = Self {
            bits: size.bits(),
            base,
            moved,
            l2_tables,
            l1_clusters: size.count(image.l1_entries() * ENTRY),
            blocks: Vec::new(),
            table_clusters: 1,
        };
        // Every cluster has to be counted, those that count included.
        loop {
            let last = (layout.end() - 1) / image.clusters_in_block();
            let new = base / image.clusters_in_block()..=last;
            let old = old_blocks.iter().copied().filter(|block| *block < *new.start());
            let blocks: Vec<u64> = old.chain(new.clone()).collect();
            let table_clusters = size.count((last + 1) * ENTRY);
            if blocks.len() == layout.blocks.len() && table_clusters == layout.table_clusters {
                return Self { blocks, ..layout };
            }
            layout = Self { blocks, table_clusters, ..layout };
        }
    }

    fn l2_start(&self) -> u64 {
        self.base + self.moved
    }

    fn l1_start(&self) -> u64 {
        self.l2_start() + self.l2_tables
    }

    fn blocks_start(&self) -> u64 {
        self.l1_start() + self.l1_clusters
    }

    fn table_start(&self) -> u64 {
        self.blocks_start() + self.blocks.len() as u64
    }

    /// The first cluster behind everything.
    pub(crate) fn end(&self) -> u64 {
        self.table_start() + self.table_clusters
    }

    fn at(&self, cluster: u64) -> HostOffset {
        HostOffset::new(cluster << self.bits)
    }

    /// Where everything new begins. It reaches to the end of the file.
    pub(crate) fn start(&self) -> HostOffset {
        self.at(self.base)
    }

    /// Where the cluster that is moved as number `number` goes.
    pub(crate) fn moved_at(&self, number: u64) -> HostOffset {
        self.at(self.base + number)
    }

    /// Where L2 table number `number` goes, of those that there are.
    pub(crate) fn l2_at(&self, number: u64) -> HostOffset {
        self.at(self.l2_start() + number)
    }

    /// Where refcount block number `number` goes, of those that there are.
    pub(crate) fn block_at(&self, number: u64) -> HostOffset {
        self.at(self.blocks_start() + number)
    }

    /// Where the tables go that the header names.
    pub(crate) fn places(&self) -> TablePlaces {
        TablePlaces {
            l1_at: self.at(self.l1_start()),
            refcount_table_at: self.at(self.table_start()),
            refcount_table_clusters: self.table_clusters,
        }
    }

    /// How long the file becomes.
    pub(crate) fn file_size(&self) -> u64 {
        self.at(self.end()).get()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use calve_disk::units::ClusterSize;
    use std::path::Path;

    #[test]
    fn the_blocks_count_themselves() {
        let size = ClusterSize::SECTOR;
        let image = AdoptedImage::new(Path::new("x"), 1 << 20, size, false, None).unwrap();
        for base in [1, 250, 255, 256, 257, 511, 512, 70_000, 16_777_210] {
            for l2_tables in [0, 1, 3, 200, 253, 254, 255, 256, 300] {
                let layout = Layout::new(&image, base, 2, l2_tables, &[0, 7]);
                let covered = layout.end().div_ceil(256);
                assert_eq!(layout.blocks.last(), Some(&(covered - 1)), "{base} {l2_tables}");
                assert!(layout.blocks.is_sorted() && layout.blocks.contains(&(base / 256)));
                assert!(layout.table_clusters == (covered * 8).div_ceil(512));
            }
        }
    }
}
