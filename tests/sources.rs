//! `audit-sources`: what it tells in every shape, its codes, and what it leaves alone.

use std::fs::{self, Permissions};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;

use serde_json::Value;

use crate::common::{Bench, Said, image, program};

/// A bench with a folder `tree` of scripts and settings.
fn bench() -> Bench {
    let bench = Bench::new();
    fs::create_dir_all(bench.file("tree/sub")).expect("a folder");
    for (name, text) in [
        ("tree/make.sh", "#!/bin/sh\nqemu-img create \\\n  -f qcow \\\n  disk.img 1G\n"),
        ("tree/good.sh", "qemu-img create -f qcow2 disk.img 1G\n"),
        ("tree/start.sh", "qemu-system-x86_64 -hda old.qcow\n"),
        ("tree/README.md", "The qcow format is old.\n"),
        ("tree/sub/vm.xml", "<domain><disk>\n<driver name='qemu'\n type='qcow'/></disk></domain>"),
    ] {
        bench.write(name, text.as_bytes());
    }
    bench.write("tree/old.qcow", &image().0);
    bench
}

fn objects(said: &Said, kind: &str) -> Vec<Value> {
    let lines = said.out.lines().map(|line| -> Value {
        serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))
    });
    lines.filter(|object| object["kind"] == kind).collect()
}

#[test]
fn every_shape_tells_the_same_places() {
    let bench = bench();
    let said = bench.fails(2, "", &["audit-sources", "tree"]);
    let expected = "\
tree/make.sh:3:6: S1: makes a version 1 image with qemu-img: write qcow2
    -f qcow
tree/start.sh:1:25: S17: names a file as version 1 images are named: look at the file (calve info); name what is qcow2 .qcow2
    qemu-system-x86_64 -hda old.qcow
tree/sub/vm.xml:3:8: S6: defines a disk in version 1 for libvirt: write qcow2 when the image is migrated (calve convert, calve upgrade)
    type='qcow'/></disk></domain>
findings: 2, notes: 1, in 3 of 6 files
";
    assert_eq!((&*said.out, &*said.err), (expected, ""));
    let lines = bench.fails(2, "", &["audit-sources", "--output", "jsonl", "-j", "1", "tree"]);
    let findings = objects(&lines, "finding");
    let places: Vec<_> = findings
        .iter()
        .map(|it| (it["filename"].as_str(), it["line"].as_u64(), it["rule"].as_str()))
        .collect();
    let place = |name, line, rule| (Some(name), Some(line), Some(rule));
    assert_eq!(
        places,
        [
            place("tree/make.sh", 3, "S1"),
            place("tree/start.sh", 1, "S17"),
            place("tree/sub/vm.xml", 3, "S6")
        ]
    );
    assert_eq!(
        (&findings[0]["weight"], &findings[1]["weight"]),
        (&"finding".into(), &"note".into())
    );
    assert_eq!((&findings[0]["column"], &findings[0]["text"]), (&6.into(), &"-f qcow".into()));
    let totals = &objects(&lines, "totals")[0];
    assert_eq!((&totals["files"], &totals["not-looked-into"]), (&6.into(), &0.into()));
    let document = bench.fails(2, "", &["audit-sources", "--output", "json", "tree"]).json();
    assert_eq!(document["findings"].as_array().map(Vec::len), Some(3));
    assert_eq!(document["totals"]["findings"], 2);
    assert_eq!(document["troubles"].as_array().map(Vec::len), Some(0));
}

#[test]
fn codes_tell_findings_from_notes_and_from_nothing() {
    let bench = bench();
    let quiet = bench.fails(2, "", &["audit-sources", "-q", "tree"]);
    assert_eq!((&*quiet.out, &*quiet.err), ("", ""));
    // A note alone, nothing at all, and a file in the words.
    bench.ok(&["audit-sources", "tree/start.sh"]);
    let said = bench.ok(&["audit-sources", "tree/good.sh", "tree/README.md"]);
    assert_eq!(said.out, "findings: 0, notes: 0, in 0 of 2 files\n");
    bench.fails(2, "", &["audit-sources", "tree/good.sh", "tree/make.sh"]);
    // A link that is named is followed, one that is met is not.
    std::os::unix::fs::symlink("make.sh", bench.file("tree/link.sh")).expect("a link");
    bench.fails(2, "", &["audit-sources", "tree/link.sh"]);
    fs::remove_file(bench.file("tree/make.sh")).expect("removed");
    fs::remove_file(bench.file("tree/sub/vm.xml")).expect("removed");
    bench.ok(&["audit-sources", "tree"]);
    bench.fails(1, "gone", &["audit-sources", "tree", "gone"]);
    bench.fails(64, "--jobs", &["audit-sources", "-j", "0", "tree"]);
    bench.fails(64, "", &["audit-sources"]);
}

