//! What fuzzing found in repairs: one test for each.

mod common;

use calve_testkit::{Builder, Memory, Notes, Random, Sketch, deflated, inflated};
use common::{assert_kept, guest, repair};

fn assert_mends_nothing(builder: Builder, base: Option<Vec<u8>>) {
    assert_mends_nothing_of(&Sketch { image: builder.build(), passphrase: None, base });
}

fn assert_mends_nothing_of(sketch: &Sketch) {
    let storage = Memory::new(sketch.image.clone());
    let (mended, _) = repair(&storage, &Notes::new(None)).expect("memory");
    let before = guest(&sketch.image, sketch);
    assert_kept(&before, &guest(&storage.content(), sketch), sketch, "mended");
    assert_eq!((mended.unallocated, mended.copied), (0, 0));
    assert!(storage.content() == sketch.image, "changed");
}

/// What stands there unpacks, whatever it says as an entry.
#[test]
fn an_entry_inside_of_a_packed_cluster_stays() {
    let mut builder = Builder::new(12, 9, 8 << 20);
    let content = [Random::new(3).content(1000), vec![7; 3096]].concat();
    let (at, length) = builder.packed(0, &content);
    // As a table that begins inside of the payload it leads anywhere.
    let table = at.next_multiple_of(512);
    assert!(table + 8 <= at + length, "the payload is too short");
    builder.l1_entry(2, table);
    assert_mends_nothing(builder, None);
}

/// Nor is there a base under another name.
#[test]
fn an_entry_inside_of_the_name_of_the_base_stays() {
    let mut builder = Builder::new(12, 9, 8 << 20);
    builder.plain(0, &[1; 4096]);
    let at = builder.length().next_multiple_of(512);
    builder.cut(at);
    let mut builder = builder.backing(&[0xEE; 600]);
    builder.cut(at + 4096);
    builder.l1_entry(2, at);
    assert_mends_nothing(builder, Some(vec![3; 9000]));
}

/// A stream of a cluster of 4 KiB of which the last 396 bytes are stored as they are.
fn ends_as_it_is() -> Vec<u8> {
    let mut packed = deflated(&[7; 3700], 12);
    // Another block follows; its three bits are in the last byte, or in one more.
    packed[0] &= !1;
    let stored: Vec<u8> = [0x8C, 0x01, 0x73, 0xFE].into_iter().chain([9; 396]).collect();
    let streams = [&[][..], &[0]].map(|bits| [&packed, bits, &stored].concat());
    let is_whole = |stream: &Vec<u8>| inflated(stream, 4096).is_some();
    streams.into_iter().find(is_whole).expect("one of the two")
}

/// Copies of shared clusters would make the file longer, and the payload would unpack to zeros
/// where its own bytes are missing.
#[test]
fn a_payload_that_the_file_cuts_stays_lost() {
    let mut builder = Builder::new(12, 9, 64 << 10);
    let at = builder.plain(0, &[1; 4096]);
    builder.entry(1, at);
    let stream = ends_as_it_is();
    let (at, length) = builder.stream(2, &stream, stream.len() as u64);
    builder.cut(at + length - 200);
    assert_mends_nothing(builder, None);
}

/// Nor does an L1 table of which the file has a part get zeros.
#[test]
fn an_l1_table_that_the_file_cuts_stays_lost() {
    let mut builder = Builder::new(9, 6, 96 << 10).l1_at(4096);
    let at = builder.plain(0, &[1; 512]);
    builder.entry(1, at);
    let sound = builder.build();
    // The table moves to the end, and its last two entries are behind it.
    let mut image = sound.clone();
    image.extend_from_slice(&sound[4096..4104]);
    let place = (sound.len() as u64).to_be_bytes();
    image[40..48].copy_from_slice(&place);
    assert_mends_nothing_of(&Sketch { image, passphrase: None, base: None });
}
