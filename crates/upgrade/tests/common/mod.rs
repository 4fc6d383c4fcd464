//! What the tests of this crate share.
#![allow(dead_code, reason = "each test file uses a part of it")]

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use calve_disk::codec::aes::Passphrase;
use calve_disk::formats::qcow2::Qcow2Image;
use calve_disk::formats::raw::RawImage;
use calve_disk::{Disk, HostErrors, Layer, Scratch, StorageMut};
use calve_testkit::{Memory, Notes, Sketch};
use calve_upgrade::{InPlace, Options, Plan, Result};

/// An image in memory and the journal beside it.
pub(crate) fn in_place(storage: &(impl StorageMut + Clone + 'static), notes: &Notes) -> InPlace {
    InPlace::new(Arc::new(storage.clone()), Box::new(notes.clone()))
}

/// How a sketch is upgraded.
pub(crate) fn options(sketch: &Sketch, holds: bool) -> Options {
    let backing_format = sketch.base.as_ref().map(|_| "raw".to_owned());
    Options { backing_format, holds, ..Options::default() }
}

pub(crate) fn upgrade(
    storage: &(impl StorageMut + Clone + 'static),
    notes: &Notes,
    options: &Options,
) -> Result<Plan> {
    in_place(storage, notes).upgrade(options, &AtomicBool::new(false))
}

/// Every guest byte of a version 1 image, from the slow reader.
pub(crate) fn before(sketch: &Sketch) -> Vec<u8> {
    let base: Vec<Option<u8>> = sketch.base.iter().flatten().copied().map(Some).collect();
    let bytes = calve_testkit::read(&sketch.image, sketch.passphrase.as_deref(), &base);
    bytes.into_iter().map(|byte| byte.expect("nothing is lost in a legal image")).collect()
}

/// Every guest byte of a qcow2 image.
pub(crate) fn after(image: Vec<u8>, sketch: &Sketch) -> calve_disk::Result<Vec<u8>> {
    let key = sketch.passphrase.clone().map(Passphrase::new);
    let top = Qcow2Image::open(Box::new(Memory::new(image)), None, key.as_ref())?;
    let mut layers = vec![Layer::detached(Box::new(top))];
    if let Some(base) = sketch.base.clone() {
        layers.push(Layer::detached(Box::new(RawImage::open(Box::new(Memory::new(base)))?)));
    }
    let disk = Disk::of_layers(layers);
    let extents = disk.extents(disk.range()).collect::<calve_disk::Result<Vec<_>>>()?;
    let mut bytes = vec![0; usize::try_from(disk.virtual_size()).expect("a small disk")];
    let mut scratch = Scratch::default();
    disk.read(&extents, HostErrors::Fail, &mut scratch, &mut bytes, &mut |found| {
        if let calve_disk::Found::Lost(extent) = found {
            panic!("lost: {extent:?}");
        }
    })?;
    Ok(bytes)
}

/// Asserts that a qcow2 image holds what the version 1 image of the sketch holds.
pub(crate) fn assert_same(image: Vec<u8>, sketch: &Sketch, what: &str) {
    let (before, after) =
        (before(sketch), after(image, sketch).unwrap_or_else(|error| panic!("{what}: {error}")));
    assert_eq!(after.len(), before.len().next_multiple_of(512), "{what}: the size");
    let differs = before.iter().zip(&after).position(|(old, new)| old != new);
    assert_eq!(differs, None, "{what}: the first byte that differs");
}
