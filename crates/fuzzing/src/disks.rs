//! Disks of inputs, and what has to hold for every disk whatever its files say.

use calve_disk::formats::qcow1::Qcow1Image;
use calve_disk::formats::qcow2::Qcow2Image;
use calve_disk::formats::raw::RawImage;
use calve_disk::units::{ClusterSize, GuestRange};
use calve_disk::{
    Disk, Error, Extent, Finding, Found, HostErrors, Image, Layer, Payload, Result, Scratch,
    Storage, Weight,
};
use calve_testkit::{Memory, Random};

use crate::input::{Input, READ_UP_TO};

/// Extents after which a walk over a disk that is not read has shown enough.
const MAX_EXTENTS: usize = 10_000;

/// Clusters up to which a disk is surveyed.
const MAX_SURVEYED: u64 = 1 << 17;

/// Every guest byte, `None` where it is lost.
pub(crate) type Content = Vec<Option<u8>>;

/// The disk that a version 1 image makes, over a raw base if one is given.
pub(crate) fn version_1(input: &Input<'_>) -> Result<Disk> {
    let storage = Box::new(Memory::new(input.image.to_vec()));
    let image = Qcow1Image::open(storage, input.key().as_ref())?;
    Ok(over_base(Box::new(image), input.base()))
}

/// The disk that a qcow2 image makes, with an external data file if one is given.
pub(crate) fn qcow2(input: &Input<'_>) -> Result<Disk> {
    Ok(over_base(Box::new(qcow2_image(input)?), input.base()))
}

/// The qcow2 image alone.
pub(crate) fn qcow2_image(input: &Input<'_>) -> Result<Qcow2Image> {
    let data_file = input.data_file().map(|bytes| Box::new(Memory::new(bytes)) as Box<dyn Storage>);
    Qcow2Image::open(Box::new(Memory::new(input.image.to_vec())), data_file, input.key().as_ref())
}

/// What the slow reader reads of the version 1 image with these facts.
pub(crate) fn expected(input: &Input<'_>, is_encrypted: bool) -> Content {
    let base: Content = input.base().into_iter().flatten().map(Some).collect();
    // Without a passphrase nothing encrypted was read, and what is lost is lost under any.
    let passphrase = is_encrypted.then(|| input.passphrase().unwrap_or_default());
    calve_testkit::read(input.image, passphrase.as_deref(), &base)
}

/// The disk of an image, over a raw base if one is given.
pub(crate) fn over_base(image: Box<dyn Image>, base: Option<Vec<u8>>) -> Disk {
    let mut layers = vec![Layer::detached(image)];
    if let Some(base) = base {
        let base = RawImage::open(Box::new(Memory::new(base))).expect("any bytes are a raw disk");
        layers.push(Layer::detached(Box::new(base)));
    }
    Disk::of_layers(layers)
}

/// Walks a disk and reads it, or parts of it if it is large, and asserts what holds for every
/// disk: extents in order, without gaps, joined, inside the files; any part reads as that part of
/// the whole. Says what was read, if all of it was.
pub(crate) fn examine(disk: &Disk, random: &mut Random) -> Option<Content> {
    let is_read = disk.virtual_size() <= READ_UP_TO;
    let extents = walked(disk, if is_read { usize::MAX } else { MAX_EXTENTS });
    if let Some(last) = disk.virtual_size().checked_sub(1) {
        let last = GuestRange::at(last, 1);
        let found: Vec<Extent> = disk.extents(last).map(expect_memory).collect();
        assert!(found.len() == 1 && found[0].range == last, "the last byte: {found:?}");
    }
    let whole = if is_read { read(disk, &extents) } else { None };
    for _ in 0..4 {
        if let Some(range) = some_part(disk.virtual_size(), random) {
            let extents: Vec<Extent> = disk.extents(range).map(expect_memory).collect();
            let part = read(disk, &extents);
            if let (Some(whole), Some(part)) = (&whole, &part) {
                let expected = &whole[small(range.start.get())..small(range.end().get())];
                assert_same(part, expected, &format!("{range:?} of the disk"));
            }
        }
    }
    whole
}

/// A part of a disk of this size, of a byte as often as of many.
fn some_part(size: u64, random: &mut Random) -> Option<GuestRange> {
    let start = random.below(size.max(1));
    let most = (size - start).min(1 << random.below(17));
    (most > 0).then(|| GuestRange::at(start, 1 + random.below(most)))
}

/// The bytes of these extents; `None` where a key or a base is missing. What the file got wrong
/// fails no read.
fn read(disk: &Disk, extents: &[Extent]) -> Option<Content> {
    let error = match content(disk, extents) {
        Ok(bytes) => return Some(bytes),
        Err(error) => error,
    };
    assert_one_line(&error.to_string());
    let is_explained = match error {
        Error::Key { .. } => disk.require_keys().is_err(),
        Error::Base { .. } => extents.iter().any(|extent| extent.payload == Payload::Backing),
        _ => false,
    };
    assert!(is_explained, "reading fails: {error}");
    None
}

