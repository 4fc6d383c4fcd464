//! `check -r` through the real binary: what is mended, what stays, and what is refused.

use std::process::Command;

use crate::common::{Bench, Said};
use calve_testkit::{Builder, qemu};

const CLUSTER: u64 = 4096;

/// Four clusters, of which the second shares that of the first, and the third leads behind the end.
fn damaged() -> (Vec<u8>, Vec<u8>) {
    let mut builder = Builder::new(12, 9, 1 << 20);
    let mut disk = vec![0; 1 << 20];
    let first = builder.plain(0, &[1; 4096]);
    builder.plain(3, &[4; 4096]);
    builder.entry(1, first);
    builder.entry(2, 1 << 40);
    disk[..8192].fill(1);
    disk[3 * 4096..4 * 4096].fill(4);
    (builder.build(), disk)
}

fn ready() -> (Bench, Vec<u8>) {
    let bench = Bench::new();
    let (image, disk) = damaged();
    bench.write("old.qcow", &image);
    bench.write("kept", &image);
    (bench, disk)
}

fn ends(bench: &Bench, code: i32, arguments: &[&str]) -> Said {
    let said = bench.run(arguments);
    assert_eq!(said.code, Some(code), "{arguments:?}: {}{}", said.out, said.err);
    said
}

fn assert_untouched(bench: &Bench) {
    assert!(bench.read("old.qcow") == bench.read("kept"), "the image was changed");
    assert_eq!(bench.names(), ["kept", "old.qcow"]);
}

#[test]
fn what_can_be_mended_is_and_the_disk_stays() {
    let (bench, disk) = ready();
    ends(&bench, 2, &["check", "old.qcow"]);
    bench.fails(10, "lost", &["convert", "-q", "old.qcow", "new.raw"]);
    let said = ends(&bench, 0, &["check", "-r", "all", "old.qcow"]);
    assert!(
        said.out.contains("stands for nothing now: guest bytes 0x2000 to 0x3000"),
        "{}",
        said.out
    );
    assert!(said.out.contains("made unallocated: 1, clusters copied apart: 1"), "{}", said.out);
    bench.ok(&["check", "--deep", "old.qcow"]);
    bench.ok(&["convert", "-q", "old.qcow", "new.raw"]);
    assert!(bench.read("new.raw") == disk);
    if qemu::has("qemu-img") {
        assert!(qemu::content(bench.path(), &["-f", "qcow"], "old.qcow") == disk);
    }
}

#[test]
fn a_document_has_every_repair_and_the_keys_of_qemu_img() {
    let (bench, _) = ready();
    let document = ends(&bench, 0, &["check", "-r", "all", "--output", "json", "old.qcow"]).json();
    assert_eq!(document["repairs"][0]["was"], 1u64 << 40);
    assert_eq!(document["repairs"][0]["start"], 2 * CLUSTER);
    assert_eq!(document["repairs"][1]["repair"], "copied-apart");
    assert_eq!(document["corruptions-fixed"], 2);
    assert_eq!(document["corruptions"], 0);
    assert!(document["interrupted-repair"].is_null());
}

#[test]
fn only_leaks_are_trimmed_where_only_they_are_asked_for() {
    let (bench, _) = ready();
    ends(&bench, 2, &["check", "-r", "leaks", "old.qcow"]);
    assert_untouched(&bench);
    let (sound, _) = crate::common::image();
    let mut leaky = sound.clone();
    leaky.resize(sound.len().next_multiple_of(4096) + 8192, 7);
    bench.write("leaky.qcow", &leaky);
    let said = ends(&bench, 0, &["check", "-r", "leaks", "leaky.qcow"]);
    assert!(said.out.contains("8192 bytes that nothing referred to are gone"), "{}", said.out);
    assert!(bench.read("leaky.qcow").starts_with(&sound));
}

#[test]
fn what_is_not_repaired_here_is_refused_and_untouched() {
    let (bench, _) = ready();
    bench.write("raw", &[0; 4096]);
    bench.ok(&["create", "-q", "-f", "qcow2", "new.qcow2", "1M"]);
    bench.fails(63, "qemu-img check -r", &["check", "-r", "all", "new.qcow2"]);
    bench.fails(63, "raw", &["check", "-r", "all", "raw"]);
    bench.fails(64, "no worker may", &["check", "-r", "all", "--sandbox=require", "old.qcow"]);
    for other in ["--backing-chain", "--untrusted", "-U", "--evidence=log"] {
        bench.fails(64, "cannot be used with", &["check", "-r", "all", other, "old.qcow"]);
    }
    bench.fails(64, "leaks, all", &["check", "-r", "some", "old.qcow"]);
    std::fs::remove_file(bench.file("raw")).expect("a file");
    std::fs::remove_file(bench.file("new.qcow2")).expect("a file");
    assert_untouched(&bench);
    bench.write("old.qcow.calve-undo", b"whatever");
    bench.fails(18, "not settled", &["check", "-r", "all", "old.qcow"]);
}

#[test]
fn an_image_that_is_in_use_is_not_repaired() {
    if !qemu::has("qemu-io") {
        return;
    }
    let (bench, _) = ready();
    let mut other = Command::new("qemu-io")
        .args(["-f", "qcow", "old.qcow"])
        .current_dir(bench.path())
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .expect("qemu-io starts");
    let mut prompt = [0; 1];
    std::io::Read::read_exact(other.stdout.as_mut().expect("piped"), &mut prompt)
        .expect("a prompt");
    bench.fails(15, "end the program", &["check", "-r", "all", "old.qcow"]);
    drop(other.stdin.take());
    other.wait().expect("qemu-io ends");
    assert_untouched(&bench);
}

#[test]
fn an_interrupted_repair_is_settled_by_the_next_one() {
    let (bench, disk) = ready();
    // Whatever fails on the way, the image is sound, and a second run ends well.
    if !crate::common::may_trace() {
        return;
    }
    for (call, fault) in [("pwrite64", "ENOSPC"), ("fsync", "EIO"), ("fdatasync", "EIO")] {
        for number in 1..12 {
            bench.write("old.qcow", &bench.read("kept"));
            let arguments = ["check", "-r", "all", "old.qcow"];
            let said = bench.run_with_fault((call, fault, number), &arguments);
            if said.code == Some(0) {
                break;
            }
            let code = if fault == "ENOSPC" { 16 } else { 1 };
            assert_eq!(said.code, Some(code), "{call} {number}: {}{}", said.out, said.err);
            let said = bench.run(&arguments);
            assert_eq!(said.code, Some(0), "{call} {number}: {}{}", said.out, said.err);
            bench.ok(&["convert", "-q", "--force", "old.qcow", "new.raw"]);
            assert!(bench.read("new.raw") == disk, "{call} {number}");
            std::fs::remove_file(bench.file("new.raw")).expect("a file");
            assert_eq!(bench.names(), ["kept", "old.qcow"], "{call} {number}");
        }
    }
}
