//! The verbs over the claims of a file, through the program: shapes, names, folders, failures.

use crate::common::{Bench, image};
use calve_testkit::{Builder, Random};
use quick_xml::Reader;
use quick_xml::events::Event;
use serde_json::Value;

/// An image with an old packed cluster, two lost clusters, and a base's name that is an attack.
fn evidence() -> Vec<u8> {
    let mut builder =
        Builder::new(12, 9, 4 << 20).backing(b"</title><script>=cmd|\x1b[2J\r\n#").aligned(4096);
    for cluster in [600, 3, 4, 900, 2] {
        builder.plain(cluster, &Random::new(cluster).content(4096));
    }
    builder.packed(7, &[7; 4096]);
    builder.entry(7, 0);
    builder.entry(3, 0);
    builder.entry(4, 0);
    builder.plain(5, &[5; 4096]);
    builder.build()
}

/// The names of all elements; the document has to be well-formed.
fn elements(document: &str) -> Vec<String> {
    let mut reader = Reader::from_str(document);
    let mut names = Vec::new();
    loop {
        match reader.read_event().unwrap_or_else(|error| panic!("{error}: {document}")) {
            Event::Start(start) | Event::Empty(start) => {
                names.push(start.name().as_ref().to_owned());
            }
            Event::Eof => return names,
            _ => {}
        }
    }
}

#[test]
fn every_shape_is_well_formed_whatever_the_file_is_called() {
    let bench = Bench::new();
    let name = "<b onload=\"x\">&\u{202e}\u{ffff}'\n=1+1.qcow";
    bench.write(name, &evidence());
    for trust in ["--sandbox=auto", "--untrusted"] {
        for shape in ["dfxml", "svg", "html"] {
            let said = bench.ok(&["layout", trust, "--output", shape, name]);
            let elements = elements(&said.out);
            assert!(!elements.iter().any(|name| name == "b" || name == "script"), "{}", said.out);
            assert!(!said.out.contains(['\u{202e}', '\u{ffff}']), "{}", said.out);
        }
        let said = bench.ok(&["layout", trust, "--output", "json", name]);
        let list = said.json();
        let sum = |list: &Value| -> u64 {
            let regions = list.as_array().expect("a list").iter();
            regions.map(|region| region["length"].as_u64().expect("a number")).sum()
        };
        assert_eq!(sum(&list), evidence().len() as u64);
        let said = bench.ok(&["layout", trust, name]);
        assert!(said.out.contains("\nunreferenced  "), "{}", said.out);
        let said = bench.ok(&["timeline", trust, name]);
        assert!(said.out.starts_with("# ") && said.err.contains("go backwards"), "{}", said.err);
        let rows = said.out.lines().skip(2);
        assert!(rows.into_iter().all(|row| row.starts_with(|c: char| c.is_ascii_digit())));
        let said = bench.ok(&["timeline", trust, "--output", "bodyfile", name]);
        assert!(said.out.lines().all(|line| line.split('|').count() == 11), "{}", said.out);
    }
}

#[test]
fn carving_makes_the_same_files_with_and_without_a_worker() {
    let bench = Bench::new();
    bench.write("old", &evidence());
    let said = bench.ok(&["carve", "old", "one"]);
    assert!(
        said.out.contains("1 runs of clusters") && said.out.contains("1 packed"),
        "{}",
        said.out
    );
    bench.ok(&["carve", "--untrusted", "old", "two"]);
    let names = |folder: &str| {
        let entries = std::fs::read_dir(bench.file(folder)).expect("a folder");
        let names = entries.map(|entry| entry.expect("one").file_name().into_string());
        let mut names: Vec<String> = names.map(|name| name.expect("plain")).collect();
        names.sort();
        names
    };
    assert_eq!(names("one").len(), 3, "{:?}", names("one"));
    assert_eq!(names("one"), names("two"));
    for name in names("one") {
        assert!(bench.read(&format!("one/{name}")) == bench.read(&format!("two/{name}")), "{name}");
    }
    let manifest: Value = serde_json::from_slice(&bench.read("one/manifest.json")).expect("JSON");
    assert_eq!((&manifest["schema"], &manifest["is-complete"]), (&1.into(), &true.into()));
    let packed = manifest["files"].as_array().expect("a list").iter();
    let packed: Vec<&Value> = packed.filter(|entry| entry["kind"] == "packed").collect();
    let name = packed[0]["name"].as_str().expect("a name");
    assert!(bench.read(&format!("one/{name}")) == [7; 4096]);
}

