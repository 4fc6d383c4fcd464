//! Rescues of damaged images: what is good is right, and what is gone is labelled so.

use std::ops::Range;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use calve_disk::codec::aes::Passphrase;
use calve_disk::formats::qcow1::Qcow1Image;
use calve_disk::formats::raw::RawImage;
use calve_disk::units::ClusterSize;
use calve_disk::{Disk, HostErrors, Layer, OpenOptions, Storage};
use calve_rescue::{
    Control, Error, Label, Labelled, MapFile, Marked, Options, Status, Summary, TargetFormat,
    rescue,
};
use calve_testkit::{Builder, Faulty, Memory, Random, Sketch, read, seeds};

struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("a folder"))
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.0.path().join(name)
    }

    fn options(&self, format: TargetFormat, retries: u32) -> Options {
        Options {
            target: self.path("new"),
            map: self.path("map"),
            format,
            retries,
            suspect: Vec::new(),
        }
    }

    /// What the target holds, as guest bytes.
    fn content(&self, size: u64) -> Vec<u8> {
        let disk = Disk::open(&self.path("new"), &OpenOptions::default()).expect("an image");
        let mut bytes = vec![0; usize::try_from(size).expect("small")];
        disk.read_at(&mut bytes, calve_disk::units::GuestOffset::new(0)).expect("whole");
        bytes
    }
}

fn disk_of(storage: Box<dyn Storage>, sketch: &Sketch) -> calve_disk::Result<Disk> {
    let passphrase = sketch.passphrase.clone().map(Passphrase::new);
    let image = Qcow1Image::open_with(storage, passphrase.as_ref(), HostErrors::Lose)?;
    let mut layers = vec![Layer::detached(Box::new(image))];
    if let Some(base) = &sketch.base {
        let base = RawImage::open(Box::new(Memory::new(base.clone())))?;
        layers.push(Layer::detached(Box::new(base)));
    }
    Ok(Disk::of_layers(layers))
}

/// Runs a rescue to its end, or until `stop_after` steps, and gathers the labels.
fn run(
    open: &dyn Fn() -> calve_disk::Result<Disk>,
    options: &Options,
    stop_after: u64,
) -> (calve_rescue::Result<Summary>, Vec<Labelled>) {
    let (stop, steps) = (AtomicBool::new(false), AtomicU64::new(0));
    let progress = |_| {
        if steps.fetch_add(1, Ordering::Relaxed) + 1 >= stop_after {
            stop.store(true, Ordering::Relaxed);
        }
    };
    let mut labels = Vec::new();
    let mut control =
        Control { stop: &stop, progress: &progress, label: &mut |labelled| labels.push(labelled) };
    let done = rescue(open, options, &mut control);
    (done, labels)
}

fn label_of_each_byte(labels: &[Labelled]) -> Vec<Label> {
    let mut each = Vec::new();
    for labelled in labels {
        assert_eq!(labelled.range.start.get(), each.len() as u64, "a gap or an overlap");
        each.resize(each.len() + usize::try_from(labelled.range.length).unwrap(), labelled.label);
    }
    each
}

/// Asserts that each byte is what its label says.
fn assert_truthful(found: &[u8], labels: &[Label], expected: &[Option<u8>], what: &str) {
    assert_eq!((found.len(), labels.len()), (expected.len(), expected.len()), "{what}");
    for (at, (byte, label)) in found.iter().zip(labels).enumerate() {
        match (label, expected[at]) {
            (Label::Missing, _) => assert_eq!(*byte, 0, "{what}: byte {at}"),
            (_, Some(right)) => assert_eq!(*byte, right, "{what}: byte {at} is {label:?}"),
            (_, None) => panic!("{what}: byte {at} is gone and labelled {label:?}"),
        }
    }
}

const QCOW2: TargetFormat = TargetFormat::Qcow2(ClusterSize::from_bits(12).unwrap());

#[test]
fn damaged_layouts_are_rescued_to_the_byte_and_every_byte_is_labelled() {
    for seed in seeds("CALVE_RESCUE_CASES", 120) {
        let mut random = Random::new(seed ^ 0x7E5C);
        let mut sketch = Sketch::legal(&mut random);
        if !random.once_in(4) {
            sketch.damage(&mut random);
        }
        let what = format!("seed {seed}");
        let open = || disk_of(Box::new(Memory::new(sketch.image.clone())), &sketch);
        let Ok(disk) = open() else { continue };
        let base: Vec<Option<u8>> = sketch.base.iter().flatten().map(|byte| Some(*byte)).collect();
        let expected = read(&sketch.image, sketch.passphrase.as_deref(), &base);
        let folder = Folder::new();
        let format = if seed % 2 == 0 { TargetFormat::Raw } else { QCOW2 };
        let (done, labels) = run(&open, &folder.options(format, 0), u64::MAX);
        let summary = done.unwrap_or_else(|error| panic!("{what}: {error}"));
        let labels = label_of_each_byte(&labels);
        let found = folder.content(disk.virtual_size());
        assert_truthful(&found, &labels, &expected, &what);
        let gone = expected.iter().filter(|byte| byte.is_none()).count() as u64;
        assert_eq!(summary.totals.missing, gone, "{what}");
        let map = std::fs::read_to_string(folder.path("map")).expect("a map");
        let map = MapFile::parse(&map).unwrap_or_else(|error| panic!("{what}: {error}"));
        let bad = map.regions.iter().filter(|region| region.status == Status::Bad);
        assert_eq!(bad.map(|region| region.range.end - region.range.start).sum::<u64>(), gone);
        assert!(!folder.path("new.rescue").exists() && !folder.path("map.new").exists(), "{what}");
    }
}

