//! Damaged sources: refused with nothing left behind, or salvaged with every loss recorded.

use std::fs;
use std::os::unix::fs::OpenOptionsExt;

use crate::common::{Bench, image};
use calve_testkit::{Builder, Random, deflated, qemu};

/// A disk whose last cluster is cut and whose second entry leads nowhere.
fn damaged() -> Vec<u8> {
    let mut builder = Builder::new(12, 9, 64 << 10);
    for cluster in [0, 1, 2, 9] {
        builder.plain(cluster, &Random::new(cluster).content(4096));
    }
    builder.entry(1, 1 << 40);
    builder.cut(builder.length() - 1000);
    builder.build()
}

#[test]
fn damage_is_refused_naming_places_count_and_what_to_do() {
    let bench = Bench::new();
    bench.write("old.qcow", &damaged());
    for format in ["raw", "qcow2"] {
        let said = bench.fails(10, "--salvage", &["convert", "-O", format, "old.qcow", "new"]);
        assert!(said.err.contains("[Q18]") && said.err.contains("[Q19]"), "{}", said.err);
        assert!(said.err.contains("2 lost ranges, 5096 bytes"), "{}", said.err);
        assert_eq!(bench.names(), ["old.qcow"]);
    }
    let said = bench.run(&["compare", "old.qcow", "old.qcow"]);
    assert_eq!(said.code, Some(4), "{}", said.err);
}

#[test]
fn salvage_writes_zeros_and_records_them_everywhere() {
    let bench = Bench::new();
    let image = damaged();
    bench.write("old.qcow", &image);
    let arguments = ["convert", "--salvage", "--map", "lost.map", "--output", "json"];
    let said = bench.run(&[&arguments[..], &["--verify", "old.qcow", "new.raw"]].concat());
    assert_eq!(said.code, Some(4), "{}", said.err);
    let summary = said.json();
    assert_eq!(summary["lost-bytes"], 5096);
    assert_eq!(summary["losses"][0]["rule"], "Q18");
    assert_eq!(summary["losses"][0]["start"], 4096);
    assert_eq!(summary["losses"][1]["length"], 1000);
    assert_eq!(summary["losses"][1]["filled-with"], "zeros");
    let map = String::from_utf8(bench.read("lost.map")).expect("text");
    let lines: Vec<&str> = map.lines().filter(|line| line.ends_with('-')).collect();
    assert_eq!(lines, ["0x1000  0x1000  -", "0x9c18  0x3e8  -"]);
    let raw = bench.read("new.raw");
    assert_eq!(raw[..4096], Random::new(0).content(4096));
    assert!(raw[4096..8192].iter().all(|byte| *byte == 0));
    assert!(bench.read("old.qcow") == image, "the source stays as it is");
    let map = bench.ok(&["map", "--output", "ddrescue", "old.qcow"]).out;
    assert!(map.contains("0x1000  0x1000  -"), "{map}");
}

#[test]
fn salvage_takes_what_the_base_has_and_says_so() {
    let bench = Bench::new();
    bench.write("base.raw", &[0x44; 64 << 10]);
    let mut builder = Builder::new(12, 9, 64 << 10).backing(b"base.raw");
    builder.plain(0, &[0x55; 4096]);
    builder.entry(1, 1 << 40);
    bench.write("old.qcow", &builder.build());
    for (with, byte) in [("base", 0x44), ("zeros", 0)] {
        let salvage = format!("--salvage={with}");
        let said = bench.run(&["convert", &salvage, "--output=json", "--force", "old.qcow", "n"]);
        assert_eq!(said.code, Some(4), "{}", said.err);
        assert_eq!(said.json()["losses"][0]["filled-with"], with);
        assert!(bench.read("n")[4096..8192].iter().all(|found| *found == byte), "{with}");
    }
}

#[test]
fn what_took_the_place_of_lost_bytes_is_not_left_to_a_damaged_base() {
    let bench = Bench::new();
    let mut base = Builder::new(12, 9, 64 << 10);
    base.plain(0, &[0x21; 4096]);
    base.entry(5, 1 << 40);
    bench.write("base.qcow", &base.build());
    let mut top = Builder::new(12, 9, 64 << 10).backing(b"base.qcow");
    top.plain(1, &[0x22; 4096]);
    bench.write("old.qcow", &top.build());
    let thin = ["-O", "qcow2", "-o", "cluster_size=4k", "-B", "base.qcow", "-F", "qcow"];
    let arguments = [&["convert", "--salvage"][..], &thin, &["old.qcow", "thin.qcow2"]].concat();
    assert_eq!(bench.run(&arguments).code, Some(4));
    bench.ok(&["convert", "thin.qcow2", "new"]);
    let new = bench.read("new");
    assert_eq!((new[0], new[4096], new[5 * 4096]), (0x21, 0x22, 0));
}

