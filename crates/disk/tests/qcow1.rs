//! Every malformed header and table entry, and every trap of the format, each under the number
//! of its rule (`docs/qcow1.md`). What must hold is compared with the builder's known bytes.

mod common;

use calve_disk::formats::qcow1::Dialect;
use calve_disk::units::HostOffset;
use calve_disk::{Encoding, Error, Extent, Image, Layer, Payload, Rule, Specific};
use calve_testkit::{
    Access, Builder, Encryption, Memory, Random, Recorder, Recording, XenOrder, deflated,
};

const MIB: u64 = 1 << 20;

/// 64 KiB of disk in QEMU's geometry with four clusters of known bytes.
fn four_clusters() -> Builder {
    let mut builder = Builder::new(12, 9, 64 << 10);
    for cluster in 0..4 {
        builder.plain(cluster, &pattern(cluster));
    }
    builder
}

fn pattern(cluster: u64) -> Vec<u8> {
    Random::new(cluster).content(4096)
}

fn error_of(image: Vec<u8>) -> Error {
    match common::disk(image, None, None) {
        Ok(_) => panic!("opened"),
        Err(error) => error,
    }
}

fn assert_broken(image: Vec<u8>, rule: Rule, at: u64) {
    match error_of(image) {
        Error::Broken { finding, .. } => {
            assert_eq!((finding.rule, finding.at), (rule, Some(HostOffset::new(at))));
        }
        other => panic!("{other}"),
    }
}

fn open(builder: Builder) -> calve_disk::Disk {
    common::disk(builder.build(), None, None).unwrap_or_else(|error| panic!("{error}"))
}

/// The losses of a disk: guest start, length, rule, place of the entry.
fn losses(disk: &calve_disk::Disk) -> Vec<(u64, u64, Rule, u64)> {
    let extents = common::extents(disk).expect("memory");
    let loss = |extent: &Extent| match extent.payload {
        Payload::Lost(lost) => {
            Some((extent.range.start.get(), extent.range.length, lost.rule, lost.at.get()))
        }
        _ => None,
    };
    extents.iter().filter_map(loss).collect()
}

fn assert_only_loss(builder: Builder, start: u64, length: u64, rule: Rule, at: u64) {
    assert_eq!(losses(&open(builder)), [(start, length, rule, at)]);
}

/// Every guest byte; nothing may be lost.
fn bytes(disk: &calve_disk::Disk) -> Vec<u8> {
    let content = common::content(disk).expect("memory");
    content.into_iter().map(|byte| byte.expect("nothing is lost")).collect()
}

fn cluster_of(bytes: &[u8], cluster: usize) -> &[u8] {
    &bytes[cluster * 4096..][..4096]
}

fn findings(disk: &calve_disk::Disk) -> Vec<Rule> {
    disk.top().facts().findings.iter().map(|finding| finding.rule).collect()
}

fn surveyed(disk: &calve_disk::Disk) -> Vec<Rule> {
    let mut rules = Vec::new();
    disk.top().survey(&mut |finding| rules.push(finding.rule)).expect("memory");
    rules
}

#[test]
fn q1_a_wrong_magic_is_not_version_1() {
    let mut builder = four_clusters();
    builder.patch(0, b"QFJ\xFB");
    assert!(matches!(error_of(builder.build()), Error::NotThisFormat { .. }));
}

#[test]
fn q1_other_versions_are_named() {
    for version in [0u32, 2, 3, 4, 0x0100_0000] {
        let mut builder = four_clusters();
        builder.patch(4, &version.to_be_bytes());
        let text = error_of(builder.build()).to_string();
        assert!(text.contains(&format!("QCOW version {version}")), "{text}");
    }
}

#[test]
fn q2_a_file_that_ends_in_the_header_is_broken() {
    for length in [8, 20, 40, 47] {
        let mut builder = four_clusters();
        builder.cut(length);
        assert_broken(builder.build(), Rule::HeaderCut, length);
    }
}

#[test]
fn q3_t20_the_padding_is_not_looked_at_and_the_method_stands_behind_it() {
    let mut builder = four_clusters().encrypted(b"key");
    builder.patch(34, &[0xFF, 0xFF]);
    let disk = open(builder);
    assert!(disk.top().facts().is_encrypted);
    assert_eq!(findings(&disk), [Rule::PaddingSet]);
}

