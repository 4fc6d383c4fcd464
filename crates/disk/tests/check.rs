//! Checking: each rule that only a check looks for, who claims which bytes, and what it costs.

mod common;

use std::io;
use std::num::NonZeroUsize;
use std::ops::Range;
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use calve_disk::formats::qcow1::Qcow1Image;
use calve_disk::formats::raw::RawImage;
use calve_disk::units::HostOffset;
use calve_disk::{
    CheckOptions, Checked, Claim, Disk, Finding, HostErrors, Layer, OpenOptions, Owner, Rule,
    Storage,
};
use calve_testkit::{Builder, Memory, Random, Sketch, XenOrder, deflated, seeds};

/// Checks the top layer: all findings, in the order in which they were told.
fn check(disk: &Disk, is_deep: bool) -> (Vec<Finding>, Checked) {
    let stop = AtomicBool::new(false);
    let threads = NonZeroUsize::new(2).expect("two");
    let options = CheckOptions { is_deep, threads, stop: &stop, progress: &|_, _| {} };
    let mut findings = Vec::new();
    let checked = disk.check(0, &options, &mut |finding| findings.push(finding));
    (findings, checked.expect("memory"))
}

fn open(builder: Builder) -> Disk {
    common::disk(builder.build(), None, None).unwrap_or_else(|error| panic!("{error}"))
}

/// The findings of a deep check without those of leaks.
fn odd(builder: Builder) -> Vec<Finding> {
    let (findings, _) = check(&open(builder), true);
    findings.into_iter().filter(|finding| finding.rule != Rule::Leak).collect()
}

/// Asserts that there is one finding, by its rule, place, guest start and length, and value.
fn assert_only(builder: Builder, rule: Rule, at: u64, guest: Option<(u64, u64)>, value: u64) {
    let findings = odd(builder);
    let [finding] = findings[..] else { panic!("{findings:?}") };
    assert_eq!((finding.rule, finding.at), (rule, Some(HostOffset::new(at))), "{finding}");
    let found = finding.guest.map(|guest| (guest.start.get(), guest.length));
    assert_eq!(found, guest, "{finding}");
    assert_eq!(finding.value.unwrap_or_default(), value, "{finding}");
}

/// A disk of 64 KiB with four clusters of noise.
fn four_clusters() -> Builder {
    let mut builder = Builder::new(12, 9, 64 << 10);
    for cluster in 0..4 {
        builder.plain(cluster, &noise(cluster, 4096));
    }
    builder
}

fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut random = Random::new(seed);
    let mut bytes = Vec::new();
    while bytes.len() < length {
        bytes.extend_from_slice(&random.number().to_be_bytes());
    }
    bytes.truncate(length);
    bytes
}

#[test]
fn a_healthy_image_is_clean_and_all_of_it_was_looked_at() {
    let mut builder = four_clusters();
    builder.packed(4, &[7; 4096]);
    let (findings, checked) = check(&open(builder), true);
    assert_eq!(findings, []);
    assert_eq!((checked.unpacked, checked.probed, checked.survey.allocated), (1, 4, 5));
}

#[test]
fn q30_a_packed_cluster_on_a_table_is_told() {
    let mut builder = four_clusters();
    let table = builder.table_of(0);
    // Its last bytes reach into the table, which is where it ends.
    let entry = builder.packed_entry(table + 64, 40);
    builder.entry(9, entry);
    let findings = odd(builder);
    let on_table: Vec<_> =
        findings.iter().filter(|finding| finding.rule == Rule::PackedOnTable).collect();
    let [finding] = on_table[..] else { panic!("{findings:?}") };
    assert_eq!((finding.at, finding.value), (Some(HostOffset::new(table + 64)), Some(40)));
    assert_eq!(finding.guest.map(|guest| guest.start.get()), Some(9 * 4096));
    assert!(findings.iter().any(|finding| finding.rule == Rule::PackedBroken));
}

#[test]
fn q31_a_name_on_other_bytes_is_told() {
    let mut builder = Builder::new(12, 9, 64 << 10).backing(b"base.raw");
    builder.plain(0, &noise(0, 4096));
    let table = builder.table_of(0);
    builder.patch(8, &(table - 4).to_be_bytes());
    builder.patch(table - 4, b"base");
    let (findings, _) = check(&open(builder), true);
    let shared: Vec<_> =
        findings.iter().filter(|finding| finding.rule == Rule::NameShared).collect();
    let [finding] = shared[..] else { panic!("{findings:?}") };
    assert_eq!((finding.at, finding.value), (Some(HostOffset::new(table)), Some(4)));
}