/// A pipe with a name that nobody reads keeps whoever opens it waiting.
#[test]
fn a_pipe_that_nobody_reads_is_no_map() {
    let bench = Bench::new();
    bench.write("old.qcow", &image().0);
    nix::unistd::mkfifo(&bench.file("pipe"), nix::sys::stat::Mode::S_IRWXU).expect("a pipe");
    let convert =
        ["convert", "--salvage", "--force", "--map", "pipe", "-O", "raw", "old.qcow", "n"];
    bench.fails(18, "nobody reads it; start the reader first", &convert);
    bench.fails(
        18,
        "pipe: is no regular file",
        &["rescue", "-O", "raw", "--map", "pipe", "old.qcow", "n"],
    );
    assert_eq!(bench.names(), ["old.qcow", "pipe"]);
    let flags = i32::try_from(rustix::fs::OFlags::NONBLOCK.bits()).expect("small");
    let _reader = fs::File::options().read(true).custom_flags(flags).open(bench.file("pipe"));
    // There are no losses, and what is not of this program's making stays.
    bench.ok(&convert);
    assert_eq!(bench.names(), ["n", "old.qcow", "pipe"]);
}

#[test]
fn a_map_file_that_exists_is_not_written_over() {
    let bench = Bench::new();
    bench.write("old.qcow", &damaged());
    bench.write("lost.map", b"mine");
    bench.fails(18, "lost.map", &["convert", "--salvage", "--map", "lost.map", "old.qcow", "n"]);
    assert_eq!(bench.names(), ["lost.map", "old.qcow"]);
    assert_eq!(bench.read("lost.map"), b"mine");
}

#[test]
fn a_payload_that_does_not_unpack_is_damage_too() {
    let bench = Bench::new();
    let mut builder = Builder::new(12, 9, 64 << 10);
    builder.stream(3, &[0xFF; 100], 100);
    bench.write("old.qcow", &builder.build());
    bench.fails(10, "[Q26]", &["convert", "old.qcow", "new"]);
    assert_eq!(bench.names(), ["old.qcow"]);
}

/// Where a stream was damaged, QEMU's word counts: the same clusters are lost, and the others
/// hold the same.
#[test]
fn damaged_streams_are_judged_as_qemu_judges_them() {
    if !qemu::has("qemu-img") {
        return;
    }
    let bench = Bench::new();
    let mut random = Random::new(6);
    let mut builder = Builder::new(12, 9, 512 << 12);
    for cluster in 0..512 {
        let words: Vec<u64> = (0..20).map(|_| random.number()).collect();
        let content: Vec<u8> = (0..512).flat_map(|_| random.one_of(&words).to_be_bytes()).collect();
        let mut stream = deflated(&content, 12);
        // Most damage is near the end, where a cluster is nearly full.
        let length = stream.len() as u64;
        let from = random.one_of(&[0, length - length.min(12)]);
        let at = usize::try_from(from + random.below(length - from)).expect("small");
        stream[at] ^= 1 << random.below(8);
        builder.stream(cluster, &stream, stream.len() as u64);
    }
    bench.write("old.qcow", &builder.build());
    qemu::img(bench.path(), &["convert", "--salvage", "-O", "raw", "old.qcow", "theirs"]);
    let said = bench.run(&["convert", "--salvage", "--output=json", "old.qcow", "ours"]);
    assert_eq!(said.code, Some(4), "{}", said.err);
    let lost = said.json()["lost-bytes"].as_u64().expect("a number") / 4096;
    assert!((50..500).contains(&lost), "{lost} lost clusters prove little");
    let (ours, theirs) = (bench.read("ours"), bench.read("theirs"));
    for (cluster, (ours, theirs)) in ours.chunks(4096).zip(theirs.chunks(4096)).enumerate() {
        assert!(ours == theirs, "cluster {cluster}");
    }
}

#[test]
fn broken_headers_and_look_alikes_are_named() {
    let bench = Bench::new();
    let (image, _) = crate::common::image();
    let patched = |at: usize, byte: u8| {
        let mut image = image.clone();
        image[at] = byte;
        image
    };
    for (bytes, code, text) in [
        (patched(32, 17), 10, "[Q5]"),
        (patched(33, 5), 10, "[Q6]"),
        (patched(24, 0x7F), 10, "[Q7]"),
        (patched(39, 2), 10, "[Q9]"),
        (image[..30].to_vec(), 10, "[Q2]"),
        (patched(7, 4), 63, "QCOW version 4"),
        (b"KDMV and so on".to_vec(), 63, "VMDK"),
    ] {
        bench.write("x", &bytes);
        bench.fails(code, text, &["convert", "x", "new"]);
        bench.fails(code, text, &["info", "x"]);
        assert_eq!(bench.names(), ["x"]);
    }
}

#[test]
fn info_tells_of_damage_on_a_deep_look() {
    let bench = Bench::new();
    bench.write("old.qcow", &damaged());
    let info = bench.ok(&["info", "--deep", "--output", "json", "old.qcow"]).json();
    assert_eq!(info["survey"]["lost-clusters"], 2);
    assert!(info["advice"].as_str().expect("text").contains("--salvage"));
    let rules: Vec<&str> = info["findings"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|finding| finding["rule"].as_str().expect("text"))
        .collect();
    // The cluster that the second entry led to once is a leak now.
    assert_eq!(rules, ["Q18", "Q19", "Q28"]);
    let human = bench.ok(&["info", "--deep", "old.qcow"]).out;
    assert!(human.contains("lost clusters: 2"), "{human}");
}
