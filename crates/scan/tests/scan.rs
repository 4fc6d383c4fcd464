//! Scans of trees whose truth is known.

mod common;

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::{Duration, Instant};

use calve_disk::open::{lock_for_reading, open_for_reading};
use calve_scan::{Ask, Class, Event, ScanOptions, Seen, Spool};
use calve_testkit::{Builder, Random, XenOrder, seeds};
use common::{
    bzip2, classes, events, gzip, image, options, qcow2, tar, told, write, xz, zip, zstandard,
};

fn truth(expected: &[(&str, Class)]) -> BTreeMap<String, Class> {
    expected.iter().map(|(name, class)| ((*name).to_owned(), *class)).collect()
}

fn facts(seen: &Seen) -> &calve_scan::ImageFacts {
    seen.image.as_ref().expect("an image")
}

#[test]
fn every_class_is_told_from_content_name_and_surroundings() {
    let folder = tempfile::tempdir().expect("a folder");
    let root = folder.path();
    let mut broken = image();
    broken[32] = 77;
    for (name, bytes) in [
        ("v1.qcow", image()),
        ("no-extension", image()),
        ("backup.qcow.old", image()),
        (".hidden/.git/v1", image()),
        ("disk.img", image()),
        ("disk.QCOW2", image()),
        ("new.qcow2", qcow2(1 << 20)),
        ("new.img", qcow2(1 << 20)),
        ("new.qcow", qcow2(1 << 20)),
        ("done.qcow", qcow2(1 << 20)),
        ("done.qcow.calve-undo", b"{}".to_vec()),
        ("broken.qcow", broken),
        ("cut.qcow", b"QFI\xFB\0\0\0\x01 and no more".to_vec()),
        ("shorter", b"QFI\xFB\0".to_vec()),
        ("seven", b"QFI\xFB\0\0\0\x07".to_vec()),
        ("raw.qcow", vec![0; 4096]),
        ("text.txt", b"QFI is not enough".to_vec()),
        ("empty", Vec::new()),
    ] {
        write(root, name, &bytes);
    }
    symlink("v1.qcow", root.join("link.qcow")).expect("a link");
    symlink("/", root.join("link-to-all")).expect("a link");
    let found = told(root, &options());
    let classes: BTreeMap<_, _> =
        found.iter().map(|(name, seen)| (name.clone(), seen.class)).collect();
    let expected = truth(&[
        ("v1.qcow", Class::Version1),
        ("no-extension", Class::Version1),
        ("backup.qcow.old", Class::Version1),
        (".hidden/.git/v1", Class::Version1),
        ("disk.img", Class::Version1Misnamed),
        ("disk.QCOW2", Class::Version1Misnamed),
        ("new.qcow2", Class::Qcow2),
        ("new.img", Class::Qcow2),
        ("new.qcow", Class::Qcow2Misnamed),
        ("done.qcow", Class::Migrated),
        ("done.qcow.calve-undo", Class::Other),
        ("broken.qcow", Class::Damaged),
        ("cut.qcow", Class::Damaged),
        ("shorter", Class::Damaged),
        ("seven", Class::Damaged),
        ("raw.qcow", Class::OtherMisnamed),
        ("text.txt", Class::Other),
        ("empty", Class::Other),
    ]);
    assert_eq!(classes, expected);
    assert_eq!(found["broken.qcow"].findings[0].rule, "Q5");
    assert!(facts(&found["broken.qcow"]).is_version1());
    assert_eq!(found["cut.qcow"].findings[0].rule, "Q2");
    assert_eq!(found["v1.qcow"].size, Some(image().len() as u64));
}

