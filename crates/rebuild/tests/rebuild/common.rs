//! Disks with something on them, images of those, and reading them back.

use calve_disk::formats::qcow1::Qcow1Image;
use calve_disk::units::{GuestOffset, GuestRange};
use calve_disk::{Disk, HostErrors, Layer, Payload, Scratch};
use calve_rebuild::{Patched, Rebuilt};
use calve_testkit::{Builder, Memory, Random};

pub(crate) const MIB: usize = 1 << 20;

/// A disk with a GPT and an ext file system of 1 KiB blocks in one partition from 1 MiB on: real
/// places and numbers of headers and superblocks, and made-up files between.
pub(crate) fn gpt_disk(size: usize, seed: u64) -> Vec<u8> {
    let mut disk = filled(size, seed);
    disk[..17 * 1024].fill(0);
    let last = size / 512 - 1;
    disk[446 + 4] = 0xEE;
    put(&mut disk, 446 + 8, 1, 4);
    put(&mut disk, 446 + 12, u32::MAX.into(), 4);
    disk[510..512].copy_from_slice(&[0x55, 0xAA]);
    for (lba, twin) in [(1, last), (last, 1)] {
        disk[lba * 512..][..8].copy_from_slice(b"EFI PART");
        put(&mut disk, lba * 512 + 24, lba as u64, 8);
        put(&mut disk, lba * 512 + 32, twin as u64, 8);
    }
    disk[1024..1040].fill(0xA5);
    put(&mut disk, 1024 + 32, 2048, 8);
    put(&mut disk, 1024 + 40, last as u64 - 34, 8);
    superblocks(&mut disk, MIB, (size - 2 * MIB) / 1024);
    disk
}

/// A disk with nothing but an ext file system of 1 KiB blocks on it.
pub(crate) fn ext_disk(size: usize, seed: u64) -> Vec<u8> {
    let mut disk = filled(size, seed);
    superblocks(&mut disk, 0, size / 1024);
    disk
}

/// Text, tables and noise, none of it zero, so that every cluster is stored.
fn filled(size: usize, seed: u64) -> Vec<u8> {
    let mut random = Random::new(seed);
    let mut disk = Vec::with_capacity(size + 4096);
    while disk.len() < size {
        let mut part = random.content(4096);
        part[0] |= 1;
        disk.append(&mut part);
    }
    disk.truncate(size);
    disk
}

fn superblocks(disk: &mut [u8], start: usize, blocks: usize) {
    for group in [0, 1, 3, 5, 7, 9, 25, 27, 49] {
        let at = start + (1 + group * 8192) * 1024;
        if group * 8192 + 2 >= blocks {
            break;
        }
        disk[at..at + 1024].fill(0);
        for (place, value, length) in [
            (0, 1000, 4),
            (4, blocks as u64, 4),
            (20, 1, 4),
            (32, 8192, 4),
            (56, 0xEF53, 2),
            (90, group as u64, 2),
        ] {
            put(disk, at + place, value, length);
        }
    }
}

fn put(disk: &mut [u8], at: usize, value: u64, length: usize) {
    let bytes = value.to_be_bytes();
    for (place, byte) in disk[at..at + length].iter_mut().zip(bytes.iter().rev()) {
        *place = *byte;
    }
}

/// In which order clusters are written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Order {
    /// As a converter does.
    Sequential,
    /// As a guest does: runs of clusters here and there.
    Random(u64),
}

/// The image of a disk whose clusters of zeros are left out. `packed` packs what packs well.
pub(crate) fn image(builder: Builder, disk: &[u8], order: Order, packed: bool) -> Vec<u8> {
    let mut builder = builder;
    let cluster = usize::try_from(builder.cluster_size()).expect("small");
    let mut clusters: Vec<usize> = (0..disk.len().div_ceil(cluster)).collect();
    if let Order::Random(seed) = order {
        let mut random = Random::new(seed);
        let run = (64 << 10) / cluster;
        let mut runs: Vec<Vec<usize>> =
            clusters.chunks(run.max(1)).map(<[usize]>::to_vec).collect();
        for left in (1..runs.len()).rev() {
            runs.swap(left, usize::try_from(random.below(left as u64 + 1)).expect("an index"));
        }
        clusters = runs.concat();
    }
    for number in clusters {
        let content = &disk[number * cluster..disk.len().min((number + 1) * cluster)];
        if content.iter().all(|byte| *byte == 0) {
            continue;
        }
        let mut whole = content.to_vec();
        whole.resize(cluster, 0);
        if packed && calve_testkit::deflated(&whole, 12).len() < cluster {
            builder.packed(number as u64, content);
        } else {
            builder.plain(number as u64, content);
        }
    }
    builder.build()
}

pub(crate) fn source(image: &[u8]) -> Patched {
    Patched::over(Box::new(Memory::new(image.to_vec()))).expect("memory")
}

pub(crate) fn open(source: &Patched) -> Disk {
    let image = Qcow1Image::open(Box::new(source.clone()), None).expect("opens");
    Disk::of_layers(vec![Layer::detached(Box::new(image))])
}

/// All bytes of a disk; what is lost or left to a base reads as zeros.
pub(crate) fn content(disk: &Disk) -> Vec<u8> {
    let size = usize::try_from(disk.virtual_size()).expect("small");
    let (mut out, mut scratch) = (vec![0; size], Scratch::default());
    for extent in disk.extents(disk.range()) {
        let extent = extent.expect("memory");
        if matches!(extent.payload, Payload::Stored(_)) {
            let start = usize::try_from(extent.range.start.get()).expect("small");
            let length = usize::try_from(extent.range.length).expect("small");
            let part = &mut out[start..start + length];
            disk.read(&[extent], HostErrors::Lose, &mut scratch, part, &mut |_| {}).expect("reads");
        }
    }
    out
}

/// Asserts that what differs from `expected` is told as suspect, and returns how many of
/// `expected`'s pieces of `unit` bytes are right.
pub(crate) fn right(rebuilt: &Rebuilt, expected: &[u8], unit: usize) -> usize {
    let found = content(&open(&rebuilt.source));
    assert_eq!(found.len(), expected.len(), "the size");
    let mut right = 0;
    for (number, (mine, its)) in found.chunks(unit).zip(expected.chunks(unit)).enumerate() {
        right += usize::from(mine == its);
        let at = GuestOffset::new((number * unit) as u64);
        let is_suspect = rebuilt.suspect.iter().any(|range: &GuestRange| range.contains(at));
        assert!(mine == its || is_suspect, "piece {number} is wrong and not suspect");
    }
    right
}
