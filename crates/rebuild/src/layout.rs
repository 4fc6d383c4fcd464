//! Layout: what an openable image says of its geometry, and its L1 table as it stands.

use calve_disk::formats::qcow1::{Dialect, Qcow1Image};
use calve_disk::units::in_memory;
use calve_disk::{Error, HostErrors, Image, Result, Specific, Storage};

use crate::bytes::read_up_to;
use crate::patched::{MOST_PATCHED, Patched, too_much};
use crate::shape::{Shape, is_table_place, words};

/// The geometry of an image whose header can be read.
pub(crate) struct Layout {
    pub(crate) shape: Shape,
    pub(crate) size: u64,
    pub(crate) l1_at: u64,
    pub(crate) l1_entries: u64,
    pub(crate) is_xen: bool,
    pub(crate) is_encrypted: bool,
    pub(crate) has_backing: bool,
}

impl Layout {
    /// Of the image that `source` is.
    ///
    /// # Errors
    /// As opening it fails, and [`Error::Refused`] where its L1 table would be too long for
    /// patches.
    pub(crate) fn of(source: &Patched) -> Result<Self> {
        let image = Qcow1Image::open_with(Box::new(source.clone()), None, HostErrors::Lose)?;
        let facts = image.facts();
        let Specific::Qcow1(qcow1) = &facts.specific else {
            return Err(Error::Unsupported {
                path: source.path().to_owned(),
                what: "only version 1 can be rebuilt".into(),
            });
        };
        if qcow1.l1_entries * 8 > MOST_PATCHED / 2 {
            return Err(too_much(source.path()));
        }
        // Where the table is lost the dialect does not show in it, but in the extended header.
        let start = read_up_to(source, 48, 4)?;
        Ok(Self {
            shape: Shape { cluster_bits: qcow1.cluster_bits, l2_bits: qcow1.l2_bits },
            size: facts.virtual_size,
            l1_at: qcow1.l1_at,
            l1_entries: qcow1.l1_entries,
            is_xen: qcow1.dialect != Dialect::Qemu || start == b"XEN\xFB",
            is_encrypted: facts.is_encrypted,
            has_backing: facts.backing.is_some(),
        })
    }

    /// The L1 entries as they stand; 0 for what the file does not have.
    pub(crate) fn l1(&self, source: &Patched) -> Result<Vec<u64>> {
        let bytes = read_up_to(source, self.l1_at, self.l1_entries * 8)?;
        let size = source.length();
        let order = |word: u64| match self.is_xen && !is_table_place(word, size) {
            true if is_table_place(word.swap_bytes(), size) => word.swap_bytes(),
            _ => word,
        };
        let mut entries: Vec<u64> = words(&bytes).map(order).collect();
        entries.resize(in_memory(self.l1_entries), 0);
        Ok(entries)
    }

    /// The first byte behind the L1 table.
    pub(crate) fn l1_end(&self) -> u64 {
        self.l1_at.saturating_add(self.l1_entries * 8)
    }
}