#[test]
fn q32_two_tables_that_overlap_in_part_are_told() {
    let mut builder = Builder::new(12, 9, 8 << 20);
    let table = builder.table_of(0);
    builder.cut(table + 16384);
    builder.table_at(1, table + 512);
    builder.plain_at(0, &noise(0, 4096), table + 8192);
    let covered = Some((2 << 20, 2 << 20));
    assert_only(builder, Rule::L2Overlap, table + 512, covered, 3584);
}

#[test]
fn q33_an_entry_behind_the_end_of_the_disk_is_told_and_costs_nothing() {
    let mut builder = Builder::new(12, 9, 6 << 10);
    builder.plain(0, &noise(0, 4096));
    let at = builder.plain(1, &noise(1, 4096));
    let entry_at = builder.entry(5, at);
    let findings = odd(builder);
    let [finding] = findings[..] else { panic!("{findings:?}") };
    assert_eq!(finding.rule, Rule::EntryBehindDisk);
    assert_eq!(finding.at, Some(HostOffset::new(entry_at)));
}

#[test]
fn q34_only_a_wrong_checksum_of_xens_is_told() {
    use md5::{Digest, Md5};
    for order in [XenOrder::Big, XenOrder::Little] {
        let mut builder = Builder::new(12, 9, 64 << 10).xen(order);
        builder.plain(0, &noise(0, 4096));
        let table = builder.clone().build()[4096..4104].to_vec();
        let digest = Md5::digest(&table);
        builder.patch(52, &digest[..4]);
        assert!(odd(builder.clone()).iter().all(|finding| finding.rule != Rule::XenChecksum));
        builder.patch(52, &[digest[0] ^ 1]);
        let findings = odd(builder);
        let told = findings.iter().find(|finding| finding.rule == Rule::XenChecksum);
        assert_eq!(told.and_then(|finding| finding.at), Some(HostOffset::new(52)), "{order:?}");
    }
}

#[test]
fn q35_a_base_that_changed_since_is_told() {
    let folder = tempfile::tempdir().expect("a folder");
    let (base, top) = (folder.path().join("base.raw"), folder.path().join("top"));
    std::fs::write(&base, noise(3, 64 << 10)).expect("a file");
    let modified = |seconds: u64| {
        let file = std::fs::File::options().write(true).open(&base).expect("a file");
        file.set_modified(std::time::UNIX_EPOCH + Duration::from_secs(seconds)).expect("a time");
    };
    // The layout of QEMU 0.6.1 to 0.8.2, which recorded the time.
    let mut builder = Builder::new(9, 12, 64 << 10).backing(b"base.raw");
    builder.patch(20, &1_100_000_000u32.to_be_bytes());
    builder.plain(3, &noise(4, 512));
    std::fs::write(&top, builder.build()).expect("a file");
    for (seconds, is_told) in [(1_100_000_000, false), (1_100_000_001, true)] {
        modified(seconds);
        let options = OpenOptions { with_bases: true, ..OpenOptions::default() };
        let disk = Disk::open(&top, &options).expect("opens");
        let (findings, _) = check(&disk, false);
        let told = findings.iter().find(|finding| finding.rule == Rule::BaseChanged);
        assert_eq!(told.and_then(|finding| finding.value), is_told.then_some(seconds));
    }
}

#[test]
fn q36_a_base_of_another_length_is_told() {
    for (length, is_told) in [(64 << 10, false), (60 << 10, true)] {
        let mut builder = Builder::new(12, 9, 64 << 10).backing(b"base.raw");
        builder.plain(0, &noise(0, 4096));
        let disk = common::disk(builder.build(), None, Some(noise(1, length))).expect("it opens");
        let (findings, _) = check(&disk, false);
        let told = findings.iter().find(|finding| finding.rule == Rule::BaseSize);
        assert_eq!(told.and_then(|finding| finding.value), is_told.then_some(length as u64));
    }
}