#[test]
fn dialect_producer_base_and_encryption_are_told() {
    let folder = tempfile::tempdir().expect("a folder");
    let root = folder.path();
    let mut xen = Builder::new(12, 9, 64 << 20).xen(XenOrder::Little);
    xen.plain(0, &[7; 4096]);
    write(root, "xen", &xen.build());
    let mut overlay = Builder::new(9, 12, 1 << 20).encrypted(b"secret").backing(b"caf\xe9/base");
    overlay.patch(20, &1_000_000_000u32.to_be_bytes());
    overlay.plain(0, &[7; 512]);
    write(root, "overlay", &overlay.build());
    let found = told(root, &options());
    let xen = facts(&found["xen"]);
    assert_eq!(xen.dialect.as_deref(), Some("xen-little-endian"));
    assert_eq!(xen.producer.as_deref(), Some("Xen tapdisk"));
    assert_eq!(
        (xen.virtual_size, xen.cluster_bits, xen.l2_bits),
        (Some(64 << 20), Some(12), Some(9))
    );
    let overlay = facts(&found["overlay"]);
    assert!(overlay.is_encrypted && !xen.is_encrypted);
    assert_eq!(overlay.backing_name.as_deref(), Some(&b"caf\xe9/base"[..]));
    assert_eq!(overlay.backing_time, Some(1_000_000_000));
    assert_eq!(overlay.producer.as_deref(), Some("QEMU 0.6.1 to 0.8.2"));
}

#[test]
fn damage_in_tables_shows_where_they_are_walked_and_only_there() {
    let folder = tempfile::tempdir().expect("a folder");
    let root = folder.path();
    let mut builder = Builder::new(12, 9, 4 << 20);
    builder.plain(3, &[7; 4096]);
    builder.entry(4, 1 << 40);
    builder.entry(5, 1 << 41);
    write(root, "bad", &builder.build());
    write(root, "good", &image());
    assert_eq!(told(root, &options())["bad"].class, Class::Version1);
    let found = told(root, &ScanOptions { is_deep: true, ..options() });
    assert_eq!((found["bad"].class, found["good"].class), (Class::Damaged, Class::Version1));
    let finding = &found["bad"].findings[0];
    assert_eq!((&*finding.rule, finding.count), ("Q18", 2));
    let survey = facts(&found["good"]).survey.expect("counted");
    assert_eq!((survey.total, survey.allocated, survey.lost), (1024, 1, 0));
}

#[test]
fn an_image_under_a_lock_is_in_use_and_scanning_takes_none() {
    let folder = tempfile::tempdir().expect("a folder");
    let root = folder.path();
    let path = write(root, "v1.qcow", &image());
    let other = write(root, "raw.img", &[1; 512]);
    let files = [&path, &other].map(|path| open_for_reading(path).expect("opens"));
    for file in &files {
        lock_for_reading(file, &path).expect("locks");
    }
    let found = told(root, &options());
    assert_eq!((found["v1.qcow"].class, found["raw.img"].class), (Class::InUse, Class::Other));
    assert!(facts(&found["v1.qcow"]).is_version1());
}

#[test]
fn images_in_archives_of_every_kind_are_found_by_what_they_hold() {
    let folder = tempfile::tempdir().expect("a folder");
    let root = folder.path();
    let (v1, other, text) = (image(), qcow2(1 << 20), b"a text".repeat(40_000));
    let all: &[(&str, &[u8])] =
        &[("a/old.qcow", &v1), ("a/text", &text), ("new.qcow2", &other), ("old.img", &v1)];
    write(root, "old.qcow.gz", &gzip(&v1));
    write(root, "old.qcow.bz2", &bzip2(&v1));
    write(root, "old.qcow.xz", &xz(&v1));
    write(root, "old.qcow.zst", &zstandard(&v1));
    write(root, "two-streams.gz", &[gzip(&v1[..1000]), gzip(&v1[1000..])].concat());
    write(root, "all.tar", &tar(all));
    write(root, "all.tgz", &gzip(&tar(all)));
    write(root, "wrong-name.gz", &xz(&tar(all)));
    write(root, "all.zip", &zip(all));
    let long = "long/".repeat(60) + "old.qcow";
    write(
        root,
        "nested.tar.zst",
        &zstandard(&tar(&[("x/old.qcow.gz", &gzip(&v1)), ("in.tar", &tar(all)), (&long, &v1)])),
    );
    write(root, "text.gz", &gzip(&text));
    let mut found = classes(root, &options());
    // Of the archives themselves there is nothing to say.
    for (name, class) in &found {
        assert!(name.contains('|') || *class == Class::Other, "{name}: {class}");
    }
    found.retain(|name, _| name.contains('|'));
    let mut expected = vec![
        ("old.qcow.gz|old.qcow".to_owned(), Class::Version1),
        ("old.qcow.bz2|old.qcow".to_owned(), Class::Version1),
        ("old.qcow.xz|old.qcow".to_owned(), Class::Version1),
        ("old.qcow.zst|old.qcow".to_owned(), Class::Version1),
        ("two-streams.gz|two-streams".to_owned(), Class::Version1),
        ("nested.tar.zst|x/old.qcow".to_owned(), Class::Version1),
        (format!("nested.tar.zst|{long}"), Class::Version1),
    ];
    for archive in ["all.tar|", "all.tgz|", "wrong-name.gz|", "all.zip|", "nested.tar.zst|in.tar/"]
    {
        expected.push((format!("{archive}a/old.qcow"), Class::Version1));
        expected.push((format!("{archive}new.qcow2"), Class::Qcow2));
        expected.push((format!("{archive}old.img"), Class::Version1Misnamed));
    }
    assert_eq!(found, expected.into_iter().collect());
    let seen = &told(root, &options())["all.zip|a/old.qcow"];
    assert_eq!(seen.size, Some(v1.len() as u64));
    assert_eq!(facts(seen).virtual_size, Some(4 << 20));
    let without = classes(root, &ScanOptions { with_archives: false, ..options() });
    assert!(without.keys().all(|name| !name.contains('|')));
}