#[test]
fn q4_t21_the_time_is_no_cluster_size() {
    let mut builder = four_clusters();
    builder.patch(20, &16u32.to_be_bytes());
    let disk = open(builder);
    assert_eq!(disk.top().facts().cluster_size.map(|size| size.bytes()), Some(4096));
    assert_eq!(cluster_of(&bytes(&disk), 2), pattern(2));
}

#[test]
fn q5_cluster_bits_are_9_to_16() {
    for bits in [0, 8, 17, 20, 63, 64, 255] {
        let mut builder = four_clusters();
        builder.patch(32, &[bits]);
        assert_broken(builder.build(), Rule::ClusterBits, 32);
    }
}

#[test]
fn q6_l2_bits_are_6_to_13() {
    for bits in [0, 5, 14, 64, 255] {
        let mut builder = four_clusters();
        builder.patch(33, &[bits]);
        assert_broken(builder.build(), Rule::L2Bits, 33);
    }
}

#[test]
fn q7_sizes_that_need_too_many_l1_entries_are_broken() {
    for size in [1 << 49, (1 << 63) - 1, u64::MAX] {
        let mut builder = four_clusters();
        builder.patch(24, &u64::to_be_bytes(size));
        assert_broken(builder.build(), Rule::VirtualSize, 24);
    }
}

#[test]
fn q7_a_disk_of_no_bytes_or_of_one_is_one() {
    for size in [0u64, 1] {
        let disk = open(Builder::new(12, 9, size));
        assert_eq!(bytes(&disk), vec![0; usize::try_from(size).expect("small")]);
    }
}

#[test]
fn q8_t15_a_size_within_a_sector_is_exact_and_noted() {
    for size in [513, 65535] {
        let mut builder = Builder::new(12, 9, size);
        let last = (size - 1) / 4096;
        builder.plain(last, &[0x77; 4096]);
        let disk = open(builder);
        assert_eq!(disk.virtual_size(), size);
        assert_eq!(findings(&disk), [Rule::SizeNotSectors]);
        assert_eq!(bytes(&disk).last(), Some(&0x77));
    }
}

#[test]
fn q9_encryption_methods_beyond_aes_are_broken() {
    for method in [2u32, 255, 0x8000_0000] {
        let mut builder = four_clusters();
        builder.patch(36, &method.to_be_bytes());
        assert_broken(builder.build(), Rule::CryptMethod, 36);
    }
}

#[test]
fn q9_without_its_key_an_encrypted_disk_gives_no_byte() {
    let mut builder = Builder::new(12, 9, MIB).encrypted(b"key");
    builder.plain(0, &pattern(0));
    let disk = open(builder);
    assert!(matches!(disk.require_keys(), Err(Error::Key { .. })));
    assert!(matches!(common::content(&disk), Err(Error::Key { .. })));
}

#[test]
fn q9_t16_the_key_is_the_first_16_bytes_whatever_they_are() {
    for (made_with, read_with) in [
        (&b"0123456789abcdefXYZ"[..], &b"0123456789abcdefQQQQ"[..]),
        (b"caf\xE9", b"caf\xE9"),
        (b"", b"\0\0\0"),
        (b"line\n", b"line\n"),
    ] {
        let mut builder = Builder::new(12, 9, MIB).encrypted(made_with);
        for cluster in [0, 100, 255] {
            builder.plain(cluster, &pattern(cluster));
        }
        let disk = common::disk(builder.build(), Some(read_with), None).expect("opens");
        let found = bytes(&disk);
        for cluster in [0, 100, 255] {
            let start = usize::try_from(cluster * 4096).expect("small");
            assert_eq!(found[start..][..4096], pattern(cluster), "{made_with:?}");
        }
    }
}

#[test]
fn q9_t16_packed_clusters_of_an_encrypted_image_are_not_encrypted() {
    let mut builder = Builder::new(12, 9, MIB).encrypted(b"key");
    builder.packed(7, &[0x33; 4096]);
    let disk = common::disk(builder.build(), Some(b"key"), None).expect("opens");
    assert_eq!(cluster_of(&bytes(&disk), 7), [0x33; 4096]);
}

