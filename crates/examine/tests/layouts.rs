//! The layout of any image labels each byte once, as a map of single bytes has it.

mod common;

use calve_disk::{Image, Owner};
use calve_examine::{Label, Report, write_dfxml, write_html, write_json, write_svg};
use calve_testkit::{Builder, Random, Sketch, seeds};
use common::{opened, regions};
use quick_xml::Reader;
use quick_xml::events::Event;
use serde_json::Value;

fn in_memory(number: u64) -> usize {
    usize::try_from(number).expect("a small number")
}

/// How many claims of each owner there are on each byte.
fn claims_by_byte(image: &dyn Image, size: usize) -> Vec<[u32; 7]> {
    let mut bytes = vec![[0; 7]; size];
    image
        .claims(&mut |claim| {
            let start = in_memory(claim.at.get()).min(size);
            let end = in_memory(claim.end()).min(size);
            bytes[start..end].iter_mut().for_each(|owners| {
                owners[claim.owner as usize] += claim.times;
            });
            Ok(())
        })
        .expect("memory does not fail");
    bytes
}

/// Compares the layout of an image with the map of its single bytes.
fn check(bytes: &[u8], what: &str) {
    let Some(image) = opened(bytes) else { return };
    let owners = claims_by_byte(&image, bytes.len());
    let cluster = image.facts().cluster_size.expect("version 1 has clusters").bytes();
    let (mut reached, mut claimed_to) = (0, 0);
    let mut before: Option<Label> = None;
    for region in regions(&image) {
        assert_eq!(region.at.get(), reached, "{what}: a gap or an overlap");
        assert!(region.length > 0, "{what}");
        reached = region.end();
        let range = in_memory(region.at.get())..in_memory(region.end());
        for (byte, owners) in bytes[range.clone()].iter().zip(&owners[range.clone()]) {
            let first = owners.iter().position(|count| *count > 0);
            let others = owners
                .iter()
                .enumerate()
                .filter(|(number, count)| **count > u32::from(Some(*number) == first));
            let others: Vec<usize> = others.map(|(number, _)| number).collect();
            // A kind that two claims have counts once, whether it is the region's own or not.
            let shared: Vec<usize> = region.shared_by().map(|owner| owner as usize).collect();
            assert_eq!(shared, others, "{what}: {region:?}");
            match region.label {
                Label::Owned(owner) => assert_eq!(first, Some(owner as usize), "{what}"),
                Label::Padding => assert_eq!((first, *byte), (None, 0), "{what}: {region:?}"),
                Label::Slack | Label::Unreferenced => assert_eq!(first, None, "{what}"),
            }
        }
        match region.label {
            Label::Owned(_) => claimed_to = region.end(),
            Label::Padding => assert!(region.end() <= claimed_to.next_multiple_of(cluster)),
            Label::Slack => assert!(region.end() <= claimed_to.next_multiple_of(512)),
            Label::Unreferenced => assert_ne!(before, Some(Label::Unreferenced), "{what}"),
        }
        before = Some(region.label);
    }
    assert_eq!(reached, bytes.len() as u64, "{what}: the end");
}

#[test]
fn every_byte_of_any_image_is_labelled_once_and_as_its_claims_say() {
    for seed in seeds("CALVE_MODEL_CASES", 100) {
        let mut random = Random::new(seed);
        let mut sketch = Sketch::legal(&mut random);
        check(&sketch.image, &format!("seed {seed}"));
        for _ in 0..3 {
            sketch.damage(&mut random);
            check(&sketch.image, &format!("seed {seed}, damaged"));
        }
    }
}

