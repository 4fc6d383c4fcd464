//! Seeded layouts through every kind of conversion: the right bytes, the same file whatever the
//! number of threads, and nothing that a base had is lost.

mod common;

use std::num::NonZeroUsize;
use std::sync::atomic::AtomicBool;

use calve_convert::{
    Base, CompareOptions, Comparison, Control, Filled, Options, Qcow2Options, Salvage,
    TargetFormat, compare,
};
use calve_disk::formats::raw::RawImage;
use calve_disk::units::{ClusterSize, SECTOR};
use calve_disk::{Disk, Format, Layer, OpenOptions};
use calve_testkit::{Memory, Random, Sketch, qemu, seeds};

fn format(random: &mut Random) -> TargetFormat {
    match random.below(4) {
        0 => TargetFormat::Raw,
        1 => common::qcow2(9 + u8::try_from(random.below(8)).expect("small"), true),
        _ => common::qcow2(random.one_of(&[9, 12, 16, 16, 21]), false),
    }
}

fn open(path: &std::path::Path, format: &TargetFormat) -> Disk {
    let format = match format {
        TargetFormat::Raw => Format::Raw,
        TargetFormat::Qcow2(_) => Format::Qcow2,
    };
    let options = OpenOptions {
        format: Some(format),
        with_bases: true,
        // A child that another test starts holds copies of this one's locks until it runs.
        force_share: true,
        ..OpenOptions::default()
    };
    Disk::open(path, &options).expect("opens")
}

#[test]
fn any_layout_in_any_format_by_any_number_of_threads() {
    let folder = tempfile::tempdir().expect("a folder");
    for seed in seeds("CALVE_MODEL_CASES", 150) {
        let mut random = Random::new(seed ^ 0xC0_4E);
        let sketch = Sketch::legal(&mut random);
        let kind = random.clone();
        let sparse_size = random.one_of(&[0, 512, 4096, 4096, 65536]);
        let verify = random.once_in(2);
        let mut files = Vec::new();
        for threads in [1, 2, 5] {
            let target = folder.path().join(format!("{seed}.{threads}"));
            let mut options = common::options(format(&mut kind.clone()), threads);
            (options.sparse_size, options.verify) = (sparse_size, verify);
            let summary = common::convert(vec![common::disk(&sketch)], &target, &options)
                .unwrap_or_else(|error| panic!("seed {seed}: {error}"));
            let file = std::fs::read(&target).expect("a file");
            assert_eq!(summary.file_size, file.len() as u64, "seed {seed}");
            files.push(file);
            let disk = open(&target, &options.format);
            check(&disk, &sketch, &options.format, seed);
            if threads == 1 && seed % 10 == 0 && !matches!(options.format, TargetFormat::Raw) {
                clean(folder.path(), &format!("{seed}.{threads}"));
            }
            std::fs::remove_file(&target).expect("a file");
        }
        assert!(files[0] == files[1] && files[0] == files[2], "seed {seed}: threads show");
    }
}

fn check(disk: &Disk, sketch: &Sketch, format: &TargetFormat, seed: u64) {
    let mut expected: Vec<u8> = common::expected(sketch).into_iter().map(Option::unwrap).collect();
    if !matches!(format, TargetFormat::Raw) {
        let size = (expected.len() as u64).next_multiple_of(SECTOR);
        expected.resize(usize::try_from(size).expect("small"), 0);
    }
    let found = common::bytes(disk);
    let differs = found.iter().zip(&expected).position(|(a, b)| a != b);
    assert_eq!((differs, found.len()), (None, expected.len()), "seed {seed}: other bytes");
}

fn clean(folder: &std::path::Path, name: &str) {
    if qemu::has("qemu-img") {
        qemu::assert_clean(folder, name);
    }
}

#[test]
fn several_sources_stand_one_behind_the_other_on_whole_sectors() {
    let folder = tempfile::tempdir().expect("a folder");
    for seed in seeds("CALVE_MODEL_CASES", 40) {
        let mut random = Random::new(seed ^ 0x5E_7E);
        let sketches = [Sketch::legal(&mut random), Sketch::legal(&mut random)];
        let target = folder.path().join(seed.to_string());
        let mut options = common::options(format(&mut random), 2);
        options.verify = true;
        let sources = sketches.iter().map(common::disk).collect();
        common::convert(sources, &target, &options).unwrap_or_else(|e| panic!("seed {seed}: {e}"));
        let mut expected = Vec::new();
        for sketch in &sketches {
            expected.extend(common::expected(sketch).into_iter().map(Option::unwrap));
            let size = (expected.len() as u64).next_multiple_of(SECTOR);
            expected.resize(usize::try_from(size).expect("small"), 0);
        }
        assert!(common::bytes(&open(&target, &options.format)) == expected, "seed {seed}");
    }
}