#[test]
fn q9_a_cluster_that_two_entries_share_decrypts_under_each_place() {
    let mut builder = Builder::new(12, 9, MIB).encrypted(b"key");
    let at = builder.plain(0, &pattern(0));
    builder.entry(5, at);
    let mut expected = pattern(0);
    Encryption::new(b"key").encrypt(&mut expected, 0);
    let sectors = expected.as_chunks::<512>().0.iter().zip(5 * 8..);
    let expected: Vec<u8> = sectors
        .flat_map(|(sector, number)| Encryption::new(b"key").decrypted(*sector, number))
        .collect();
    let disk = common::disk(builder.build(), Some(b"key"), None).expect("opens");
    let found = bytes(&disk);
    assert_eq!(cluster_of(&found, 0), pattern(0));
    assert_eq!(cluster_of(&found, 5), expected);
}

#[test]
fn q10_t12_a_name_that_cannot_be_is_not_the_same_as_none() {
    let length = four_clusters().length();
    for (at, name_length) in [(length + 4096, 4u32), (64, 1024), (u64::MAX, 8), (48, u32::MAX)] {
        let mut builder = four_clusters();
        builder.patch(8, &at.to_be_bytes());
        builder.patch(16, &name_length.to_be_bytes());
        let disk = open(builder);
        assert_eq!(findings(&disk), [Rule::BackingNamePlace]);
        assert!(disk.top().facts().backing.is_none());
    }
}

#[test]
fn q10_q40_t12_a_place_or_a_length_of_zero_names_nothing_and_is_told() {
    for (at, name_length) in [(0u64, 8u32), (48, 0)] {
        let mut builder = four_clusters();
        builder.patch(8, &at.to_be_bytes());
        builder.patch(16, &name_length.to_be_bytes());
        let disk = open(builder);
        assert!(disk.top().facts().backing.is_none());
        assert_eq!(findings(&disk), [Rule::BackingNameHalf], "{at}, {name_length}");
    }
    assert!(findings(&open(four_clusters())).is_empty());
}

#[test]
fn q11_t12_a_name_counts_up_to_its_first_zero_byte() {
    let disk = open(four_clusters().backing(b"base.raw\0stale"));
    let name = disk.top().facts().backing.as_ref().map(|backing| backing.name.clone());
    assert_eq!(name.as_deref(), Some(&b"base.raw"[..]));
    assert_eq!(findings(&disk), [Rule::BackingNameText]);
}

#[test]
fn q11_t12_a_name_that_begins_with_a_zero_byte_is_promised_and_missing() {
    let disk = open(four_clusters().backing(b"\0base.raw"));
    assert!(disk.top().facts().backing.is_none());
    assert_eq!(findings(&disk), [Rule::BackingNamePlace]);
}

#[test]
fn q12_an_l1_table_inside_the_header_loses_the_disk() {
    for at in [0u64, 1, 47] {
        let mut builder = four_clusters();
        builder.patch(40, &at.to_be_bytes());
        assert_only_loss(builder, 0, 64 << 10, Rule::L1Place, 40);
    }
}

#[test]
fn q12_the_l1_table_may_be_anywhere_else() {
    for at in [48, 49, 1000, 77777] {
        let mut builder = Builder::new(12, 9, MIB).l1_at(at);
        builder.plain(3, &pattern(3));
        assert_eq!(cluster_of(&bytes(&open(builder)), 3), pattern(3), "{at}");
    }
}

#[test]
fn q13_t1_what_the_file_lacks_of_the_l1_table_is_lost() {
    let mut builder = Builder::new(9, 6, MIB);
    builder.cut(48 + 8 * 10);
    assert_only_loss(builder, 10 << 15, MIB - (10 << 15), Rule::L1Cut, 48 + 80);
    for at in [1u64 << 40, (1 << 63) - 512, u64::MAX - 7] {
        let mut builder = four_clusters();
        builder.patch(40, &at.to_be_bytes());
        assert_only_loss(builder, 0, 64 << 10, Rule::L1Cut, at);
    }
}

