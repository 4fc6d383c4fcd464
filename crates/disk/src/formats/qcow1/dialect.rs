//! Whose dialect a file is in, decided from the evidence; the rest of the folder sees offsets in
//! the machine's own order.
//!
//! Until March 2008 Xen's tapdisk wrote the L1 table in the order of its host, which was
//! little-endian on nearly every machine, while header and L2 tables were big-endian. The flag
//! that says otherwise is wrong in both directions in files that exist, and files touched by two
//! writers mix both orders in one table. So each entry is judged alone: a file offset is
//! plausible in one order and absurdly large in the other.

#![deny(clippy::arithmetic_side_effects, clippy::indexing_slicing)]

use super::Dialect;
use super::entry::is_offset;

const XEN_MAGIC: &[u8; 4] = b"XEN\xFB";
const XEN_ALIGNMENT: u64 = 4096;

/// The host bytes of the extended header.
pub(super) const EXTENSION: std::ops::Range<u64> = 48..64;

/// Whether the extended header of Xen's tapdisk follows the plain one. `start` is the file's
/// first bytes.
pub(super) fn is_xen(start: &[u8], l1_at: u64) -> bool {
    start.get(48..52) == Some(&XEN_MAGIC[..]) && l1_at.is_multiple_of(XEN_ALIGNMENT)
}

/// The checksum of the L1 table that the extended header records. `start` is the file's first
/// bytes.
pub(super) fn recorded_checksum(start: &[u8]) -> Option<[u8; 4]> {
    start.get(52..56).and_then(|bytes| bytes.try_into().ok())
}

/// The order in which L1 entries are read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct L1Order {
    /// Whether both orders come into question.
    pub(super) is_xen: bool,
    /// The file's length, which an offset has to stay below.
    pub(super) file_size: u64,
}

impl L1Order {
    /// The entry's value.
    pub(super) fn decode(self, bytes: [u8; 8]) -> u64 {
        let big = u64::from_be_bytes(bytes);
        if !self.is_xen || self.is_plausible(big) {
            return big;
        }
        let little = big.swap_bytes();
        // Where neither lies in the file it was cut short, and the offset that it once was is
        // the smaller one.
        if self.is_plausible(little) { little } else { big.min(little) }
    }

    /// What an entry tells of the dialect, if anything.
    pub(super) fn dialect(self, bytes: [u8; 8]) -> Option<Dialect> {
        let big = u64::from_be_bytes(bytes);
        match self.decode(bytes) {
            0 => None,
            _ if !self.is_xen => Some(Dialect::Qemu),
            value if value == big => Some(Dialect::Xen),
            _ => Some(Dialect::XenLittleEndian),
        }
    }

    fn is_plausible(self, offset: u64) -> bool {
        is_offset(offset) && offset < self.file_size
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn q29_each_entry_is_read_in_the_order_in_which_it_makes_sense() {
        let order = L1Order { is_xen: true, file_size: 1 << 30 };
        let offset = 0x0123_4000u64;
        assert_eq!(order.decode(offset.to_be_bytes()), offset);
        assert_eq!(order.decode(offset.swap_bytes().to_be_bytes()), offset);
        assert_eq!(order.decode([0; 8]), 0);
        let behind = 1u64 << 31;
        assert_eq!(order.decode(behind.swap_bytes().to_be_bytes()), behind, "cut short");
        let plain = L1Order { is_xen: false, ..order };
        assert_eq!(plain.decode(offset.swap_bytes().to_be_bytes()), offset.swap_bytes());
    }

    #[test]
    fn the_extension_counts_only_with_an_aligned_table() {
        let mut start = [0; 64];
        start[48..52].copy_from_slice(XEN_MAGIC);
        assert!(is_xen(&start, 4096));
        assert!(!is_xen(&start, 48));
        assert!(!is_xen(&start[..50], 4096));
    }
}
