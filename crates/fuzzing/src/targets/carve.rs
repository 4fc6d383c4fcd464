//! A version 1 file as evidence: every byte labelled once, what nothing refers to carved once and
//! as it is, the order of the file told in order, and reports that can be read. What reports say
//! is in `reports.rs`.

mod reports;

use std::path::Path;

use calve_disk::formats::qcow1::Qcow1Image;
use calve_disk::units::ClusterSize;
use calve_disk::{Claim, Image, Owner};
use calve_examine::{Carved, Carver, Ending, Event, EventKind, Label, Region, Totals};
use calve_testkit::{Memory, inflated};
use serde_json::Value;

use crate::disks;
use crate::folder;
use crate::input::Input;

/// The longest file that is looked at: a carver tries a stream at every byte.
const LONGEST: usize = 64 << 10;

/// Clusters up to which the tables of a disk are walked, which each report does again.
const MAX_CLUSTERS: u64 = 1 << 13;

pub(super) fn run(data: &[u8]) {
    let Some(input) = Input::of(data) else { return };
    let storage = Box::new(Memory::new(input.image.to_vec()));
    let Ok(image) = Qcow1Image::open(storage, None) else { return };
    let cluster = image.facts().cluster_size.unwrap_or(ClusterSize::SECTOR);
    let clusters = cluster.count(image.facts().virtual_size);
    if input.image.len() > LONGEST || clusters > MAX_CLUSTERS {
        return;
    }
    let claims = claims(&image);
    let (regions, totals) = layout(&image);
    check_layout(&regions, &totals, input.image);
    check_owners(&regions, &claims, input.image.len());
    check_order(&image, &claims);
    reports::check(&image, &regions);
    carve(&image, input.image, &regions);
}

fn claims(image: &dyn Image) -> Vec<Claim> {
    let mut claims = Vec::new();
    disks::expect_memory(image.claims(&mut |claim| {
        claims.push(claim);
        Ok(())
    }));
    claims
}

fn layout(image: &dyn Image) -> (Vec<Region>, Totals) {
    let mut regions = Vec::new();
    let totals = calve_examine::layout(image, &mut |region| {
        regions.push(*region);
        Ok(())
    });
    (regions, disks::expect_memory(totals))
}

/// Every byte once, in order, to the end of the file; padding is what its label says.
fn check_layout(regions: &[Region], totals: &Totals, bytes: &[u8]) {
    let mut reached = 0;
    for region in regions {
        assert_eq!(region.at.get(), reached, "a gap or an overlap: {region:?}");
        assert!(region.length > 0, "a region of nothing: {region:?}");
        let content = &bytes[disks::small(reached)..disks::small(region.end())];
        let is_zero = content.iter().all(|byte| *byte == 0);
        match region.label {
            Label::Padding => assert!(is_zero, "{region:?}: not zeros"),
            Label::Slack => assert!(!is_zero && region.length < 512, "{region:?}: no slack"),
            Label::Owned(_) | Label::Unreferenced => {}
        }
        reached = region.end();
    }
    assert_eq!((reached, totals.file_size), (bytes.len() as u64, bytes.len() as u64));
    for label in Label::ALL {
        let alike = regions.iter().filter(|region| region.label == label);
        assert_eq!(totals.of(label), alike.map(|it| it.length).sum::<u64>(), "{label:?}");
    }
    let shared = regions.iter().filter(|region| region.is_shared());
    assert_eq!(totals.shared, shared.map(|region| region.length).sum::<u64>());
}

/// Each byte has the owner, and those that share it, that the claims say, byte by byte.
fn check_owners(regions: &[Region], claims: &[Claim], length: usize) {
    let (mut once, mut twice) = (vec![0u8; length], vec![0u8; length]);
    for claim in claims {
        let end = usize::try_from(claim.end()).map_or(length, |end| end.min(length));
        let Ok(start) = usize::try_from(claim.at.get()) else { continue };
        let bit = 1 << claim.owner as u8;
        for at in start.min(end)..end {
            let is_again = once[at] & bit != 0 || claim.times > 1;
            twice[at] |= if is_again { bit } else { 0 };
            once[at] |= bit;
        }
    }
    for region in regions {
        for at in disks::small(region.at.get())..disks::small(region.end()) {
            let claimed = |owner: &Owner| once[at] & 1 << *owner as u8 != 0;
            let owner = Owner::ALL.into_iter().find(claimed);
            let is_right = match (region.label, owner) {
                (Label::Owned(label), Some(owner)) => label == owner,
                (Label::Owned(_), None) | (_, Some(_)) => false,
                (_, None) => true,
            };
            assert!(is_right, "byte {at:#x} is {owner:?}'s: {region:?}");
            let shared = |it: &Owner| {
                let bit = 1 << *it as u8;
                (once[at] & bit != 0 && Some(*it) != owner) || twice[at] & bit != 0
            };
            let expected = Owner::ALL.into_iter().filter(shared);
            assert!(region.shared_by().eq(expected), "byte {at:#x}: {region:?}");
        }
    }
}

