//! Reports of a layout: JSON that says the same, XML that can be read, text of so many lines.

use calve_disk::{Image, Owner, Result};
use calve_examine::{Region, Report};
use quick_xml::Reader;
use quick_xml::events::Event;
use serde_json::Value;

use crate::disks;

pub(super) fn check(image: &dyn Image, regions: &[Region]) {
    let report = Report { image, version: "test" };
    let human = text(&mut |out| calve_examine::write_human(&report, out));
    assert!(human.lines().count() > regions.len(), "a line for each region");
    human.lines().for_each(|line| assert!(!line.chars().any(char::is_control), "{line:?}"));
    check_json(&text(&mut |out| calve_examine::write_json(&report, out)), regions);
    let dfxml = text(&mut |out| calve_examine::write_dfxml(&report, out));
    assert_eq!(elements(&dfxml, "byte_run"), regions.len() as u64, "byte runs");
    elements(&text(&mut |out| calve_examine::write_svg(&report, out)), "rect");
    elements(&text(&mut |out| calve_examine::write_html(&report, out)), "rect");
    check_order(image);
}

/// What a report writes, which is text.
fn text(write: &mut dyn FnMut(&mut Vec<u8>) -> Result<()>) -> String {
    let mut out = Vec::new();
    disks::expect_memory(write(&mut out));
    String::from_utf8(out).expect("text")
}

fn check_json(json: &str, regions: &[Region]) {
    let told: Vec<Value> = serde_json::from_str(json).expect("a list of JSON");
    assert_eq!(told.len(), regions.len(), "regions in JSON");
    for (value, region) in told.iter().zip(regions) {
        let found = [&value["offset"], &value["length"]].map(Value::as_u64);
        assert_eq!(found, [Some(region.at.get()), Some(region.length)], "{value}");
        assert_eq!(value["label"], region.label.words(), "{value}");
        let guest = [&value["guest-offset"], &value["guest-length"]].map(Value::as_u64);
        let expected = [region.guest.start.get(), region.guest.length].map(Some);
        let expected = if region.guest.is_empty() { [None, None] } else { expected };
        assert_eq!(guest, expected, "{value}");
        let shared = value["shared-by"].as_array().into_iter().flatten();
        assert!(shared.eq(region.shared_by().map(Owner::words)), "{value}");
    }
}

/// How many elements of this name a text of XML has, which is read to its end and closes all that
/// it opens.
fn elements(xml: &str, name: &str) -> u64 {
    let mut reader = Reader::from_str(xml);
    reader.config_mut().check_end_names = true;
    let (mut open, mut count) = (0u64, 0);
    loop {
        match reader.read_event().unwrap_or_else(|error| panic!("XML: {error}")) {
            Event::Start(start) => {
                open += 1;
                count += u64::from(start.name().as_ref() == name);
            }
            Event::Empty(empty) => count += u64::from(empty.name().as_ref() == name),
            Event::End(_) => open -= 1,
            Event::Eof => break,
            _ => {}
        }
    }
    assert_eq!(open, 0, "elements stay open");
    count
}

/// The timeline as text: a judgement, a heading, and a line for each event, in both ways.
fn check_order(image: &dyn Image) {
    let order = disks::expect_memory(calve_examine::judge(image));
    disks::assert_one_line(&order.judgement());
    let csv = text(&mut |out| calve_examine::csv(image, &order, out));
    let body = text(&mut |out| calve_examine::bodyfile(image, out));
    assert_eq!(csv.lines().count(), body.lines().count() + 2, "events");
    assert!(csv.lines().skip(1).all(|line| line.split(',').count() == 6), "{csv}");
    assert!(body.lines().all(|line| line.split('|').count() == 11), "{body}");
}
