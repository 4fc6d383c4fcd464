//! The room that `plan` speaks of is never less than what a migration takes up, on every file system,
//! and not much more.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::common::{Bench, mounted};
use calve_testkit::{Builder, Mounted, Random};

/// Bytes that do not pack, and are no zeros anywhere.
fn noise(random: &mut Random, length: u64) -> Vec<u8> {
    (0..length / 8).flat_map(|_| random.number().to_be_bytes()).map(|byte| byte | 1).collect()
}

/// A disk of so many clusters, of which those are stored for which `is_stored` says so.
fn disk(
    random: &mut Random,
    mut image: Builder,
    clusters: u64,
    mut is_stored: impl FnMut(&mut Random, u64) -> bool,
) -> Vec<u8> {
    let length = image.cluster_size();
    for cluster in 0..clusters {
        if !is_stored(random, cluster) {
            continue;
        }
        let content = noise(random, length);
        image.plain(cluster, &content);
    }
    image.build()
}

/// Images of several geometries and fills by name: alone, damaged, and on each other.
fn images(random: &mut Random) -> BTreeMap<String, Vec<u8>> {
    let mut images = BTreeMap::new();
    for (cluster_bits, l2_bits) in [(9, 6), (12, 9), (16, 13)] {
        // Whole clusters of the result, and one that the disk's end cuts.
        let clusters = (1 << 20 >> cluster_bits) + 1;
        let new = || Builder::new(cluster_bits, l2_bits, clusters << cluster_bits);
        let name = |fill: &str| format!("{cluster_bits}-{l2_bits}-{fill}.qcow");
        images.insert(name("none"), new().build());
        images.insert(name("one"), disk(random, new(), clusters, |_, at| at == 1));
        images.insert(name("few"), disk(random, new(), clusters, |it, _| it.once_in(30)));
        images.insert(name("most"), disk(random, new(), clusters, |it, _| !it.once_in(30)));
        let mut packed = new();
        for cluster in (0..clusters).filter(|cluster| cluster % 5 < 3) {
            let content = match cluster % 2 {
                0 => noise(random, packed.cluster_size() / 2),
                _ => Vec::new(),
            };
            let mut whole = vec![7; usize::try_from(packed.cluster_size()).expect("small")];
            whole[..content.len()].copy_from_slice(&content);
            packed.packed(cluster, &whole);
        }
        images.insert(name("packed"), packed.build());
        let over = new().backing(name("few").as_bytes());
        images.insert(name("over"), disk(random, over, clusters, |it, _| it.once_in(50)));
        let mut cut = images[&name("most")].clone();
        cut.truncate(cut.len() - 5000);
        images.insert(name("cut"), cut);
    }
    // As large as a small guest's.
    let whole = Builder::new(12, 9, 8 << 20);
    images.insert("whole.qcow".into(), disk(random, whole, 2048, |_, _| true));
    images
}

/// Bytes in blocks of the files in a folder whose names begin so, when they are on the medium.
fn taken(folder: &Path, name: &str) -> u64 {
    let entries = fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry"));
    let of_image = entries.filter(|entry| entry.file_name().to_string_lossy().starts_with(name));
    of_image.map(|entry| entry.metadata().expect("there").blocks() * 512).sum()
}

fn sync(folder: &Path) {
    let synced = Command::new("sync").arg("-f").arg(folder).status();
    assert!(synced.is_ok_and(|status| status.success()), "on the medium");
}

/// Migrates images in a folder by each of these ways, and compares what that takes with what was said.
fn assert_room(bench: &Bench, folder: &Path, ways: &[&[&str]]) {
    let images = images(&mut Random::new(11));
    for (number, way) in ways.iter().enumerate() {
        let tree = folder.join(format!("tree-{number}"));
        fs::create_dir(&tree).expect("a folder");
        for (name, bytes) in &images {
            fs::write(tree.join(name), bytes).expect("written");
        }
        sync(&tree);
        let kind = folder.file_name().expect("a name").to_string_lossy();
        let [catalogue, saved] = ["catalogue", "plan"].map(|it| format!("{it}-{kind}-{number}"));
        let tree_name = tree.to_str().expect("a text");
        bench.ok(&["scan", "-q", "--catalogue", &catalogue, tree_name]);
        let words = ["plan", &catalogue, "-q", "--output", "jsonl", "--save", &saved];
        let planned = bench.ok(&[&words[..], way].concat());
        let lines = planned.out.lines();
        let lines = lines.map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
        let said: BTreeMap<String, (u64, String)> = lines
            .filter(|line| line["kind"] == "image")
            .map(|image| {
                let path = image["path"].as_str().expect("a path");
                let name = Path::new(path).file_name().expect("a name").to_string_lossy();
                let extra = image["extra"].as_u64().expect("bytes");
                (name.into_owned(), (extra, image["strategy"].as_str().expect("a word").to_owned()))
            })
            .collect();
        let before: BTreeMap<&String, u64> =
            said.keys().map(|name| (name, taken(&tree, name))).collect();
        bench.run(&["migrate", "-q", &saved]);
        sync(&tree);
        for (name, (extra, strategy)) in &said {
            // Blocks that a clone shares are told of both files, and are there once.
            let shared = if strategy == "reflink" { before[name] } else { 0 };
            let more = taken(&tree, name).saturating_sub(before[name] + shared);
            let what = format!("{} {way:?} {name} {strategy}", folder.display());
            let version = fs::read(tree.join(name)).expect("an image")[7];
            assert_eq!(version, if strategy == "leave" { 1 } else { 3 }, "{what}");
            assert!(more <= *extra, "{what}: {extra} bytes were said, and it took {more}");
            if name == "whole.qcow" {
                assert!(*extra < 2 * more, "{what}: {extra} bytes were said for {more}");
            }
        }
        fs::remove_dir_all(&tree).expect("removed");
    }
}

const UPGRADE: &[&str] = &["--way", "upgrade", "--keep-originals", "30d"];
const CONVERT: &[&str] = &["--way", "convert", "--damaged", "rescue"];
const FLATTEN: &[&str] = &["--way", "flatten"];
const REFLINK: &[&str] = &["--way", "reflink"];

#[test]
fn a_migration_takes_no_more_room_than_its_plan_says_where_files_have_holes() {
    let bench = Bench::new();
    if let Some(ext4) = mounted(&bench, "ext4") {
        assert_room(&bench, ext4.folder(), &[UPGRADE, CONVERT, FLATTEN]);
    }
    let memory = bench.file("memory");
    fs::create_dir(&memory).expect("a folder");
    if let Some(tmpfs) = Mounted::in_memory(&memory, 256 << 20) {
        assert_room(&bench, tmpfs.folder(), &[CONVERT, FLATTEN]);
    }
}

#[test]
fn a_migration_takes_no_more_room_than_its_plan_says_where_files_are_given_more_or_share_it() {
    let bench = Bench::new();
    if let Some(xfs) = mounted(&bench, "xfs") {
        assert_room(&bench, xfs.folder(), &[UPGRADE, CONVERT, FLATTEN, REFLINK]);
    }
}
