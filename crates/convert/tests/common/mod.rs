//! What the tests of this crate share.
#![allow(dead_code, reason = "each test file uses a part of it")]

use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::atomic::AtomicBool;

use calve_convert::{
    Cache, Control, Copying, Options, Placement, Qcow2Options, Salvage, Summary, TargetFormat,
};
use calve_disk::codec::aes::Passphrase;
use calve_disk::formats::qcow1::Qcow1Image;
use calve_disk::formats::raw::RawImage;
use calve_disk::units::ClusterSize;
use calve_disk::{Disk, Layer, Storage};
use calve_testkit::{Memory, Sketch, read};

/// The disk of a sketch, of any storage that holds its image.
pub(crate) fn disk_on(storage: Box<dyn Storage>, sketch: &Sketch) -> calve_disk::Result<Disk> {
    let passphrase = sketch.passphrase.clone().map(Passphrase::new);
    let image = Qcow1Image::open(storage, passphrase.as_ref())?;
    let mut layers = vec![Layer::detached(Box::new(image))];
    if let Some(base) = &sketch.base {
        let base = RawImage::open(Box::new(Memory::new(base.clone())))?;
        layers.push(Layer::detached(Box::new(base)));
    }
    Ok(Disk::of_layers(layers))
}

/// The disk of a sketch.
pub(crate) fn disk(sketch: &Sketch) -> Disk {
    disk_on(Box::new(Memory::new(sketch.image.clone())), sketch).expect("memory")
}

/// What the disk of a sketch holds, as the reference reads it.
pub(crate) fn expected(sketch: &Sketch) -> Vec<Option<u8>> {
    let base: Vec<Option<u8>> = sketch.base.iter().flatten().copied().map(Some).collect();
    read(&sketch.image, sketch.passphrase.as_deref(), &base)
}

/// Plain options for a new, unsynced target.
pub(crate) fn options(format: TargetFormat, threads: usize) -> Options {
    Options {
        format,
        sparse_size: 4096,
        placement: Placement::New,
        cache: Cache::Unsafe,
        salvage: Salvage::Refuse,
        copying: Copying::Auto,
        verify: false,
        threads: NonZeroUsize::new(threads).expect("at least one"),
        pace: std::sync::Arc::default(),
    }
}

/// A qcow2 result without a base.
pub(crate) fn qcow2(cluster_bits: u8, compress: bool) -> TargetFormat {
    let cluster_size = ClusterSize::from_bits(cluster_bits).expect("in range");
    TargetFormat::Qcow2(Qcow2Options { cluster_size, compress, base: None })
}

/// Converts without telling anybody of progress.
pub(crate) fn convert(
    sources: Vec<Disk>,
    target: &Path,
    options: &Options,
) -> calve_convert::Result<Summary> {
    let stop = AtomicBool::new(false);
    let control = Control { stop: &stop, progress: &|_| {} };
    calve_convert::convert(sources, target, options, &control)
}

/// Every byte of a disk that lost none.
pub(crate) fn bytes(disk: &Disk) -> Vec<u8> {
    let mut bytes = vec![0; usize::try_from(disk.virtual_size()).expect("small")];
    disk.read_at(&mut bytes, calve_disk::units::GuestOffset::new(0)).expect("readable");
    bytes
}
