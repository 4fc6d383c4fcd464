//! Nothing that is left over stays behind, and old versions come back as they were.

mod common;

use std::collections::BTreeMap;

use calve_disk::{Disk, OpenOptions};
use calve_examine::{Carver, Ending, Kind, Label};
use calve_testkit::{Builder, Memory, Random, Sketch, qemu, seeds};
use common::{carved, finds, opened, place, regions};

/// Compares what was carved with the bytes that nothing refers to.
fn check(bytes: &[u8], what: &str) {
    let Some(image) = opened(bytes) else { return };
    let folder = tempfile::tempdir().expect("a folder");
    let (_, manifest) = carved(&image, folder.path());
    let mut times = vec![0u8; bytes.len()];
    for (entry, content) in finds(folder.path(), &manifest) {
        let start = place(&entry["host-offset"]);
        let end = start + place(&entry["host-length"]);
        times[start..end].iter_mut().for_each(|times| *times += 1);
        if entry["kind"] != "packed" {
            assert_eq!(content, bytes[start..end], "{what}: {entry}");
        }
    }
    for region in regions(&image) {
        let is_orphan = matches!(region.label, Label::Slack | Label::Unreferenced);
        for at in place(&region.at.get().into())..place(&region.end().into()) {
            let is_right = match (is_orphan, bytes[at]) {
                (false, _) => times[at] == 0,
                (true, 0) => times[at] <= 1,
                (true, _) => times[at] == 1,
            };
            assert!(is_right, "{what}: byte {at:#x} is in {} files: {region:?}", times[at]);
        }
    }
}

#[test]
fn every_byte_that_nothing_refers_to_and_that_is_not_zero_is_in_one_file() {
    for seed in seeds("CALVE_MODEL_CASES", 60) {
        let mut random = Random::new(seed);
        let mut sketch = Sketch::legal(&mut random);
        for _ in 0..3 {
            sketch.damage(&mut random);
            check(&sketch.image, &format!("seed {seed}"));
        }
    }
}

