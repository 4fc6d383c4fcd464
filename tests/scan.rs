//! `scan`: what it tells in every shape, what it keeps, and what it does with files that end
//! whoever reads them.

use std::fs::{self, File};
use std::process::Command;

use serde_json::Value;

use crate::common::{Bench, Said, image, may_trace, program};
use calve_disk::open::lock_for_writing;
use calve_testkit::{Builder, Mounted, qemu};

/// A bench with a folder `tree` of images of many kinds.
fn bench() -> Bench {
    let bench = Bench::new();
    fs::create_dir_all(bench.file("tree/sub")).expect("a folder");
    let (v1, _) = image();
    let mut broken = v1.clone();
    broken[32] = 77;
    let mut secret = Builder::new(12, 9, 1 << 20).encrypted(b"password");
    secret.plain(0, &[7; 4096]);
    let mut over = Builder::new(9, 12, 1 << 20).backing(b"../gone/base.img");
    over.plain(0, &[7; 512]);
    for (name, bytes) in [
        ("tree/old.qcow", &v1[..]),
        ("tree/sub/disk.img", &v1),
        ("tree/sub/over.qcow", &over.build()),
        ("tree/broken.qcow", &broken),
        ("tree/secret.qcow", &secret.build()),
        ("tree/done.qcow", &v1),
        ("tree/base.img", &[3; 1 << 20]),
        ("tree/text", b"a text"),
    ] {
        bench.write(name, bytes);
    }
    bench.ok(&["upgrade", "-q", "tree/done.qcow"]);
    bench
}

/// The objects of JSON Lines of this kind.
fn objects(said: &Said, kind: &str) -> Vec<Value> {
    let lines = said.out.lines().map(|line| -> Value {
        serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))
    });
    lines.filter(|object| object["kind"] == kind).collect()
}

/// The name below the folder and the class of each file that is told of.
fn classes(said: &Said) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().expect("a text").to_owned();
    let class = |object: &Value| {
        let name = text(&object["filename"]);
        let name = name.split_once("/tree/").map(|(_, name)| name.to_owned()).unwrap_or(name);
        (name, text(&object["class"]))
    };
    objects(said, "file").iter().map(class).collect()
}

fn expected() -> Vec<(String, String)> {
    let all = [
        ("broken.qcow", "damaged"),
        ("done.qcow", "migrated"),
        ("old.qcow", "v1"),
        ("secret.qcow", "v1"),
        ("sub/disk.img", "v1-misnamed"),
        ("sub/over.qcow", "v1"),
    ];
    all.map(|(name, class)| (name.to_owned(), class.to_owned())).to_vec()
}

#[test]
fn every_shape_tells_the_same_files_with_workers_and_without() {
    let bench = bench();
    for sandbox in ["--sandbox=auto", "--sandbox=off"] {
        let lines = bench.ok(&["scan", sandbox, "--output", "jsonl", "tree"]);
        assert_eq!(classes(&lines), expected());
        let files = objects(&lines, "file");
        assert_eq!(files[3]["encrypted"], true);
        assert_eq!(files[5]["backing-filename"], "../gone/base.img");
        assert_eq!(files[0]["findings"][0]["rule"], "Q5");
        let totals = &objects(&lines, "totals")[0];
        assert_eq!((&totals["version1"], &totals["read"]), (&5.into(), &9.into()));
        let document =
            bench.ok(&["scan", sandbox, "--output", "json", "--families", "tree"]).json();
        assert_eq!(document["files"].as_array().expect("files").len(), 6);
        assert_eq!(document["families"].as_array().expect("families").len(), 6);
        assert_eq!(document["totals"]["classes"]["v1"]["count"], 3);
        let table = bench.ok(&["scan", sandbox, "--output", "csv", "--all", "tree"]);
        assert_eq!(table.out.lines().count(), 10);
        assert!(table.out.starts_with("filename,member,class,format,"));
    }
}

