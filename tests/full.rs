//! Full file systems: whatever a verb could not write for want of room, it ends with 16 and says
//! what to do, and what it began is gone.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::process::Stdio;

use crate::common::{Bench, Said, image};
use calve_testkit::Mounted;

/// Takes all room of a file system, under the name `fill` in it.
fn fill(folder: &Path) {
    let mut file = File::create(folder.join("fill")).expect("a file");
    while file.write_all(&[0; 4096]).is_ok() {}
}

fn assert_no_space(said: &Said, names: &str, words: &[&str]) {
    assert_eq!(said.code, Some(16), "{words:?}: {}", said.err);
    assert!(said.err.contains(names) && said.err.contains("; make room"), "{}", said.err);
    assert_eq!(said.err.trim_end().lines().count(), 1, "{}", said.err);
}

/// The catalogue is in a file system of its own, which is full: also what is only read of it needs
/// room where a scan that failed left its log there.
#[test]
fn a_catalogue_without_room_is_told_as_that_by_every_verb() {
    let bench = Bench::new();
    std::fs::create_dir_all(bench.file("tree")).expect("a folder");
    std::fs::create_dir_all(bench.file("small")).expect("a folder");
    let (v1, _) = image();
    for number in 0..8 {
        bench.write(&format!("tree/{number}.qcow"), &v1);
    }
    let Some(mounted) = Mounted::in_memory(&bench.file("small"), 2 << 20) else { return };
    bench.ok(&["scan", "-q", "--catalogue", "small/catalogue", "tree"]);
    bench.ok(&["plan", "-q", "small/catalogue", "--save", "plan"]);
    fill(mounted.folder());
    for words in [
        &["migrate", "-q", "plan"][..],
        &["work", "-q", "--plan", "plan", "--shard", "0/1", "--journals", "small/shards"],
        &["scan", "-q", "--catalogue", "small/other", "tree"],
        &["scan", "-q", "--catalogue", "small/catalogue", "tree"],
        &["report", "small/catalogue"],
        &["plan", "-q", "small/catalogue"],
    ] {
        assert_no_space(&bench.run(words), "small/", words);
    }
    assert!((0..8).all(|number| bench.read(&format!("tree/{number}.qcow")) == v1), "touched");
    // With room all of it goes on.
    std::fs::remove_file(mounted.folder().join("fill")).expect("removed");
    bench.ok(&["scan", "-q", "--catalogue", "small/catalogue", "tree"]);
    bench.ok(&["migrate", "-q", "plan"]);
}

#[test]
fn what_is_saved_without_room_leaves_nothing_and_is_saved_with_room() {
    let bench = Bench::new();
    std::fs::create_dir_all(bench.file("tree")).expect("a folder");
    std::fs::create_dir_all(bench.file("small")).expect("a folder");
    bench.write("tree/one.qcow", &image().0);
    bench.ok(&["scan", "-q", "--catalogue", "catalogue", "tree"]);
    let Some(mounted) = Mounted::in_memory(&bench.file("small"), 1 << 20) else { return };
    fill(mounted.folder());
    // Room for folders and for some of the files.
    let file = File::options().write(true).open(mounted.folder().join("fill")).expect("a file");
    file.set_len(file.metadata().expect("there").len() - (16 << 10)).expect("shorter");
    drop(file);
    let bag = ["report", "--output", "bagit", "--save", "small/bag", "catalogue"];
    assert_no_space(&bench.run(&bag), "small/bag/data/", &bag);
    fill(mounted.folder());
    for words in [
        &["report", "--output", "html", "--save", "small/page", "catalogue"][..],
        &["plan", "-q", "catalogue", "--save", "small/plan"],
    ] {
        assert_no_space(&bench.run(words), "small/p", words);
    }
    let names = std::fs::read_dir(mounted.folder()).expect("a folder");
    assert_eq!(names.count(), 1, "something is left beside what takes all room");
    std::fs::remove_file(mounted.folder().join("fill")).expect("removed");
    bench.ok(&bag);
    assert!(mounted.folder().join("bag/bagit.txt").exists());
}

#[test]
fn standard_output_that_is_full_is_no_space() {
    let bench = Bench::new();
    std::fs::create_dir_all(bench.file("tree")).expect("a folder");
    bench.write("tree/one.qcow", &image().0);
    bench.ok(&["scan", "-q", "--catalogue", "catalogue", "tree"]);
    for words in [
        &["scan", "tree"][..],
        &["plan", "catalogue"],
        &["report", "catalogue"],
        &["report", "--output", "csv", "catalogue"],
        &["info", "tree/one.qcow"],
        &["map", "--output", "json", "tree/one.qcow"],
        &["check", "tree/one.qcow"],
        &["layout", "tree/one.qcow"],
        &["audit-sources", "tree"],
        &["--explain", "16"],
        &["--help"],
    ] {
        let full = File::options().write(true).open("/dev/full").expect("a device");
        let output = bench.command(words).stdout(Stdio::from(full)).output();
        assert_no_space(&Said::of(&output.expect("it runs")), "", words);
    }
}

/// A scan without a catalogue keeps what it finds where temporary files are kept.
#[test]
fn what_is_kept_meanwhile_and_has_no_room_is_told_with_the_folder_of_temporary_files() {
    let mut bench = Bench::new();
    std::fs::create_dir_all(bench.file("tree")).expect("a folder");
    std::fs::create_dir_all(bench.file("small")).expect("a folder");
    for number in 0..8000 {
        bench.write(&format!("tree/{number}-{}", "long".repeat(55)), b"QFI\xfb\0\0\0\x01");
    }
    let Some(mounted) = Mounted::in_memory(&bench.file("small"), 1 << 20) else { return };
    bench.set("TMPDIR", mounted.folder().to_str().expect("a name"));
    let words = ["scan", "-q", "tree"];
    let said = bench.run(&words);
    assert_no_space(&said, "<temporary>", &words);
    assert!(said.err.contains("another folder in TMPDIR"), "{}", said.err);
}