#[test]
fn all_old_versions_of_packed_clusters_that_qemu_left_behind_come_back() {
    if !(qemu::has("qemu-img") && qemu::has("qemu-io")) {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    qemu::img(folder.path(), &["create", "-f", "qcow", "t.qcow", "8M"]);
    // Each write has a pattern of its own in its first half, so that it is known again.
    let mut random = Random::new(9);
    let mut stored: BTreeMap<u64, Vec<u8>> = BTreeMap::new();
    let (mut old, mut commands) = (Vec::new(), Vec::new());
    for number in 0..700u64 {
        let cluster = random.below(400);
        let path = folder.path().join(format!("c{number}"));
        let mut content = number.to_be_bytes().repeat(64);
        content.resize(4096, 7);
        std::fs::write(&path, &content).expect("a file");
        let at = cluster * 4096;
        let name = path.to_str().expect("a name").to_owned();
        match stored.contains_key(&cluster) {
            // A cluster that is there cannot be packed again: it is written to, which leaves the
            // packed one behind, and the plain one is then written to where it lies.
            true => {
                commands.push(format!("write -P 9 {at} 512"));
                let packed = stored.get_mut(&cluster).map(std::mem::take);
                old.extend(packed.filter(|content| !content.is_empty()));
            }
            false => {
                commands.push(format!("write -c -s {name} {at} 4096"));
                stored.insert(cluster, content);
            }
        }
    }
    let mut arguments = vec!["-f", "qcow"];
    commands.iter().for_each(|command| arguments.extend(["-c", command]));
    arguments.push("t.qcow");
    assert!(qemu::io(folder.path(), &arguments).status.success());
    let disk = Disk::open(&folder.path().join("t.qcow"), &OpenOptions::default());
    let out = folder.path().join("out");
    std::fs::create_dir(&out).expect("a folder");
    let (carved, manifest) = carved(disk.expect("an image").top(), &out);
    let mut found: Vec<Vec<u8>> =
        finds(&out, &manifest).into_iter().map(|(_, content)| content).collect();
    found.sort();
    old.sort();
    assert!(old.len() > 100, "{}", old.len());
    assert!(found == old, "{} of {} came back", found.len(), old.len());
    assert_eq!(carved.files[Kind::Packed as usize], old.len() as u64);
}

#[test]
fn streams_that_follow_one_another_at_any_byte_come_back() {
    for seed in 0..20 {
        let mut random = Random::new(seed);
        let mut builder = Builder::new(12, 9, 1 << 20);
        builder.plain(0, &random.content(4096));
        let mut old = Vec::new();
        for cluster in 1..60 {
            let content = u64::to_be_bytes(random.number() >> 40).repeat(512);
            builder.packed(cluster, &content);
            if random.once_in(2) {
                builder.entry(cluster, 0);
                old.push(content);
            }
        }
        let image = opened(&builder.build()).expect("an image");
        let folder = tempfile::tempdir().expect("a folder");
        let (_, manifest) = carved(&image, folder.path());
        let found: Vec<Vec<u8>> =
            finds(folder.path(), &manifest).into_iter().map(|(_, content)| content).collect();
        assert!(found == old, "seed {seed}: {} of {}", found.len(), old.len());
    }
}

#[test]
fn a_stream_behind_bytes_that_make_no_sense_is_found_all_the_same() {
    let mut builder = Builder::new(12, 9, 1 << 20);
    builder.plain(0, &[1; 4096]);
    let end = builder.length();
    builder.patch(end, &[0xFF; 77]);
    builder.packed(1, &[0x41; 4096]);
    builder.entry(1, 0);
    let image = opened(&builder.build()).expect("an image");
    let folder = tempfile::tempdir().expect("a folder");
    let (_, manifest) = carved(&image, folder.path());
    let found = finds(folder.path(), &manifest);
    assert_eq!(found.len(), 2, "{manifest}");
    assert_eq!((&found[0].0["kind"], &found[0].1), (&"rest".into(), &vec![0xFF; 77]));
    assert_eq!((&found[1].0["kind"], &found[1].1), (&"packed".into(), &vec![0x41; 4096]));
    assert_eq!(found[1].0["host-offset"], end + 77);
}

#[test]
fn a_table_that_the_l1_table_lost_comes_back_with_its_clusters() {
    let mut builder = Builder::new(12, 9, 8 << 20).aligned(4096);
    builder.plain(0, &[1; 4096]);
    let mut random = Random::new(3);
    let content: Vec<Vec<u8>> = (0..3).map(|_| random.content(4096)).collect();
    let places: Vec<u64> = [512 + 7, 512 + 8, 512 + 300]
        .iter()
        .zip(&content)
        .map(|(c, b)| builder.plain(*c, b))
        .collect();
    builder.plain(1, &[2; 4096]);
    let table = builder.table_of(512);
    builder.l1_entry(1, 0);
    let image = opened(&builder.build()).expect("an image");
    let folder = tempfile::tempdir().expect("a folder");
    let (carved, manifest) = carved(&image, folder.path());
    assert_eq!(carved.files, [1, 0, 1, 0], "{manifest}");
    let found = finds(folder.path(), &manifest);
    assert_eq!((&found[0].0["kind"], &found[0].0["host-offset"]), (&"table".into(), &table.into()));
    let entries = found[0].0["entries"].as_array().expect("a list");
    let told: Vec<(u64, u64)> = entries
        .iter()
        .map(|entry| {
            (entry["index"].as_u64().expect("one"), entry["host-offset"].as_u64().expect("one"))
        })
        .collect();
    assert_eq!(told, [(7, places[0]), (8, places[1]), (300, places[2])]);
    assert!(found[1].1 == content.concat(), "the clusters in one file");
}

#[test]
fn a_few_odd_entries_do_not_move_the_grid() {
    let mut builder = Builder::new(12, 9, 2 << 20).aligned(4096);
    for cluster in 0..200 {
        builder.plain(cluster, &[1; 4096]);
    }
    builder.packed(210, &[3; 4096]);
    builder.packed(211, &[4; 4096]);
    let at = builder.plain(200, &[&[0; 1000][..], &[2; 3000]].concat());
    builder.entry(200, 0);
    builder.entry(211, 0);
    builder.entry(201, 0x1200);
    let image = opened(&builder.build()).expect("an image");
    let folder = tempfile::tempdir().expect("a folder");
    let (_, manifest) = carved(&image, folder.path());
    let found = finds(folder.path(), &manifest);
    assert_eq!((found.len(), &found[1].0["kind"]), (2, &"cluster".into()), "{manifest}");
    assert_eq!(found[1].0["host-offset"], at);
}

#[test]
fn a_run_that_is_stopped_leaves_no_manifest() {
    let mut builder = Builder::new(12, 9, 1 << 20);
    builder.plain(0, &[1; 4096]);
    builder.entry(0, 0);
    let image = opened(&builder.build()).expect("an image");
    let folder = tempfile::tempdir().expect("a folder");
    let mut carver = Carver::new(&image, "test", &|| true).expect("version 1");
    let carved = carver.run(folder.path(), 0o600).expect("the host does not fail");
    assert_eq!((carved.ending, carver.files_made()), (Ending::Stopped, 0));
    assert_eq!(std::fs::read_dir(folder.path()).expect("a folder").count(), 0);
}

#[test]
fn random_bytes_are_hardly_ever_taken_for_something() {
    let mut chance = 0;
    for (bits, l2_bits) in [(9, 12), (12, 9)] {
        let mut builder = Builder::new(bits, l2_bits, 1 << 20).aligned(1 << bits);
        builder.plain(0, &[1; 16]);
        let mut random = Random::new(1);
        let noise: Vec<u8> = (0..1 << 18).flat_map(|_| random.number().to_be_bytes()).collect();
        let end = builder.length().next_multiple_of(1 << bits);
        builder.patch(end, &noise);
        let image = opened(&builder.build()).expect("an image");
        let folder = tempfile::tempdir().expect("a folder");
        let (carved, _) = carved(&image, folder.path());
        chance += carved.files[Kind::Packed as usize] + carved.files[Kind::Table as usize];
    }
    assert_eq!(chance, 0, "in 4 MiB of noise");
}

#[test]
fn other_formats_are_refused() {
    let raw = calve_disk::formats::raw::RawImage::open(Box::new(Memory::new(vec![1; 512])));
    let raw = raw.expect("any bytes are a raw image");
    let told = calve_examine::layout(&raw, &mut |_| Ok(())).expect_err("not version 1");
    assert!(told.to_string().contains("only QCOW version 1"), "{told}");
}
