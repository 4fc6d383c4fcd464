//! Every bit of a header, a name, an L1 and an L2 table flipped once: it is refused, told of, or
//! proved to change nothing; where nothing in the format tells of it, this is the list.
#![expect(clippy::print_stdout, reason = "its counts are read by people")]

mod common;

use std::collections::{BTreeMap, BTreeSet};

use calve_disk::units::HostOffset;
use calve_disk::{Disk, Error, Finding, Rule, Weight};
use calve_testkit::Specimen;

/// What became of a flipped bit.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Outcome {
    /// The image is not opened, or its content not read without a key.
    Refused,
    /// A finding that matters.
    Detected,
    /// A note, and nothing that matters; the disk may be another one.
    Noted,
    /// The same disk over a base of the same name.
    Harmless,
    /// Another disk, or another base, and not a word.
    Silent,
}

const OUTCOMES: [Outcome; 5] =
    [Outcome::Refused, Outcome::Detected, Outcome::Noted, Outcome::Harmless, Outcome::Silent];

/// Every field of which bits make another legal image, and how many of them: a disk that is
/// longer or shorter within what its tables cover, another name or none, and half a table where
/// the other half becomes the room that writers leave in front of a cluster.
const UNTOLD: [(&str, &str, u64); 8] = [
    ("12/9 Xen", "l2_bits", 1),
    ("12/9 Xen", "virtual size", 20),
    ("12/9 plain", "l2_bits", 1),
    ("12/9 plain", "virtual size", 19),
    ("9/12 overlay", "name", 64),
    ("9/6 overlay", "name", 64),
    ("9/6 packed", "virtual size", 10),
    ("9/6 plain", "virtual size", 10),
];

type Counts = BTreeMap<(&'static str, &'static str), BTreeMap<Outcome, u64>>;

/// A disk as its user sees it: how long, over which base, what on it.
#[derive(PartialEq, Eq)]
struct Seen {
    size: u64,
    base_name: Option<Vec<u8>>,
    content: Vec<Option<u8>>,
}

/// What is known of a specimen before any bit is flipped.
struct Intact {
    seen: Seen,
    findings: BTreeSet<String>,
}

fn opened(specimen: &Specimen, image: Vec<u8>) -> Result<Disk, Error> {
    common::disk(image, None, specimen.base.clone())
}

fn seen(disk: &Disk) -> Result<Seen, Error> {
    let facts = disk.top().facts();
    let base_name = facts.backing.as_ref().map(|backing| backing.name.clone());
    Ok(Seen { size: disk.virtual_size(), base_name, content: common::content(disk)? })
}

fn intact(specimen: &Specimen) -> Intact {
    let disk = opened(specimen, specimen.image.clone()).expect("opens");
    let findings = common::checked(&disk).expect("memory");
    let matter = findings.iter().find(|finding| finding.rule.weight() > Weight::Note);
    assert!(matter.is_none(), "{}: {matter:?}", specimen.name);
    let findings = findings.iter().map(ToString::to_string).collect();
    Intact { seen: seen(&disk).expect("memory"), findings }
}

fn outcome(specimen: &Specimen, intact: &Intact, image: Vec<u8>) -> Outcome {
    let Ok(disk) = opened(specimen, image) else { return Outcome::Refused };
    let Ok(findings) = common::checked(&disk) else { return Outcome::Refused };
    let fresh = findings.iter().filter(|finding| !intact.findings.contains(&finding.to_string()));
    match fresh.map(|finding| finding.rule.weight()).max() {
        Some(Weight::Note) => return Outcome::Noted,
        Some(_) => return Outcome::Detected,
        None => {}
    }
    if disk.virtual_size() != intact.seen.size {
        return Outcome::Silent;
    }
    match seen(&disk) {
        Err(_) => Outcome::Refused,
        Ok(seen) if seen == intact.seen => Outcome::Harmless,
        Ok(_) => Outcome::Silent,
    }
}

fn print(title: &str, counts: &Counts) {
    println!(
        "\n{title}\n\n| image | field | bits | refused | detected | noted | harmless | silent |"
    );
    println!("|---|---|---:|---:|---:|---:|---:|---:|");
    for ((image, field), outcomes) in counts {
        let of = |outcome| outcomes.get(&outcome).copied().unwrap_or_default();
        let cells = OUTCOMES.map(|outcome| of(outcome).to_string()).join(" | ");
        println!("| {image} | {field} | {} | {cells} |", outcomes.values().sum::<u64>());
    }
}

#[test]
fn a_flipped_bit_of_header_or_tables_is_told_of_or_changes_nothing() {
    let mut counts = Counts::new();
    for specimen in Specimen::all() {
        let intact = intact(&specimen);
        for (field, bit) in specimen.bits() {
            let outcome = outcome(&specimen, &intact, specimen.flipped(bit));
            *counts.entry((specimen.name, field)).or_default().entry(outcome).or_default() += 1;
        }
    }
    print("Each bit once", &counts);
    let silent: Vec<_> = counts
        .iter()
        .filter_map(|((image, field), outcomes)| {
            outcomes.get(&Outcome::Silent).map(|count| (*image, *field, *count))
        })
        .collect();
    assert_eq!(silent, UNTOLD, "bits that make another disk, and nothing tells");
}

#[test]
fn flips_in_packed_payloads_are_caught_as_far_as_deflate_shows_them() {
    const FLIPS: usize = 1000;
    let mut counts = Counts::new();
    for specimen in [Specimen::small_packed(), Specimen::small_overlay()] {
        let intact = intact(&specimen);
        for bit in specimen.payload_bits(FLIPS) {
            let outcome = outcome(&specimen, &intact, specimen.flipped(bit));
            let field = (specimen.name, "packed payload");
            *counts.entry(field).or_default().entry(outcome).or_default() += 1;
        }
    }
    print("Packed payloads", &counts);
    for outcomes in counts.values() {
        assert_eq!(outcomes.values().sum::<u64>(), FLIPS as u64);
        // Version 1 has no checksum, so that some make another disk; deflate shows the rest.
        assert!(outcomes.contains_key(&Outcome::Detected));
    }
}

#[test]
fn the_place_of_a_flip_is_in_what_is_told_of_it() {
    let specimen = Specimen::small_plain();
    let entry = specimen.fields.iter().find(|field| field.name == "L2, used").expect("there");
    // The lowest bit of an entry: no offset that a cluster can have.
    let image = specimen.flipped(entry.bytes.end * 8 - 1);
    let disk = opened(&specimen, image).expect("opens");
    let findings = common::checked(&disk).expect("memory");
    let is_it = |finding: &&Finding| finding.rule == Rule::ClusterEntry;
    let finding = findings.iter().find(is_it).expect("found");
    assert_eq!(finding.at, Some(HostOffset::new(entry.bytes.start)));
}
