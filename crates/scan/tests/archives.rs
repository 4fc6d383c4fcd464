//! All tables of images in archives: what is missing is told, wherever it lies and however it is
//! packed, and what cannot be unpacked is no damage.

mod common;

use std::fs::File;
use std::os::unix::fs::FileExt;

use calve_disk::open::open_for_reading;
use calve_scan::{Ask, Class, Look, ScanOptions, Spool};
use calve_testkit::{Builder, Random};
use common::{bzip2, classes, gzip, image, options, qcow2, tar, told, write, xz, zip, zstandard};

fn deep() -> ScanOptions {
    ScanOptions { is_deep: true, ..options() }
}

/// An image whose second table lies behind what is read of a member anyway. Of a damaged one this
/// table leads behind the end of the file.
fn large(is_damaged: bool) -> Vec<u8> {
    let mut random = Random::new(7);
    let mut builder = Builder::new(12, 9, 4 << 20);
    for cluster in 0..200 {
        // Some of it is zero, and lies in no block of the spool.
        let content = if cluster % 3 == 0 { vec![0; 4096] } else { random.content(4096) };
        builder.plain(cluster, &content);
    }
    builder.plain(600, &[7; 4096]);
    if is_damaged {
        builder.entry(601, 1 << 40);
    }
    builder.build()
}

/// The same in less than is read of a member anyway.
fn small(is_damaged: bool) -> Vec<u8> {
    let mut builder = Builder::new(12, 9, 4 << 20);
    builder.plain(3, &[7; 4096]);
    if is_damaged {
        builder.entry(4, 1 << 40);
    }
    builder.build()
}

#[test]
fn tables_are_walked_in_archives_of_every_kind_where_that_is_asked_and_only_there() {
    let folder = tempfile::tempdir().expect("a folder");
    let root = folder.path();
    for (size, whole, damaged) in
        [("large", large(false), large(true)), ("small", small(false), small(true))]
    {
        for (what, bytes) in [("whole", &whole), ("damaged", &damaged)] {
            write(root, &format!("{size}-{what}.gz"), &gzip(bytes));
            write(root, &format!("{size}-{what}.bz2"), &bzip2(bytes));
            write(root, &format!("{size}-{what}.xz"), &xz(bytes));
            write(root, &format!("{size}-{what}.zst"), &zstandard(bytes));
        }
        // Deflated and stored, by turns.
        let all: &[(&str, &[u8])] = &[
            ("1-whole", &whole),
            ("2-whole", &whole),
            ("3-damaged", &damaged),
            ("4-damaged", &damaged),
            ("5-whole", &whole),
            ("6-text", b"a text"),
            ("7-packed-damaged.gz", &gzip(&damaged)),
            ("8-whole", &whole),
        ];
        write(root, &format!("{size}.zip"), &zip(all));
        write(root, &format!("{size}.tar"), &tar(all));
        write(root, &format!("{size}.tar.zst"), &zstandard(&tar(all)));
        write(root, &format!("{size}-in.tar"), &tar(&[("in.tar", &tar(all))]));
    }
    let plain = told(root, &options());
    let found = told(root, &deep());
    let mut members = 0;
    for (name, seen) in found.iter().filter(|(name, _)| name.contains('|')) {
        members += 1;
        assert_eq!(plain[name].class, Class::Version1, "{name}: not walked");
        let is_damaged = name.contains("damaged");
        let expected = if is_damaged { Class::Damaged } else { Class::Version1 };
        assert_eq!((seen.class, &seen.problem), (expected, &None), "{name}");
        let counts = seen.image.as_ref().and_then(|image| image.survey).expect("counted");
        // An entry that leads nowhere counts as one that stores something.
        let allocated = if name.contains("large") { 201 } else { 1 } + u64::from(is_damaged);
        assert_eq!((counts.total, counts.allocated), (1024, allocated), "{name}");
        assert_eq!(seen.findings.iter().any(|finding| finding.rule == "Q18"), is_damaged, "{name}");
    }
    assert_eq!(members, 2 * (8 + 4 * 7));
    let archives = found.iter().filter(|(name, _)| !name.contains('|'));
    archives.for_each(|(name, seen)| assert_eq!(seen.problem, None, "{name}"));
}