#[test]
fn q14_an_l1_entry_that_is_no_offset_loses_what_it_covers() {
    for raw in [1, 0x1001, 1 << 62, 1 << 63, u64::MAX] {
        let mut builder = Builder::new(9, 6, 128 << 10);
        builder.plain(0, &[1; 512]);
        let at = builder.l1_entry(2, raw);
        assert_only_loss(builder, 2 << 15, 1 << 15, Rule::L1Entry, at);
    }
}

#[test]
fn q15_t17_an_l2_table_on_the_l1_table_is_none() {
    let mut builder = Builder::new(12, 9, 8 * MIB).l1_at(1024);
    builder.cut(8192);
    let at = builder.l1_entry(1, 1024);
    assert_only_loss(builder, 2 * MIB, 2 * MIB, Rule::L2Place, at);
}

#[test]
fn q16_t1_what_the_file_lacks_of_an_l2_table_is_lost() {
    let mut builder = Builder::new(12, 9, 2 * MIB);
    let table = builder.table_of(0);
    builder.cut(table + 8 * 100 + 3);
    let lost_from = 100 * 4096;
    assert_only_loss(builder, lost_from, 2 * MIB - lost_from, Rule::L2Cut, table + 800);
    let mut builder = Builder::new(12, 9, 2 * MIB);
    builder.l1_entry(0, 1 << 40);
    assert_only_loss(builder, 0, 2 * MIB, Rule::L2Cut, 1 << 40);
}

#[test]
fn q17_t29_an_entry_that_is_no_offset_loses_its_cluster() {
    for raw in [1, 0x2001, 0x2000 | 1 << 62, (1 << 62) + 512, (1 << 63) - 1] {
        let mut builder = four_clusters();
        let at = builder.entry(1, raw);
        assert_only_loss(builder, 4096, 4096, Rule::ClusterEntry, at);
    }
}

#[test]
fn q17_t5_clusters_lie_at_multiples_of_512() {
    let mut builder = Builder::new(12, 9, MIB);
    builder.plain_at(0, &pattern(0), 8192 + 512);
    builder.plain_at(1, &pattern(1), 16384 + 1536);
    let found = bytes(&open(builder));
    assert_eq!((cluster_of(&found, 0), cluster_of(&found, 1)), (&pattern(0)[..], &pattern(1)[..]));
}

#[test]
fn q15_t4_tables_lie_at_multiples_of_512_too() {
    let mut builder = Builder::new(9, 12, 4 * MIB);
    builder.table_at(0, 1024);
    builder.table_at(1, 1024 + (8 << 12) + 512);
    builder.plain(0, &[0xA1; 512]);
    builder.plain(4096, &[0xA2; 512]);
    let found = bytes(&open(builder));
    assert_eq!((found[0], found[2 << 20]), (0xA1, 0xA2));
}

#[test]
fn q18_t1_a_cluster_behind_the_end_is_lost_and_not_zeros() {
    for at in [1 << 20, 1 << 40, (1 << 62) - 512] {
        let mut builder = four_clusters();
        let entry_at = builder.entry(2, at);
        assert_only_loss(builder, 2 * 4096, 4096, Rule::ClusterPastEnd, entry_at);
    }
}

#[test]
fn q19_t1_what_the_file_lacks_of_a_cluster_is_lost_to_the_byte() {
    let mut builder = four_clusters();
    let length = builder.length();
    builder.cut(length - 1000);
    let disk = open(builder);
    let lost = losses(&disk);
    assert_eq!(lost.len(), 1);
    assert_eq!((lost[0].0, lost[0].1, lost[0].2), (4 * 4096 - 1000, 1000, Rule::ClusterCut));
    let content = common::content(&disk).expect("memory");
    let kept: Option<Vec<u8>> = content[3 * 4096..4 * 4096 - 1000].iter().copied().collect();
    assert_eq!(kept.expect("kept"), pattern(3)[..3096]);
}

#[test]
fn q19_a_cut_encrypted_cluster_keeps_only_whole_sectors() {
    let mut builder = Builder::new(12, 9, MIB).encrypted(b"key");
    let at = builder.plain(0, &pattern(0));
    builder.cut(at + 1000);
    let disk = common::disk(builder.build(), Some(b"key"), None).expect("opens");
    let content = common::content(&disk).expect("memory");
    assert_eq!(content.iter().position(Option::is_none), Some(512));
}

