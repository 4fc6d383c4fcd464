//! Flipped bits in headers and tables: whatever they say, nothing panics, walks end, and all of
//! the disk is accounted for. `CALVE_MUTATION_SECONDS` makes it longer, `CALVE_MUTATION_SEED`
//! begins elsewhere, or `CALVE_SEED` as for all seeded tests.

mod common;

use std::panic::catch_unwind;
use std::time::{Duration, Instant};

use calve_disk::units::{ClusterSize, GuestRange};
use calve_disk::{Disk, Error, Payload};
use calve_testkit::{Memory, Random, Sketch};
use common::Fate;

/// Disks up to this size are read, not only walked.
const READ_UP_TO: u64 = 4 << 20;

/// Extents after which a walk has shown enough.
const EXTENTS: usize = 20_000;

fn exercise(disk: &Disk, what: &str) {
    let mut reached = 0;
    for extent in disk.extents(disk.range()).take(EXTENTS) {
        let extent = extent.unwrap_or_else(|error| panic!("{what}: {error}"));
        assert_eq!(extent.range.start.get(), reached, "{what}: a gap or an overlap");
        reached = extent.range.end().get();
        if let Payload::Stored(stored) = extent.payload {
            let size = disk.layers()[stored.layer].image.data_storage().size().expect("memory");
            assert!(stored.at.get() + stored.length <= size, "{what}: promises what is not there");
        }
    }
    if disk.virtual_size() <= READ_UP_TO {
        assert_eq!(reached, disk.virtual_size(), "{what}");
        // A missing key or base is an error; what the file got wrong is not.
        match common::content(disk) {
            Ok(_) | Err(Error::Base { .. } | Error::Key { .. }) => {}
            Err(error) => panic!("{what}: {error}"),
        }
        disk.top().survey(&mut |_| {}).unwrap_or_else(|error| panic!("{what}: {error}"));
    } else {
        let end = disk.virtual_size();
        let last = disk.extents(GuestRange::at(end - 512, 512));
        assert!(last.into_iter().all(|extent| extent.is_ok()), "{what}");
    }
}

fn mutate(image: &mut [u8], random: &mut Random) {
    for _ in 0..=random.below(6) {
        let length = image.len() as u64;
        // Headers first, then whatever is in front, where tables are.
        let area = random.one_of(&[48, 112, 4096, length]).min(length).max(1);
        let at = usize::try_from(random.below(area)).expect("small");
        image[at] = match random.below(4) {
            0 => 0xFF,
            1 => 0,
            2 => image[at] ^ 1 << random.below(8),
            _ => random.number().to_be_bytes()[0],
        };
    }
    // The magic and the version are told apart by tests of their own.
    let version = if image[7] == 1 { 1 } else { 3 };
    image[..8].copy_from_slice(&[b'Q', b'F', b'I', 0xFB, 0, 0, 0, version]);
}

fn qcow2_sketch(random: &mut Random) -> Vec<u8> {
    let cluster_size = ClusterSize::from_bits(9 + u8::try_from(random.below(5)).expect("small"));
    let cluster_size = cluster_size.expect("in range");
    let clusters = 1 + random.below(60);
    let content = random.content(clusters * cluster_size.bytes());
    let fates = [Fate::Absent, Fate::Zero, Fate::Plain, Fate::Packed];
    let fates: Vec<Fate> = (0..clusters).map(|_| random.one_of(&fates)).collect();
    let memory = Memory::new(Vec::new());
    common::write_qcow2(&memory, &content, cluster_size, &fates).expect("memory");
    memory.content()
}

#[test]
fn no_byte_of_a_file_makes_a_reader_panic() {
    let number = |name: &str| std::env::var(name).ok()?.parse::<u64>().ok();
    let seconds = number("CALVE_MUTATION_SECONDS").unwrap_or(3);
    let first = number("CALVE_MUTATION_SEED").or_else(|| number("CALVE_SEED")).unwrap_or(0);
    let end = Instant::now() + Duration::from_secs(seconds);
    for seed in (first..).take_while(|_| Instant::now() < end) {
        // What panics in a reader does not say on which file.
        let done = catch_unwind(|| one(seed));
        assert!(done.is_ok(), "CALVE_MUTATION_SEED={seed} begins with it");
    }
}

/// Reads one file, of which some bytes are not what was written.
fn one(seed: u64) {
    let mut random = Random::new(seed ^ 0x30_7A);
    let what = format!("seed {seed}");
    if seed.is_multiple_of(3) {
        let mut image = qcow2_sketch(&mut random);
        mutate(&mut image, &mut random);
        image[7] = 3;
        if let Ok(disk) = common::qcow2(Box::new(Memory::new(image))) {
            exercise(&disk, &what);
        }
    } else {
        let Sketch { mut image, passphrase, base } = Sketch::legal(&mut random);
        mutate(&mut image, &mut random);
        image[7] = 1;
        if let Ok(disk) = common::disk(image, passphrase.as_deref(), base) {
            exercise(&disk, &what);
        }
    }
}