/// What a look into an archive tells, with a spool that is made, or with none.
fn looked(root: &std::path::Path, name: &str, spool: &mut Spool) -> Look {
    let file = open_for_reading(&root.join(name)).expect("opens");
    let ask = Ask { name: name.into(), with_archives: true, is_deep: true, ..Ask::default() };
    calve_scan::look(&file, &ask, spool)
}

#[test]
fn no_room_to_unpack_is_a_problem_of_today_and_no_damage() {
    let folder = tempfile::tempdir().expect("a folder");
    let root = folder.path();
    let all: &[(&str, &[u8])] =
        &[("small", &small(true)), ("one", &large(true)), ("two", &large(false))];
    write(root, "all.tar.gz", &gzip(&tar(all)));
    write(root, "all.tar", &tar(all));
    // A file that is open for reading only takes nothing.
    let closed = File::open(write(root, "closed", b"")).expect("opens");
    for mut spool in [Spool::missing("no such folder"), Spool::of(closed)] {
        let look = looked(root, "all.tar.gz", &mut spool);
        assert!(look.is_shallow);
        let classes: Vec<Class> = look.members.iter().map(|member| member.seen.class).collect();
        // What needs no room is walked.
        assert_eq!(classes, [Class::Damaged, Class::Version1, Class::Version1]);
        for member in &look.members[1..] {
            let problem = member.seen.problem.as_deref().expect("told");
            assert!(problem.starts_with("its tables were not walked: unpacking it"), "{problem}");
            assert!(problem.ends_with("name another one in TMPDIR"), "{problem}");
        }
        // What lies there as it is needs none.
        let look = looked(root, "all.tar", &mut spool);
        assert!(!look.is_shallow);
        let classes: Vec<Class> = look.members.iter().map(|member| member.seen.class).collect();
        assert_eq!(classes, [Class::Damaged, Class::Damaged, Class::Version1]);
    }
}

#[test]
fn what_ends_early_is_a_problem_and_no_damage() {
    let folder = tempfile::tempdir().expect("a folder");
    let root = folder.path();
    let whole = large(false);
    let all = tar(&[("first", &small(false)), ("cut", &whole)]);
    let cut = &all[..all.len() - 300_000];
    write(root, "cut.tar", cut);
    write(root, "cut.tar.gz", &gzip(cut));
    let packed = gzip(&whole);
    write(root, "cut.gz", &packed[..packed.len() - 100]);
    // In this one not even what is read of a member anyway is there.
    let packed = gzip(&small(false));
    write(root, "short.gz", &packed[..packed.len() - 4]);
    let mut torn = zip(&[("cut", &whole)]);
    let middle = torn.len() / 2;
    torn[middle] ^= 0xFF;
    write(root, "torn.zip", &torn);
    let found = told(root, &deep());
    for name in ["cut.tar|cut", "cut.tar.gz|cut", "cut.gz|cut", "torn.zip|cut", "short.gz|short"] {
        let seen = &found[name];
        assert_eq!(seen.class, Class::Version1, "{name}: {seen:?}");
        let problem = seen.problem.as_deref().unwrap_or_else(|| panic!("{name}"));
        assert!(problem.contains("not walked"), "{name}: {problem}");
    }
    assert_eq!(found["cut.tar|first"].problem, None);
    // Without a word about tables, a tar archive that ends inside a member may have had more.
    for (name, seen) in told(root, &options()) {
        let is_seen = ["cut.tar", "cut.tar.gz", "short.gz"].contains(&&*name);
        assert_eq!(seen.problem.is_some(), is_seen, "{name}: {:?}", seen.problem);
    }
}