#[test]
fn q37_a_packed_stream_without_its_flag_is_told() {
    let stream = deflated(&Random::new(9).number().to_be_bytes().repeat(512), 12);
    let mut builder = four_clusters();
    let at = builder.plain(4, &stream);
    let length = stream.len() as u64;
    assert_only(builder, Rule::PackedUnmarked, at, Some((4 * 4096, 4096)), length);
}

#[test]
fn q38_entries_that_virtualbox_overwrites_are_told_where_the_room_is_there() {
    let healthy = || {
        let mut builder = Builder::new(12, 9, 1 << 20).aligned(4096);
        for cluster in 0..20 {
            builder.plain(cluster, &noise(cluster, 4096));
        }
        builder
    };
    assert_eq!(odd(healthy()), []);
    let mut builder = healthy();
    for cluster in 0..6 {
        builder.entry(cluster, 0);
    }
    assert_only(builder, Rule::ZeroedEntries, 4096, Some((0, 6 * 4096)), 0);
    // A disk of which these clusters were never written is none of it.
    let mut builder = Builder::new(12, 9, 1 << 20).aligned(4096);
    for cluster in 6..20 {
        builder.plain(cluster, &noise(cluster, 4096));
    }
    assert_eq!(odd(builder), []);
}

#[test]
fn q39_sectors_that_were_never_written_show_in_an_encrypted_image() {
    let mut builder = Builder::new(12, 9, 64 << 10).encrypted(b"key");
    builder.plain(0, &noise(0, 4096));
    let at = builder.plain(1, &noise(1, 4096));
    builder.patch(at + 1024, &[0; 1024]);
    assert_only(builder, Rule::NeverWritten, at + 1024, Some((4096 + 1024, 1024)), 0);
}

#[test]
fn a_packed_cluster_that_reaches_into_its_neighbour_is_told_to_the_byte() {
    let mut builder = Builder::new(12, 9, 64 << 10);
    let (first, length) = builder.packed(0, &Random::new(1).content(4096));
    let (second, _) = builder.packed(1, &Random::new(3).content(4096));
    assert_eq!(first + length, second, "back to back");
    let entry = builder.packed_entry(first, length + 3);
    builder.entry(0, entry);
    let findings = odd(builder);
    let [finding] = findings[..] else { panic!("{findings:?}") };
    assert_eq!((finding.rule, finding.value), (Rule::ClusterShared, Some(3)));
    assert_eq!(finding.at, Some(HostOffset::new(second)));
    assert_eq!(finding.guest.map(|guest| guest.start.get()), Some(4096));
    assert_eq!(finding.other.map(|other| other.get()), Some(0));
}

#[test]
fn a_broken_packed_cluster_is_told_once_and_only_where_payloads_are_read() {
    // Between clusters of an odd length, so that batches begin anywhere.
    let mut builder = Builder::new(16, 9, 16 << 20);
    for cluster in 0..100 {
        builder.packed(cluster, &Random::new(cluster).number().to_be_bytes().repeat(8192));
    }
    let (at, _) = builder.stream(100, &[0xFF; 40], 40);
    for cluster in 101..150 {
        builder.plain(cluster, &noise(cluster, 65536));
    }
    let disk = open(builder);
    assert_eq!(check(&disk, false).0, []);
    let (findings, checked) = check(&disk, true);
    let [finding] = findings[..] else { panic!("{findings:?}") };
    assert_eq!((finding.rule, finding.at), (Rule::PackedBroken, Some(HostOffset::new(at))));
    assert_eq!(
        finding.guest.map(|guest| (guest.start.get(), guest.length)),
        Some((100 << 16, 1 << 16))
    );
    assert_eq!((checked.unpacked, checked.probed), (101, 49));
}

#[test]
fn a_hundred_thousand_entries_for_one_table_cost_no_more_than_one() {
    let mut builder = Builder::new(9, 13, 100_000 << 22);
    for cluster in 0..1 << 13 {
        builder.entry(cluster, 512 * (2_000 + cluster * 2));
    }
    let table = builder.table_of(0);
    for index in 1..100_000 {
        builder.l1_entry(index, table);
    }
    let disk = open(builder);
    let started = Instant::now();
    let (findings, _) = check(&disk, false);
    assert!(started.elapsed() < Duration::from_secs(20), "{:?}", started.elapsed());
    let shared = findings.iter().filter(|finding| finding.rule == Rule::L2Shared).count();
    assert_eq!(shared, 1, "told once");
    assert!(findings.len() < 3 << 13, "{}", findings.len());
}

