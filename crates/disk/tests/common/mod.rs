//! What the tests of this crate share.
#![allow(dead_code, reason = "each test file uses a part of it")]

use calve_disk::codec::Deflater;
use calve_disk::codec::aes::Passphrase;
use calve_disk::formats::qcow1::Qcow1Image;
use calve_disk::formats::qcow2::{Qcow2Image, Qcow2Target, Qcow2TargetOptions};
use calve_disk::formats::raw::RawImage;
use calve_disk::units::{ClusterSize, GuestRange, HostOffset};
use calve_disk::{
    CheckOptions, Disk, Extent, Finding, Form, Found, HostErrors, Layer, Payload, Result, Scratch,
    Storage, StorageMut, TableWrite, Target,
};
use calve_testkit::Memory;
use std::num::NonZeroUsize;
use std::sync::atomic::AtomicBool;

/// The disk that a version 1 image in memory makes, over a raw base if there is one.
pub(crate) fn disk(
    image: Vec<u8>,
    passphrase: Option<&[u8]>,
    base: Option<Vec<u8>>,
) -> Result<Disk> {
    over(Box::new(Memory::new(image)), passphrase, base)
}

/// The same, of any storage.
pub(crate) fn over(
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
pub(crate) fn extents(disk: &Disk) -> Result<Vec<Extent>> {
    disk.extents(disk.range()).collect()
}

/// Every guest byte, `None` where it is lost: found so in the tables, or on reading.
pub(crate) fn content(disk: &Disk) -> Result<Vec<Option<u8>>> {
    let extents = extents(disk)?;
    let size = usize::try_from(disk.virtual_size()).expect("a small disk");
    let mut bytes = vec![0xEE; size];
    let mut lost = vec![false; size];
    disk.read(&extents, HostErrors::Fail, &mut Scratch::default(), &mut bytes, &mut |found| {
        let Found::Lost(extent) = found else { return };
        let start = usize::try_from(extent.range.start.get()).expect("small");
        let end = usize::try_from(extent.range.end().get()).expect("small");
        lost[start..end].fill(true);
    })?;
    Ok(bytes.into_iter().zip(lost).map(|(byte, lost)| (!lost).then_some(byte)).collect())
}

/// Asserts what every walk promises: in order, without gaps, joined, to the end.
pub(crate) fn assert_ordered(disk: &Disk, extents: &[Extent], what: &str) {
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

/// What becomes of one cluster of a qcow2 image that a test writes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Fate {
    /// It is left out.
    Absent,
    /// It is marked as zeros.
    Zero,
    /// It is stored as it is.
    Plain,
    /// It is stored packed.
    Packed,
}

/// Writes a qcow2 image of `content`, cluster by cluster as `fates` say, to `storage`.
pub(crate) fn write_qcow2(
    storage: &dyn StorageMut,
    content: &[u8],
    cluster_size: ClusterSize,
    fates: &[Fate],
) -> Result<()> {
    let options =
        Qcow2TargetOptions { virtual_size: content.len() as u64, cluster_size, backing: None };
    let mut target = Qcow2Target::new(storage.path(), &options)?;
    let put = |bytes: &[u8], at: HostOffset| storage.write_at(bytes, at).expect("memory");
    let put_tables = |tables: Vec<TableWrite>| {
        tables.iter().for_each(|table| put(&table.bytes, table.at));
    };
    let size = usize::try_from(cluster_size.bytes()).expect("small");
    let mut deflater = Deflater::new();
    for ((number, bytes), fate) in (0u64..).zip(content.chunks(size)).zip(fates) {
        let range = GuestRange::at(number * cluster_size.bytes(), bytes.len() as u64);
        let mut places = Vec::new();
        let mut whole = bytes.to_vec();
        whole.resize(size, 0);
        match (fate, deflater.pack(&whole)) {
            (Fate::Absent, _) => {}
            (Fate::Zero, _) => target.zero(range)?,
            (Fate::Packed, Some(packed)) => {
                let length = packed.len() as u64;
                target.place(range, Form::Packed { length }, &mut places)?;
                put(packed, places[0].at);
            }
            (Fate::Plain | Fate::Packed, _) => {
                target.place(range, Form::Plain, &mut places)?;
                put(bytes, places[0].at);
            }
        }
        put_tables(target.take_tables());
    }
    let finish = target.finish()?;
    put_tables(finish.tables);
    storage.set_size(finish.file_size).expect("memory");
    storage.sync().expect("memory");
    put_tables(finish.header.into_iter().collect());
    storage.sync().expect("memory");
    Ok(())
}

/// The disk that a qcow2 image makes.
pub(crate) fn qcow2(storage: Box<dyn Storage>) -> Result<Disk> {
    Ok(Disk::of_layers(vec![Layer::detached(Box::new(Qcow2Image::open(storage, None, None)?))]))
}

/// What a deep check of the image on top finds.
pub(crate) fn checked(disk: &Disk) -> Result<Vec<Finding>> {
    let stop = AtomicBool::new(false);
    let options = CheckOptions {
        is_deep: true,
        threads: NonZeroUsize::MIN,
        stop: &stop,
        progress: &|_, _| {},
    };
    let mut findings = Vec::new();
    disk.check(0, &options, &mut |finding| findings.push(finding))?;
    Ok(findings)
}
