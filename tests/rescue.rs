//! `rescue` through the real binary: a medium with destroyed blocks, a killed run, a missing base.

use std::time::Duration;

use crate::common::Bench;
use calve_testkit::{Builder, Random};

/// A map of ddrescue's in which these blocks of 4 KiB were not copied.
fn source_map(length: u64, blocks: &[u64]) -> String {
    let mut text = "# Mapfile. Created by GNU ddrescue version 1.27\n0x0  ?  1\n".to_owned();
    let mut reached = 0;
    for block in blocks {
        let at = block * 4096;
        if reached < at {
            text += &format!("{reached:#x}  {:#x}  +\n", at - reached);
        }
        text += &format!("{at:#x}  0x1000  -\n");
        reached = at + 4096;
    }
    text + &format!("{reached:#x}  {:#x}  +\n", length - reached)
}

#[test]
fn of_a_failing_medium_all_is_had_but_what_its_map_says() {
    for format in ["raw", "qcow2"] {
        let bench = Bench::new();
        let (image, disk) = crate::common::image();
        bench.write("old", &image);
        // The third block holds the second cluster that is stored, or part of it.
        bench.write("old.map", source_map(image.len() as u64, &[2]).as_bytes());
        let rescue = ["rescue", "-O", format, "--source-map", "old.map", "old", "new"];
        let said = bench.fails(4, "", &rescue);
        assert!(said.out.contains("[H1]") && said.out.contains("missing"), "{}", said.out);
        assert_eq!(bench.names(), ["new", "new.map", "old", "old.map"]);
        let map = String::from_utf8(bench.read("new.map")).expect("text");
        assert!(map.lines().any(|line| line.ends_with("  -")), "{map}");
        // The medium was read again, and now all of it is there.
        bench.ok(&["rescue", "-O", format, "--retries", "1", "old", "new"]);
        bench.write("disk", &disk);
        bench.ok(&["compare", "-f", "raw", "disk", "new"]);
        bench.ok(&["rescue", "-O", format, "old", "new"]);
    }
}

#[test]
fn the_summary_lists_every_byte_once() {
    let bench = Bench::new();
    let (mut image, disk) = crate::common::image();
    image.truncate(image.len() - 5000);
    bench.write("old", &image);
    let said = bench.fails(4, "", &["rescue", "--output", "json", "old", "new"]);
    let json = said.json();
    let mut reached = 0;
    for range in json["ranges"].as_array().expect("ranges") {
        assert_eq!(range["start"].as_u64(), Some(reached));
        reached += range["length"].as_u64().expect("a length");
    }
    assert_eq!(reached, disk.len() as u64);
    let bytes = json["bytes"].as_object().expect("sums");
    assert_eq!(bytes.values().filter_map(serde_json::Value::as_u64).sum::<u64>(), reached);
    assert!(bytes["missing"].as_u64() > Some(0));
}

#[test]
fn without_its_base_an_overlay_gives_what_is_its_own() {
    let bench = Bench::new();
    let mut builder = Builder::new(9, 12, 1 << 20).backing(b"gone.raw");
    builder.plain(3, &[7; 512]);
    bench.write("old", &builder.build());
    let said = bench.fails(4, "its bytes are labelled missing", &["rescue", "old", "new"]);
    assert!(said.out.contains("missing: guest bytes 0x0 to 0x600"), "{}", said.out);
    assert_eq!(bench.read("new")[1536..2048], [7; 512]);
    bench.write("base", &[9; 1 << 20]);
    std::fs::remove_file(bench.file("new")).expect("made");
    std::fs::remove_file(bench.file("new.map")).expect("made");
    let said = bench.ok(&["rescue", "--base", "base", "--backing-format", "raw", "old", "new"]);
    assert!(said.out.contains("1048064 bytes"), "{}", said.out);
    assert_eq!(bench.read("new")[..1536], [9; 1536]);
}

#[test]
fn a_killed_run_goes_on_and_nothing_is_named_before_it_is_whole() {
    let bench = Bench::new();
    let image = crate::common::large(96);
    bench.write("old", &image);
    let mut random = Random::new(5);
    for moment in 0..6 {
        let mut child = bench.command(&["rescue", "-q", "old", "new"]).spawn().expect("starts");
        std::thread::sleep(Duration::from_millis(3 + random.below(60 * (moment + 1))));
        // It may have ended already.
        let _ = child.kill();
        child.wait().expect("ends");
        if bench.file("new").exists() {
            break;
        }
    }
    let rescued = bench.run(&["rescue", "old", "new"]);
    assert_eq!(rescued.code, Some(0), "{}{}", rescued.out, rescued.err);
    bench.ok(&["compare", "-F", "raw", "old", "new"]);
    assert_eq!(bench.names(), ["new", "new.map", "old"]);
}

