//! Thousands of seeded layouts, whole and damaged, against the slow reference reader.
//!
//! `CALVE_MODEL_CASES` and `CALVE_SEED` make it longer and begin elsewhere.

mod common;

use calve_disk::units::GuestRange;
use calve_disk::{HostErrors, Scratch};
use calve_testkit::{Random, Sketch, read, seeds};

fn check(sketch: &Sketch, what: &str) {
    let passphrase = sketch.passphrase.as_deref();
    let disk = common::disk(sketch.image.clone(), passphrase, sketch.base.clone())
        .unwrap_or_else(|error| panic!("{what}: {error}"));
    let base: Vec<Option<u8>> = sketch.base.iter().flatten().copied().map(Some).collect();
    let expected = read(&sketch.image, passphrase, &base);
    let extents = common::extents(&disk).unwrap_or_else(|error| panic!("{what}: {error}"));
    common::assert_ordered(&disk, &extents, what);
    let found = common::content(&disk).unwrap_or_else(|error| panic!("{what}: {error}"));
    assert_eq!(found.len(), expected.len(), "{what}: the size");
    let differs = found.iter().zip(&expected).position(|(a, b)| a != b);
    if let Some(at) = differs {
        panic!("{what}: byte {at:#x} is {:?}, not {:?}", found[at], expected[at]);
    }
}

#[test]
fn any_legal_image_reads_as_the_reference_reads_it() {
    for seed in seeds("CALVE_MODEL_CASES", 1500) {
        let sketch = Sketch::legal(&mut Random::new(seed));
        check(&sketch, &format!("seed {seed}"));
    }
}

#[test]
fn any_damaged_image_loses_exactly_what_the_reference_loses() {
    for seed in seeds("CALVE_MODEL_CASES", 1500) {
        let mut random = Random::new(seed ^ 0xDA_4A_6E);
        let mut sketch = Sketch::legal(&mut random);
        // The base's name is not read here, and may well be what is damaged.
        sketch.image[8..20].fill(0);
        sketch.damage(&mut random);
        check(&sketch, &format!("seed {seed}, damaged"));
    }
}

#[test]
fn any_part_of_a_disk_reads_as_that_part_of_the_whole() {
    for seed in seeds("CALVE_MODEL_CASES", 300) {
        let mut random = Random::new(seed ^ 0x9A_27);
        let sketch = Sketch::legal(&mut random);
        let disk = common::disk(sketch.image, sketch.passphrase.as_deref(), sketch.base)
            .unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        let whole = common::content(&disk).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        let mut scratch = Scratch::default();
        for _ in 0..20 {
            let start = random.below(disk.virtual_size());
            let length = 1 + random.below(disk.virtual_size() - start);
            let range = GuestRange::at(start, length);
            let extents: Vec<_> =
                disk.extents(range).map(|extent| extent.expect("memory")).collect();
            let mut bytes = vec![0xEE; usize::try_from(length).expect("small")];
            disk.read(&extents, HostErrors::Fail, &mut scratch, &mut bytes, &mut |_| {})
                .unwrap_or_else(|error| panic!("seed {seed}: {error}"));
            let from = usize::try_from(start).expect("small");
            for (number, (byte, expected)) in bytes.iter().zip(&whole[from..]).enumerate() {
                assert_eq!(Some(*byte), *expected, "seed {seed}, {range:?}, byte {number}");
            }
        }
    }
}
