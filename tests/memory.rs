//! Memory is bounded by calve's choice: whole runs in an address space of 64 MiB, whatever the
//! image is like and whatever it claims. In the address space are also the program itself, its
//! libraries and the stacks.

use crate::common::Bench;
use crate::common::made::many;
use calve_testkit::corpus::{self, Kind};
use calve_testkit::{Builder, Random, qemu};

/// What has to succeed in so many KiB of address space.
fn within(bench: &Bench, kibibytes: u64, arguments: &[&str]) {
    let said = bench.run_within(kibibytes, arguments);
    // Of check: there is room that nothing refers to.
    let is_leaky = arguments[0] == "check" && said.code == Some(3);
    assert!(said.code == Some(0) || is_leaky, "{arguments:?}: {}", said.err);
}

const LIMIT: u64 = 64 << 10;

fn converts(bench: &Bench, arguments: &[&str]) {
    let arguments = [&["convert", "-q", "--force", "-m", "2"], arguments].concat();
    within(bench, LIMIT, &arguments);
}

#[test]
fn large_images_of_every_kind() {
    let bench = Bench::new();
    let size = 20 << 20;
    for (name, kind) in [("plain", Kind::Plain), ("packed", Kind::Packed), ("over", Kind::Overlay)]
    {
        corpus::write(&bench.file(name), kind, size, 5).expect("a file");
    }
    corpus::write_base(&bench.file("base.raw"), size, 6).expect("a file");
    for source in ["plain", "packed", "over"] {
        for target in [
            &["-O", "raw"][..],
            &["-O", "qcow2", "--verify"],
            &["-O", "qcow2", "-o", "cluster_size=512"],
            &["-O", "qcow2", "-o", "cluster_size=2M"],
            &["-O", "qcow2", "-c", "--verify"],
            &["-O", "qcow2", "-c", "-o", "cluster_size=4k"],
            &["-O", "qcow2", "-c", "-o", "cluster_size=2M"],
        ] {
            converts(&bench, &[target, &[source, "new"]].concat());
        }
        within(&bench, LIMIT, &["info", "--deep", source]);
        within(&bench, LIMIT, &["check", "--deep", "-m", "2", source]);
        within(&bench, LIMIT, &["compare", source, "new"]);
        within(&bench, LIMIT, &["map", "--evidence", "log", source]);
        std::fs::remove_file(bench.file("log")).expect("a log");
    }
}

#[test]
fn headers_that_claim_everything() {
    let bench = Bench::new();
    bench.write("claim", &corpus::claim((512 << 40) - (2 << 20)));
    bench.write("empty", &corpus::empty(1 << 40));
    within(&bench, LIMIT, &["info", "--deep", "claim"]);
    within(&bench, LIMIT, &["map", "claim"]);
    // All of its tables are missing.
    let salvage = ["--salvage", "-O", "qcow2", "claim", "new"];
    let said = bench.run(&[&["convert", "-q", "--force", "-m", "2"], &salvage[..]].concat());
    assert_eq!(said.code, Some(4), "{}", said.err);
    converts(&bench, &["-O", "qcow2", "empty", "new"]);
    converts(&bench, &["-O", "qcow2", "-o", "cluster_size=4k", "empty", "new"]);
}

#[test]
fn a_table_for_every_place_that_there_is() {
    let bench = Bench::new();
    // 2^17 tables of 64 entries, one behind the other, and nearly all of them empty.
    let mut builder = Builder::new(9, 6, 1 << 32);
    for table in 0..1 << 17 {
        builder.table_of(table << 6);
    }
    builder.plain(77, &[7; 512]);
    bench.write("tables", &builder.build());
    converts(&bench, &["-O", "qcow2", "tables", "new"]);
    within(&bench, LIMIT, &["info", "--deep", "tables"]);
}

#[test]
fn a_long_chain_of_scattered_overlays() {
    let bench = Bench::new();
    let mut random = Random::new(9);
    let size: u64 = 8 << 20;
    let mut below = "0".to_owned();
    bench.write(&below, &random.content(size));
    for number in 1..60 {
        let mut builder = Builder::new(9, 12, size).backing(below.as_bytes());
        for _ in 0..2000 {
            builder.plain(random.below(size / 512), &[number; 512]);
        }
        below = number.to_string();
        bench.write(&below, &builder.build());
    }
    converts(&bench, &["-O", "raw", "--verify", &below, "new"]);
    if qemu::has("qemu-img") {
        let expected = qemu::content(bench.path(), &["-f", "qcow"], &below);
        assert!(bench.read("new") == expected, "QEMU reads something else");
    }
}

/// Reference counts are made for one window of the file after the other: this one has two, with a
/// cluster in each.
#[test]
fn an_upgrade_of_a_file_that_is_very_long() {
    use std::os::unix::fs::FileExt;
    const FAR: u64 = 150 << 30;
    let bench = Bench::new();
    let mut builder = Builder::new(12, 9, 1 << 30).aligned(4096);
    builder.plain(0, &[1; 4096]);
    builder.entry(9, FAR);
    let shared = builder.plain(300, &[3; 4096]);
    builder.entry(301, shared);
    builder.entry(302, FAR);
    let image = builder.build();
    bench.write("long", &image);
    let file = std::fs::File::options().write(true).open(bench.file("long")).expect("a file");
    file.write_all_at(&[9; 4096], FAR).expect("a sparse file");
    bench.ok(&["convert", "-q", "long", "was.raw"]);
    within(&bench, 2 * LIMIT, &["upgrade", "-q", "long"]);
    bench.ok(&["compare", "long", "was.raw"]);
    if qemu::has("qemu-img") {
        qemu::assert_clean(bench.path(), "long");
    }
    within(&bench, LIMIT, &["upgrade", "-q", "--undo", "long"]);
    assert_eq!(file.metadata().expect("a file").len(), FAR + 4096);
    let mut start = vec![0; image.len()];
    std::fs::File::open(bench.file("long"))
        .expect("a file")
        .read_exact_at(&mut start, 0)
        .expect("all");
    assert!(start == image, "not what it was");
}

/// Neither rows nor paths nor the plan are in memory as a whole.
#[test]
fn a_report_of_a_hundred_thousand_images() {
    let bench = Bench::new();
    many(&bench, 100_000);
    // Those that say most; the others are made of the same rows, one by one.
    for shape in ["html", "premis"] {
        let name = format!("report.{shape}");
        within(&bench, LIMIT, &["report", "--output", shape, "--save", &name, "images.plan"]);
    }
    // Of a worker, whose journal is a file of its own.
    let folder = "images.plan.shards";
    std::fs::create_dir(bench.file(folder)).expect("a folder");
    let digest = blake3::hash(&bench.read("images.plan")).to_hex();
    let agreed = format!("{{\"plan-digest\":\"{digest}\",\"shards\":1,\"by\":\"bytes\"}}");
    bench.write(&format!("{folder}/shards.json"), agreed.as_bytes());
    let journal = bench.file(folder).join("shard-0-of-1.journal");
    std::fs::copy(bench.file("images.catalogue"), journal).expect("a copy");
    let words = ["report", "--output", "csv", "--save", "shards.csv", "images.plan"];
    within(&bench, LIMIT, &[&words[..], &["--journal", folder]].concat());
    let rows = bench.read("shards.csv").split(|byte| *byte == b'\n').count();
    assert!(rows > 100_000, "{rows} lines");
}
