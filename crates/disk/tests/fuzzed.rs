//! What fuzzing found in this crate: one test for each, with a file of the builder's.

mod common;

use calve_disk::codec::aes::Passphrase;
use calve_disk::formats::qcow2::Qcow2Image;
use calve_disk::units::{ClusterSize, GuestRange};
use calve_disk::{Disk, Layer};
use calve_testkit::Memory;
use common::Fate;

/// A qcow2 image of one encrypted cluster, of which the file has 700 bytes.
fn cut_qcow2() -> Disk {
    let (memory, size) = (Memory::new(Vec::new()), ClusterSize::from_bits(12).expect("in range"));
    common::write_qcow2(&memory, &[1; 4096], size, &[Fate::Plain]).expect("memory");
    let mut image = memory.content();
    image[35] = 1;
    let place = |image: &[u8], at: usize| {
        let word = image[at..].first_chunk().map(|bytes| u64::from_be_bytes(*bytes));
        usize::try_from(word.expect("a word") << 1 >> 1).expect("a small file")
    };
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