/// What a result over a base reads, whatever is left to the base.
#[test]
fn a_thin_overlay_reads_as_its_source_and_keeps_its_zeros() {
    let folder = tempfile::tempdir().expect("a folder");
    for seed in seeds("CALVE_MODEL_CASES", 120) {
        let mut random = Random::new(seed ^ 0x0E_41);
        let sketch = Sketch::legal(&mut random);
        // The base that was behind the source, or one that has nothing to do with it.
        let base = match &sketch.base {
            Some(base) if random.once_in(2) => base.clone(),
            _ => {
                let length = 1 + random.below(300_000);
                random.content(length)
            }
        };
        std::fs::write(folder.path().join("base.raw"), &base).expect("a file");
        let image = RawImage::open(Box::new(Memory::new(base))).expect("memory");
        let format = TargetFormat::Qcow2(Qcow2Options {
            cluster_size: ClusterSize::from_bits(random.one_of(&[9, 12, 16])).expect("in range"),
            compress: random.once_in(3),
            base: Some(Base {
                name: b"base.raw".to_vec(),
                format: "raw".into(),
                disk: Disk::of_layers(vec![Layer::detached(Box::new(image))]),
                layer: None,
            }),
        });
        let options = common::options(format, 2);
        let target = folder.path().join(format!("{seed}.qcow2"));
        common::convert(vec![common::disk(&sketch)], &target, &options)
            .unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        check(&open(&target, &options.format), &sketch, &options.format, seed);
        if seed % 10 == 0 {
            clean(folder.path(), &format!("{seed}.qcow2"));
        }
    }
}

#[test]
fn damage_is_refused_or_recorded_to_the_byte() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut damaged = 0;
    for seed in seeds("CALVE_MODEL_CASES", 200) {
        let mut random = Random::new(seed ^ 0xDA_4A);
        let mut sketch = Sketch::legal(&mut random);
        sketch.image[8..20].fill(0);
        sketch.damage(&mut random);
        let expected = common::expected(&sketch);
        let is_damaged = expected.contains(&None);
        damaged += u64::from(is_damaged);
        let target = folder.path().join(seed.to_string());
        let mut options = common::options(TargetFormat::Raw, 2);
        let refused = common::convert(vec![common::disk(&sketch)], &target, &options);
        assert_eq!(refused.is_err(), is_damaged, "seed {seed}");
        if is_damaged {
            assert!(!target.exists(), "seed {seed}: a damaged disk left a target");
        } else {
            std::fs::remove_file(&target).expect("a file");
        }
        options.salvage = random.one_of(&[Salvage::FromBase, Salvage::Zeros]);
        salvaged(&sketch, &expected, &target, &options, seed);
    }
    assert!(damaged > 20, "the damage is too mild to prove anything");
    let left = std::fs::read_dir(folder.path()).expect("a folder").count();
    assert_eq!(left, 0, "something was left behind");
}

fn salvaged(
    sketch: &Sketch,
    expected: &[Option<u8>],
    target: &std::path::Path,
    options: &Options,
    seed: u64,
) {
    let summary = common::convert(vec![common::disk(sketch)], target, options)
        .unwrap_or_else(|error| panic!("seed {seed}: {error}"));
    let found = std::fs::read(target).expect("a file");
    let mut from_base = vec![None; expected.len()];
    for loss in &summary.losses {
        let [start, end] = [loss.range.start, loss.range.end()]
            .map(|at| usize::try_from(at.get()).expect("small"));
        from_base[start..end].fill(Some(loss.filled));
    }
    for (at, ((byte, expected), filled)) in found.iter().zip(expected).zip(from_base).enumerate() {
        let base = sketch.base.as_ref().and_then(|base| base.get(at)).copied().unwrap_or(0);
        let right = match (expected, filled) {
            (Some(byte), None) => *byte,
            (None, Some(Filled::Zeros)) => 0,
            (None, Some(Filled::Base)) => base,
            other => panic!("seed {seed}, byte {at}: {other:?}"),
        };
        assert_eq!(*byte, right, "seed {seed}, byte {at}");
    }
    std::fs::remove_file(target).expect("a file");
}

#[test]
fn comparing_finds_the_first_sector_that_differs() {
    let stop = AtomicBool::new(false);
    let control = Control { stop: &stop, progress: &|_| {} };
    for seed in seeds("CALVE_MODEL_CASES", 150) {
        let mut random = Random::new(seed ^ 0xC0_3A);
        let sketch = Sketch::legal(&mut random);
        let mut bytes: Vec<u8> =
            common::expected(&sketch).into_iter().map(Option::unwrap).collect();
        if random.once_in(3) {
            // What one has behind the other's end may be zeros.
            let more = usize::try_from(random.below(100_000)).expect("small");
            bytes.resize(bytes.len() + more, 0);
        }
        let mut first = None;
        for _ in 0..random.below(4) {
            let at = usize::try_from(random.below(bytes.len() as u64)).expect("small");
            bytes[at] ^= 0x10;
            let sector = at as u64 / SECTOR * SECTOR;
            // The same byte twice would be as it was.
            first = Some(first.map_or(sector, |before: u64| before.min(sector)));
            if random.once_in(2) {
                break;
            }
        }
        let raw = RawImage::open(Box::new(Memory::new(bytes))).expect("memory");
        let raw = Disk::of_layers(vec![Layer::detached(Box::new(raw))]);
        let threads = NonZeroUsize::new(1 + usize::try_from(random.below(4)).expect("small"));
        let options = CompareOptions { strict: false, threads: threads.expect("not zero") };
        let found = compare(common::disk(&sketch), raw, options, &control).expect("memory");
        let expected = first.map_or(Comparison::Identical, |at| Comparison::BytesDiffer {
            at: calve_disk::units::GuestOffset::new(at),
        });
        assert_eq!(found, expected, "seed {seed}");
    }
}
