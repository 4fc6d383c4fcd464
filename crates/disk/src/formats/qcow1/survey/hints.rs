//! What is odd only in the light of who wrote the file.

use md5::{Digest, Md5};

use crate::error::Result;
use crate::finding::{Finding, Rule};
use crate::formats::qcow1::Qcow1Image;
use crate::formats::qcow1::header::HEADER_SIZE;
use crate::units::{GuestRange, HostOffset};

/// Tells of Xen's checksum and of the entries that VirtualBox overwrites.
pub(super) fn run(image: &Qcow1Image, leaked: u64, report: &mut dyn FnMut(Finding)) -> Result<()> {
    if let Some(recorded) = image.xen_checksum {
        xen_checksum(image, recorded, report)?;
    }
    zeroed_entries(image, leaked, report)
}

/// Where Xen's tapdisk keeps the checksum of its L1 table.
const CHECKSUM_AT: u64 = 52;

/// Bytes of the L1 table that are hashed at once.
const PART: u64 = 64 << 10;

/// Xen's tapdisk put the first four bytes of the MD5 of its L1 table here, in the order of its
/// host, and only when it was closed properly.
fn xen_checksum(
    image: &Qcow1Image,
    recorded: [u8; 4],
    report: &mut dyn FnMut(Finding),
) -> Result<()> {
    let pages = &image.tables.pages;
    let l1 = image.header.l1_range();
    if l1.end > pages.file_size {
        return Ok(());
    }
    // The table was hashed as it was in memory: in the order of the file, or in the other one.
    let mut digests = [Md5::new(), Md5::new()];
    let mut at = l1.start;
    while at < l1.end {
        let count = PART.min(l1.end - at) / 8;
        for word in pages.words(at, count, "reading the L1 table")? {
            // The walk has told of what cannot be read; a part has no checksum.
            let Some(mut word) = word else { return Ok(()) };
            digests[0].update(word);
            word.reverse();
            digests[1].update(word);
        }
        at += count * 8;
    }
    let is_recorded = |digest: Md5| {
        let digest = digest.finalize();
        let start = [digest[0], digest[1], digest[2], digest[3]];
        let turned = [digest[3], digest[2], digest[1], digest[0]];
        start == recorded || turned == recorded
    };
    if !digests.into_iter().any(is_recorded) {
        let finding = Finding::new(Rule::XenChecksum).at(HostOffset::new(CHECKSUM_AT));
        report(finding.value(u64::from(u32::from_be_bytes(recorded))));
    }
    Ok(())
}

/// Entries that VirtualBox overwrites with zeros: what lies between the end of QEMU's L1 table,
/// rounded up, and the end of its own, which begins 48 bytes into the cluster.
const OVERWRITTEN: usize = 6;

/// VirtualBox, where it writes to an image of QEMU's, writes the L1 table rounded up to a cluster
/// and so over the first entries of an L2 table that follows.
fn zeroed_entries(image: &Qcow1Image, leaked: u64, report: &mut dyn FnMut(Finding)) -> Result<()> {
    let header = &image.header;
    let cluster = header.cluster_size;
    if header.l1_at != HEADER_SIZE || cluster.bits() != 12 || header.l2_bits != 9 {
        return Ok(());
    }
    let table = cluster.floor(HEADER_SIZE + cluster.ceil(header.l1_entries * 8));
    let is_there = image.occupied()?.tables().binary_search(&table).is_ok();
    if !is_there || leaked < OVERWRITTEN as u64 * cluster.bytes() {
        return Ok(());
    }
    let entries = image.tables.l2(table, header.l2_entries())?;
    let (first, rest) = entries.split_at(OVERWRITTEN.min(entries.len()));
    let used = rest.iter().filter(|entry| **entry != 0).count();
    if first.iter().any(|entry| *entry != 0) || used == 0 {
        return Ok(());
    }
    if let Some(start) = image.first_guest_of(table)? {
        let length = OVERWRITTEN as u64 * cluster.bytes();
        let guest = GuestRange::at(start, length).clipped(GuestRange::at(0, header.size));
        report(Finding::new(Rule::ZeroedEntries).at(HostOffset::new(table)).guest(guest));
    }
    Ok(())
}