/// The timeline has all that was written, in the order of the file.
fn check_order(image: &dyn Image, claims: &[Claim]) {
    let kind = |owner| match owner {
        Owner::L2 => Some(EventKind::Table),
        Owner::Data => Some(EventKind::Data),
        Owner::Packed => Some(EventKind::Packed),
        _ => None,
    };
    let written: Vec<&Claim> = claims.iter().filter(|it| kind(it.owner).is_some()).collect();
    let mut events: Vec<Event> = Vec::new();
    disks::expect_memory(calve_examine::timeline(image, &mut |event| {
        events.push(*event);
        Ok(())
    }));
    assert_eq!(events.len(), written.len(), "events and what was written");
    let mut before = 0;
    for (number, (event, claim)) in (1..).zip(events.iter().zip(written)) {
        assert_eq!(event.sequence, number);
        assert!(event.at.get() >= before, "{event:?} goes back");
        assert_eq!((event.at, event.length), (claim.at, claim.length), "{event:?}");
        assert_eq!((Some(event.kind), event.guest), (kind(claim.owner), claim.guest), "{event:?}");
        assert!(event.guest.start.get() < image.facts().virtual_size, "{event:?}: no guest byte");
        before = event.at.get();
    }
}

/// Carves into a folder, and asserts that every byte that nothing refers to and that is not zero
/// is in exactly one file, and nothing else in any.
fn carve(image: &dyn Image, bytes: &[u8], regions: &[Region]) {
    let folder = folder::new();
    let mut carver = disks::expect_memory(Carver::new(image, "test", &|| false));
    let carved = carver.run(folder.path(), 0o600);
    let carved = carved.unwrap_or_else(|error| panic!("carving: {error}"));
    let manifest = std::fs::read(folder.path().join("manifest.json")).expect("a manifest");
    let manifest: Value = serde_json::from_slice(&manifest).expect("JSON");
    assert_eq!(manifest["is-complete"], carved.ending == Ending::Whole, "whether it is complete");
    let files = manifest["files"].as_array().expect("a list");
    let mut times = vec![0u8; bytes.len()];
    for file in files {
        let range = place(&file["host-offset"])..;
        let range = range.start..range.start + place(&file["host-length"]);
        let content = content_of(folder.path(), file);
        let host = &bytes[range.clone()];
        match file["kind"].as_str() {
            Some("packed") => check_packed(image, host, &content, file),
            _ => assert!(content == host, "{file}: other bytes than the file has"),
        }
        times[range].iter_mut().for_each(|times| *times += 1);
    }
    check_totals(&carved, &manifest);
    let limit = manifest["not-looked-at-from"].as_u64().unwrap_or(u64::MAX);
    let looked_at = regions.iter().filter(|region| region.end() <= limit);
    for region in looked_at {
        let is_orphan = matches!(region.label, Label::Slack | Label::Unreferenced);
        for at in disks::small(region.at.get())..disks::small(region.end()) {
            let is_right = match (is_orphan, bytes[at]) {
                (false, _) => times[at] == 0,
                (true, 0) => times[at] <= 1,
                (true, _) => times[at] == 1,
            };
            assert!(is_right, "byte {at:#x} is in {} files: {region:?}", times[at]);
        }
    }
}

fn place(value: &Value) -> usize {
    usize::try_from(value.as_u64().expect("a number")).expect("a small number")
}

/// What a file of the manifest holds, which is as long and has the digest that stands there.
fn content_of(folder: &Path, file: &Value) -> Vec<u8> {
    let name = file["name"].as_str().expect("a name");
    let content = std::fs::read(folder.join(name)).expect("a file");
    assert_eq!(file["size"], content.len(), "{file}");
    assert_eq!(file["blake3"], blake3::hash(&content).to_hex().as_str(), "{file}");
    content
}

/// A packed find is one cluster, and what another decoder makes of the same bytes.
fn check_packed(image: &dyn Image, host: &[u8], content: &[u8], file: &Value) {
    let cluster = image.facts().cluster_size.map_or(0, ClusterSize::bytes);
    assert_eq!(content.len() as u64, cluster, "{file}: not a cluster");
    let expected = inflated(host, content.len());
    assert!(expected.as_deref() == Some(content), "{file}: two decoders, two clusters");
    assert_eq!(file["is-zero"], content.iter().all(|byte| *byte == 0), "{file}");
}

fn check_totals(carved: &Carved, manifest: &Value) {
    let files = manifest["files"].as_array().expect("a list");
    let of = |kind: &str| {
        let alike: Vec<&Value> = files.iter().filter(|file| file["kind"] == kind).collect();
        let bytes = alike.iter().map(|file| place(&file["host-length"]) as u64).sum::<u64>();
        (alike.len() as u64, bytes)
    };
    for (number, kind) in ["cluster", "packed", "table", "rest"].iter().enumerate() {
        let total = &manifest["totals"][kind];
        let found = (carved.files[number], carved.bytes[number]);
        assert_eq!(found, of(kind), "{kind}");
        assert_eq!((&total["files"], &total["host-bytes"]), (&found.0.into(), &found.1.into()));
    }
    assert_eq!(manifest["totals"]["unreferenced-bytes"], carved.unreferenced);
}
