//! `scan` of files that share blocks, on file systems that can: what is counted once, and what it
//! says when blocks become shared behind its back.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::process::Command;

use serde_json::Value;

use crate::common::{Bench, Said, exclusive, image, large, mounted};

/// Has the file system decide where everything lies.
fn settle(folder: &str) {
    let synced = Command::new("sync").args(["-f", folder]).status().expect("sync runs");
    assert!(synced.success());
    std::thread::sleep(std::time::Duration::from_millis(60));
}

fn clone(from: &str, to: &str) {
    let copied = Command::new("cp").args(["--reflink=always", from, to]).status();
    assert!(copied.expect("cp runs").success(), "{from} shares its blocks with {to}");
}

fn files(said: &Said) -> Vec<Value> {
    said.json()["files"].as_array().expect("files").clone()
}

/// The number of the file whose row this one points at by `key`: `a` is 0, `b` is 1.
fn points_at(files: &[Value], key: &str) -> Vec<Option<usize>> {
    let place = |file: &Value| {
        let id = file[key].as_u64()?;
        Some(files.iter().position(|other| other["id"] == id).expect("a row that is told of"))
    };
    files.iter().map(place).collect()
}

/// What people and spreadsheets are told: which file each copy and each further name is one of.
fn assert_tables(bench: &Bench, kind: &str, root: &str) {
    let table = bench.ok(&["scan", root]).out.replace('\n', " ");
    assert!(table.contains("with 2 reflink copies counted once"), "{table}");
    let words: Vec<&str> = table.split_whitespace().collect();
    let table = words.join(" ");
    let copy = format!("shares all its blocks with {kind}/images/a.qcow");
    assert_eq!(table.matches(&copy).count(), 2, "{table}");
    assert!(table.contains(&format!("another name of {kind}/images/c.qcow")), "{table}");

    // As a table for spreadsheets, the same stands at the end of each line.
    let csv = bench.ok(&["scan", "--output", "csv", root]).out;
    let rows: Vec<Vec<&str>> = csv.lines().map(|line| line.split(',').collect()).collect();
    let end = ["id", "name-of", "reflink-of", "on-disk", "shared", "shared-is-cut"];
    assert_eq!(rows[0][15..], end);
    let (id, told) = (rows[1][15], files(&bench.ok(&["scan", "--output", "json", root])));
    assert_eq!(rows[2][15..18], [rows[2][15], "", id], "{csv}");
    assert_eq!(rows[4][15..18], [rows[4][15], rows[3][15], ""], "{csv}");
    for (row, file) in rows[1..].iter().zip(&told) {
        assert_eq!(
            row[18..],
            [&file["on-disk"], &file["shared"], &file["shared-is-cut"]].map(Value::to_string)
        );
    }
}