/// The extents of a disk, at most so many, each of which was looked at.
pub(crate) fn walked(disk: &Disk, most: usize) -> Vec<Extent> {
    let mut extents: Vec<Extent> = Vec::new();
    let mut reached = 0;
    for extent in disk.extents(disk.range()).take(most).map(expect_memory) {
        assert_eq!(extent.range.start.get(), reached, "a gap or an overlap");
        assert!(!extent.range.is_empty(), "an empty extent");
        if let Some(before) = extents.last() {
            assert_eq!(before.joined(extent), None, "not joined");
        }
        if let Payload::Stored(stored) = extent.payload {
            let image = &disk.layers()[stored.layer].image;
            let storage = match stored.encoding.is_same_length() {
                true => image.data_storage(),
                false => image.storage(),
            };
            let end = stored.at.get().checked_add(stored.length);
            let is_there = end.is_some_and(|end| end <= storage.size().expect("memory"));
            assert!(stored.length > 0 && is_there, "promises what is not there: {stored:?}");
        }
        reached = extent.range.end().get();
        extents.push(extent);
    }
    assert!(reached == disk.virtual_size() || extents.len() == most, "not to the end");
    extents
}

fn content(disk: &Disk, extents: &[Extent]) -> Result<Content> {
    let (mut start, mut length) = (0, 0);
    if let (Some(first), Some(last)) = (extents.first(), extents.last()) {
        start = first.range.start.get();
        length = small(last.range.end().get() - start);
    }
    let (mut bytes, mut lost) = (vec![0xEE; length], vec![false; length]);
    disk.read(extents, HostErrors::Fail, &mut Scratch::default(), &mut bytes, &mut |found| {
        let Found::Lost(extent) = found else { return };
        let range =
            small(extent.range.start.get() - start)..small(extent.range.end().get() - start);
        let is_new = lost[range.clone()].iter().all(|is_lost| !is_lost);
        assert!(is_new, "lost twice: {extent:?}");
        lost[range].fill(true);
    })?;
    let bytes = bytes.into_iter().zip(lost);
    Ok(bytes.map(|(byte, is_lost)| (!is_lost).then_some(byte)).collect())
}

/// Asserts that two contents are the same, and tells of the first byte that is not.
pub(crate) fn assert_same(found: &[Option<u8>], expected: &[Option<u8>], what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}: the length");
    if let Some(at) = found.iter().zip(expected).position(|(found, expected)| found != expected) {
        panic!("{what}: byte {at:#x} is {:?}, not {:?}", found[at], expected[at]);
    }
}

/// Surveys an image, if its disk is not too large, and asserts that the survey tells of every
/// loss that the map tells of, and of nothing behind the end of the disk.
pub(crate) fn survey(image: &dyn Image, disk: &Disk) {
    let facts = image.facts();
    let cluster = facts.cluster_size.unwrap_or(ClusterSize::SECTOR);
    if cluster.count(facts.virtual_size) > MAX_SURVEYED {
        return;
    }
    let (mut losses, mut is_shared) = (0, false);
    let survey = image.survey(&mut |finding| {
        assert_told_well(&finding, facts.virtual_size);
        losses += u64::from(finding.rule.weight() == Weight::Damage);
        is_shared |= finding.rule.weight() == Weight::Suspect;
    });
    let survey = expect_memory(survey);
    assert_eq!(survey.total, cluster.count(facts.virtual_size));
    assert!(survey.packed <= survey.allocated && survey.allocated <= survey.total, "{survey:?}");
    assert!(survey.leaked_bytes <= facts.file_size, "{survey:?}");
    let mut counted = 0;
    let mut next = 0;
    for extent in disk.extents(disk.range()).map(expect_memory) {
        if matches!(extent.payload, Payload::Lost(lost) if lost.layer == 0) {
            let first = next.max(extent.range.start.get() >> cluster.bits());
            next = cluster.count(extent.range.end().get());
            counted += next.saturating_sub(first);
        }
    }
    // A table that several L1 entries lead to is counted once.
    let is_right = if is_shared { survey.lost <= counted } else { survey.lost == counted };
    assert!(is_right, "{counted} clusters are lost: {survey:?}");
    assert!(survey.lost == 0 || losses > 0, "a loss that nothing tells of");
}

/// Asserts what holds for every finding.
pub(crate) fn assert_told_well(finding: &Finding, virtual_size: u64) {
    assert_one_line(&finding.to_string());
    if let Some(guest) = finding.guest {
        let end = guest.start.get().checked_add(guest.length);
        assert!(end.is_some_and(|end| end <= virtual_size), "{finding:?}: behind the disk");
    }
}

/// Asserts that a text is one line, without anything that a terminal obeys.
pub(crate) fn assert_one_line(text: &str) {
    assert!(!text.is_empty() && !text.chars().any(char::is_control), "{text:?}");
}

/// What can fail only where the host does.
pub(crate) fn expect_memory<T>(done: Result<T>) -> T {
    done.unwrap_or_else(|error| panic!("a host that is memory never fails: {error}"))
}

pub(crate) fn small(number: u64) -> usize {
    usize::try_from(number).expect("a small number")
}
