//! How large an image of a given cluster size can become, and which other size would do.

use crate::formats::qcow2::entry;
use crate::units::ClusterSize;

/// QEMU opens no image with a longer L1 table, in bytes.
const MAX_L1: u64 = 32 << 20;
/// QEMU opens no image with a longer refcount table, in bytes.
const MAX_REFCOUNT_TABLE: u64 = 8 << 20;
/// Offsets in table entries have 56 bits.
const MAX_FILE: u64 = 1 << 56;
/// Bytes of an entry of any table.
const ENTRY: u64 = 8;
/// Bytes of a counter in a refcount block.
const COUNTER: u64 = 2;

/// Guest bytes that one L2 table maps.
pub(in crate::formats::qcow2) const fn l2_span(size: ClusterSize) -> u64 {
    size.bytes() * (size.bytes() / ENTRY)
}

/// Entries that the L1 table has. An empty disk has one too, so that the table is somewhere.
pub(in crate::formats::qcow2) fn l1_entries(virtual_size: u64, size: ClusterSize) -> u64 {
    virtual_size.div_ceil(l2_span(size)).max(1)
}

/// Host clusters that one refcount block counts.
pub(in crate::formats::qcow2) const fn per_block(size: ClusterSize) -> u64 {
    size.bytes() / COUNTER
}

/// The largest virtual size.
pub(in crate::formats::qcow2) const fn max_virtual_size(size: ClusterSize) -> u64 {
    MAX_L1 / ENTRY * l2_span(size)
}

/// Packed clusters begin before this host offset: their entries spend bits on a length.
pub(in crate::formats::qcow2) fn packed_end(size: ClusterSize) -> u64 {
    1 << entry::packed_offset_bits(size)
}

/// Host clusters that a file can have.
pub(in crate::formats::qcow2) fn max_file_clusters(size: ClusterSize) -> u64 {
    let counted = (MAX_REFCOUNT_TABLE / ENTRY).saturating_mul(per_block(size));
    counted.min(MAX_FILE >> size.bits())
}

/// Host clusters that the tables at the end of the file can need at most.
fn tail_clusters(virtual_size: u64, size: ClusterSize) -> u64 {
    let l1 = size.count(l1_entries(virtual_size, size) * ENTRY);
    let tables = l1 + size.count(MAX_REFCOUNT_TABLE);
    tables + tables / (per_block(size) - 1) + 2
}

/// Host clusters that everything before the tables at the end may take.
pub(in crate::formats::qcow2) fn max_body_clusters(virtual_size: u64, size: ClusterSize) -> u64 {
    max_file_clusters(size).saturating_sub(tail_clusters(virtual_size, size))
}

/// Whether a disk fits that stores every one of its clusters.
fn fits_dense(virtual_size: u64, size: ClusterSize) -> bool {
    let data = size.count(virtual_size);
    let body = 2 + data + l1_entries(virtual_size, size);
    let body = body + body / (per_block(size) - 1) + 1;
    virtual_size <= max_virtual_size(size) && body <= max_body_clusters(virtual_size, size)
}

fn larger_than(size: ClusterSize) -> impl Iterator<Item = ClusterSize> {
    (size.bits() + 1..=*ClusterSize::BITS.end()).filter_map(ClusterSize::from_bits)
}

/// Why a disk of this virtual size cannot be had, if so.
pub(in crate::formats::qcow2) fn virtual_size_objection(
    virtual_size: u64,
    size: ClusterSize,
) -> Option<String> {
    let max = max_virtual_size(size);
    if virtual_size <= max {
        return None;
    }
    let advice = larger_than(size)
        .find(|&larger| virtual_size <= max_virtual_size(larger))
        .map_or("no cluster size would do".to_owned(), |larger| {
            format!("a cluster size of {} would do", larger.bytes())
        });
    Some(format!(
        "a qcow2 disk with clusters of {} bytes has at most {max} bytes, not {virtual_size}; \
         {advice}",
        size.bytes()
    ))
}

/// That the file can grow no further.
pub(in crate::formats::qcow2) fn file_full(virtual_size: u64, size: ClusterSize) -> String {
    let advice = larger_than(size)
        .find(|&larger| fits_dense(virtual_size, larger))
        .map_or("no larger cluster size would do for all of the disk".to_owned(), |larger| {
            format!("a cluster size of {} would do", larger.bytes())
        });
    format!(
        "a qcow2 file with clusters of {} bytes has at most {} bytes, and the disk needs more; \
         {advice}",
        size.bytes(),
        max_file_clusters(size) << size.bits(),
    )
}

/// That packed clusters cannot lie so far back.
pub(in crate::formats::qcow2) fn packed_too_far(size: ClusterSize) -> String {
    format!(
        "packed clusters of {} bytes lie in the first {} bytes of a qcow2 file, and the disk \
         needs more; a smaller cluster size has room for more, and so has writing without \
         packing",
        size.bytes(),
        packed_end(size),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The table of the limits in `docs/qcow2-written.md`.
    #[test]
    fn limits_are_those_of_the_document() {
        let size = |bits| ClusterSize::from_bits(bits).unwrap();
        for (bits, span, max, packed) in [
            (9, 32 << 10, 128 << 30, 61),
            (12, 2 << 20, 8 << 40, 58),
            (16, 512 << 20, 2 << 50, 54),
            (21, 512 << 30, 2 << 60, 49),
        ] {
            assert_eq!(l2_span(size(bits)), span, "{bits}");
            assert_eq!(max_virtual_size(size(bits)), max, "{bits}");
            assert_eq!(packed_end(size(bits)), 1 << packed, "{bits}");
            assert_eq!(max_file_clusters(size(bits)) << bits, max.min(1 << 56), "{bits}");
        }
    }

    #[test]
    fn the_cluster_size_that_is_advised_is_large_enough() {
        let size = ClusterSize::from_bits(16).unwrap();
        assert_eq!(virtual_size_objection(2 << 50, size), None);
        let why = virtual_size_objection(8 << 50, size).unwrap();
        assert!(why.ends_with("a cluster size of 131072 would do"), "{why}");
        let why = virtual_size_objection((8 << 50) + 512, size).unwrap();
        assert!(why.ends_with("a cluster size of 262144 would do"), "{why}");
        let why = virtual_size_objection(3 << 60, size).unwrap();
        assert!(why.ends_with("no cluster size would do"), "{why}");
        // A dense disk of the largest virtual size leaves no room for the tables.
        let sector = ClusterSize::SECTOR;
        assert!(!fits_dense(128 << 30, sector) && fits_dense(120 << 30, sector));
        let why = file_full(128 << 30, sector);
        assert!(why.ends_with("a cluster size of 1024 would do"), "{why}");
    }
}