#[test]
fn q20_a_last_cluster_cut_behind_the_end_of_the_disk_is_whole() {
    let mut builder = Builder::new(16, 6, 65536 + 1000);
    let at = builder.plain(1, &[0x5A; 65536]);
    builder.cut(at + 1000);
    let disk = open(builder);
    assert_eq!(bytes(&disk)[65536..], [0x5A; 1000]);
    assert!(surveyed(&disk).contains(&Rule::LastClusterShort));
}

#[test]
fn q21_a_cluster_on_the_header_or_on_a_table_is_lost() {
    let mut builder = Builder::new(9, 6, MIB);
    let table = builder.table_of(0);
    builder.plain(0, &[1; 512]);
    let entry_at = builder.entry(3, table);
    assert_only_loss(builder, 3 * 512, 512, Rule::ClusterOnTable, entry_at);
    // The L1 table, 32 entries from 48 on, fills the first sector from there.
    let mut builder = Builder::new(9, 6, MIB).l1_at(1024);
    builder.table_at(0, 2048);
    builder.cut(8192);
    let entry_at = builder.entry(5, 1024);
    assert_only_loss(builder, 5 * 512, 512, Rule::ClusterOnTable, entry_at);
}

#[test]
fn q22_t17_a_cluster_with_two_entries_reads_the_same_from_both_and_is_suspect() {
    let mut builder = four_clusters();
    let at = builder.plain(5, &pattern(5));
    builder.entry(9, at);
    let disk = open(builder);
    let found = bytes(&disk);
    assert_eq!((cluster_of(&found, 5), cluster_of(&found, 9)), (&pattern(5)[..], &pattern(5)[..]));
    assert_eq!(surveyed(&disk), [Rule::ClusterShared]);
}

#[test]
fn q23_t6_length_and_place_of_a_packed_cluster_are_exact_bytes() {
    for bits in 9..=16 {
        let mut builder = Builder::new(bits, 6, 20 << bits);
        let size = usize::try_from(builder.cluster_size()).expect("small");
        let places: Vec<u64> =
            (0..20u8).map(|n| builder.packed(n.into(), &vec![n + 1; size]).0).collect();
        assert!(places.iter().any(|at| at % 512 != 0), "byte-packed");
        let found = bytes(&open(builder));
        for (n, cluster) in found.chunks(size).enumerate() {
            assert!(cluster.iter().all(|byte| usize::from(*byte) == n + 1), "{bits} bits, {n}");
        }
    }
}

#[test]
fn q23_a_packed_cluster_of_no_bytes_is_lost() {
    let mut builder = four_clusters();
    let raw = builder.packed_entry(4096, 0);
    let at = builder.entry(1, raw);
    assert_only_loss(builder, 4096, 4096, Rule::PackedEmpty, at);
}

#[test]
fn q24_a_packed_cluster_behind_the_end_is_lost() {
    let mut builder = four_clusters();
    let raw = builder.packed_entry(1 << 40, 77);
    let at = builder.entry(1, raw);
    assert_only_loss(builder, 4096, 4096, Rule::PackedPastEnd, at);
}

#[test]
fn q25_t9_a_packed_cluster_may_end_with_the_file_and_claim_more() {
    let stream = deflated(&pattern_text(), 12);
    for surplus in [0, 1, 511] {
        let mut builder = four_clusters();
        builder.patch(builder.length(), &[0; 7]);
        builder.stream(6, &stream, stream.len() as u64 + surplus);
        let disk = open(builder);
        assert_eq!(cluster_of(&bytes(&disk), 6), pattern_text());
        assert_eq!(surveyed(&disk).contains(&Rule::PackedOverrun), surplus > 0);
    }
}

/// A cluster that packs well.
fn pattern_text() -> Vec<u8> {
    b"An old QCOW calves a QCOW2. ".iter().copied().cycle().take(4096).collect()
}

/// What cluster 6 holds when this stream is stored for it; `None` where it is lost as packed.
fn unpacked(stream: &[u8]) -> Option<Vec<u8>> {
    let mut builder = four_clusters();
    builder.stream(6, stream, stream.len() as u64);
    builder.patch(builder.length(), &[0xEE; 600]);
    let content = common::content(&open(builder)).expect("memory");
    content[6 * 4096..7 * 4096].iter().copied().collect()
}

