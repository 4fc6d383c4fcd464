//! Who probably wrote a file: every writer chose its geometry and places a little differently.

use super::Dialect;
use super::header::{HEADER_SIZE, Header, NamePlace};

/// The writer's name as far as the layout tells. `lowest_l2` is the lowest L2 table's place.
pub(super) fn of(header: &Header, dialect: Dialect, lowest_l2: Option<u64>) -> &'static str {
    if dialect != Dialect::Qemu {
        return "Xen tapdisk";
    }
    let has_backing = header.backing_name != NamePlace::None;
    match (header.cluster_size.bits(), header.l2_bits, has_backing) {
        (9, 12, true) if header.mtime != 0 => "QEMU 0.6.1 to 0.8.2",
        (9, 12, true) => "QEMU 0.9 or later",
        (9, 12, false) => "QEMU (temporary file of a writable FAT directory)",
        (12, 9, true) => "VirtualBox (differencing image)",
        (12, 9, false) if header.l1_at == 4096 => "FreeBSD mkimg",
        (12, 9, false) if header.l1_at != HEADER_SIZE => "unknown",
        (12, 9, false) if header.mtime != 0 => "Aaru",
        (12, 9, false) if skips_a_page(header, lowest_l2) => "VirtualBox",
        (12, 9, false) => "QEMU",
        _ => "unknown",
    }
}

/// VirtualBox pads the L1 table itself to a cluster and so leaves one cluster more than QEMU
/// before the first table.
fn skips_a_page(header: &Header, lowest_l2: Option<u64>) -> bool {
    let cluster = header.cluster_size;
    let of_qemu = cluster.ceil(header.l1_range().end);
    let of_virtualbox = cluster.ceil(HEADER_SIZE + cluster.ceil(header.l1_entries * 8));
    lowest_l2.is_some_and(|lowest| lowest != of_qemu && lowest == of_virtualbox)
}
