//! What is written reads back, is clean to stock QEMU, and is no image before its last write.

mod common;

use calve_disk::Error;
use calve_disk::units::ClusterSize;
use calve_testkit::{Access, Memory, Random, Recorder, Recording, qemu, seeds};
use common::Fate;

struct Written {
    storage: Memory,
    expected: Vec<Option<u8>>,
    recorder: Recorder,
}

fn written(seed: u64) -> Written {
    let mut random = Random::new(seed ^ 0x7A_26);
    let bits = 9 + u8::try_from(random.below(8)).expect("small");
    let cluster_size = ClusterSize::from_bits(bits).expect("in range");
    let clusters = 1 + random.below((1 << 20 >> bits).min(500));
    let size = (clusters * cluster_size.bytes() - random.below(cluster_size.bytes())) / 512 * 512;
    let content = random.content(size.max(512));
    let kinds = [Fate::Absent, Fate::Zero, Fate::Plain, Fate::Plain, Fate::Packed, Fate::Packed];
    let fates: Vec<Fate> =
        (0..cluster_size.count(content.len() as u64)).map(|_| random.one_of(&kinds)).collect();
    let (storage, recorder) = (Memory::new(Vec::new()), Recorder::default());
    let recording = Recording::new(storage.clone(), &recorder);
    common::write_qcow2(&recording, &content, cluster_size, &fates).expect("memory");
    let cluster = usize::try_from(cluster_size.bytes()).expect("small");
    let expected = content.chunks(cluster).zip(&fates).flat_map(|(bytes, fate)| {
        let is_stored = matches!(fate, Fate::Plain | Fate::Packed);
        bytes.iter().map(move |byte| Some(if is_stored { *byte } else { 0 }))
    });
    Written { expected: expected.collect(), storage, recorder }
}

#[test]
fn what_is_written_reads_back() {
    for seed in seeds("CALVE_MODEL_CASES", 300) {
        let Written { storage, expected, .. } = written(seed);
        let disk = common::qcow2(Box::new(storage)).unwrap_or_else(|e| panic!("seed {seed}: {e}"));
        let extents = common::extents(&disk).expect("memory");
        common::assert_ordered(&disk, &extents, &format!("seed {seed}"));
        assert!(common::content(&disk).expect("memory") == expected, "seed {seed}");
    }
}

#[test]
fn stock_qemu_finds_nothing_wrong_and_reads_the_same() {
    if !qemu::has("qemu-img") {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    for seed in seeds("CALVE_MODEL_CASES", 25) {
        let Written { storage, expected, .. } = written(seed);
        std::fs::write(folder.path().join("t.qcow2"), storage.content()).expect("a file");
        qemu::assert_clean(folder.path(), "t.qcow2");
        let found = qemu::content(folder.path(), &["-f", "qcow2"], "t.qcow2");
        let found: Vec<Option<u8>> = found.into_iter().map(Some).collect();
        assert!(found == expected, "seed {seed}");
    }
}

#[test]
fn no_prefix_of_the_writes_is_an_image() {
    for seed in seeds("CALVE_MODEL_CASES", 60) {
        let accesses = written(seed).recorder.accesses();
        let header = accesses.iter().rposition(|access| matches!(access, Access::Write { .. }));
        let header = header.expect("a header is written");
        assert!(
            matches!(accesses[header], Access::Write { at: 0, .. }),
            "seed {seed}: the header comes last"
        );
        assert_eq!(accesses[header - 1], Access::Sync, "seed {seed}: and after a sync");
        let is_header = |access: &Access| matches!(access, Access::Write { at: 0, .. });
        let headers = accesses.iter().filter(|access| is_header(access)).count();
        assert_eq!(headers, 1, "seed {seed}: nothing before it makes the file an image");
        let mut file = Vec::new();
        for access in &accesses[..header] {
            replay(access, &mut file);
        }
        let opened = common::qcow2(Box::new(Memory::new(file)));
        assert!(matches!(opened.err(), Some(Error::NotThisFormat { .. })), "seed {seed}");
    }
}

fn replay(access: &Access, file: &mut Vec<u8>) {
    match access {
        Access::Write { at, bytes } => {
            let at = usize::try_from(*at).expect("small");
            file.resize(file.len().max(at + bytes.len()), 0);
            file[at..at + bytes.len()].copy_from_slice(bytes);
        }
        Access::SetSize(size) => file.resize(usize::try_from(*size).expect("small"), 0),
        Access::Read { .. } | Access::Taken { .. } | Access::Sync | Access::Noted(_) => {}
    }
}

#[test]
fn no_byte_is_written_twice_and_none_behind_the_end() {
    for seed in seeds("CALVE_MODEL_CASES", 60) {
        let Written { storage, recorder, .. } = written(seed);
        let size = storage.content().len();
        let mut is_written = vec![false; size];
        for access in recorder.accesses() {
            if let Access::Write { at, bytes } = access {
                let at = usize::try_from(at).expect("small");
                let part = &mut is_written[at..at + bytes.len()];
                assert!(!part.contains(&true), "seed {seed}: written twice at {at:#x}");
                part.fill(true);
            }
        }
    }
}

#[test]
fn golden_a_small_image_is_written_front_to_back_and_then_the_header() {
    let cluster_size = ClusterSize::from_bits(12).expect("in range");
    let content = Random::new(9).content(4 << 12);
    let (storage, recorder) = (Memory::new(Vec::new()), Recorder::default());
    let recording = Recording::new(storage, &recorder);
    let fates = [Fate::Plain, Fate::Absent, Fate::Zero, Fate::Plain];
    common::write_qcow2(&recording, &content, cluster_size, &fates).expect("memory");
    let trace: Vec<(u64, usize)> = recorder
        .accesses()
        .into_iter()
        .map(|access| match access {
            Access::Write { at, bytes } => (at, bytes.len()),
            Access::SetSize(size) => (size, 0),
            Access::Sync => (0, 0),
            other => panic!("a target is only written: {other:?}"),
        })
        .collect();
    let data = [(0x2000, 0x1000), (0x3000, 0x1000)];
    let l2_l1_refcounts = [(0x4000, 0x1000), (0x5000, 0x1000), (0x1000, 0x1000), (0x6000, 0x1000)];
    let end = [(0x7000, 0), (0, 0), (0, 0x1000), (0, 0)];
    assert_eq!(trace, [&data[..], &l2_l1_refcounts, &end].concat());
}