#[test]
fn q26_t7_a_full_cluster_is_good_whatever_the_decoder_says_last() {
    let text = pattern_text();
    let whole = deflated(&text, 12);
    // Stored blocks end at known places: five bytes of head, then the bytes.
    let mut unfinished = vec![0x00, 0x00, 0x10, 0xFF, 0xEF];
    unfinished.extend_from_slice(&text);
    assert_eq!(unpacked(&unfinished[..4095]), None, "bytes are missing");
    let mut surplus = whole.clone();
    surplus.extend_from_slice(b"garbage");
    let twice: Vec<u8> = text.iter().chain(&text).copied().collect();
    for (stream, what) in [
        (whole.clone(), "exact"),
        (whole[..whole.len() - 1].to_vec(), "without the end of its end marker"),
        (surplus, "with garbage behind"),
        (deflated(&twice, 12), "that goes on behind the cluster"),
    ] {
        assert_eq!(unpacked(&stream).as_deref(), Some(&text[..]), "a stream {what}");
    }
}

#[test]
fn q26_t7_a_cluster_that_does_not_fill_is_lost() {
    let text = pattern_text();
    let mut wrapped = vec![0x78, 0x9C];
    wrapped.extend(deflated(&text, 15));
    for (stream, what) in [
        (deflated(&text[..4095], 12), "one byte short"),
        (deflated(&text, 12)[..20].to_vec(), "cut"),
        (wrapped, "zlib's wrapper"),
        (vec![0; 300], "a hole"),
        (vec![0xFF; 300], "garbage"),
    ] {
        assert_eq!(unpacked(&stream), None, "{what}");
    }
}

#[test]
fn q26_t8_streams_may_look_back_32_kib() {
    let mut content = Random::new(8).content(30_000);
    content.iter_mut().for_each(|byte| *byte ^= 0x5A);
    let noise: Vec<u8> = (0..20_000).map(|n| Random::new(n).number().to_be_bytes()[0]).collect();
    content = noise.iter().chain(&noise).copied().collect();
    let mut builder = Builder::new(16, 6, 1 << 17).window(15);
    let (_, length) = builder.packed(0, &content);
    assert!(length < 30_000, "the second half refers to the first: {length}");
    let found = bytes(&open(builder));
    assert_eq!(found[..40_000], content);
}

#[test]
fn q26_t10_two_entries_on_one_place_are_judged_each_by_its_length() {
    let stream = deflated(&pattern_text(), 12);
    let mut builder = four_clusters();
    let (at, length) = builder.stream(6, &stream, stream.len() as u64);
    let short = builder.packed_entry(at, 3);
    builder.entry(7, short);
    let long = builder.packed_entry(at, length);
    builder.entry(8, long);
    let content = common::content(&open(builder)).expect("memory");
    assert!(content[6 * 4096..7 * 4096].iter().all(Option::is_some));
    assert!(content[7 * 4096..8 * 4096].iter().all(Option::is_none));
    assert!(content[8 * 4096..9 * 4096].iter().all(Option::is_some));
}

#[test]
fn q27_t17_two_l1_entries_on_one_table_are_suspect() {
    let mut builder = Builder::new(12, 9, 8 * MIB);
    builder.plain(0, &pattern(0));
    let table = builder.table_of(0);
    builder.l1_entry(2, table);
    let disk = open(builder);
    assert!(surveyed(&disk).contains(&Rule::L2Shared));
    assert_eq!(bytes(&disk)[4 << 20..][..4096], pattern(0));
}

#[test]
fn q28_t23_bytes_that_nothing_refers_to_are_a_leak_and_no_damage() {
    let mut builder = Builder::new(12, 9, MIB).aligned(4096);
    for cluster in 0..4 {
        builder.plain(cluster, &pattern(cluster));
    }
    let length = builder.length();
    builder.patch(length + MIB - 1, &[0]);
    let disk = open(builder);
    assert_eq!(surveyed(&disk), [Rule::Leak]);
    let survey = disk.top().survey(&mut |_| {}).expect("memory");
    assert_eq!((survey.leaked_bytes, survey.allocated, survey.lost), (MIB, 4, 0));
}