#[test]
fn neighbours_are_one_region_and_overlaps_say_who_shares() {
    let mut builder = Builder::new(12, 9, 1 << 20).aligned(4096);
    let first = builder.plain(3, &[3; 4096]);
    builder.plain(4, &[4; 4096]);
    builder.plain(9, &[9; 4096]);
    builder.entry(20, first + 4096);
    let table = builder.table_of(0);
    let size = builder.length();
    builder.patch(size + 4096, &[5; 4096]);
    let bytes = builder.build();
    let image = opened(&bytes).expect("an image");
    let told: Vec<(u64, u64, Label, u64, Vec<Owner>)> = regions(&image)
        .iter()
        .filter(|region| region.at.get() >= table)
        .map(|region| {
            let shared = region.shared_by().collect();
            (region.at.get(), region.length, region.label, region.guest.start.get(), shared)
        })
        .collect();
    let data = Label::Owned(Owner::Data);
    assert_eq!(told[0], (table, 4096, Label::Owned(Owner::L2), 0, vec![]));
    assert_eq!(told[1], (first, 4096, data, 3 << 12, vec![]));
    assert_eq!((told[2].0, told[2].2, &told[2].4), (first + 4096, data, &vec![Owner::Data]));
    assert_eq!(told[3], (first + 8192, 4096, data, 9 << 12, vec![]));
    assert_eq!(told[4], (size, 8192, Label::Unreferenced, 0, vec![]));
    assert_eq!(told.len(), 5);
}

/// Names and attributes of all elements of a document, which has to be well-formed.
fn elements(document: &str) -> Vec<(String, Vec<(String, String)>)> {
    let mut reader = Reader::from_str(document);
    let mut all = Vec::new();
    loop {
        let event = reader.read_event().unwrap_or_else(|error| panic!("{error}: {document}"));
        match event {
            Event::Start(start) | Event::Empty(start) => {
                let attributes = start.attributes().map(|attribute| {
                    let attribute = attribute.expect("an attribute");
                    (attribute.key.as_ref().to_owned(), attribute.value.into_owned())
                });
                all.push((start.name().as_ref().to_owned(), attributes.collect()));
            }
            Event::Eof => return all,
            _ => {}
        }
    }
}

#[test]
fn json_and_dfxml_tell_of_the_same_ranges() {
    for seed in seeds("CALVE_MODEL_CASES", 30) {
        let bytes = Sketch::legal(&mut Random::new(seed)).image;
        let image = opened(&bytes).expect("a legal image");
        let report = Report { image: &image, version: "1" };
        let expected: Vec<(u64, u64)> =
            regions(&image).iter().map(|region| (region.at.get(), region.length)).collect();
        let mut out = Vec::new();
        write_json(&report, &mut out).expect("memory does not fail");
        let list: Vec<Value> = serde_json::from_slice(&out).expect("JSON");
        let told = list.iter().map(|region| {
            (region["offset"].as_u64().expect("a number"), region["length"].as_u64().expect("one"))
        });
        assert_eq!(told.collect::<Vec<_>>(), expected, "seed {seed}");
        let mut out = Vec::new();
        write_dfxml(&report, &mut out).expect("memory does not fail");
        let document = String::from_utf8(out).expect("UTF-8");
        let mut told: Vec<(u64, u64)> = elements(&document)
            .iter()
            .filter(|(name, _)| name == "byte_run")
            .map(|(_, attributes)| {
                let number = |key: &str| {
                    let attribute = attributes.iter().find(|(name, _)| name == key);
                    attribute.expect("an attribute").1.parse::<u64>().expect("a number")
                };
                (number("file_offset"), number("len"))
            })
            .collect();
        told.sort_unstable();
        assert_eq!(told, expected, "seed {seed}");
    }
}

#[test]
fn pictures_are_well_formed_need_no_network_and_do_not_grow_with_the_file() {
    let mut builder = Builder::new(9, 12, 64 << 20);
    for cluster in 0..20_000 {
        let content = Random::new(cluster).content(512);
        if cluster % 3 == 0 {
            builder.packed(cluster, &content);
        } else {
            builder.plain(cluster * 7 % 100_000, &content);
        }
    }
    let image = opened(&builder.build()).expect("an image");
    let report = Report { image: &image, version: "1" };
    for write in [write_svg, write_html] {
        let mut out = Vec::new();
        write(&report, &mut out).expect("memory does not fail");
        let document = String::from_utf8(out).expect("UTF-8");
        assert!(document.len() < 2 << 20, "{}", document.len());
        let elements = elements(&document);
        assert!(elements.iter().filter(|(name, _)| name == "rect").count() <= 4096 + 12);
        for (name, attributes) in &elements {
            assert!(!matches!(name.as_str(), "script" | "link" | "img" | "image" | "use"));
            for (key, value) in attributes {
                let is_link = value.contains("http") && key != "xmlns";
                assert!(!is_link && !key.starts_with("on"), "{key}={value}");
            }
        }
        assert!(!document.contains("@import") && !document.contains("url("));
    }
}