#[test]
fn the_table_for_people_keeps_to_sixty_columns_and_names_are_harmless() {
    let bench = bench();
    bench.write("tree/\u{1b}[2J\n.qcow", &image().0);
    let said = bench.ok(&["scan", "--families", "--deep", "tree"]);
    for line in said.out.lines() {
        assert!(line.chars().count() <= 60, "{line}");
    }
    assert!(said.out.contains("v1                 1 MiB  tree/old.qcow\n"), "{}", said.out);
    assert!(said.out.contains("tree/\\u{1b}[2J\\n.qcow\n"), "{}", said.out);
    assert!(said.out.contains("probably on tree/base.img\n"), "{}", said.out);
    assert!(said.out.ends_with("version\n1 images: 6\n"), "{}", said.out);
    // Two files that it may be are none that it is.
    bench.write("tree/sub/base.img", &[4; 1 << 20]);
    let said = bench.ok(&["scan", "--families", "tree"]);
    assert!(said.out.contains("on ../gone/base.img: missing\n"), "{}", said.out);
    assert!(said.out.contains("perhaps tree/sub/base.img\n"), "{}", said.out);
    assert!(said.out.contains("250: its name, as long\n"), "{}", said.out);
}

#[test]
fn a_catalogue_spares_reading_and_a_new_image_is_an_exit_code() {
    let bench = bench();
    std::thread::sleep(std::time::Duration::from_millis(60));
    let arguments = ["scan", "--catalogue", "known", "--watch-exit", "--output", "jsonl", "tree"];
    let totals = |said: &Said| {
        let totals = objects(said, "totals").remove(0);
        (totals["read"].clone(), totals["unchanged"].clone(), totals["new-version1"].clone())
    };
    let first = bench.ok(&arguments);
    assert!(first.err.contains("no scan before"), "{}", first.err);
    let second = bench.ok(&arguments);
    assert_eq!(totals(&second), (0.into(), 9.into(), 0.into()));
    assert_eq!(classes(&second), expected());
    bench.write("tree/new.img", &image().0);
    let third = bench.fails(2, "new since the last scan: 1 version 1 image", &arguments);
    assert_eq!(totals(&third), (1.into(), 9.into(), 1.into()));
    bench.ok(&arguments);
    // Without the word for it, the code is that of a scan.
    fs::remove_file(bench.file("tree/new.img")).expect("removed");
    bench.ok(&["scan", "--catalogue", "known", "-q", "tree"]);
    bench.write("tree/new.img", &image().0);
    let quiet = bench.ok(&["scan", "--catalogue", "known", "-q", "tree"]);
    assert_eq!((&*quiet.out, &*quiet.err), ("", ""));
}

#[test]
fn a_folder_that_is_not_mounted_is_told_and_only_what_was_removed_on_purpose_is_forgotten() {
    let bench = bench();
    bench.ok(&["scan", "-q", "--catalogue", "known", "tree"]);
    fs::rename(bench.file("tree"), bench.file("away")).expect("moved");
    fs::create_dir(bench.file("tree")).expect("an empty folder");
    let report = ["report", "--watch-exit", "--output", "json", "known"];
    let missing = |said: &Said| {
        let remaining = &said.json()["certificate"]["remaining"];
        let all = remaining.as_array().expect("places");
        all.iter().filter(|it| it["reason"] == "missing").count()
    };
    for _ in 0..2 {
        let words = ["scan", "--catalogue", "known", "tree"];
        let said = bench.fails(4, "is its file system not mounted?", &words);
        assert!(said.err.contains("nothing is below it, where 9 files were"), "{}", said.err);
        let said = bench.run(&report);
        assert_eq!((said.code, missing(&said)), (Some(2), 5), "{}", said.out);
    }
    // One that is empty in part says nothing of the other part.
    fs::write(bench.file("tree/text"), "a text").expect("a file");
    let said = bench.ok(&["scan", "--catalogue", "known", "tree"]);
    assert!(said.err.contains("not there any more: 5 version 1 images"), "{}", said.err);
    let said = bench.run(&report);
    assert_eq!((said.code, missing(&said)), (Some(2), 5), "{}", said.out);
    let next =
        said.json()["certificate"]["next"]["missing"]["next"].as_str().expect("words").to_owned();
    assert!(next.contains(" --removed "), "{next}");
    let said = bench.ok(&["scan", "--catalogue", "known", "--removed", "tree/", "tree"]);
    assert!(
        said.err.contains("tree: removed on purpose, as you say: 5 version 1 images"),
        "{}",
        said.err
    );
    let said = bench.ok(&report);
    assert_eq!(said.json()["certificate"]["removed-on-purpose"], 5);
    bench.fails(64, "--catalogue", &["scan", "--removed", "tree", "tree"]);
    // A link in the place of an image is no file, and what it leads to is where it is.
    bench.write("tree/v1.img", &image().0);
    bench.ok(&["scan", "-q", "--catalogue", "known", "tree"]);
    fs::rename(bench.file("tree/v1.img"), bench.file("elsewhere")).expect("moved");
    std::os::unix::fs::symlink("../elsewhere", bench.file("tree/v1.img")).expect("a link");
    bench.ok(&["scan", "-q", "--catalogue", "known", "tree"]);
    bench.fails(2, "", &report);
    let words = ["scan", "--catalogue", "known", "--removed", "tree/v1.img", "tree"];
    let said = bench.ok(&words);
    assert!(said.err.contains("tree/v1.img: removed on purpose, as you say: 1"), "{}", said.err);
    bench.ok(&report);
}