#[test]
fn q29_t2_xens_tables_are_read_in_either_order_and_in_both_at_once() {
    for (order, dialect) in [
        (XenOrder::Little, Dialect::XenLittleEndian),
        (XenOrder::Mixed, Dialect::XenLittleEndian),
        (XenOrder::Big, Dialect::Xen),
    ] {
        // The flag is set or not whatever the order is.
        for flags in [0u32, 2] {
            let mut builder = Builder::new(12, 9, 8 * MIB).xen(order);
            builder.patch(60, &flags.to_be_bytes());
            for cluster in [0, 600, 1100, 2047] {
                builder.plain(cluster, &pattern(cluster));
            }
            let disk = open(builder);
            let found = bytes(&disk);
            for cluster in [0, 600, 1100, 2047] {
                let start = usize::try_from(cluster * 4096).expect("small");
                assert_eq!(found[start..][..4096], pattern(cluster), "{order:?}");
            }
            let Specific::Qcow1(facts) = &disk.top().facts().specific else { panic!() };
            assert_eq!(facts.dialect, dialect, "{order:?}");
            assert_eq!(facts.producer, "Xen tapdisk");
        }
    }
}

#[test]
fn q29_the_magic_of_xen_alone_changes_nothing() {
    // An L1 table that is not on a page is QEMU's, whatever stands behind the header.
    let mut builder = Builder::new(12, 9, MIB).l1_at(512);
    builder.patch(48, b"XEN\xFB");
    builder.plain(0, &pattern(0));
    assert_eq!(cluster_of(&bytes(&open(builder)), 0), pattern(0));
}

#[test]
fn t11_both_kinds_of_nothing_defer_to_the_base_and_then_to_zeros() {
    let mut builder = Builder::new(9, 12, 4 * MIB).backing(b"base.raw");
    builder.plain(0, &[0x22; 512]);
    let base = vec![0x11; 3 << 20];
    let disk = common::disk(builder.build(), None, Some(base)).expect("opens");
    let found = bytes(&disk);
    assert_eq!(found[..512], [0x22; 512]);
    assert!(found[512..3 << 20].iter().all(|byte| *byte == 0x11), "both tables' nothing");
    assert!(found[3 << 20..].iter().all(|byte| *byte == 0), "behind the base");
}

#[test]
fn t11_a_base_may_end_inside_a_sector() {
    let builder = Builder::new(9, 12, MIB).backing(b"base.raw");
    let disk = common::disk(builder.build(), None, Some(vec![0x11; 1000])).expect("opens");
    let found = bytes(&disk);
    assert_eq!((found[999], found[1000]), (0x11, 0));
}

#[test]
fn t14_any_geometry_may_have_a_base_or_none() {
    for (cluster_bits, l2_bits) in [(9, 12), (12, 9), (16, 13), (9, 6)] {
        let builder = Builder::new(cluster_bits, l2_bits, MIB);
        assert!(bytes(&open(builder)).iter().all(|byte| *byte == 0));
        let builder = Builder::new(cluster_bits, l2_bits, MIB).backing(b"base.raw");
        let disk = common::disk(builder.build(), None, Some(vec![9; 1 << 20])).expect("opens");
        assert!(bytes(&disk).iter().all(|byte| *byte == 9));
    }
}

#[test]
fn t18_t27_packed_streams_may_overlap_and_bytes_without_the_flag_are_bytes() {
    let stream = deflated(&pattern_text(), 12);
    let mut builder = four_clusters();
    builder.stream(5, &stream, stream.len() as u64);
    let mut unflagged = stream.clone();
    unflagged.resize(4096, 0);
    builder.plain(6, &unflagged);
    assert_eq!(cluster_of(&bytes(&open(builder)), 6), unflagged);
}

#[test]
fn t22_a_header_alone_claims_512_tib_and_costs_nothing() {
    let mut builder = Builder::new(12, 9, 0);
    builder.patch(24, &((512u64 << 40) - (2 << 20)).to_be_bytes());
    assert_eq!(builder.length(), 48);
    let recorder = Recorder::default();
    let storage = Recording::new(Memory::new(builder.build()), &recorder);
    let disk = common::over(Box::new(storage), None, None).expect("opens");
    assert_eq!(losses(&disk), [(0, (512 << 40) - (2 << 20), Rule::L1Cut, 48)]);
    assert!(recorder.bytes_read() < 1000, "{}", recorder.bytes_read());
}

