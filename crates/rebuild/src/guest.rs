//! What a disk says of itself: its size, and where on it a sector belongs.

use calve_disk::units::SECTOR;

use crate::bytes::{big, little};

/// Something on a disk that knows its place or the disk's size.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Sighting {
    /// A partition table of the first sector: the partitions' starts, and the last one's end.
    PartitionTable { starts: Vec<u64>, end: u64 },
    /// A GPT header: the sector that it is in, and that of its twin.
    Gpt { lba: u64, twin: u64 },
    /// A copy of an ext superblock: its group, its place in the file system, its size.
    Ext { group: u64, within: u64, size: u64 },
    /// A boot sector of NTFS or FAT: where its partition begins, the partition's size, and the
    /// copy's distance from the beginning.
    Boot { start: u64, size: u64, copy: u64 },
}

/// What one sector is. All numbers of it are in bytes, but for `lba` and `twin`.
pub(crate) fn look(sector: &[u8]) -> Option<Sighting> {
    if sector.len() < 512 {
        return None;
    }
    gpt(sector).or_else(|| ext(sector)).or_else(|| boot(sector)).or_else(|| partitions(sector))
}

fn gpt(sector: &[u8]) -> Option<Sighting> {
    let (lba, twin) = (little(sector, 24, 8), little(sector, 32, 8));
    let is_one = sector.starts_with(b"EFI PART") && (lba == 1) != (twin == 1);
    let fits = lba.max(twin) < 1 << 53 && lba.min(twin) == 1;
    (is_one && fits).then_some(Sighting::Gpt { lba, twin })
}

fn ext(sector: &[u8]) -> Option<Sighting> {
    let (bits, group) = (little(sector, 24, 4), little(sector, 90, 2));
    if little(sector, 56, 2) != 0xEF53 || bits > 6 || little(sector, 0, 4) == 0 {
        return None;
    }
    let block = 1024u64 << bits;
    let (first, per_group) = (little(sector, 20, 4), little(sector, 32, 4));
    let high = if little(sector, 96, 4) & 0x80 != 0 { little(sector, 336, 4) } else { 0 };
    let blocks = high << 32 | little(sector, 4, 4);
    let fits = first == u64::from(bits == 0)
        && (1..=block * 8).contains(&per_group)
        && blocks < 1 << 45
        && group * per_group < blocks;
    let within = if group == 0 { 1024 } else { (first + group * per_group) * block };
    fits.then_some(Sighting::Ext { group, within, size: blocks * block })
}

fn boot(sector: &[u8]) -> Option<Sighting> {
    let is_ntfs = sector[3..].starts_with(b"NTFS    ");
    let is_fat32 = sector[82..].starts_with(b"FAT32   ");
    let is_fat = is_fat32 || sector[54..].starts_with(b"FAT1");
    if !sector.ends_with(&[0x55, 0xAA]) || little(sector, 11, 2) != SECTOR || !(is_ntfs || is_fat) {
        return None;
    }
    let start = little(sector, 28, 4) * SECTOR;
    let sectors = match is_ntfs {
        // The sector behind the last one is the copy of this one.
        true => little(sector, 40, 8).checked_add(1)?,
        false => match little(sector, 19, 2) {
            0 => little(sector, 32, 4),
            few => few,
        },
    };
    let size = sectors.checked_mul(SECTOR).filter(|size| (1..1 << 62).contains(size))?;
    let copy = match (is_ntfs, is_fat32) {
        (true, _) => size - SECTOR,
        (_, true) => little(sector, 50, 2) * SECTOR,
        _ => 0,
    };
    Some(Sighting::Boot { start, size, copy })
}

fn partitions(sector: &[u8]) -> Option<Sighting> {
    if !sector.ends_with(&[0x55, 0xAA]) {
        return None;
    }
    let (mut starts, mut end) = (Vec::new(), 0);
    for entry in sector[446..510].chunks_exact(16) {
        if entry.iter().all(|byte| *byte == 0) {
            continue;
        }
        let (start, length) = (little(entry, 8, 4), little(entry, 12, 4));
        if entry[0] & 0x7F != 0 || entry[4] == 0 || start == 0 || length == 0 {
            return None;
        }
        starts.push(start * SECTOR);
        // The one partition that stands before a GPT is as long as can be written.
        end = end.max(if entry[4] == 0xEE { 0 } else { (start + length) * SECTOR });
    }
    (!starts.is_empty()).then_some(Sighting::PartitionTable { starts, end })
}

/// The starts of the partitions that a GPT's entries tell of, in bytes.
pub(crate) fn gpt_starts(entries: &[u8]) -> Vec<u64> {
    let used = entries.chunks_exact(128).filter(|entry| big(entry, 0, 8) != 0);
    used.filter_map(|entry| little(entry, 32, 8).checked_mul(SECTOR)).collect()
}

/// Fewer different bytes than this in a sector and it is not noise: see the judgement of
/// passphrases, which uses the same.
const FEWEST_VALUES_OF_NOISE: usize = 190;

/// Whether a sector looks like ciphertext; `None` for one of zeros, which tells nothing.
pub(crate) fn is_noise(sector: &[u8]) -> Option<bool> {
    let mut seen = [false; 256];
    sector.iter().for_each(|byte| seen[usize::from(*byte)] = true);
    let count = seen.iter().filter(|seen| **seen).count();
    if count == 1 && seen[0] { None } else { Some(count >= FEWEST_VALUES_OF_NOISE) }
}