#[test]
fn an_image_that_is_in_use_is_told_and_is_looked_at_again() {
    let bench = bench();
    let path = bench.file("tree/old.qcow");
    let held = File::options().read(true).write(true).open(&path).expect("opens");
    lock_for_writing(&held, &path).expect("locked");
    let arguments = ["scan", "--catalogue", "known", "--output", "jsonl", "tree"];
    assert_eq!(classes(&bench.ok(&arguments))[2].1, "in-use");
    drop(held);
    assert_eq!(classes(&bench.ok(&arguments)), expected());
}

#[test]
fn what_cannot_be_scanned_is_refused_or_told() {
    let bench = bench();
    bench.fails(1, "nowhere: looking for it", &["scan", "nowhere"]);
    bench.fails(64, "1 to 64", &["scan", "--jobs", "65", "tree"]);
    bench.fails(64, "mixed with progress", &["scan", "-p", "--output", "json", "tree"]);
    bench.fails(64, "--catalogue", &["scan", "--watch-exit", "tree"]);
    bench.fails(18, "not a catalogue", &["scan", "--catalogue", "tree/base.img", "tree"]);
    assert_eq!(bench.read("tree/base.img"), [3; 1 << 20]);
    // An archive that is none inside may hold anything.
    bench.write("tree/cut.gz", b"\x1F\x8B\x08 and no more");
    let said = bench.fails(4, "1 file could not be looked at", &["scan", "tree"]);
    assert!(said.out.contains("tree/cut.gz\n"), "{}", said.out);
    bench.ok(&["scan", "--no-archives", "tree"]);
}

/// What a scan of the folder says with a kernel that does `what` where a call concerns this file.
fn struck(bench: &Bench, name: &str, what: &str, arguments: &[&str]) -> Said {
    let path = bench.file(name).canonicalize().expect("a path");
    let output = Command::new("strace")
        .current_dir(bench.path())
        .args(["-f", "-qq", "-o", "/dev/null", "-P", path.to_str().expect("a name")])
        .args(["-e", what])
        .arg(program())
        .args(arguments)
        .output();
    Said::of(&output.expect("strace runs"))
}

#[test]
fn a_file_at_which_a_worker_dies_is_a_finding_and_all_others_are_told() {
    if !may_trace() {
        return;
    }
    let bench = bench();
    let arguments = ["scan", "--output", "jsonl", "--jobs", "1", "tree"];
    for what in ["inject=pread64:signal=KILL", "inject=pread64:signal=SEGV"] {
        let said = struck(&bench, "tree/old.qcow", what, &arguments);
        assert_eq!(said.code, Some(4), "{}", said.err);
        let mut with_death = expected();
        with_death[2].1 = "damaged".into();
        assert_eq!(classes(&said), with_death);
        let file = &objects(&said, "file")[2];
        assert_eq!(file["findings"][0]["rule"], "H2");
        assert!(file["problem"].as_str().is_some_and(|text| text.contains("killed by signal")));
    }
}