fn on(kind: &str) {
    let bench = Bench::new();
    let Some(mounted) = mounted(&bench, kind) else { return };
    let folder = mounted.folder().join("images");
    std::fs::create_dir(&folder).expect("a folder");
    let path = |name: &str| folder.join(name).to_str().expect("a plain name").to_owned();
    let root = path("");
    let bytes = large(4);
    std::fs::write(path("a.qcow"), &bytes).expect("a file");
    std::fs::write(path("f.qcow"), image().0).expect("a file");
    settle(&root);
    let arguments = ["scan", "--catalogue", "known", "--output", "json", &root];
    let first = bench.ok(&arguments);
    assert_eq!(points_at(&files(&first), "reflink-of"), [None; 2]);
    assert_eq!(files(&first)[0]["shared"], 0);

    // A copy, a copy of the copy, a second name of it, and a copy in which a cluster was written.
    clone(&path("a.qcow"), &path("b.qcow"));
    clone(&path("b.qcow"), &path("c.qcow"));
    std::fs::hard_link(path("c.qcow"), path("d.qcow")).expect("a link");
    clone(&path("a.qcow"), &path("e.qcow"));
    settle(&root);
    let part = File::options().write(true).open(path("e.qcow")).expect("opens");
    part.write_all_at(&[0x5A; 65536], 2 << 20).expect("written");
    // What is not on the device yet makes it another file all the same.
    let unsettled = files(&bench.ok(&["scan", "--output", "json", &root]));
    let copies = points_at(&unsettled, "reflink-of");
    assert_eq!(copies, [None, Some(0), Some(0), None, None, None], "{kind}, unsettled");
    settle(&root);
    for sandbox in ["--sandbox=auto", "--sandbox=off"] {
        let said = bench.ok(&["scan", sandbox, "--output", "json", &root]);
        let files = files(&said);
        let names = ["a.qcow", "b.qcow", "c.qcow", "d.qcow", "e.qcow", "f.qcow"];
        let told: Vec<&str> = files.iter().filter_map(|file| file["filename"].as_str()).collect();
        assert_eq!(told, names.map(&path));
        let copies = points_at(&files, "reflink-of");
        assert_eq!(copies, [None, Some(0), Some(0), None, None, None], "{kind}");
        assert_eq!(points_at(&files, "name-of"), [None, None, None, Some(2), None, None]);
        for (file, name) in files.iter().zip(names) {
            let shared = file["shared"].as_u64().expect("a number");
            // No file has holes. (XFS counts blocks too that it keeps for what may be written next.)
            let length = file["file-size"].as_u64().expect("a number").next_multiple_of(4096);
            assert_eq!(shared, length - exclusive(&path(name)), "{kind} {name}");
            assert!(file["on-disk"].as_u64() >= Some(length), "{kind} {name}");
            assert_eq!(file["shared-is-cut"], false);
        }
        assert!(files[4]["shared"].as_u64() < files[0]["shared"].as_u64(), "{kind}");
        // A copy is an image that has to be migrated; a second name is none.
        let totals = &said.json()["totals"];
        assert_eq!(totals["version1"], 5);
        let once: u64 = [0, 4, 5]
            .map(|place: usize| files[place]["on-disk"].as_u64().expect("it"))
            .iter()
            .sum();
        let shared: u64 =
            [0, 4, 5].map(|place: usize| files[place]["shared"].as_u64().expect("it")).iter().sum();
        for key in ["on-disk", "version1-on-disk"] {
            assert_eq!(totals[key]["bytes"], once, "{kind}");
            assert_eq!(totals[key]["shared"], shared, "{kind}");
            assert_eq!(totals[key]["reflink-copies"], 2, "{kind}");
        }
    }
    assert_tables(&bench, kind, &root);

    // What was known has not changed by the copies of it, but what it shares: that is as it was.
    let later = bench.ok(&arguments);
    let told = files(&later);
    assert_eq!(points_at(&told, "reflink-of"), [None, Some(0), Some(0), None, None, None]);
    // (A link changes the times of c.qcow; nothing changes those of a.qcow.)
    assert_eq!(later.json()["totals"]["unchanged"], 2, "{kind}");
    assert_eq!(told[0]["shared"], 0);
    let again = files(&bench.ok(&arguments));
    for key in ["id", "reflink-of", "name-of", "shared", "on-disk", "class"] {
        let of = |files: &[Value]| files.iter().map(|file| file[key].clone()).collect::<Vec<_>>();
        assert_eq!(of(&again), of(&told), "{kind} {key}");
    }
}

#[test]
fn reflinks_are_told_and_counted_once_on_xfs() {
    on("xfs");
}

#[test]
fn reflinks_are_told_and_counted_once_on_btrfs() {
    on("btrfs");
}

/// No extents are no error: tmpfs and many a network file system tell of none.
#[test]
fn a_file_system_that_tells_of_no_extents_is_scanned_as_any() {
    let Ok(folder) = tempfile::tempdir_in("/dev/shm") else {
        calve_testkit::qemu::skipped("there is no /dev/shm");
        return;
    };
    std::fs::write(folder.path().join("old.qcow"), image().0).expect("a file");
    let bench = Bench::new();
    let root = folder.path().to_str().expect("a plain name");
    let said = bench.ok(&["scan", "--output", "json", root]);
    let file = &files(&said)[0];
    assert_eq!((&file["shared"], &file["reflink-of"]), (&Value::Null, &Value::Null));
    assert!(file["on-disk"].as_u64() > Some(0));
    assert_eq!(said.err, "");
}