/// What a slow reader finds out about who claims which bytes, in images of QEMU's layout.
struct Slow<'a> {
    bytes: &'a [u8],
    claims: Vec<(Range<u64>, Owner)>,
}

impl<'a> Slow<'a> {
    fn number(&self, at: u64) -> Option<u64> {
        let at = usize::try_from(at).ok()?;
        let bytes = self.bytes.get(at..at + 8)?;
        Some(u64::from_be_bytes(bytes.try_into().expect("eight")))
    }

    fn of(bytes: &'a [u8]) -> Self {
        let mut slow = Self { bytes, claims: vec![(0..48, Owner::Header)] };
        let (cluster_bits, l2_bits) = (u32::from(bytes[32]), u32::from(bytes[33]));
        let number = |at| slow.number(at).expect("a header");
        let (name_at, size, l1_at) = (number(8), number(24), number(40));
        let name_length = u64::from(u32::from_be_bytes(bytes[16..20].try_into().expect("four")));
        let is_named = name_at != 0
            && (1..=1023).contains(&name_length)
            && name_at + name_length <= bytes.len() as u64;
        if is_named {
            slow.claims.push((name_at..name_at + name_length, Owner::Name));
        }
        let l1_entries = size.div_ceil(1 << (cluster_bits + l2_bits));
        let l1 = l1_at..l1_at + l1_entries * 8;
        slow.claims.push((l1.clone(), Owner::L1));
        let is_place = |at: u64| at != 0 && at.is_multiple_of(512) && at < 1 << 62;
        let mut seen = std::collections::HashSet::new();
        for index in 0..l1_entries {
            let Some(table) = slow.number(l1_at + index * 8) else { break };
            let end = table.saturating_add(8 << l2_bits);
            if !is_place(table) || (table < l1.end && l1.start < end) {
                continue;
            }
            slow.claims.push((table..end, Owner::L2));
            if !seen.insert(table) {
                continue;
            }
            for number in 0..1u64 << l2_bits {
                let cluster = (index << l2_bits) + number;
                let Some(entry) = slow.number(table + number * 8) else { break };
                if cluster << cluster_bits >= size || entry == 0 {
                    continue;
                }
                if entry >> 63 == 1 {
                    let length = entry >> (63 - cluster_bits) & ((1 << cluster_bits) - 1);
                    let at = entry & ((1 << (63 - cluster_bits)) - 1);
                    if length > 0 {
                        slow.claims.push((at..at + length, Owner::Packed));
                    }
                } else if is_place(entry) {
                    slow.claims.push((entry..entry + (1 << cluster_bits), Owner::Data));
                }
            }
        }
        slow
    }

    /// How many claims each byte of the file has, and how many of these are of payloads.
    fn owners(&self) -> Vec<(u32, u32)> {
        let mut owners = vec![(0, 0); self.bytes.len()];
        for (range, owner) in &self.claims {
            let end = range.end.min(owners.len() as u64);
            for at in range.start..end.max(range.start) {
                let byte = &mut owners[usize::try_from(at).expect("small")];
                byte.0 += 1;
                byte.1 += u32::from(matches!(owner, Owner::Data | Owner::Packed));
            }
        }
        owners
    }
}

/// A seeded image of QEMU's layout, every second one damaged: cut, or with entries that lead
/// anywhere.
fn layout(seed: u64) -> Option<Vec<u8>> {
    let mut random = Random::new(seed);
    let mut sketch = Sketch::legal(&mut random);
    if sketch.image.get(48..52) == Some(b"XEN\xFB") {
        return None;
    }
    if seed % 2 == 1 {
        sketch.damage(&mut random);
        let places: Vec<u64> =
            Slow::of(&sketch.image).claims.iter().map(|(range, _)| range.start).collect();
        let tables = Slow::of(&sketch.image).claims;
        for (table, _) in tables.iter().filter(|(_, owner)| *owner == Owner::L2) {
            for _ in 0..random.below(6) {
                let at = table.start + random.below(60) * 8;
                let bits = u32::from(sketch.image[32]);
                let place = random.one_of(&places) + random.below(3) * 512;
                let entry = match random.below(3) {
                    0 => 1 << 63 | random.below(300) << (63 - bits) | (place + random.below(99)),
                    _ => place,
                };
                let at = usize::try_from(at).expect("small");
                if let Some(bytes) = sketch.image.get_mut(at..at + 8) {
                    bytes.copy_from_slice(&entry.to_be_bytes());
                }
            }
        }
    }
    Some(sketch.image)
}