#[test]
fn a_file_that_cannot_be_read_is_told_and_is_an_exit_code() {
    if !may_trace() {
        return;
    }
    let bench = bench();
    let arguments = ["scan", "--output", "jsonl", "tree"];
    for what in ["inject=openat:error=EACCES", "inject=pread64:error=EIO"] {
        let said = struck(&bench, "tree/old.qcow", what, &arguments);
        assert_eq!(said.code, Some(4), "{}", said.err);
        let mut with_failure = expected();
        with_failure[2].1 = "unreadable".into();
        assert_eq!(classes(&said), with_failure);
    }
    let folder = bench.file("tree/sub").canonicalize().expect("a path");
    let said = struck(&bench, "tree/sub", "inject=openat:error=EACCES", &arguments);
    assert_eq!(said.code, Some(4), "{}", said.err);
    assert_eq!(classes(&said), expected()[..4]);
    let trouble = &objects(&said, "trouble")[0];
    assert_eq!(trouble["filename"], folder.to_str().expect("a name"));
}

#[test]
fn workers_open_nothing_once_they_are_confined() {
    let bench = bench();
    let said = bench.run(&["scan", "--sandbox=require", "tree"]);
    if said.code == Some(18) {
        qemu::skipped(&said.err);
        return;
    }
    if !may_trace() {
        return;
    }
    let output = Command::new("strace")
        .current_dir(bench.path())
        .args(["-f", "-qq", "-s", "0", "-o", "trace", &program()])
        .args(["scan", "--sandbox=require", "--jobs", "1", "tree"])
        .output()
        .expect("strace runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let trace = String::from_utf8_lossy(&bench.read("trace")).into_owned();
    let confined = trace.lines().filter(|line| line.contains("seccomp(SECCOMP_SET_MODE_FILTER"));
    let workers: Vec<&str> = confined.filter_map(|line| line.split_whitespace().next()).collect();
    assert!(!workers.is_empty(), "no worker was confined");
    for worker in workers {
        let lines = trace.lines().filter(|line| line.split_whitespace().next() == Some(worker));
        let lines: Vec<&str> = lines.collect();
        let last = lines.iter().rposition(|line| line.contains("seccomp(")).expect("confined");
        let opens = |line: &&&str| line.contains("open") && !line.contains("EPERM");
        let opened: Vec<_> = lines[last..].iter().filter(opens).collect();
        assert!(opened.is_empty(), "{opened:?}");
        // What it reads comes after.
        assert!(!lines[..last].iter().any(|line| line.contains("recvmsg(")), "read before");
        assert!(lines[last..].iter().any(|line| line.contains("recvmsg(")), "nothing was read");
    }
}

#[test]
fn one_file_system_is_that_of_each_folder_that_is_named() {
    let bench = Bench::new();
    fs::create_dir(bench.file("tree")).expect("a folder");
    bench.write("tree/old.qcow", &image().0);
    fs::create_dir(bench.file("tree/mounted")).expect("a folder");
    let Some(_inside) = Mounted::in_memory(&bench.file("tree/mounted"), 4 << 20) else { return };
    fs::create_dir(bench.file("tree/mounted/sub")).expect("a folder");
    bench.write("tree/mounted/sub/other.qcow", &image().0);
    let names = |arguments: &[&str]| -> Vec<String> {
        let said = bench.ok(&[&["scan", "--output", "jsonl"], arguments].concat());
        classes(&said).into_iter().map(|(name, _)| name).collect()
    };
    let all = ["mounted/sub/other.qcow", "old.qcow"];
    for word in ["-x", "--one-file-system"] {
        assert_eq!(names(&[word, "tree"]), ["old.qcow"]);
        assert_eq!(names(&[word, "tree/mounted"]), ["mounted/sub/other.qcow"]);
        assert_eq!(names(&[word, "tree", "tree/mounted"]), all);
    }
    assert_eq!(names(&["tree"]), all);
    // What a scan did not look at is not gone.
    let kept = ["--catalogue", "known"];
    assert_eq!(names(&[&kept[..], &["tree"]].concat()), all);
    assert_eq!(names(&[&kept[..], &["-x", "tree"]].concat()), all);
    fs::remove_file(bench.file("tree/mounted/sub/other.qcow")).expect("removed");
    assert_eq!(names(&[&kept[..], &["-x", "tree"]].concat()), all);
    assert_eq!(names(&[&kept[..], &["tree"]].concat()), ["old.qcow"]);
}
