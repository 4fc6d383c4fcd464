//! `plan`: what it decides for families of every kind, and that it touches nothing.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;

use serde_json::Value;

use crate::common::{Bench, Said, image, mounted};
use calve_testkit::{Builder, Mounted};

fn overlay(base: &str) -> Vec<u8> {
    let mut builder = Builder::new(9, 12, 1 << 20).backing(base.as_bytes());
    builder.plain(5, &[9; 512]);
    builder.build()
}

/// A bench with a folder `tree` of families, and a catalogue of it.
fn bench() -> Bench {
    let bench = Bench::new();
    for folder in ["tree/chain", "tree/moved", "tree/raw"] {
        fs::create_dir_all(bench.file(folder)).expect("a folder");
    }
    let (v1, _) = image();
    let mut cut = v1.clone();
    cut.truncate(v1.len() - 5000);
    let mut secret = Builder::new(12, 9, 1 << 20).encrypted(b"password");
    secret.plain(0, &[7; 4096]);
    for (name, bytes) in [
        ("tree/alone.img", &v1[..]),
        ("tree/chain/a.qcow", &v1),
        ("tree/chain/b.qcow", &overlay("a.qcow")),
        ("tree/chain/c.qcow", &overlay("b.qcow")),
        ("tree/cut.qcow", &cut),
        ("tree/lost.qcow", &overlay("gone.img")),
        ("tree/raw/base.raw", &[3; 1 << 20]),
        ("tree/raw/over.qcow", &overlay("base.raw")),
        ("tree/secret.qcow", &secret.build()),
    ] {
        bench.write(name, bytes);
    }
    bench.ok(&["scan", "-q", "--catalogue", "catalogue", "tree"]);
    bench
}

fn lines(said: &Said, kind: &str) -> Vec<Value> {
    let lines = said.out.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
    lines.filter(|object| object["kind"] == kind).collect()
}

/// The name of each image and what is done with it.
fn fates(said: &Said) -> Vec<(String, String)> {
    let name = |image: &Value| {
        let path = image["path"].as_str().expect("a path");
        path.split_once("/tree/").expect("below the folder").1.to_owned()
    };
    let of = |image: &Value| (name(image), image["strategy"].as_str().expect("a word").to_owned());
    lines(said, "image").iter().map(of).collect()
}

fn plan(bench: &Bench, words: &[&str]) -> Said {
    bench.ok(&[&["plan", "catalogue", "--output", "jsonl", "-q"], words].concat())
}

fn expected(fates: &[(&str, &str)]) -> Vec<(String, String)> {
    fates.iter().map(|(name, fate)| ((*name).to_owned(), (*fate).to_owned())).collect()
}

#[test]
fn whole_families_are_upgraded_and_others_are_left_with_a_reason() {
    let bench = bench();
    let said = plan(&bench, &[]);
    assert_eq!(
        fates(&said),
        expected(&[
            ("alone.img", "upgrade"),
            ("chain/a.qcow", "upgrade"),
            ("chain/b.qcow", "upgrade"),
            ("chain/c.qcow", "upgrade"),
            ("cut.qcow", "leave"),
            ("lost.qcow", "leave"),
            ("raw/base.raw", "leave"),
            ("raw/over.qcow", "upgrade"),
            ("secret.qcow", "upgrade"),
        ])
    );
    let images = lines(&said, "image");
    let reason = |place: usize| images[place]["reason"].as_str().expect("a reason").to_owned();
    assert!(reason(4).contains("[Q"), "{}", reason(4));
    assert!(reason(5).contains("gone.img"), "{}", reason(5));
    assert_eq!((&images[2]["base-format"], &images[2]["base-order"]), (&"qcow2".into(), &1.into()));
    assert_eq!(images[7]["base-format"], "raw");
    let total = &lines(&said, "total")[0];
    assert_eq!((&total["version1"], &total["migrated"]), (&8.into(), &6.into()));
    // What an upgrade would append is what is said.
    let dry = bench.ok(&["upgrade", "--dry-run", "--output", "json", "tree/alone.img"]).json();
    assert_eq!(images[0]["write"], dry["appended-bytes"]);
}

#[test]
fn a_base_that_cannot_be_the_overlays_is_refused_and_where_it_was_named_is_told() {
    let bench = bench();
    bench.write("bases", b"# by hand\n\ntree/lost.qcow=tree/gone\n");
    bench.write("mine.raw", &[1; 1 << 20]);
    bench.ok(&["scan", "-q", "--catalogue", "catalogue", "tree"]);
    for (words, code, why) in [
        (["--base", "tree/lost.qcow=mine.raw"], 18, "no scan into this catalogue has met"),
        (["--base", "tree/chain/b.qcow=tree/alone.img"], 18, "chain/a.qcow, which QEMU takes"),
        (["--base", "tree/alone.img=tree/raw/base.raw"], 18, "has no backing file"),
        (["--base", "tree/lost.qcow"], 64, "is not OVERLAY=BASE"),
        (["--base", "tree/lost.qcow=tree/gone"], 64, "tree/gone: No such file"),
        (["--bases", "bases"], 64, "bases: line 3: tree/gone: No such file"),
        (["--bases", "nowhere"], 1, "nowhere"),
    ] {
        bench.fails(code, why, &[&["plan", "catalogue", "-q"][..], &words].concat());
    }
    // The way to say it stands where the family is left.
    let said = plan(&bench, &["--base", "tree/lost.qcow=tree/raw/base.raw"]);
    assert_eq!(lines(&said, "total")[0]["migrated"], 7);
}

