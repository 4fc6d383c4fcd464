//! Plans whose images are objects, carried out against a real server of S3.

use std::process::Stdio;

use calve_testkit::{Builder, Random, qemu, seeds};
use serde_json::Value;

use crate::common::Bench;
use crate::common::store::{BUCKET, Pass, Server, Wire};
use crate::migrate::{kill_within, kills};

/// Images of which each lies on the one before, and one alone: their names, their bytes and those of
/// their disks.
type Images = Vec<(&'static str, Vec<u8>, Vec<u8>)>;

/// Bytes of each disk, of which most are stored in the base: more than the least part has.
const SIZE: usize = 7 << 20;

const CLUSTER: usize = 4096;

fn images(bench: &Bench) -> Images {
    let mut base = Builder::new(12, 9, SIZE as u64).aligned(CLUSTER as u64);
    let mut disk = vec![0; SIZE];
    for place in (0..SIZE / CLUSTER).filter(|place| place % 8 != 3) {
        let content = Random::new(place as u64).content(CLUSTER as u64);
        base.plain(place as u64, &content);
        disk[place * CLUSTER..(place + 1) * CLUSTER].copy_from_slice(&content);
    }
    let lower = disk.clone();
    let mut over = Builder::new(12, 9, SIZE as u64).backing(b"base.qcow");
    for place in [3, 700] {
        over.plain(place as u64, &[0x5a; CLUSTER]);
        disk[place * CLUSTER..(place + 1) * CLUSTER].fill(0x5a);
    }
    let (base, over) = (base.build(), over.build());
    let mut alone = Builder::new(9, 12, 1 << 20);
    alone.plain(7, &[0x77; 512]);
    let mut alone_disk = vec![0; 1 << 20];
    alone_disk[7 * 512..8 * 512].fill(0x77);
    bench.write("base.qcow", &base);
    bench.write("over.qcow", &over);
    let thin = ["convert", "-q", "-O", "qcow2", "-B", "over.qcow", "-F", "qcow"];
    bench.ok(&[&thin[..], &["over.qcow", "top.qcow2"]].concat());
    let top = bench.read("top.qcow2");
    for name in ["base.qcow", "over.qcow", "top.qcow2"] {
        std::fs::remove_file(bench.file(name)).expect("removed");
    }
    vec![
        ("base.qcow", base, lower),
        ("over.qcow", over, disk.clone()),
        ("top.qcow2", top, disk),
        ("alone.qcow", alone.build(), alone_disk),
    ]
}

fn key(name: &str) -> String {
    format!("dir/{name}")
}

fn put(server: &Server, images: &Images) {
    images.iter().for_each(|(name, bytes, _)| server.put(&key(name), bytes));
}

/// Scans the bucket, and plans.
fn plan(bench: &Bench, words: &[&str]) -> Vec<Value> {
    for name in ["catalogue", "plan"] {
        let _ = std::fs::remove_file(bench.file(name));
    }
    let bucket = format!("s3://{BUCKET}");
    bench.ok(&["scan", "-q", "--catalogue", "catalogue", &bucket]);
    let plan = ["plan", "catalogue", "--save", "plan", "--output", "jsonl"];
    let said = bench.ok(&[&plan[..], words].concat()).out;
    let lines = said.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
    lines.filter(|line| line["kind"] == "image").collect()
}

/// Asserts that all objects are qcow2 images of these disks, for calve and for stock QEMU.
fn assert_migrated(bench: &Bench, server: &Server, images: &Images) {
    let names: Vec<&str> = images.iter().map(|(name, ..)| *name).collect();
    for name in &names {
        bench.write(name, &server.get(&key(name)).expect("an object"));
    }
    for (name, _, disk) in images {
        bench.ok(&["convert", "-q", "--force", "-f", "qcow2", "-O", "raw", name, "fetched.raw"]);
        assert!(bench.read("fetched.raw") == *disk, "{name}: other bytes");
        if qemu::has("qemu-img") {
            qemu::assert_clean(bench.path(), name);
            let content = qemu::content(bench.path(), &["-f", "qcow2"], name);
            assert!(content == *disk, "{name}: other bytes for QEMU");
        }
    }
    for name in names.into_iter().chain(["fetched.raw"]) {
        std::fs::remove_file(bench.file(name)).expect("removed");
    }
}

/// Asserts that all objects are what they were, and that there is nothing beside them.
fn assert_as_before(server: &Server, images: &Images) {
    let mut keys: Vec<String> = images.iter().map(|(name, ..)| key(name)).collect();
    keys.sort();
    assert_eq!(server.keys(), keys);
    for (name, bytes, _) in images {
        assert!(server.get(&key(name)).expect("an object") == *bytes, "{name}: not what it was");
    }
}

fn certificate(bench: &Bench) -> Value {
    bench.run(&["report", "--output", "json", "catalogue"]).json()["certificate"].clone()
}

#[test]
fn families_of_objects_are_migrated_and_taken_back() {
    let Some(server) = Server::start() else { return };
    let bench = Bench::in_memory().with_store(&server.address());
    let images = images(&bench);
    for way in ["upgrade", "convert", "flatten"] {
        put(&server, &images);
        let planned = plan(&bench, &["--way", way]);
        let of = |name: &str| {
            let ends = |it: &&Value| it["path"].as_str().expect("a path").ends_with(name);
            planned.iter().find(ends).expect("in the plan")["strategy"].clone()
        };
        let overlay = if way == "flatten" { "flatten" } else { way };
        let base = if way == "upgrade" { "upgrade" } else { "convert" };
        let all = ["base.qcow", "over.qcow", "top.qcow2", "alone.qcow"].map(of);
        assert_eq!(all, [base, overlay, "rebase", base], "{way}");
        bench.ok(&["migrate", "-q", "--digests", "plan"]);
        assert_migrated(&bench, &server, &images);
        assert_eq!(server.uploads(), [""; 0]);
        let (beside, keys) = match way {
            "upgrade" => ("calve-undo", server.keys()),
            _ => ("calve-original", server.keys()),
        };
        let count = keys.iter().filter(|key| key.ends_with(beside)).count();
        assert_eq!((count, keys.len()), (3, 7), "{way}: {keys:?}");
        // Originals are version 1 images, and undo records are none.
        let left = if way == "upgrade" { 0 } else { 3 };
        assert_eq!(certificate(&bench)["version1"], left, "{way}");
        // The same again does nothing, and then back.
        let said = bench.ok(&["migrate", "plan"]).out;
        assert!(said.contains("2 were before"), "{said}");
        bench.ok(&["migrate", "-q", "--undo", "1", "plan"]);
        assert_as_before(&server, &images);
        // Taken back, its objects have other tags: a plan is made anew.
        bench.fails(11, "another object", &["migrate", "plan"]);
        assert_as_before(&server, &images);
        if way == "flatten" {
            continue;
        }
        plan(&bench, &["--way", way]);
        bench.ok(&["migrate", "-q", "plan"]);
        bench.ok(&["migrate", "-q", "--release", "1", "plan"]);
        assert_migrated(&bench, &server, &images);
        assert_eq!(server.keys().len(), 4, "{:?}", server.keys());
        assert_eq!(certificate(&bench)["given"], true, "{}", certificate(&bench));
        bench.fails(11, "was given up", &["migrate", "--undo", "1", "plan"]);
    }
    for (kept, beside) in [("none", 0), ("30d", 3)] {
        put(&server, &images);
        plan(&bench, &["--way", "convert", "--keep-originals", kept]);
        bench.ok(&["migrate", "-q", "plan"]);
        assert_migrated(&bench, &server, &images);
        assert_eq!(server.keys().len(), 4 + beside, "{kept}: {:?}", server.keys());
    }
}

#[test]
fn a_family_of_objects_whose_last_image_fails_is_what_it_was() {
    let Some(server) = Server::start() else { return };
    let bench = Bench::in_memory().with_store(&server.address());
    let images = images(&bench);
    for way in ["upgrade", "convert"] {
        put(&server, &images);
        plan(&bench, &["--way", way]);
        let hook = "case $CALVE_IMAGE in *top.qcow2) exit 3;; esac";
        let said = bench.fails(11, "the hook after ended", &["migrate", "plan", "--after", hook]);
        assert!(said.out.contains("1 family migrated, 1 failed"), "{}", said.out);
        for (name, bytes, _) in &images[..3] {
            let now = server.get(&key(name)).expect("an object");
            assert!(now == *bytes, "{way}: {name} is not what it was");
        }
        // Their tags are others now, and this run knows them.
        bench.ok(&["migrate", "-q", "plan"]);
        assert_migrated(&bench, &server, &images);
        bench.ok(&["migrate", "-q", "--undo", "1", "plan"]);
        assert_as_before(&server, &images);
    }
    // What somebody else replaced is nobody's to change, nor to take back.
    plan(&bench, &[]);
    let mut other = images[3].1.clone();
    *other.last_mut().expect("a byte") ^= 1;
    server.put(&key("alone.qcow"), &other);
    bench.fails(11, "another object", &["migrate", "plan"]);
    assert!(server.get(&key("alone.qcow")).expect("an object") == other);
    let now = server.get(&key("base.qcow")).expect("an object");
    server.put(&key("base.qcow"), &[&now[..], &[0; 512]].concat());
    bench.fails(11, "was replaced since", &["migrate", "--undo", "1", "plan"]);
    assert_eq!(server.get(&key("base.qcow")).expect("an object").len(), now.len() + 512);
}

#[test]
fn a_run_over_objects_that_is_killed_at_any_moment_goes_on() {
    let Some(server) = Server::start() else { return };
    let wire = Wire::to(&server);
    let bench = Bench::in_memory().with_store(&wire.address);
    let images = images(&bench);
    for seed in seeds("CALVE_MIGRATE_CASES", 2) {
        let mut random = Random::new(seed);
        let way = ["upgrade", "convert"][usize::try_from(seed % 2).expect("small")];
        put(&server, &images);
        plan(&bench, &["--way", way]);
        for _ in 0..kills() {
            let run = bench.command(&["migrate", "-q", "plan"]).stderr(Stdio::null()).spawn();
            kill_within(run.expect("starts"), random.below(1_000_000));
        }
        // What a killed run asked for last, the server did while the next ones were killed. What the
        // last of them asked for is done before the one that nobody kills.
        wire.settle();
        let said = bench.run(&["migrate", "plan"]);
        assert_eq!(said.code, Some(0), "seed {seed}, {way}: {}", said.err);
        assert_migrated(&bench, &server, &images);
        let staged = server.keys().into_iter().filter(|key| key.ends_with("calve-staged"));
        assert_eq!(staged.collect::<Vec<_>>(), [""; 0], "seed {seed}");
        let undo = ["migrate", "-q", "--undo", "1", "plan"];
        for _ in 0..kills() {
            let run = bench.command(&undo).stderr(Stdio::null()).spawn();
            kill_within(run.expect("starts"), random.below(600_000));
        }
        wire.settle();
        let list = bench.ok(&["migrate", "--list", "--output", "json", "catalogue"]).json();
        // One of those may have been quick enough to end.
        let code = if list[0]["undone"].is_null() { 0 } else { 18 };
        let said = bench.run(&undo);
        assert_eq!(said.code, Some(code), "seed {seed}: {}", said.err);
        assert_as_before(&server, &images);
    }
}

#[test]
fn a_server_that_fails_now_and_then_keeps_no_family_from_being_whole() {
    let Some(server) = Server::start() else { return };
    let mut bench = Bench::in_memory().with_store(&server.address());
    let images = images(&bench);
    for seed in seeds("CALVE_MIGRATE_CASES", 2) {
        let way = ["upgrade", "convert"][usize::try_from(seed % 2).expect("small")];
        let wire = Wire::deciding(&server, move |line, number| {
            let dice = Random::new(seed ^ number as u64).below(10);
            match dice {
                0 => Pass::Answer("503 Slow Down"),
                // An answer that was lost is unclear where something was to get its name.
                1 if !line.contains("uploadId=") || line.contains("partNumber=") => Pass::Lost,
                _ => Pass::On,
            }
        });
        put(&server, &images);
        bench.set("AWS_ENDPOINT_URL", &server.address());
        plan(&bench, &["--way", way]);
        bench.set("AWS_ENDPOINT_URL", &wire.address);
        let mut code = bench.run(&["migrate", "-q", "plan"]).code;
        for _ in 0..4 {
            if code == Some(0) {
                break;
            }
            // Some family failed, and is as it was, or goes on.
            assert!(matches!(code, Some(11 | 75)), "seed {seed}: {code:?}");
            code = bench.run(&["migrate", "-q", "plan"]).code;
        }
        assert_eq!(code, Some(0), "seed {seed}");
        bench.set("AWS_ENDPOINT_URL", &server.address());
        assert_migrated(&bench, &server, &images);
        bench.ok(&["migrate", "-q", "--undo", "1", "plan"]);
        assert_as_before(&server, &images);
    }
}

#[test]
fn what_a_plan_says_of_objects_has_to_make_sense() {
    let Some(server) = Server::start() else { return };
    let bench = Bench::in_memory().with_store(&server.address());
    let images = images(&bench);
    put(&server, &images);
    let mut cut = images[0].1.clone();
    cut.truncate(cut.len() - 8192);
    server.put("dir/cut.qcow", &cut);
    for damaged in ["leave", "rescue", "quarantine"] {
        let planned = plan(&bench, &["--damaged", damaged, "--way", "reflink"]);
        let ends = |name: &'static str| {
            move |it: &&Value| it["path"].as_str().expect("a path").ends_with(name)
        };
        let cut = planned.iter().find(ends("cut.qcow")).expect("in the plan");
        assert_eq!(cut["strategy"], "leave", "{cut}");
        let alone = planned.iter().find(ends("alone.qcow")).expect("in the plan");
        assert_eq!(alone["strategy"], "upgrade", "{alone}");
        assert!(alone["reason"].as_str().expect("a reason").contains("no clones"), "{alone}");
    }
    let text = String::from_utf8(bench.read("plan")).expect("text");
    for (from, to, why) in [
        ("\"strategy\":\"upgrade\"", "\"strategy\":\"rescue\"", "for files alone"),
        (
            "s3://old-images/dir/over.qcow\",\"strategy",
            "/dir/over.qcow\",\"strategy",
            "files and objects",
        ),
    ] {
        assert!(text.contains(from), "{text}");
        bench.write("odd", text.replace(from, to).as_bytes());
        bench.fails(18, why, &["migrate", "odd"]);
    }
}