#[test]
fn claims_are_all_there_in_the_order_of_the_file() {
    for seed in seeds("CALVE_MODEL_CASES", 300) {
        let Some(image) = layout(seed) else { continue };
        let Ok(disk) = common::disk(image.clone(), None, None) else { continue };
        let mut claims: Vec<Claim> = Vec::new();
        let mut add = |claim: Claim| {
            claims.push(claim);
            Ok(())
        };
        assert!(disk.top().claims(&mut add).expect("memory"));
        assert!(claims.is_sorted_by_key(|claim| claim.at), "seed {seed}");
        let mut counted = vec![0u32; image.len()];
        for claim in &claims {
            for at in claim.at.get()..claim.end().min(image.len() as u64) {
                counted[usize::try_from(at).expect("small")] += claim.times;
            }
        }
        let expected: Vec<u32> = Slow::of(&image).owners().iter().map(|owners| owners.0).collect();
        // A claim that many make is told of twice, and the second says for how many it stands.
        assert!(counted == expected, "seed {seed}");
    }
}

#[test]
fn bytes_with_two_owners_and_with_none_are_those_that_a_slow_reader_finds() {
    let mut shared = 0;
    for seed in seeds("CALVE_MODEL_CASES", 300) {
        let Some(image) = layout(seed) else { continue };
        let Ok(disk) = common::disk(image.clone(), None, None) else { continue };
        let owners = Slow::of(&image).owners();
        let mut told = vec![false; image.len()];
        let mut leaks = Vec::new();
        disk.top()
            .survey(&mut |finding| {
                let (Some(at), Some(length)) = (finding.at, finding.value) else { return };
                let range = at.get()..(at.get() + length).min(image.len() as u64);
                match finding.rule {
                    Rule::ClusterShared => {
                        for at in range {
                            told[usize::try_from(at).expect("small")] = true;
                        }
                    }
                    Rule::Leak => leaks.push(range),
                    _ => {}
                }
            })
            .expect("memory");
        for (at, (_, payloads)) in owners.iter().enumerate() {
            if *payloads > 1 {
                assert!(told[at], "seed {seed}: byte {at} is shared, and nobody says so");
                shared += 1;
            }
            if told[at] {
                assert!(*payloads > 1, "seed {seed}: byte {at} is not shared");
            }
        }
        assert_eq!(leaks, slow_leaks(&image, &owners), "seed {seed}");
    }
    assert!(shared > 0 || std::env::var_os("CALVE_SEED").is_some(), "nothing was planted");
}

fn slow_leaks(image: &[u8], owners: &[(u32, u32)]) -> Vec<Range<u64>> {
    let cluster = 1u64 << image[32];
    let slow = Slow::of(image);
    let l1 = slow.claims.iter().find(|(_, owner)| *owner == Owner::L1).expect("one").0.clone();
    let mut leaks = Vec::new();
    let mut at = 0;
    while at < owners.len() {
        if owners[at].0 > 0 {
            at += 1;
            continue;
        }
        let length = owners[at..].iter().take_while(|owners| owners.0 == 0).count();
        let (start, end) = (at as u64, (at + length) as u64);
        // QEMU writes its L1 table in whole sectors.
        let padded = l1.start + (l1.end - l1.start).next_multiple_of(512);
        let from = if start == l1.end { padded } else { start }.next_multiple_of(cluster);
        if from < end {
            leaks.push(from..end);
        }
        at += length;
    }
    leaks
}

#[test]
fn legal_images_of_every_geometry_are_clean() {
    let known = [
        // Noted on purpose: the sketches share clusters, leave gaps and end within a sector.
        Rule::ClusterShared,
        Rule::Leak,
        Rule::SizeNotSectors,
        Rule::XenByteOrder,
        Rule::XenChecksum,
        Rule::LastClusterShort,
        Rule::BaseSize,
    ];
    for seed in seeds("CALVE_MODEL_CASES", 300) {
        let sketch = Sketch::legal(&mut Random::new(seed));
        let disk = common::disk(sketch.image, None, sketch.base).expect("legal");
        let (findings, _) = check(&disk, true);
        let new: Vec<_> =
            findings.iter().filter(|finding| !known.contains(&finding.rule)).collect();
        assert!(new.is_empty(), "seed {seed}: {new:?}");
    }
}

