//! An image around clusters that lie in a file already: entries, places and the header, for
//! whoever puts the tables behind them (`docs/upgrade.md`).

use std::path::Path;

use super::entry::{self, COPIED};
use super::target::RecordedBacking;
use super::target::header::{Extensions, Fields};
use super::target::limits;
use crate::error::{Error, Result};
use crate::extent::{Encoding, Stored};
use crate::units::{ClusterSize, HostOffset, SECTOR, in_memory};

/// A version 3 image, with 16-bit reference counts, of clusters that stay where they are.
pub struct AdoptedImage {
    cluster_size: ClusterSize,
    virtual_size: u64,
    is_encrypted: bool,
    extensions: Extensions,
}

/// Where the tables of an adopted image are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TablePlaces {
    /// Where the L1 table begins.
    pub l1_at: HostOffset,
    /// Where the refcount table begins.
    pub refcount_table_at: HostOffset,
    /// How many clusters the refcount table has.
    pub refcount_table_clusters: u64,
}

impl AdoptedImage {
    /// An image of a disk of at least `virtual_size` bytes, which is rounded up to whole sectors.
    ///
    /// # Errors
    /// [`Error::Unsupported`] where qcow2 cannot have such a disk with such clusters, and where
    /// header, extensions and the base's name do not fit into the one sector that is written to
    /// make it an image.
    pub fn new(
        path: &Path,
        virtual_size: u64,
        cluster_size: ClusterSize,
        is_encrypted: bool,
        backing: Option<&RecordedBacking>,
    ) -> Result<Self> {
        let unsupported = |what| Error::Unsupported { path: path.to_owned(), what };
        let virtual_size = virtual_size.checked_next_multiple_of(SECTOR).unwrap_or(u64::MAX);
        if let Some(why) = limits::virtual_size_objection(virtual_size, cluster_size) {
            return Err(unsupported(why));
        }
        let extensions = Extensions::new(backing, cluster_size).map_err(unsupported)?;
        if extensions.end() > SECTOR {
            let what = format!(
                "the header and the name of the backing file have {} bytes together, and one \
                 sector has {SECTOR}",
                extensions.end()
            );
            return Err(unsupported(what));
        }
        Ok(Self { cluster_size, virtual_size, is_encrypted, extensions })
    }

    /// The virtual size in bytes, a multiple of 512.
    pub fn virtual_size(&self) -> u64 {
        self.virtual_size
    }

    /// The cluster size.
    pub fn cluster_size(&self) -> ClusterSize {
        self.cluster_size
    }

    /// Guest bytes that one L2 table maps. The table itself is one cluster.
    pub fn l2_span(&self) -> u64 {
        limits::l2_span(self.cluster_size)
    }

    /// Entries of the L1 table.
    pub fn l1_entries(&self) -> u64 {
        limits::l1_entries(self.virtual_size, self.cluster_size)
    }

    /// Host clusters that one refcount block counts. The block itself is one cluster.
    pub fn clusters_in_block(&self) -> u64 {
        limits::per_block(self.cluster_size)
    }

    /// The most host clusters that the file may have.
    pub fn max_clusters(&self) -> u64 {
        limits::max_file_clusters(self.cluster_size)
    }

    /// The entry of the L1 table for an L2 table at `at`.
    pub fn l1_entry(at: HostOffset) -> u64 {
        COPIED | at.get()
    }

    /// The L2 entry of the cluster that `stored` begins with. Plain clusters have one owner.
    pub fn l2_entry(&self, stored: &Stored) -> u64 {
        match stored.encoding {
            Encoding::Plain | Encoding::Encrypted => COPIED | stored.at.get(),
            Encoding::Packed { .. } => {
                entry::of_packed(stored.at.get(), stored.length, self.cluster_size)
            }
        }
    }

    /// The first sector of the file, which makes it an image.
    pub fn first_sector(&self, places: &TablePlaces) -> Vec<u8> {
        let mut sector = self.extensions.header(&Fields {
            cluster_size: self.cluster_size,
            virtual_size: self.virtual_size,
            is_encrypted: self.is_encrypted,
            l1_entries: u32::try_from(self.l1_entries()).expect("an L1 table of 32 MiB at most"),
            l1_at: places.l1_at,
            refcount_table_at: places.refcount_table_at,
            refcount_table_clusters: places.refcount_table_clusters,
        });
        sector.resize(in_memory(SECTOR), 0);
        sector
    }
}