#[test]
fn what_is_far_is_asked_once_for_what_lies_together() {
    // Every second run of 64 KiB is stored, one behind the other, and between two of them is a gap.
    let mut builder = Builder::new(16, 12, 4 * MIB);
    for cluster in (0..64).step_by(2) {
        let content = Random::new(cluster).content(1 << 16);
        match cluster {
            32 => builder.plain_at(cluster, &content, builder.length() + (100 << 10)),
            _ => {
                builder.plain(cluster, &content);
            }
        }
    }
    let image = builder.build();
    let told = [Recording::new, Recording::far].map(|recording| {
        let recorder = Recorder::default();
        let storage = recording(Memory::new(image.clone()), &recorder);
        let disk = common::over(Box::new(storage), None, None).expect("opens");
        let opened = recorder.accesses().len();
        (bytes(&disk), recorder.accesses().split_off(opened))
    });
    let is_long =
        |access: &&Access| matches!(access, Access::Read { length, .. } if *length >= 1 << 16);
    let long = |at: usize| told[at].1.iter().filter(is_long).count();
    assert!(told[0].0 == told[1].0, "the disks differ");
    assert_eq!((long(0), long(1)), (32, 1), "{:?}", told[1].1);
}

#[test]
fn t25_a_file_below_512_bytes_may_be_a_whole_image() {
    let builder = Builder::new(9, 12, 64 << 10).backing(b"base.raw");
    assert!(builder.length() < 80);
    let disk = common::disk(builder.build(), None, Some(vec![3; 64 << 10])).expect("opens");
    assert!(bytes(&disk).iter().all(|byte| *byte == 3));
}

#[test]
fn t26_neighbours_become_one_extent_however_small_the_clusters() {
    let mut builder = Builder::new(9, 12, 4 * MIB);
    builder.table_of(0);
    for cluster in 0..4096 {
        builder.plain(cluster, &[7; 512]);
    }
    let disk = open(builder);
    let extents = common::extents(&disk).expect("memory");
    assert_eq!(extents.len(), 2, "one run of data, one of nothing");
}

#[test]
fn every_geometry_reads_what_was_built() {
    for cluster_bits in 9..=16 {
        for l2_bits in 6..=13 {
            let clusters = (2u64 << l2_bits).min((32 * MIB) >> cluster_bits).max(3);
            let size = clusters << cluster_bits;
            let mut builder = Builder::new(cluster_bits, l2_bits, size);
            let mut known = Vec::new();
            for cluster in [0, 1, clusters / 2, clusters - 1] {
                let content = Random::new(cluster).content(1 << cluster_bits);
                builder.plain(cluster, &content);
                known.push((cluster, content));
            }
            let image = calve_disk::formats::qcow1::Qcow1Image::open(
                Box::new(Memory::new(builder.build())),
                None,
            );
            let image = image.expect("opens");
            assert_eq!(image.facts().virtual_size, size);
            let disk = calve_disk::Disk::of_layers(vec![Layer::detached(Box::new(image))]);
            for (cluster, content) in known {
                let mut found = vec![0; content.len()];
                let at = calve_disk::units::GuestOffset::new(cluster << cluster_bits);
                disk.read_at(&mut found, at).expect("memory");
                assert!(found == content, "{cluster_bits}/{l2_bits}: cluster {cluster}");
            }
        }
    }
}

#[test]
fn plain_bytes_are_told_apart_from_others() {
    let mut builder = Builder::new(12, 9, MIB);
    builder.packed(1, &pattern_text());
    builder.plain(0, &pattern(0));
    let extents = common::extents(&open(builder)).expect("memory");
    let encodings: Vec<_> = extents
        .iter()
        .filter_map(|extent| match extent.payload {
            Payload::Stored(stored) => Some(stored.encoding),
            _ => None,
        })
        .collect();
    assert!(matches!(encodings[..], [Encoding::Plain, Encoding::Packed { .. }]), "{encodings:?}");
}