/// An image of 4 MiB with plain and packed clusters in a scattered order.
fn scattered(random: &mut Random, is_encrypted: bool) -> Sketch {
    let mut builder = Builder::new(12, 9, 4 << 20).aligned(4096);
    let passphrase = is_encrypted.then(|| b"secret".to_vec());
    if let Some(passphrase) = &passphrase {
        builder = builder.encrypted(passphrase);
    }
    for number in 0..1024u64 {
        let cluster = number * 389 % 1024;
        let content = random.content(4096);
        match random.below(5) {
            0 => {}
            1 if calve_testkit::deflated(&content, 12).len() < 4000 => {
                builder.packed(cluster, &content);
            }
            _ => {
                builder.plain(cluster, &content);
            }
        }
    }
    Sketch { image: builder.build(), passphrase, base: None }
}

fn destroyed(random: &mut Random, length: u64, count: u64) -> (Vec<Range<u64>>, MapFile) {
    let mut blocks: Vec<u64> = (0..count).map(|_| 1 + random.below(length / 4096 - 1)).collect();
    blocks.sort_unstable();
    blocks.dedup();
    let mut map = MapFile::default();
    let mut reached = 0;
    let mut ranges = Vec::new();
    for block in blocks {
        let range = block * 4096..block * 4096 + 4096;
        map.push(reached..range.start, Status::Finished);
        map.push(range.clone(), Status::Bad);
        reached = range.end;
        ranges.push(range);
    }
    map.push(reached..length, Status::Finished);
    (ranges, map)
}

/// The guest bytes that depend on destroyed host bytes: those that change when anything else
/// stands there. A packed cluster is gone as a whole.
fn gone(sketch: &Sketch, ranges: &[Range<u64>], random: &mut Random) -> Vec<bool> {
    let read = |image: &[u8]| read(image, sketch.passphrase.as_deref(), &[]);
    let whole = read(&sketch.image);
    let mut gone = vec![false; whole.len()];
    for fill in 0..6 {
        let mut image = sketch.image.clone();
        for range in ranges {
            let from = usize::try_from(range.start).unwrap();
            let to = usize::try_from(range.end).unwrap().min(image.len());
            for byte in &mut image[from..to] {
                *byte = match fill {
                    0 => 0,
                    1 => !*byte,
                    _ => random.number().to_be_bytes()[0],
                };
            }
        }
        for (gone, (now, before)) in gone.iter_mut().zip(read(&image).iter().zip(&whole)) {
            *gone |= now != before;
        }
    }
    gone
}

#[test]
fn of_destroyed_blocks_exactly_the_guest_bytes_that_are_gone_are_missing() {
    for seed in seeds("CALVE_RESCUE_BLOCKS", 6) {
        let mut random = Random::new(seed ^ 0xB10C);
        let sketch = scattered(&mut random, seed % 3 == 2);
        let length = sketch.image.len() as u64;
        let (ranges, map) = destroyed(&mut random, length, 100);
        let open = || {
            let memory = Memory::new(sketch.image.clone());
            disk_of(Box::new(Marked::new(Box::new(memory), &map)), &sketch)
        };
        let folder = Folder::new();
        let format = if seed % 2 == 0 { TargetFormat::Raw } else { QCOW2 };
        let (done, labels) = run(&open, &folder.options(format, 1), u64::MAX);
        done.unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        let labels = label_of_each_byte(&labels);
        let expected = read(&sketch.image, sketch.passphrase.as_deref(), &[]);
        let found = folder.content(4 << 20);
        assert_truthful(&found, &labels, &expected, &format!("seed {seed}"));
        let gone = gone(&sketch, &ranges, &mut random);
        for cluster in 0..1024 {
            let part = cluster * 4096..cluster * 4096 + 4096;
            let truly = gone[part.clone()].iter().filter(|gone| **gone).count();
            let missing = labels[part].iter().filter(|label| **label == Label::Missing).count();
            // Noise may equal noise by chance: a byte in six times 256 does.
            let is_right = match (truly, missing) {
                (0, missing) => missing == 0,
                (_, missing) => missing == 4096,
            };
            assert!(is_right, "seed {seed}: cluster {cluster}: {truly} gone, {missing} missing");
        }
    }
}

