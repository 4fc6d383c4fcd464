//! What fuzzing found in this crate, or writing it: one test for each.

mod common;

use calve_disk::codec::aes::Passphrase;
use calve_disk::formats::qcow2::Qcow2Image;
use calve_disk::units::{ClusterSize, GuestRange};
use calve_disk::{Disk, Finding, Layer, Rule};
use calve_testkit::{Builder, Memory};
use common::Fate;

fn surveyed(builder: Builder) -> (Vec<Finding>, u64) {
    let disk = common::disk(builder.build(), None, None).expect("opens");
    let mut findings = Vec::new();
    let survey = disk.top().survey(&mut |finding| findings.push(finding)).expect("memory");
    (findings, survey.leaked_bytes)
}

#[test]
fn a_finding_names_no_guest_bytes_behind_the_end_of_the_disk() {
    let mut builder = Builder::new(12, 9, 4096 + 100);
    let at = builder.plain(0, &[1; 4096]);
    builder.entry(1, at);
    let (findings, _) = surveyed(builder);
    let shared = findings.iter().find(|finding| finding.rule == Rule::ClusterShared);
    assert_eq!(shared.and_then(|finding| finding.guest), Some(GuestRange::at(4096, 100)));
}

#[test]
fn a_table_at_the_end_of_all_numbers_leaks_nothing_twice() {
    for at in [u64::MAX, u64::MAX - 100, 1 << 63] {
        let mut builder = Builder::new(10, 7, 4096);
        builder.plain(0, &[1; 1024]);
        builder.cut(8192);
        builder.patch(40, &at.to_be_bytes());
        let (findings, leaked) = surveyed(builder);
        assert_eq!(leaked, 8192 - 1024, "{at:#x}");
        let rules: Vec<Rule> = findings.iter().map(|finding| finding.rule).collect();
        assert_eq!(rules, [Rule::L1Cut, Rule::Leak], "{at:#x}");
    }
}

/// A qcow2 image of so many clusters of 4 KiB, of which the first is stored.
fn qcow2(clusters: usize) -> Vec<u8> {
    let (memory, size) = (Memory::new(Vec::new()), ClusterSize::from_bits(12).expect("in range"));
    let content = vec![1; clusters << 12];
    common::write_qcow2(&memory, &content, size, &[Fate::Plain]).expect("memory");
    memory.content()
}

/// The place that a word of the file names.
fn place(image: &[u8], at: usize) -> usize {
    let word = image[at..].first_chunk().map(|bytes| u64::from_be_bytes(*bytes));
    usize::try_from(word.expect("a word") << 1 >> 1).expect("a small file")
}

/// A qcow2 image of one encrypted cluster, of which the file has 700 bytes.
fn cut_qcow2() -> Disk {
    let mut image = qcow2(1);
    image[35] = 1;
    let l1_at = place(&image, 40);
    let l2_at = place(&image, l1_at);
    let end = (image.len() as u64).next_multiple_of(4096);
    image.resize(usize::try_from(end).expect("a small file") + 700, 7);
    image[l2_at..l2_at + 8].copy_from_slice(&(1 << 63 | end).to_be_bytes());
    let key = Passphrase::new(b"sesame".to_vec());
    let image = Qcow2Image::open(Box::new(Memory::new(image)), None, Some(&key)).expect("opens");
    Disk::of_layers(vec![Layer::detached(Box::new(image))])
}

#[test]
fn any_part_of_a_cut_encrypted_qcow2_cluster_reads_as_that_part_of_the_whole() {
    let disk = cut_qcow2();
    let whole = common::content(&disk).expect("memory");
    assert_eq!(whole.iter().position(Option::is_none), Some(512), "whole sectors only");
    for end in [100, 512, 513, 600, 700, 701, 4096] {
        // Each begins and ends inside of a sector, or beside one.
        for start in [0, 1, 511, 512, 599].into_iter().filter(|start| *start < end) {
            let extents = disk.extents(GuestRange::at(start, end - start));
            let lost_from = extents
                .map(|extent| extent.expect("memory"))
                .find(|extent| matches!(extent.payload, calve_disk::Payload::Lost(_)))
                .map_or(end, |extent| extent.range.start.get());
            assert_eq!(lost_from, end.min(512).max(start), "{start} to {end}");
        }
    }
}

#[test]
fn a_table_that_is_said_to_be_in_the_place_of_another_is_all_there() {
    let mut image = qcow2(3);
    let l1_at = place(&image, 40);
    let entry = 1 << 63 | l1_at as u64;
    image[l1_at..l1_at + 8].copy_from_slice(&entry.to_be_bytes());
    let disk = common::qcow2(Box::new(Memory::new(image))).expect("opens");
    // The L1 table has one entry, and as an L2 table 511 more, which are zeros.
    let content = common::content(&disk).expect("memory");
    assert!(content[4096..].iter().all(|byte| *byte == Some(0)), "lost, and the file has it");
}

/// A run of clusters that leads over tables hides nothing of what these have in common.
#[test]
fn tables_with_two_owners_are_told_of_under_a_run_of_clusters_too() {
    for (distance, rule) in [(0, Rule::L2Shared), (512, Rule::L2Overlap)] {
        let mut builder = Builder::new(9, 7, 256 << 10);
        let at = builder.plain(0, &[1; 4 * 512]);
        for cluster in 1..4 {
            builder.entry(cluster, at + cluster * 512);
        }
        builder.table_at(2, at + 512);
        builder.l1_entry(3, at + 512 + distance);
        let (findings, _) = surveyed(builder);
        assert!(findings.iter().any(|finding| finding.rule == rule), "{findings:?}");
    }
}