#[test]
fn a_shell_takes_the_base_that_a_plan_proposes_whatever_it_is_called() {
    for name in [&b"it's $(touch x) \"`"[..], b"-a=b", b"\xff\\'\n", "\u{202e}".as_bytes()] {
        let bench = Bench::new();
        let folder = bench.file("tree").join(OsStr::from_bytes(name));
        for inner in ["old", "new"] {
            fs::create_dir_all(folder.join(inner)).expect("a folder");
        }
        fs::write(folder.join("old/base.qcow"), image().0).expect("written");
        fs::write(folder.join("new/over.qcow"), overlay("base.qcow")).expect("written");
        bench.ok(&["scan", "-q", "--catalogue", "catalogue", "tree"]);
        let said = plan(&bench, &[]);
        assert_eq!(lines(&said, "total")[0]["migrated"], 0, "{}", said.out);
        let images = lines(&said, "image");
        let reason = images.iter().filter_map(|it| it["reason"].as_str()).find_map(|reason| {
            let word = reason.split_once(" --base ")?.1;
            word.split_once(" takes").map(|(word, _)| word.to_owned())
        });
        let word = reason.expect("what to type");
        let script = format!("\"$0\" plan catalogue -q --output jsonl --base {word}");
        let program = bench.command(&[]).get_program().to_owned();
        let mut shell = std::process::Command::new("bash");
        shell.arg("-c").arg(&script).arg(program).current_dir(bench.path());
        let said = Said::of(&shell.output().expect("bash"));
        assert_eq!(said.code, Some(0), "{script}: {}", said.err);
        assert_eq!(lines(&said, "total")[0]["migrated"], 2, "{script}");
    }
}

#[test]
fn wishes_decide_what_is_done_with_whole_and_damaged_images() {
    let bench = bench();
    let flat = plan(&bench, &["--way", "flatten", "--damaged", "rescue"]);
    let fate = |said: &Said, name: &str| {
        fates(said).into_iter().find(|(path, _)| path == name).expect("planned").1
    };
    assert_eq!(fate(&flat, "chain/a.qcow"), "convert");
    assert_eq!(fate(&flat, "chain/c.qcow"), "flatten");
    assert_eq!(fate(&flat, "raw/over.qcow"), "flatten");
    assert_eq!(fate(&flat, "cut.qcow"), "rescue");
    assert_eq!(fate(&flat, "secret.qcow"), "upgrade");
    assert_eq!(fate(&plan(&bench, &["--damaged", "quarantine"]), "cut.qcow"), "quarantine");
}

#[test]
fn no_file_system_gives_more_than_is_allowed_and_no_family_is_split() {
    let bench = bench();
    let all = plan(&bench, &["--way", "convert"]);
    let peak = |said: &Said| lines(said, "room")[0]["peak-extra"].as_u64().expect("a number");
    let most = peak(&all) - 1;
    let some = plan(&bench, &["--way", "convert", "--max-extra", &format!("{most}b")]);
    assert!(peak(&some) <= most && peak(&some) > 0);
    let families = |said: &Said| {
        let mut fates: Vec<(u64, bool)> = lines(said, "image")
            .iter()
            .filter(|image| image["format"] == "qcow")
            .map(|image| {
                (image["family"].as_u64().expect("a number"), image["strategy"] != "leave")
            })
            .collect();
        fates.dedup();
        fates
    };
    let mut numbers: Vec<u64> = families(&some).iter().map(|(number, _)| *number).collect();
    let before = numbers.len();
    numbers.dedup();
    assert_eq!(numbers.len(), before, "a family is split");
    assert!(some.out.contains("--max-extra allows"));
}