#[test]
fn another_run_brings_what_can_be_read_by_then() {
    for (seed, format) in [(1, TargetFormat::Raw), (2, QCOW2), (3, QCOW2)] {
        let mut random = Random::new(seed);
        let sketch = scattered(&mut random, false);
        let (_, map) = destroyed(&mut random, sketch.image.len() as u64, 60);
        let folder = Folder::new();
        let damaged = || {
            let memory = Memory::new(sketch.image.clone());
            disk_of(Box::new(Marked::new(Box::new(memory), &map)), &sketch)
        };
        let (done, _) = run(&damaged, &folder.options(format, 0), u64::MAX);
        assert!(done.unwrap().totals.missing > 0, "seed {seed}");
        let whole = || disk_of(Box::new(Memory::new(sketch.image.clone())), &sketch);
        let (done, labels) = run(&whole, &folder.options(format, 1), u64::MAX);
        let summary = done.unwrap();
        assert_eq!((summary.totals.missing, summary.is_resumed), (0, true), "seed {seed}");
        let expected = read(&sketch.image, None, &[]);
        assert_truthful(&folder.content(4 << 20), &label_of_each_byte(&labels), &expected, "again");
    }
}

#[test]
fn a_run_that_was_stopped_goes_on_where_it_was() {
    for format in [TargetFormat::Raw, QCOW2] {
        let mut random = Random::new(9);
        let sketch = scattered(&mut random, false);
        let (_, map) = destroyed(&mut random, sketch.image.len() as u64, 40);
        let open = || {
            let memory = Memory::new(sketch.image.clone());
            disk_of(Box::new(Marked::new(Box::new(memory), &map)), &sketch)
        };
        let at_once = Folder::new();
        let (done, expected) = run(&open, &at_once.options(format, 0), u64::MAX);
        done.unwrap();
        for steps in 1..12 {
            let folder = Folder::new();
            let mut stops = 0;
            let labels = loop {
                let (done, labels) = run(&open, &folder.options(format, 0), steps);
                match done {
                    Ok(_) => break labels,
                    Err(Error::Stopped) => stops += 1,
                    Err(error) => panic!("{error}"),
                }
                assert!(!folder.path("new").exists(), "named before it was whole");
                assert!(stops < 200, "does not get anywhere");
            };
            let ranges = |labels: &[Labelled]| {
                labels.iter().map(|one| (one.range, one.label)).collect::<Vec<_>>()
            };
            let merged = label_of_each_byte(&labels);
            assert_eq!(merged, label_of_each_byte(&expected), "{:?}", ranges(&labels).len());
            assert_eq!(folder.content(4 << 20), at_once.content(4 << 20), "{steps} steps");
        }
    }
}

#[test]
fn whichever_read_fails_no_wrong_byte_is_good() {
    let mut random = Random::new(77);
    let sketch = scattered(&mut random, false);
    let expected = read(&sketch.image, None, &[]);
    for failing in (0..30).chain((30..2000).step_by(197)) {
        let folder = Folder::new();
        // Each opening counts anew: the medium fails at one moment of each.
        let open =
            || disk_of(Box::new(Faulty::new(Memory::new(sketch.image.clone()), failing)), &sketch);
        let (done, labels) = run(&open, &folder.options(TargetFormat::Raw, 0), u64::MAX);
        // The header and the file's size cannot be done without.
        let Ok(_) = done else {
            assert!(failing < 3, "read {failing}: {}", done.unwrap_err());
            continue;
        };
        let what = format!("read {failing}");
        assert_truthful(&folder.content(4 << 20), &label_of_each_byte(&labels), &expected, &what);
    }
}

fn refusal(folder: &Folder, format: TargetFormat) -> String {
    let sketch = scattered(&mut Random::new(3), false);
    let open = || disk_of(Box::new(Memory::new(sketch.image.clone())), &sketch);
    let (done, _) = run(&open, &folder.options(format, 0), u64::MAX);
    done.expect_err("refused").to_string()
}

fn write(path: &Path, text: &str) {
    std::fs::write(path, text).expect("a file");
}

#[test]
fn what_belongs_to_nobodys_rescue_is_left_alone() {
    let folder = Folder::new();
    write(&folder.path("new"), "precious");
    assert!(refusal(&folder, TargetFormat::Raw).contains("has no map"));
    assert_eq!(std::fs::read(folder.path("new")).unwrap(), b"precious");
    let folder = Folder::new();
    write(&folder.path("new.rescue"), "precious");
    assert!(refusal(&folder, QCOW2).contains("has no map"));
    let folder = Folder::new();
    write(&folder.path("map"), "shopping list");
    assert!(refusal(&folder, QCOW2).contains("line 1"));
    write(&folder.path("map"), "0 + 1\n0 512 +\n");
    assert!(refusal(&folder, QCOW2).contains("is not the map of a disk of"));
    write(&folder.path("map"), "0 + 1\n0 0x400000 +\n");
    assert!(refusal(&folder, QCOW2).contains("its target is gone"));
    write(&folder.path("new"), "too short");
    assert!(refusal(&folder, TargetFormat::Raw).contains("has a disk of 9 bytes"));
}
