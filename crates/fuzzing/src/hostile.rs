//! Looking at a malformed or hostile file as the product does, without a second opinion: for
//! measuring how long that takes.

use calve_disk::units::GuestRange;
use calve_disk::{Disk, Error, Extent, HostErrors, Image, Scratch};

use crate::disks;
use crate::input::Input;
use crate::seeds::Kind;

/// Extents after which a walk has shown enough.
const EXTENTS: usize = 1 << 18;

/// Clusters up to which a disk is surveyed: all of a disk of 16 GiB in QEMU's geometry.
const SURVEYED: u64 = 4 << 20;

/// Bytes that are read from the front of a disk, and how many at once.
const READ: u64 = 4 << 20;
const AT_ONCE: u64 = 1 << 20;

/// Opens the file of an input, walks it, surveys it and reads it. Says whether it opened.
///
/// # Panics
/// Where anything fails for which the file would be no excuse.
pub fn look_at(kind: Kind, data: &[u8]) -> bool {
    let Some(input) = Input::of(data) else { return false };
    let opened = match kind {
        Kind::Version1 => disks::version_1(&input),
        Kind::Qcow2 => disks::qcow2(&input),
        Kind::Stream | Kind::Archive => return false,
    };
    let Ok(disk) = opened else { return false };
    for extent in disk.extents(disk.range()).take(EXTENTS) {
        disks::expect_memory(extent);
    }
    survey(disk.top());
    read(&disk);
    true
}

fn survey(image: &dyn Image) {
    let facts = image.facts();
    let clusters = facts.cluster_size.map_or(0, |size| size.count(facts.virtual_size));
    if clusters <= SURVEYED {
        disks::expect_memory(image.survey(&mut |_| {}));
    }
}

fn read(disk: &Disk) {
    let (mut scratch, mut bytes) = (Scratch::default(), Vec::new());
    let end = disk.virtual_size().min(READ);
    let mut start = 0;
    while start < end {
        let range = GuestRange::at(start, AT_ONCE.min(end - start));
        let extents: Vec<Extent> = disk.extents(range).map(disks::expect_memory).collect();
        bytes.resize(disks::small(range.length), 0);
        match disk.read(&extents, HostErrors::Fail, &mut scratch, &mut bytes, &mut |_| {}) {
            Ok(()) | Err(Error::Key { .. } | Error::Base { .. }) => {}
            Err(error) => panic!("reading fails: {error}"),
        }
        start += range.length;
    }
}