#[test]
fn what_claims_more_than_it_has_is_given_up() {
    let folder = tempfile::tempdir().expect("a folder");
    let root = folder.path();
    // A sparse member that begins as an image, and goes on with holes for ever.
    let image = image();
    let mut header = tar::Header::new_gnu();
    header.set_path("sparse").expect("a name");
    header.set_entry_type(tar::EntryType::GNUSparse);
    header.set_size(512);
    let gnu = header.as_gnu_mut().expect("such a header");
    let put = |field: &mut [u8; 12], number: u64| {
        field[0] = 0x80;
        field[4..].copy_from_slice(&number.to_be_bytes());
    };
    put(&mut gnu.sparse[0].offset, 0);
    put(&mut gnu.sparse[0].numbytes, 512);
    put(&mut gnu.sparse[1].offset, 1 << 60);
    put(&mut gnu.sparse[1].numbytes, 0);
    put(&mut gnu.realsize, 1 << 60);
    header.set_cksum();
    let member = [header.as_bytes(), &image[..512]].concat();
    let bytes = [&member[..], &tar(&[("last", &image)])].concat();
    write(root, "sparse.tar", &bytes);
    write(root, "sparse.tar.gz", &gzip(&bytes));
    for (is_deep, options) in [(false, options()), (true, deep())] {
        let found = told(root, &options);
        for archive in ["sparse.tar", "sparse.tar.gz"] {
            let problem = &found[&format!("{archive}|sparse")].problem;
            let is_told = problem.as_ref().is_some_and(|problem| problem.contains("too long"));
            assert_eq!(is_told, is_deep, "{archive}: {problem:?}");
            assert_eq!(found[&format!("{archive}|last")].class, Class::Version1, "{archive}");
            assert_eq!(found[archive].problem, None);
        }
    }
}

#[test]
fn images_of_one_name_are_told_one_by_one() {
    let folder = tempfile::tempdir().expect("a folder");
    let root = folder.path();
    let (whole, damaged, other) = (small(false), small(true), qcow2(1 << 20));
    let all: &[(&str, &[u8])] = &[
        ("disk", &whole),
        ("disk.gz", &gzip(&damaged)),
        ("disk#2", &whole),
        ("disk.xz", &xz(&whole)),
        ("in.tar", &tar(&[("disk", &whole)])),
        ("in.tar/disk", &damaged),
        ("new.qcow2", &other),
    ];
    write(root, "all.tar", &tar(all));
    let mut found = classes(root, &deep());
    found.retain(|name, _| name.contains('|'));
    let expected = [
        ("all.tar|disk", Class::Version1),
        ("all.tar|disk#2", Class::Damaged),
        ("all.tar|disk#2#2", Class::Version1),
        ("all.tar|disk#3", Class::Version1),
        ("all.tar|in.tar/disk", Class::Version1),
        ("all.tar|in.tar/disk#2", Class::Damaged),
        ("all.tar|new.qcow2", Class::Qcow2),
    ];
    assert_eq!(found, expected.map(|(name, class)| (name.to_owned(), class)).into());
}

#[test]
fn names_of_images_take_no_more_memory_than_they_may() {
    let folder = tempfile::tempdir().expect("a folder");
    let root = folder.path();
    let image = image();
    let names: Vec<String> =
        (0..8).map(|number| format!("{number}{}", "n".repeat(900_000))).collect();
    let all: Vec<(&str, &[u8])> = names.iter().map(|name| (&**name, &image[..])).collect();
    write(root, "names.tar.gz", &gzip(&tar(&all)));
    let found = told(root, &options());
    assert_eq!(found.len(), 1 + 4);
    let problem = found["names.tar.gz"].problem.as_deref().expect("told");
    assert!(problem.contains("not looked into"), "{problem}");
}

#[test]
fn a_spool_that_is_handed_over_is_empty_again_afterwards() {
    let folder = tempfile::tempdir().expect("a folder");
    let root = folder.path();
    write(root, "disk.gz", &gzip(&large(false)));
    let file = tempfile::tempfile().expect("a file");
    // What somebody left there is nobody's.
    file.write_all_at(&[0xAA; 2 << 20], 0).expect("written");
    let look = looked(root, "disk.gz", &mut Spool::of(file.try_clone().expect("a copy")));
    assert_eq!(look.members[0].seen.class, Class::Version1);
    assert_eq!(look.members[0].seen.size, Some(large(false).len() as u64));
    assert_eq!(file.metadata().expect("told").len(), 0);
}