#[test]
fn hard_links_are_read_once_and_each_name_is_told() {
    let folder = tempfile::tempdir().expect("a folder");
    let root = folder.path();
    let path = write(root, "one.qcow", &image());
    std::fs::hard_link(&path, root.join("two.qcow")).expect("a link");
    std::fs::hard_link(&path, root.join("three.qcow")).expect("a link");
    write(root, "four.qcow", &image());
    let events = events(root, &options());
    let sighted = events.iter().filter(|event| matches!(event, Event::Sighted(_))).count();
    let linked = events.iter().filter(|event| matches!(event, Event::Linked { .. })).count();
    assert_eq!((sighted, linked), (2, 2));
}

#[test]
fn what_cannot_be_read_is_told_and_ends_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let root = folder.path();
    for (name, packed) in [
        ("a.gz", gzip(&image())),
        ("a.bz2", bzip2(&image())),
        ("a.xz", xz(&image())),
        ("a.zst", zstandard(&image())),
        ("a.zip", zip(&[("x", &image())])),
    ] {
        write(root, name, &packed[..packed.len() / 3]);
    }
    let mut torn = tar(&[("x", &[7; 2000]), ("y", &image())]);
    torn[2560..2600].fill(7);
    write(root, "a.tar", &torn);
    let name = OsStr::from_bytes(b"caf\xe9\x1b[2J.qcow");
    std::fs::write(root.join(name), image()).expect("a file");
    rustix::fs::mknodat(
        rustix::fs::CWD,
        root.join("pipe.qcow"),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::from_raw_mode(0o644),
        0,
    )
    .expect("a pipe");
    let found = told(root, &options());
    assert_eq!(found.len(), 7 + found.keys().filter(|name| name.contains('|')).count());
    for name in ["a.gz", "a.bz2", "a.xz", "a.zst", "a.zip", "a.tar"] {
        let problem = found[name].problem.as_deref().unwrap_or_else(|| panic!("{name}"));
        assert!(problem.contains("not looked into"), "{name}: {problem}");
    }
    let missing = events(&root.join("missing"), &options());
    let [Event::Trouble { path, what }] = &missing[..] else { panic!("{missing:?}") };
    assert_eq!(path, &root.join("missing"));
    assert!(what.contains("No such file"), "{what}");
}

/// Runs `scan` and wants it done within a time that a test may take.
fn soon(root: &Path) -> common::Told {
    let began = Instant::now();
    let found = told(root, &options());
    assert!(began.elapsed() < Duration::from_secs(60), "{:?}", began.elapsed());
    found
}

#[test]
fn archives_that_claim_too_much_are_given_up_with_a_word() {
    let folder = tempfile::tempdir().expect("a folder");
    let root = folder.path();
    // A name of 4 MiB before a member.
    let name = vec![b'n'; 4 << 20];
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(tar::EntryType::GNULongName);
    header.set_size(name.len() as u64);
    header.set_path("././@LongLink").expect("a name");
    header.set_cksum();
    let bytes = [header.as_bytes(), &name[..], &tar(&[("x", &image())])].concat();
    write(root, "names.tar", &bytes);
    write(root, "names.tar.gz", &gzip(&bytes));
    let mut deep = image();
    for _ in 0..6 {
        deep = gzip(&deep);
    }
    write(root, "deep.gz", &deep);
    let found = soon(root);
    for name in ["names.tar", "names.tar.gz"] {
        assert!(
            found[name].problem.as_deref().is_some_and(|text| text.contains("too long")),
            "{name}"
        );
    }
    let problem = found["deep.gz"].problem.as_deref().expect("told");
    assert!(problem.contains("within 4 archives"), "{problem}");
}