#[test]
fn full_disks_wrong_maps_and_other_peoples_files_are_refused() {
    let bench = Bench::new();
    let (image, _) = crate::common::image();
    bench.write("old", &image);
    bench.fails(18, "has no map", &["rescue", "old", "old"]);
    bench.write("note", b"milk, bread");
    bench.fails(18, "line 1", &["rescue", "--map", "note", "old", "new"]);
    bench.fails(18, "line 1", &["rescue", "--source-map", "note", "old", "new"]);
    bench.fails(18, "no new image", &["rescue", "-O", "qcow", "old", "new"]);
    assert_eq!(bench.read("note"), b"milk, bread");
    assert_eq!(bench.names(), ["note", "old"]);
    if crate::common::may_trace() {
        let said = bench.run_with_fault(("pwrite64", "ENOSPC", 1), &["rescue", "old", "new"]);
        assert_eq!(said.code, Some(16), "{}", said.err);
        assert!(!bench.file("new").exists());
        bench.ok(&["rescue", "old", "new"]);
    }
}

#[test]
fn a_read_that_fails_once_loses_nothing() {
    if !crate::common::may_trace() {
        return;
    }
    let bench = Bench::new();
    let (image, disk) = crate::common::image();
    bench.write("old", &image);
    bench.write("disk", &disk);
    let mut rescued = 0;
    for number in 1..30 {
        let rescue = ["rescue", "--retries", "1", "old", "new"];
        let said = bench.run_with_fault(("pread64", "EIO", number), &rescue);
        if said.code == Some(0) {
            bench.ok(&["compare", "-f", "raw", "-F", "raw", "disk", "new"]);
            rescued += 1;
        } else {
            // What the file is cannot be told without its first bytes, and the program's own
            // libraries are read before.
            let is_told = matches!(said.code, Some(1 | 127));
            assert!(number < 8 && is_told, "read {number}: {}", said.err);
        }
        for name in ["new", "new.map", "new.rescue"] {
            let _ = std::fs::remove_file(bench.file(name));
        }
    }
    assert!(rescued >= 22, "{rescued} of 29");
}

#[test]
fn a_lost_header_and_a_lost_table_are_found_again_where_that_is_asked_for() {
    let bench = Bench::new();
    let (image, disk) = crate::common::image();
    bench.write("disk", &disk);
    let mut no_magic = image.clone();
    no_magic[..8].fill(0);
    bench.write("headless", &no_magic);
    bench.fails(63, "", &["rescue", "-f", "qcow", "headless", "new"]);
    let said = bench.ok(&["rescue", "-f", "qcow", "--rebuild-header", "headless", "new"]);
    assert!(said.err.contains("rebuilt: ") && said.err.contains("magic"), "{}", said.err);
    bench.ok(&["compare", "-f", "raw", "-F", "raw", "disk", "new"]);
    let mut no_l1 = image;
    no_l1[48..56].fill(0xFF);
    bench.write("tableless", &no_l1);
    bench.fails(4, "", &["rescue", "tableless", "lost"]);
    let said = bench.ok(&["rescue", "--rebuild-l1", "tableless", "found"]);
    assert!(said.err.contains("L1 entry"), "{}", said.err);
    bench.ok(&["compare", "-f", "raw", "-F", "raw", "disk", "found"]);
    assert_eq!(bench.read("headless")[..8], [0; 8], "the source was written to");
}

#[test]
fn the_passphrase_is_found_in_a_list_and_the_base_in_a_folder() {
    let bench = Bench::new();
    let mut builder = Builder::new(12, 9, 1 << 20).encrypted(b"swordfish");
    for cluster in 0..16 {
        builder.plain(cluster, &b"An old QCOW calves a QCOW2. ".repeat(140));
    }
    bench.write("secret", &builder.build());
    bench.write("list", b"password\nletmein\nswordfish\nqwerty\n");
    let said = bench.ok(&["rescue", "--passphrase-list", "list", "secret", "plain"]);
    assert!(said.err.contains("line 3") && !said.err.contains("swordfish"), "{}", said.err);
    assert!(bench.read("plain").starts_with(b"An old QCOW calves"));
    bench.write("list", b"password\nletmein\n");
    bench.fails(12, "more than noise", &["rescue", "--passphrase-list", "list", "secret", "no"]);
    // A guest writes many sectors that it does not change.
    let base = Random::new(11).number().to_be_bytes();
    let sector = |number: u64| {
        let mut sector = base.repeat(64);
        sector[..8].copy_from_slice(&number.to_be_bytes());
        sector
    };
    let disk: Vec<u8> = (0..2048).flat_map(sector).collect();
    let mut overlay = Builder::new(9, 12, 1 << 20).backing(b"/home/somebody/base.raw");
    for cluster in 100..300 {
        overlay.plain(cluster, &sector(cluster));
    }
    overlay.plain(7, &[7; 512]);
    bench.write("over", &overlay.build());
    std::fs::create_dir(bench.file("attic")).expect("a folder");
    bench.write("attic/a", &Random::new(3).content(1 << 20));
    bench.write("attic/b", &disk);
    let said = bench.ok(&["rescue", "--search", "attic", "over", "joined"]);
    assert!(said.err.contains("attic/b: taken as the base"), "{}", said.err);
    let mut expected = disk;
    expected[7 * 512..8 * 512].fill(7);
    assert!(bench.read("joined") == expected);
    std::fs::remove_file(bench.file("attic/b")).expect("made");
    bench.fails(13, "not clear", &["rescue", "--search", "attic", "over", "other"]);
}