#[test]
fn a_saved_plan_is_shown_and_shared_and_nothing_is_touched() {
    let bench = bench();
    let before: Vec<Vec<u8>> =
        ["tree/alone.img", "tree/chain/c.qcow"].iter().map(|name| bench.read(name)).collect();
    let printed = bench.ok(&["plan", "catalogue", "--save", "new.plan"]);
    assert!(printed.err.contains("2 version 1 images are left"), "{}", printed.err);
    assert_eq!(bench.ok(&["plan", "show", "new.plan"]).out, printed.out);
    for line in printed.out.lines().filter(|line| !line.contains('/')) {
        assert!(line.chars().count() <= 60, "{line}");
    }
    let again = plan(&bench, &[]);
    assert_eq!(String::from_utf8_lossy(&bench.read("new.plan")), again.out);
    bench.fails(18, "exists already", &["plan", "catalogue", "-q", "--save", "new.plan"]);
    let shards = bench.ok(&["plan", "shard", "new.plan", "-n", "3", "--output", "json"]).json();
    let all: Vec<u64> = shards
        .as_array()
        .expect("shards")
        .iter()
        .flat_map(|shard| shard["families"].as_array().expect("numbers"))
        .map(|number| number.as_u64().expect("a number"))
        .collect();
    assert_eq!(all.len(), 4, "{shards}");
    for (name, bytes) in ["tree/alone.img", "tree/chain/c.qcow"].iter().zip(before) {
        assert!(bench.read(name) == bytes, "{name}");
    }
    assert_eq!(bench.names(), ["catalogue", "new.plan", "tree"]);
}

#[test]
fn a_catalogue_is_only_read_and_may_be_somebody_elses() {
    use std::os::unix::process::CommandExt;
    let bench = bench();
    for name in ["", "catalogue"] {
        let mode = if name.is_empty() { 0o755 } else { 0o644 };
        let permissions = std::fs::Permissions::from_mode(mode);
        std::fs::set_permissions(bench.file(name), permissions).expect("a mode");
    }
    let before = bench.read("catalogue");
    for words in [&["plan", "-q", "catalogue"][..], &["migrate", "--list", "catalogue"]] {
        let mut command = bench.command(words);
        // Who may do everything asks for no permission.
        if rustix::process::geteuid().is_root() {
            command.uid(65534).gid(65534);
        }
        let said = Said::of(&command.output().expect("runs"));
        assert_eq!(said.code, Some(0), "{words:?}: {}", said.err);
        assert_eq!(bench.names(), ["catalogue", "tree"]);
        assert!(bench.read("catalogue") == before, "{words:?}");
    }
}

#[test]
fn what_is_no_plan_or_no_catalogue_is_refused() {
    let bench = bench();
    bench.write("text", b"a text\n");
    bench.fails(1, "no such catalogue", &["plan", "none"]);
    bench.fails(18, "not a catalogue", &["plan", "text"]);
    bench.fails(18, "text, line 1", &["plan", "show", "text"]);
    let usage: &[&[&str]] = &[
        &["--window", "22"],
        &["--rate", "1G-50M"],
        &["--keep-originals", "no such folder"],
        &["--max-extra", "much"],
        &["--jobs", "0"],
    ];
    for words in usage {
        bench.fails(64, words[0], &[&["plan", "catalogue"], *words].concat());
    }
    assert!(!bench.file("none").exists());
}

/// What is done with the only image of a folder, and why.
fn only(bench: &Bench, folder: &str, words: &[&str]) -> (String, String) {
    bench.ok(&["scan", "-q", "--catalogue", "other", folder]);
    let said = bench.ok(&[&["plan", "other", "--output", "jsonl", "-q"], words].concat());
    fs::remove_file(bench.file("other")).expect("removed");
    let image = lines(&said, "image").pop().expect("an image");
    let word = |key: &str| image[key].as_str().expect("a word").to_owned();
    (word("strategy"), word("reason"))
}

#[test]
fn what_the_file_system_cannot_do_is_not_planned() {
    let bench = Bench::new();
    fs::create_dir(bench.file("memory")).expect("a folder");
    let Some(memory) = Mounted::in_memory(&bench.file("memory"), 8 << 20) else { return };
    fs::write(memory.folder().join("one.qcow"), image().0).expect("a file");
    fs::create_dir(memory.folder().join("kept")).expect("a folder");
    let (strategy, reason) = only(&bench, "memory", &["--way", "reflink"]);
    assert_eq!(strategy, "upgrade");
    assert!(reason.contains("tmpfs has no clones"), "{reason}");
    let keep = |folder| ["--way", "convert", "--keep-originals", folder];
    let (strategy, reason) = only(&bench, "memory", &keep("."));
    assert_eq!(strategy, "leave");
    assert!(reason.contains("another file system: --keep-originals"), "{reason}");
    assert_eq!(only(&bench, "memory", &keep("memory/kept")).0, "convert");
    // An upgrade keeps its original in its own file.
    assert_eq!(only(&bench, "memory", &["--keep-originals", "."]).0, "upgrade");
}

#[test]
fn clones_are_planned_where_there_may_be_some() {
    let bench = Bench::new();
    let Some(xfs) = mounted(&bench, "xfs") else { return };
    fs::write(xfs.folder().join("one.qcow"), image().0).expect("a file");
    assert_eq!(only(&bench, "xfs", &["--way", "reflink"]).0, "reflink");
}
