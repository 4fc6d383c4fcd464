//! Opening images in memory, and carving them.
#![allow(dead_code, reason = "each test file uses a part of it")]

use std::path::Path;

use calve_disk::Image;
use calve_disk::formats::qcow1::Qcow1Image;
use calve_examine::{Carved, Carver, Label, Region, layout};
use calve_testkit::Memory;
use serde_json::Value;

/// An image in memory; `None` where its header is too damaged to open it.
pub(crate) fn opened(bytes: &[u8]) -> Option<Qcow1Image> {
    Qcow1Image::open(Box::new(Memory::new(bytes.to_vec())), None).ok()
}

/// All regions of an image.
pub(crate) fn regions(image: &dyn Image) -> Vec<Region> {
    let mut regions = Vec::new();
    let totals = layout(image, &mut |region| {
        regions.push(*region);
        Ok(())
    });
    let totals = totals.expect("memory does not fail");
    for label in Label::ALL {
        let alike = regions.iter().filter(|region| region.label == label);
        assert_eq!(totals.of(label), alike.map(|region| region.length).sum::<u64>(), "{label:?}");
    }
    regions
}

/// Carves into a folder, and reads the manifest.
pub(crate) fn carved(image: &dyn Image, folder: &Path) -> (Carved, Value) {
    let mut carver = Carver::new(image, "test", &|| false).expect("version 1");
    let carved = carver.run(folder, 0o600).expect("the host does not fail");
    let manifest = std::fs::read(folder.join("manifest.json")).expect("a manifest");
    (carved, serde_json::from_slice(&manifest).expect("JSON"))
}

/// The entries of a manifest with what their files hold.
pub(crate) fn finds(folder: &Path, manifest: &Value) -> Vec<(Value, Vec<u8>)> {
    let files = manifest["files"].as_array().expect("a list");
    let read = |entry: &Value| {
        let name = entry["name"].as_str().expect("a name");
        let content = std::fs::read(folder.join(name)).expect("a file");
        assert_eq!(entry["size"], content.len());
        assert_eq!(entry["blake3"], blake3::hash(&content).to_hex().as_str());
        (entry.clone(), content)
    };
    files.iter().map(read).collect()
}

/// A length or an offset of a manifest as a place in memory.
pub(crate) fn place(value: &Value) -> usize {
    usize::try_from(value.as_u64().expect("a number")).expect("a small number")
}
