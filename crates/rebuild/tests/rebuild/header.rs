//! The header, lost wholly or in a byte.

use crate::common::{MIB, Order, content, gpt_disk, image, open, source};
use calve_disk::Image;
use calve_disk::formats::qcow1::Qcow1Image;
use calve_rebuild::{Hints, header};
use calve_testkit::{Builder, Random, Sketch, seeds};

#[test]
fn an_image_without_its_header_is_what_it_was() {
    let disk = gpt_disk(3 * MIB, 1);
    let size = disk.len() as u64;
    for (cluster_bits, l2_bits) in [(12, 9), (9, 12), (16, 13), (9, 6), (10, 8), (13, 7), (16, 6)] {
        for (packed, order) in
            [(false, Order::Sequential), (true, Order::Sequential), (false, Order::Random(3))]
        {
            let what = format!("{cluster_bits}/{l2_bits} packed {packed} {order:?}");
            let builder = Builder::new(cluster_bits, l2_bits, size).aligned(1 << cluster_bits);
            let mut bytes = image(builder, &disk, order, packed);
            bytes[..48].fill(0);
            let rebuilt = header(&source(&bytes), &Hints::default()).expect("memory");
            let told = rebuilt.steps.iter().map(|step| format!("{step}\n")).collect::<String>();
            let found = content(&open(&rebuilt.source));
            assert_eq!(found.len(), disk.len(), "{what}\n{told}");
            assert!(found == disk, "{what}\n{told}");
            assert!(rebuilt.suspect.is_empty(), "{what}: the GPT tells the size\n{told}");
        }
    }
}

#[test]
fn an_image_whose_header_has_one_wrong_byte_is_what_it_was() {
    let disk = gpt_disk(3 * MIB, 2);
    let good = image(
        Builder::new(12, 9, disk.len() as u64).aligned(4096),
        &disk,
        Order::Sequential,
        false,
    );
    let mut random = Random::new(5);
    for at in 0..48 {
        for flip in [0xFF, 1, 0x80, 1 << random.below(8)] {
            let mut bytes = good.clone();
            bytes[at] ^= flip;
            let rebuilt = header(&source(&bytes), &Hints::default()).expect("memory");
            let told = rebuilt.steps.iter().map(|step| format!("{step}\n")).collect::<String>();
            let found = content(&open(&rebuilt.source));
            assert_eq!(found.len(), disk.len(), "byte {at} by {flip:#x}\n{told}");
            assert!(found == disk, "byte {at} by {flip:#x}\n{told}");
        }
    }
}

#[test]
fn an_overlay_whose_header_is_damaged_still_names_its_base() {
    let disk = gpt_disk(3 * MIB, 3);
    let mut builder = Builder::new(9, 12, disk.len() as u64);
    // As QEMU lays it out: the name, then the table.
    builder.patch(48, b"images/base.raw\0");
    builder.patch(8, &48u64.to_be_bytes());
    builder.patch(16, &15u32.to_be_bytes());
    let good = image(builder.l1_at(64), &disk, Order::Random(9), false);
    for at in (0..49).map(|at| if at == 48 { None } else { Some(at) }) {
        let mut bytes = good.clone();
        match at {
            Some(at) => bytes[at] ^= 0xFF,
            None => bytes[..48].fill(0),
        }
        let rebuilt = header(&source(&bytes), &Hints::default()).expect("memory");
        let told = rebuilt.steps.iter().map(|step| format!("{step}\n")).collect::<String>();
        let opened = open(&rebuilt.source);
        let backing = opened.top().facts().backing.clone().map(|backing| backing.name);
        assert_eq!(backing.as_deref(), Some(&b"images/base.raw"[..]), "{at:?}\n{told}");
        assert!(content(&opened) == disk, "{at:?}\n{told}");
    }
}

#[test]
#[expect(clippy::print_stdout, reason = "figures are asked for")]
fn a_good_header_stays_as_it_is() {
    let (mut kept, mut all) = (0, 0);
    for seed in seeds("CALVE_MODEL_CASES", 200) {
        let sketch = Sketch::legal(&mut Random::new(seed));
        let rebuilt = header(&source(&sketch.image), &Hints::default()).expect("memory");
        all += 1;
        kept += usize::from(rebuilt.source.patches().is_empty());
        if !rebuilt.source.patches().is_empty() {
            let told: String = rebuilt.steps.iter().map(|step| format!("{step}\n")).collect();
            println!("seed {seed}: {told}");
        }
    }
    println!("{kept} of {all} headers kept");
    assert!(kept * 100 >= all * 95, "{kept} of {all}");
}

#[test]
#[expect(clippy::print_stdout, reason = "figures are asked for")]
fn a_wrong_guess_of_a_header_is_told_as_suspect() {
    let (mut right, mut all) = (0, 0);
    for seed in seeds("CALVE_MODEL_CASES", 300) {
        let sketch = Sketch::legal(&mut Random::new(seed));
        if sketch.passphrase.is_some() || sketch.base.is_some() {
            continue;
        }
        let expected = content(&open(&source(&sketch.image)));
        let mut bytes = sketch.image;
        bytes[..48].fill(0);
        let rebuilt = header(&source(&bytes), &Hints::default()).expect("memory");
        let mut found = match Qcow1Image::open(Box::new(rebuilt.source.clone()), None) {
            Ok(image) if !image.facts().is_encrypted => content(&open(&rebuilt.source)),
            _ => Vec::new(),
        };
        found.resize(expected.len(), 0);
        all += 1;
        right += usize::from(found == expected);
        assert!(found == expected || !rebuilt.suspect.is_empty(), "seed {seed}");
    }
    println!("{right} of {all} disks right that say nothing of themselves");
}