#[test]
fn nothing_found_is_told_and_folders_that_hold_something_are_refused() {
    let bench = Bench::new();
    bench.write("old", &image().0);
    let said = bench.ok(&["carve", "old", "out"]);
    assert!(said.out.contains("nothing found"), "{}", said.out);
    bench.fails(18, "is not empty", &["carve", "old", "out"]);
    std::fs::create_dir(bench.file("empty")).expect("a folder");
    bench.ok(&["carve", "old", "empty"]);
    bench.fails(1, "making the folder", &["carve", "old", "not/there"]);
}

#[test]
fn other_formats_are_refused_and_leave_no_folder() {
    let bench = Bench::new();
    bench.write("raw", &[7; 4096]);
    bench.ok(&["create", "-q", "-f", "qcow2", "new", "1M"]);
    for name in ["raw", "new"] {
        for trust in ["--sandbox=auto", "--untrusted"] {
            bench.fails(63, "only QCOW version 1", &["layout", trust, name]);
            bench.fails(63, "only QCOW version 1", &["timeline", trust, name]);
            bench.fails(63, "only QCOW version 1", &["carve", trust, name, "out"]);
            assert!(!bench.file("out").exists(), "{name}");
        }
    }
}

#[test]
fn without_space_there_is_no_manifest_and_what_is_there_is_told() {
    if !crate::common::may_trace() {
        return;
    }
    let bench = Bench::new();
    bench.write("old", &evidence());
    let said = bench.run_with_fault(("write", "ENOSPC", 2), &["carve", "old", "out"]);
    assert_eq!(said.code, Some(16), "{}", said.err);
    assert!(said.err.contains("are in out, without a manifest"), "{}", said.err);
    assert!(!bench.file("out/manifest.json").exists());
}

#[test]
fn encrypted_finds_stay_encrypted_and_that_is_said() {
    let bench = Bench::new();
    let mut builder = Builder::new(12, 9, 1 << 20).encrypted(b"password").aligned(4096);
    let at = builder.plain(1, &[1; 4096]);
    builder.entry(1, 0);
    let bytes = builder.build();
    bench.write("secret", &bytes);
    let said = bench.ok(&["carve", "secret", "out"]);
    assert!(said.err.contains("is encrypted, and what is found stays so"), "{}", said.err);
    let found = bench.read(&format!("out/cluster-{at:012x}.bin"));
    let start = usize::try_from(at).expect("small");
    assert!(found == bytes[start..start + 4096]);
}

#[test]
fn small_files_do_not_unpack_without_bound() {
    let bench = Bench::new();
    let mut builder = Builder::new(16, 6, 4 << 20);
    for cluster in 0..64 {
        builder.packed(cluster, &[0; 65536]);
    }
    for cluster in 0..64 {
        builder.entry(cluster, 0);
    }
    let bytes = builder.build();
    bench.write("bomb", &bytes);
    let said = bench.run(&["carve", "bomb", "out"]);
    assert_eq!(said.code, Some(4), "{}{}", said.out, said.err);
    assert!(said.err.contains("on was looked at"), "{}", said.err);
    let manifest: Value = serde_json::from_slice(&bench.read("out/manifest.json")).expect("JSON");
    assert_eq!(manifest["is-complete"], false);
    let files = manifest["files"].as_array().expect("a list").len();
    assert!(files > 0 && files * 65536 <= bytes.len() * 256, "{files}");
}