type Pack = fn(&[u8]) -> Vec<u8>;

#[test]
fn zeros_behind_a_packed_stream_are_its_end_and_all_else_is_told() {
    let folder = tempfile::tempdir().expect("a folder");
    let (root, image) = (folder.path(), large(false));
    let (first, second) = image.split_at(100_000);
    let packings: [(&str, Pack); 3] = [("gz", gzip), ("bz2", bzip2), ("xz", xz)];
    // The last is longer than what is read at once.
    let whole: [&[u8]; 4] = [b"", &[0; 4], &[0; 10_240], &[0; 200_000]];
    let broken: [&[u8]; 4] = [b"x", b"\0\0\0x", b"another", &[&[0; 70_000][..], b"x"].concat()];
    for (name, pack) in packings {
        for (is_whole, tails) in [(true, whole), (false, broken)] {
            for (number, tail) in tails.into_iter().enumerate() {
                let bytes = [&pack(first)[..], &pack(second), tail].concat();
                write(root, &format!("{is_whole}-{number}.{name}"), &bytes);
            }
        }
    }
    let found = told(root, &deep());
    let mut members = 0;
    for (name, seen) in found.iter().filter(|(name, _)| name.contains('|')) {
        members += 1;
        assert_eq!(seen.class, Class::Version1, "{name}");
        let survey = seen.image.as_ref().expect("an image").survey;
        if name.starts_with("true") {
            assert_eq!(
                (survey.map(|it| it.allocated), &seen.problem),
                (Some(201), &None),
                "{name}"
            );
        } else {
            let problem = seen.problem.as_deref().expect("one");
            assert!(
                survey.is_none() && problem.contains("unpack the archive"),
                "{name}: {problem}"
            );
        }
    }
    assert_eq!(members, 24);
}

/// What GNU tar makes of holes: its own way is read, those of POSIX are told as not looked into, and
/// none is taken for something that it is not.
#[test]
fn sparse_members_of_real_tar_files_are_what_they_are_or_are_told() {
    if !calve_testkit::qemu::has("tar") {
        calve_testkit::qemu::skipped("there is no tar");
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let root = folder.path();
    let path = write(root, "disk.qcow", &large(false));
    let file = File::options().write(true).open(&path).expect("opens");
    file.set_len((large(false).len() as u64 + (1 << 20)).next_multiple_of(4096)).expect("a hole");
    for (name, words) in [
        ("gnu", "--format=gnu"),
        ("posix-0.0", "--format=posix --sparse-version=0.0"),
        ("posix-0.1", "--format=posix --sparse-version=0.1"),
        ("posix-1.0", "--format=posix --sparse-version=1.0"),
    ] {
        let mut tar = std::process::Command::new("tar");
        tar.arg("-C").arg(root).args(words.split(' ')).args(["-S", "-cf"]);
        let made = tar.arg(root.join(format!("{name}.tar"))).arg("disk.qcow").status();
        assert!(made.expect("tar runs").success());
    }
    for options in [options(), deep()] {
        let found = told(root, &options);
        assert_eq!(found.len(), 6, "{found:?}");
        let gnu = &found["gnu.tar|disk.qcow"];
        assert_eq!((gnu.class, &gnu.problem), (Class::Version1, &None));
        let survey = gnu.image.as_ref().expect("an image").survey;
        assert_eq!(survey.map(|survey| survey.allocated), options.is_deep.then_some(201));
        for name in ["posix-0.0.tar", "posix-0.1.tar", "posix-1.0.tar"] {
            let problem = found[name].problem.as_deref().expect("told");
            assert!(
                problem.contains("not looked into: is sparse in the way of POSIX"),
                "{problem}"
            );
        }
    }
}
