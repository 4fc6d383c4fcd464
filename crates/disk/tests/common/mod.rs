//! What the tests of this crate share.
#![allow(dead_code, reason = "each test file uses a part of it")]

use calve_disk::codec::aes::Passphrase;
use calve_disk::formats::qcow1::Qcow1Image;
use calve_disk::formats::raw::RawImage;
use calve_disk::{Disk, Extent, HostErrors, Layer, Payload, Result, Scratch, Storage};
use calve_testkit::Memory;

/// The disk that a version 1 image in memory makes, over a raw base if there is one.
pub fn disk(image: Vec<u8>, passphrase: Option<&[u8]>, base: Option<Vec<u8>>) -> Result<Disk> {
    over(Box::new(Memory::new(image)), passphrase, base)
}

/// The same, of any storage.
pub fn over(
    storage: Box<dyn Storage>,
    passphrase: Option<&[u8]>,
    base: Option<Vec<u8>>,
) -> Result<Disk> {
    let passphrase = passphrase.map(|bytes| Passphrase::new(bytes.to_vec()));
    let image = Qcow1Image::open(storage, passphrase.as_ref())?;
    let mut layers = vec![Layer::detached(Box::new(image))];
    if let Some(base) = base {
        layers.push(Layer::detached(Box::new(RawImage::open(Box::new(Memory::new(base)))?)));
    }
    Ok(Disk::of_layers(layers))
}

/// All extents of a disk.
pub fn extents(disk: &Disk) -> Result<Vec<Extent>> {
    disk.extents(disk.range()).collect()
}

/// Every guest byte, `None` where it is lost: found so in the tables, or on reading.
pub fn content(disk: &Disk) -> Result<Vec<Option<u8>>> {
    let extents = extents(disk)?;
    let size = usize::try_from(disk.virtual_size()).expect("a small disk");
    let mut bytes = vec![0xEE; size];
    let mut lost = vec![false; size];
    disk.read(&extents, HostErrors::Fail, &mut Scratch::default(), &mut bytes, &mut |extent| {
        let start = usize::try_from(extent.range.start.get()).expect("small");
        let end = usize::try_from(extent.range.end().get()).expect("small");
        lost[start..end].fill(true);
    })?;
    Ok(bytes.into_iter().zip(lost).map(|(byte, lost)| (!lost).then_some(byte)).collect())
}

/// Asserts what every walk promises: in order, without gaps, joined, to the end.
pub fn assert_ordered(disk: &Disk, extents: &[Extent], what: &str) {
    let mut reached = 0;
    let mut before: Option<Extent> = None;
    for extent in extents {
        assert_eq!(extent.range.start.get(), reached, "{what}: a gap or an overlap");
        assert!(!extent.range.is_empty(), "{what}: an empty extent");
        if let Some(before) = before {
            assert_eq!(before.joined(*extent), None, "{what}: not joined");
        }
        if let Payload::Stored(stored) = extent.payload {
            assert!(stored.layer < disk.layers().len(), "{what}");
        }
        reached = extent.range.end().get();
        before = Some(*extent);
    }
    assert_eq!(reached, disk.virtual_size(), "{what}: not to the end");
}