#[test]
fn what_is_not_looked_into_is_told() {
    let bench = bench();
    let wide: Vec<u8> = [0xFF, 0xFE].into_iter().chain(b"a".iter().flat_map(|b| [*b, 0])).collect();
    bench.write("tree/wide.ps1", &wide);
    // Findings count more than what was left out.
    bench.fails(2, "tree/wide.ps1: not looked into: text in UTF-16", &["audit-sources", "tree"]);
    let only = ["audit-sources", "tree/wide.ps1", "tree/good.sh"];
    bench.fails(4, "tree/wide.ps1: not looked into", &only);
    let said = bench.fails(4, "", &["audit-sources", "-q", "tree/wide.ps1"]);
    assert_eq!(said.err, "");
}

#[test]
fn a_file_and_a_folder_that_may_not_be_read_are_told() {
    let bench = bench();
    let copy = bench.file("calve");
    fs::copy(program(), &copy).expect("a copy");
    fs::set_permissions(bench.path(), Permissions::from_mode(0o755)).expect("permissions");
    let secret = bench.file("tree/good.sh");
    fs::set_permissions(&secret, Permissions::from_mode(0o000)).expect("permissions");
    fs::set_permissions(bench.file("tree/sub"), Permissions::from_mode(0o000))
        .expect("permissions");
    fs::remove_file(bench.file("tree/make.sh")).expect("removed");
    let mut command = std::process::Command::new(&copy);
    command.current_dir(bench.path()).args(["audit-sources", "tree"]);
    // Root may read all there is.
    let is_root =
        fs::metadata("/proc/self").is_ok_and(|own| std::os::unix::fs::MetadataExt::uid(&own) == 0);
    if is_root {
        command.uid(54_321).gid(54_321);
    }
    let said = Said::of(&command.output().expect("the copy runs"));
    fs::set_permissions(bench.file("tree/sub"), Permissions::from_mode(0o755)).expect("back");
    assert_eq!(said.code, Some(4), "{}{}", said.out, said.err);
    for name in ["tree/good.sh", "tree/sub"] {
        assert!(said.err.contains(&format!("note: {name}: not looked into: ")), "{}", said.err);
    }
}

#[test]
fn names_and_lines_are_harmless_and_names_are_told_exactly() {
    let bench = Bench::new();
    let name = std::ffi::OsStr::from_bytes(b"\x1b[2J\xFF.sh");
    fs::write(bench.path().join(name), "qemu-img create -f qcow \x1b[31m\n").expect("written");
    let said = bench.fails(2, "", &["audit-sources", "."]);
    assert!(!said.out.contains('\x1b'), "{}", said.out);
    assert!(said.out.contains("create -f qcow \\u{1b}[31m"), "{}", said.out);
    let said = bench.fails(2, "", &["audit-sources", "--output", "jsonl", "."]);
    assert_eq!(objects(&said, "finding")[0]["filename-hex"], "2e2f1b5b324aff2e7368");
}

#[test]
fn a_reader_who_goes_away_ends_it_quietly() {
    let bench = Bench::new();
    bench.write("many.sh", &b"qemu-img create -f qcow a 1G\n".repeat(5000));
    let said = bench.fails(2, "", &["audit-sources", "many.sh"]);
    assert!(said.out.ends_with("further findings that are not listed: 4000\n"), "{}", said.out);
    let command = format!("{} audit-sources many.sh | head -1", program());
    let mut shell = std::process::Command::new("sh");
    let output = shell.current_dir(bench.path()).args(["-c", &command]).output().expect("a shell");
    assert_eq!(
        (output.stdout.iter().filter(|b| **b == b'\n').count(), output.stderr.len()),
        (1, 0)
    );
}