#[test]
fn of_random_trees_every_class_is_exact() {
    for seed in seeds("CALVE_SCAN_TREES", 8) {
        let mut random = Random::new(seed);
        let folder = tempfile::tempdir().expect("a folder");
        let mut expected = BTreeMap::new();
        for number in 0..60 {
            let folder_name =
                ["", "a/", "a/b/", ".c/"][usize::try_from(random.below(4)).expect("small")];
            let extension = random.one_of(&["", ".qcow", ".img", ".qcow2", ".raw", ".bak"]);
            let name = format!("{folder_name}{number}{extension}");
            let is_other = matches!(extension, ".img" | ".qcow2" | ".raw");
            let (bytes, class) = match random.below(6) {
                0 | 1 => {
                    let class = if is_other { Class::Version1Misnamed } else { Class::Version1 };
                    (calve_testkit::Sketch::legal(&mut random).image, class)
                }
                2 => {
                    let mut broken = image();
                    broken[32] = 17 + u8::try_from(random.below(200)).expect("small");
                    (broken, Class::Damaged)
                }
                3 => {
                    let is_old = extension == ".qcow";
                    (qcow2(1 << 20), if is_old { Class::Qcow2Misnamed } else { Class::Qcow2 })
                }
                _ => {
                    let length = random.below(2000);
                    let is_named = matches!(extension, ".qcow" | ".qcow2");
                    let class = if is_named { Class::OtherMisnamed } else { Class::Other };
                    (random.content(length), class)
                }
            };
            write(folder.path(), &name, &bytes);
            expected.insert(name, class);
        }
        assert_eq!(classes(folder.path(), &options()), expected, "CALVE_SEED={seed}");
    }
}

#[test]
fn a_look_crosses_to_another_process_and_back() {
    let folder = tempfile::tempdir().expect("a folder");
    write(folder.path(), "all.zip", &zip(&[("a", &image()), ("b.img", &image())]));
    for event in events(folder.path(), &options()) {
        let Event::Sighted(sighting) = event else { panic!("sighted") };
        let line = serde_json::to_string(&sighting.look).expect("text");
        let back: calve_scan::Look = serde_json::from_str(&line).expect("the same");
        assert_eq!(back, sighting.look);
    }
}

#[test]
fn no_bytes_of_an_archive_make_a_look_panic() {
    let folder = tempfile::tempdir().expect("a folder");
    let all: &[(&str, &[u8])] = &[("a/old.qcow", &image()), ("text", &[b't'; 3000])];
    let whole = [
        gzip(&image()),
        bzip2(&image()),
        xz(&image()),
        zstandard(&image()),
        tar(all),
        zip(all),
        gzip(&tar(all)),
        xz(&zstandard(&tar(all))),
        image(),
    ];
    for seed in seeds("CALVE_SCAN_BYTES", 100) {
        let mut random = Random::new(seed);
        for (number, bytes) in whole.iter().enumerate() {
            let mut bytes = bytes.clone();
            let length = bytes.len() as u64;
            for _ in 0..=random.below(6) {
                // Most of what matters stands at either end.
                let near = random.below(length.min(200));
                let at = random.one_of(&[near, length - 1 - near, random.clone().below(length)]);
                bytes[usize::try_from(at).expect("small")] ^= 1 << random.below(8);
            }
            if random.once_in(4) {
                bytes.truncate(usize::try_from(random.below(length)).expect("small"));
            }
            let path = write(folder.path(), &format!("{number}"), &bytes);
            let file = open_for_reading(&path).expect("opens");
            let ask = Ask { with_archives: true, is_deep: true, ..Ask::default() };
            // A panic is the test's own.
            let look = calve_scan::look(&file, &ask, &mut Spool::when_needed());
            assert!(look.members.len() <= 2, "CALVE_SEED={seed}: {number}: {look:?}");
        }
    }
}
