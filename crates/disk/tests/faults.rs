//! The host fails: at every step in turn, an error or the right bytes, never wrong ones.

mod common;

use calve_disk::{Extent, Found, HostErrors, Payload, Rule, Scratch};
use calve_testkit::{Access, Builder, Faulty, Memory, Random, Recorder, Recording, Sketch, seeds};

#[test]
fn every_access_that_fails_is_an_error_or_does_no_harm() {
    for seed in seeds("CALVE_MODEL_CASES", 40) {
        let sketch = Sketch::legal(&mut Random::new(seed));
        let passphrase = sketch.passphrase.as_deref();
        let whole = common::disk(sketch.image.clone(), passphrase, sketch.base.clone());
        let expected = common::content(&whole.expect("opens")).expect("memory");
        for failing in 0.. {
            let storage = Faulty::new(Memory::new(sketch.image.clone()), failing);
            let read = common::over(Box::new(storage.clone()), passphrase, sketch.base.clone())
                .and_then(|disk| common::content(&disk));
            if !storage.has_failed() {
                break;
            }
            if let Ok(content) = read {
                assert!(content == expected, "seed {seed}, access {failing}");
            }
        }
    }
}

#[test]
fn bytes_that_the_host_cannot_read_are_lost_by_the_sector_and_named() {
    for seed in seeds("CALVE_MODEL_CASES", 40) {
        let sketch = Sketch::legal(&mut Random::new(seed));
        let passphrase = sketch.passphrase.as_deref();
        let whole = common::disk(sketch.image.clone(), passphrase, sketch.base.clone());
        let expected = common::content(&whole.expect("opens")).expect("memory");
        for failing in 0.. {
            let storage = Faulty::new(Memory::new(sketch.image.clone()), failing);
            let opened = common::over(Box::new(storage.clone()), passphrase, sketch.base.clone());
            let extents = opened.and_then(|disk| Ok((common::extents(&disk)?, disk)));
            let Ok((extents, disk)) = extents else { continue };
            let mut bytes = vec![0; expected.len()];
            let mut lost: Vec<Extent> = Vec::new();
            let mut scratch = Scratch::default();
            disk.read(&extents, HostErrors::Lose, &mut scratch, &mut bytes, &mut |found| {
                if let Found::Lost(extent) = found {
                    lost.push(extent);
                }
            })
            .unwrap_or_else(|error| panic!("seed {seed}, access {failing}: {error}"));
            for extent in &lost {
                let Payload::Lost(lost) = extent.payload else { panic!("{extent:?}") };
                assert_eq!(lost.rule, Rule::Unreadable);
            }
            let is_lost = |at: u64| {
                lost.iter()
                    .any(|extent| extent.range.start.get() <= at && at < extent.range.end().get())
            };
            for ((at, byte), expected) in (0..).zip(&bytes).zip(&expected) {
                let right = if is_lost(at) { Some(0) } else { *expected };
                assert_eq!(Some(*byte), right, "seed {seed}, access {failing}, byte {at}");
            }
            if !storage.has_failed() {
                break;
            }
        }
    }
}

fn reads(builder: Builder, read: impl FnOnce(&calve_disk::Disk)) -> Vec<(u64, u64)> {
    let recorder = Recorder::default();
    let storage = Recording::new(Memory::new(builder.build()), &recorder);
    let disk = common::over(Box::new(storage), None, None).expect("opens");
    read(&disk);
    let read = |access| match access {
        Access::Read { at, length } => (at, length),
        other => panic!("a reader does nothing but read: {other:?}"),
    };
    recorder.accesses().into_iter().map(read).collect()
}

#[test]
fn golden_opening_reads_the_header_and_one_piece_of_the_l1_table() {
    let trace = reads(Builder::new(12, 9, 8 << 20), |_| {});
    assert_eq!(trace, [(0, 64), (48, 32)]);
}

#[test]
fn golden_a_run_of_clusters_is_one_read_and_neighbours_share_one() {
    let mut builder = Builder::new(9, 12, 1 << 20);
    builder.table_of(0);
    let table = builder.table_of(0);
    let first = builder.plain(0, &[1; 512]);
    for cluster in 1..200 {
        builder.plain(cluster, &[1; 512]);
    }
    // Behind a hole on the disk, but not in the file.
    for cluster in 300..304 {
        builder.plain(cluster, &[2; 512]);
    }
    let trace = reads(builder, |disk| drop(common::content(disk).expect("memory")));
    let tables = [(0, 64), (48, 8), (48, 8), (table, 8 << 12)];
    assert_eq!(trace[..4], tables);
    assert_eq!(trace[4..], [(first, 200 * 512), (first + 200 * 512, 4 * 512)]);
}

#[test]
fn golden_packed_clusters_that_lie_together_are_read_together() {
    let mut builder = Builder::new(12, 9, 1 << 20);
    builder.table_of(0);
    let (start, _) = builder.packed(0, &[1; 4096]);
    for cluster in 1..50 {
        builder.packed(cluster, &[3; 4096]);
    }
    let end = builder.length();
    let trace = reads(builder, |disk| drop(common::content(disk).expect("memory")));
    assert_eq!(trace.last(), Some(&(start, end - start)));
}