/// Bytes in memory of which the host cannot read some.
struct Bad {
    memory: Memory,
    ranges: Vec<Range<u64>>,
}

impl Storage for Bad {
    fn path(&self) -> &Path {
        self.memory.path()
    }

    fn size(&self) -> io::Result<u64> {
        self.memory.size()
    }

    fn read_at(&self, out: &mut [u8], at: HostOffset) -> io::Result<()> {
        let end = at.get() + out.len() as u64;
        let is_bad = |range: &Range<u64>| range.start < end && at.get() < range.end;
        if self.ranges.iter().any(is_bad) {
            return Err(io::Error::other("a bad sector"));
        }
        self.memory.read_at(out, at)
    }
}

#[test]
fn a_table_that_the_host_cannot_read_loses_exactly_what_it_speaks_of() {
    let mut builder = Builder::new(9, 9, 1 << 20);
    for cluster in 0..1 << 11 {
        builder.plain(cluster, &noise(cluster, 512));
    }
    let tables: Vec<u64> = (0..4).map(|index| builder.table_of(index << 9)).collect();
    let bytes = builder.build();
    let whole = common::content(&common::disk(bytes.clone(), None, None).expect("opens"));
    let whole = whole.expect("memory");
    // The third sector of the second table, and the last two of the fourth one.
    let bad = [(1usize, 2u64..3), (3, 6..8)];
    let ranges = bad.iter().map(|(table, sectors)| {
        tables[*table] + sectors.start * 512..tables[*table] + sectors.end * 512
    });
    let storage = Bad { memory: Memory::new(bytes), ranges: ranges.collect() };
    let image = Qcow1Image::open_with(Box::new(storage), None, HostErrors::Lose).expect("opens");
    let disk = Disk::of_layers(vec![Layer::detached(Box::new(image))]);
    let content = common::content(&disk).expect("no error of the host");
    for (at, (byte, expected)) in content.iter().zip(&whole).enumerate() {
        let cluster = at / 512;
        let (table, sector) = (cluster >> 9, (cluster & 511) as u64 / 64);
        let is_bad = bad.iter().any(|(bad, sectors)| *bad == table && sectors.contains(&sector));
        let expected = if is_bad { &None } else { expected };
        assert_eq!(byte, expected, "byte {at}");
    }
    let mut lost = 0;
    let survey = disk.top().survey(&mut |finding| {
        lost += u64::from(finding.rule == Rule::Unreadable);
    });
    assert_eq!((survey.expect("counted").lost, lost), (64 * 3, 64 * 3));
}

#[test]
fn payloads_that_the_host_cannot_read_are_told_with_and_without_a_key() {
    for passphrase in [None, Some(&b"key"[..])] {
        let mut builder = Builder::new(12, 9, 64 << 10);
        if let Some(passphrase) = passphrase {
            builder = builder.encrypted(passphrase);
        }
        builder.plain(0, &noise(0, 4096));
        let at = builder.plain(1, &noise(1, 4096));
        let range = at + 512..at + 1536;
        let storage = Bad { memory: Memory::new(builder.build()), ranges: vec![range] };
        let disk = common::over(Box::new(storage), None, None).expect("opens");
        let (findings, _) = check(&disk, true);
        let guest: Vec<_> = findings.iter().map(|found| (found.rule, found.guest)).collect();
        let total: u64 = guest.iter().filter_map(|(_, guest)| Some(guest.as_ref()?.length)).sum();
        assert!(guest.iter().all(|(rule, _)| *rule == Rule::Unreadable), "{findings:?}");
        assert_eq!(total, 1024, "{findings:?}");
    }
}

#[test]
fn a_raw_disk_has_nothing_to_check() {
    let image = RawImage::open(Box::new(Memory::new(noise(1, 4096)))).expect("opens");
    let disk = Disk::of_layers(vec![Layer::detached(Box::new(image))]);
    assert_eq!(check(&disk, true).0, []);
}
