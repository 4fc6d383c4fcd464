//! Instructions of small conversions, counted: a figure that a busy machine does not touch. What
//! becomes dearer by more than the margin fails here before a clock could tell; what becomes
//! cheaper is to be written down, so that the next change is measured against it.
//!
//! `CALVE_INSTRUCTIONS=write` makes `bench/instructions.txt` anew. Another compiler counts
//! differently: then that is the thing to do, in a commit of its own.
//!
//! Only a program that was built as it is released is counted.
use std::collections::BTreeMap;
use std::process::Command;

use crate::common::{Bench, program};
use calve_testkit::corpus::{self, Kind};
use calve_testkit::{Builder, Random, qemu};

/// Per cent by which a count may differ from what is written down.
const MARGIN: u64 = 5;

/// A name, and what is run. Bases are named: valgrind does not know the call that opens a base
/// beneath its folder. There is no worker: valgrind would count only who waits for it.
const CASES: [(&str, &[&str]); 11] = [
    ("info", &["info", "--sandbox=off", "plain"]),
    ("map", &["map", "--base", "base.raw", "over"]),
    ("plain to raw", &["convert", "-O", "raw", "plain", "new"]),
    ("plain to qcow2", &["convert", "-O", "qcow2", "plain", "new"]),
    ("plain to qcow2, verified", &["convert", "-O", "qcow2", "--verify", "plain", "new"]),
    ("plain to packed qcow2", &["convert", "-c", "-O", "qcow2", "plain", "new"]),
    ("packed to raw", &["convert", "-O", "raw", "packed", "new"]),
    (
        "packed to packed qcow2, kept",
        &["convert", "-c", "-O", "qcow2", "-o", "cluster_size=4k", "packed", "new"],
    ),
    ("encrypted to raw", &["convert", "--passphrase-file", "key", "-O", "raw", "secret", "new"]),
    (
        "overlay of 512-byte clusters to qcow2",
        &["convert", "-O", "qcow2", "--base", "base.raw", "over", "new"],
    ),
    ("empty 1 TiB to qcow2", &["convert", "-O", "qcow2", "empty", "new"]),
];

fn images(bench: &Bench) {
    let size = 8 << 20;
    for (name, kind) in [("plain", Kind::Plain), ("packed", Kind::Packed), ("over", Kind::Overlay)]
    {
        corpus::write(&bench.file(name), kind, size, 5).expect("a file");
    }
    corpus::write_base(&bench.file("base.raw"), size, 6).expect("a file");
    bench.write("empty", &corpus::empty(1 << 40));
    let mut secret = Builder::new(12, 9, size).encrypted(b"password");
    for cluster in 0..size >> 13 {
        secret.plain(cluster, &Random::new(cluster).number().to_be_bytes().repeat(512));
    }
    bench.write("secret", &secret.build());
    bench.write("key", b"password");
}

/// The instructions that a run takes with one worker.
fn counted(bench: &Bench, arguments: &[&str]) -> u64 {
    let mut command = Command::new("valgrind");
    command
        .current_dir(bench.path())
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(program())
        .args(arguments);
    if arguments[0] == "convert" {
        command.args(["-q", "--force", "-m", "1"]);
    }
    let output = command.output().expect("starts");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {said}");
    let line = said.lines().find_map(|line| line.split_once("Collected : "));
    let (_, count) = line.unwrap_or_else(|| panic!("no count: {said}"));
    count.trim().parse().expect("a number")
}

#[test]
fn small_conversions_take_the_instructions_that_are_written_down() {
    if cfg!(debug_assertions) && std::env::var_os("CALVE_PROGRAM").is_none() {
        return qemu::skipped("instructions are counted of what was built as released");
    }
    if !qemu::has("valgrind") {
        return;
    }
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/bench/instructions.txt");
    let bench = Bench::new();
    images(&bench);
    let counts = CASES.map(|(name, arguments)| (name, counted(&bench, arguments)));
    let lines: String = counts.iter().map(|(name, count)| format!("{name}: {count}\n")).collect();
    if std::env::var("CALVE_INSTRUCTIONS").is_ok_and(|what| what == "write") {
        std::fs::write(file, lines).expect("a file");
        return;
    }
    let text = std::fs::read_to_string(file).expect("a file");
    let known: BTreeMap<&str, u64> = text
        .lines()
        .filter_map(|line| line.split_once(": "))
        .map(|(name, count)| (name, count.parse().expect("a number")))
        .collect();
    let differs = |(name, count): &(&str, u64)| {
        let known = *known.get(name)?;
        let is_near = count.abs_diff(known) <= known * MARGIN / 100;
        (!is_near).then(|| format!("{name}: {known} were written down, {count} it is now"))
    };
    let differing: Vec<String> = counts.iter().filter_map(differs).collect();
    assert!(known.len() == CASES.len(), "{file} has other cases");
    assert!(differing.is_empty(), "more than {MARGIN} % off:\n{}", differing.join("\n"));
}
