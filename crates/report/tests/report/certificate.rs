//! A certificate is given when nothing speaks against it, and each thing that does is told by its
//! own word.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use crate::common::{Made, OPTIONS, planned, put, record};
use calve_disk::open::lock_for_writing;
use calve_migrate::{FamilyState, ImageState};
use calve_plan::{Kept, Strategy};
use calve_report::{Found, Outcome, Reason};
use calve_scan::{Event, ScanOptions};
use calve_testkit::Builder;

fn version1() -> Vec<u8> {
    let mut builder = Builder::new(12, 9, 1 << 20);
    builder.plain(3, &[7; 4096]);
    builder.build()
}

const QCOW2: &[u8] = b"QFI\xfb\0\0\0\x03";

/// Whether there is a certificate, and what speaks against it: reasons, names below `tree`, runs.
fn judged(made: &Made) -> Vec<(Reason, PathBuf, Option<i64>)> {
    made.report("catalogue", |report| {
        let mut all = Vec::new();
        for (reason, count) in &report.certificate.remaining {
            let before = all.len();
            report
                .remaining(*reason, |it| {
                    assert_eq!(it.reason, *reason);
                    let name = it.path.strip_prefix(made.file("tree")).unwrap_or(&it.path);
                    all.push((it.reason, name.to_owned(), it.run));
                    Ok(())
                })
                .expect("told");
            assert_eq!(u64::try_from(all.len() - before).expect("small"), *count);
            let (next, first) = report.next(*reason).expect("what to do");
            assert!(next.command.starts_with("calve ") || next.command.starts_with("ls "));
            assert!(first.ends_with(&all[before].1), "{}", first.display());
        }
        assert_eq!(report.certificate.is_given(), all.is_empty());
        assert_eq!(report.verdict() == "No version 1 image remains.", all.is_empty());
        all
    })
}

fn assert_only(made: &Made, reason: Reason, name: &str, run: Option<i64>) {
    assert_eq!(judged(made), [(reason, PathBuf::from(name), run)]);
}

#[test]
fn without_a_scan_there_is_none() {
    let made = Made::new();
    assert_only(&made, Reason::NoScan, made.file("catalogue").to_str().expect("text"), None);
    // A scan that was stopped is none.
    let mut catalogue = made.catalogue();
    catalogue.begin(&[made.file("tree")], &OPTIONS).expect("begins").stop().expect("stops");
    drop(catalogue);
    assert_only(&made, Reason::NoScan, made.file("catalogue").to_str().expect("text"), None);
    made.scan();
    assert_eq!(judged(&made), []);
}

#[test]
fn what_is_at_a_path_now_is_what_counts() {
    let made = Made::new();
    let path = made.write(b"a", &version1());
    made.scan();
    assert_only(&made, Reason::Version1, "a", None);
    let held = File::options().read(true).write(true).open(&path).expect("a file");
    lock_for_writing(&held, &path).expect("nobody else has it");
    assert_only(&made, Reason::InUse, "a", None);
    // Whoever made it another file may have kept the one that it was.
    fs::write(&path, QCOW2).expect("a file");
    assert_only(&made, Reason::Changed, "a", None);
    drop(held);
    assert_only(&made, Reason::Changed, "a", None);
    made.scan();
    assert_eq!(judged(&made), []);
    fs::write(&path, version1()).expect("a file");
    made.scan();
    fs::remove_file(&path).expect("removed");
    assert_only(&made, Reason::Missing, "a", None);
    std::os::unix::fs::symlink("elsewhere", &path).expect("a link");
    assert_only(&made, Reason::NoFile, "a", None);
    fs::remove_file(&path).expect("removed");
    fs::create_dir(&path).expect("a folder");
    assert_only(&made, Reason::NoFile, "a", None);
    fs::remove_dir(&path).expect("removed");
}

#[test]
fn what_is_gone_is_missing_until_somebody_says_that_it_was_removed() {
    let made = Made::new();
    let path = made.write(b"a", &version1());
    made.write(b"text", b"a text");
    made.scan();
    let away = made.file("away");
    fs::rename(&path, &away).expect("moved");
    for _ in 0..2 {
        made.scan();
        assert_only(&made, Reason::Missing, "a", None);
    }
    made.scan_without(&[made.below(b"b")]);
    assert_only(&made, Reason::Missing, "a", None);
    made.scan_without(std::slice::from_ref(&path));
    assert_eq!(judged(&made), []);
    made.scan();
    assert_eq!(judged(&made), [], "it stays said");
    fs::rename(&away, &path).expect("moved");
    assert_only(&made, Reason::Version1, "a", None);
    // It was said of that time, and of no other.
    made.scan();
    fs::rename(&path, &away).expect("moved");
    made.scan();
    assert_only(&made, Reason::Missing, "a", None);
    made.scan_without(&[made.file("tree")]);
    assert_eq!(judged(&made), []);
}

#[test]
fn what_could_not_be_read_before_it_went_is_missing_too() {
    let made = Made::new();
    let path = made.write(b"a", &version1());
    made.write(b"text", b"a text");
    made.scan();
    // As a file is taken down that cannot be read.
    let unreadable = |path: &Path| {
        let catalogue = rusqlite::Connection::open(made.file("catalogue")).expect("a catalogue");
        let sql = "UPDATE file SET class = 'unreadable', format = NULL, problem = 'no', gone = NULL \
                   WHERE path = ?1";
        let bytes = std::os::unix::ffi::OsStrExt::as_bytes(path.as_os_str());
        assert_eq!(catalogue.execute(sql, [bytes]).expect("a row"), 1);
    };
    unreadable(&path);
    assert_only(&made, Reason::NotLookedInto, "a", None);
    fs::rename(&path, made.file("away")).expect("moved");
    made.scan();
    assert_only(&made, Reason::Missing, "a", None);
    // A link is no file, and says as little; but what was there may be told.
    std::os::unix::fs::symlink(made.file("away"), &path).expect("a link");
    made.scan();
    assert_only(&made, Reason::NoFile, "a", None);
    made.scan_without(&[path]);
    assert_eq!(judged(&made), []);
}

#[test]
fn what_a_run_took_back_is_version_1_whatever_a_scan_has_met_there() {
    let made = Made::new();
    let path = made.write(b"a", &version1());
    made.scan();
    let (journal, run) = made.begin(vec![planned(1, &path, Strategy::Upgrade)], Kept::Beside);
    fs::write(&path, QCOW2).expect("a file");
    let mut image = record(1, &path, None);
    image.state = ImageState::Switched;
    put((&journal, &run), FamilyState::Done, None, &image);
    made.scan();
    assert_eq!(judged(&made), []);
    fs::write(&path, version1()).expect("a file");
    journal.set_undone(run.number).expect("said");
    // Also where nobody has the plan any more.
    fs::remove_file(made.file("plan")).expect("removed");
    assert_only(&made, Reason::Version1, "a", Some(run.number));
}

#[test]
fn a_plan_that_somebody_else_carried_out_makes_no_certificate() {
    let made = Made::new();
    let (path, left) = (made.write(b"a", &version1()), made.write(b"b", &version1()));
    made.scan();
    let families = vec![planned(1, &path, Strategy::Convert), planned(2, &left, Strategy::Leave)];
    made.begin(families, Kept::Beside);
    fs::write(&path, QCOW2).expect("a file");
    fs::write(&left, QCOW2).expect("a file");
    made.scan();
    made.report("plan", |report| {
        let remaining = &report.certificate.remaining;
        assert_eq!(remaining, &[(Reason::Changed, 1)], "what was left was to be done by hand");
    });
}

#[test]
fn a_folder_that_was_moved_can_be_said_to_be_removed_where_it_was() {
    let made = Made::new();
    fs::create_dir(made.below(b"old")).expect("a folder");
    fs::create_dir(made.below(b"other")).expect("a folder");
    made.write(b"old/a", &version1());
    made.write(b"other/b", &version1());
    made.scan();
    let new = made.file("new");
    fs::rename(made.below(b"old"), &new).expect("moved");
    let options = ScanOptions { is_one_file_system: true, ..OPTIONS };
    // Neither folder is looked below, and only one is not there.
    let removed = [made.below(b"old"), made.below(b"other"), "s3://bucket/old".into()];
    let mut catalogue = made.catalogue();
    let ended = catalogue.begin(&[new], &options).expect("begins").finish(&removed).expect("ends");
    assert_eq!(ended.removed, [1, 0, 0]);
    drop(catalogue);
    assert_only(&made, Reason::Version1, "other/b", None);
}

#[test]
fn what_a_run_has_migrated_may_be_removed_later() {
    let made = Made::new();
    let path = made.write(b"a", &version1());
    made.write(b"text", b"a text");
    made.scan();
    let (journal, run) = made.begin(vec![planned(1, &path, Strategy::Upgrade)], Kept::None);
    fs::write(&path, QCOW2).expect("a file");
    let mut image = record(1, &path, None);
    image.state = ImageState::Switched;
    put((&journal, &run), FamilyState::Done, None, &image);
    made.scan();
    assert_eq!(judged(&made), []);
    fs::remove_file(&path).expect("removed");
    made.scan();
    assert_only(&made, Reason::Missing, "a", Some(run.number));
    made.scan_without(&[path]);
    assert_eq!(judged(&made), []);
}

#[test]
fn a_folder_that_is_not_mounted_makes_no_certificate() {
    let made = Made::new();
    made.write(b"a", &version1());
    made.scan();
    let (tree, away) = (made.file("tree"), made.file("away"));
    fs::rename(&tree, &away).expect("moved");
    fs::create_dir(&tree).expect("an empty folder");
    made.scan();
    let trouble = (Reason::Trouble, PathBuf::new(), None);
    assert_eq!(judged(&made), [(Reason::Missing, PathBuf::from("a"), None), trouble]);
    fs::remove_dir(&tree).expect("removed");
    fs::rename(&away, &tree).expect("moved");
    made.scan();
    assert_only(&made, Reason::Version1, "a", None);
}

#[test]
fn what_cannot_be_read_or_was_not_looked_into_speaks_against_it() {
    let made = Made::new();
    fs::create_dir(made.below(b"folder")).expect("a folder");
    made.write(b"folder/a", &version1());
    made.scan();
    fs::remove_file(made.below(b"folder/a")).expect("removed");
    fs::remove_dir(made.below(b"folder")).expect("removed");
    std::os::unix::fs::symlink("folder", made.below(b"folder")).expect("a link to itself");
    assert_only(&made, Reason::Unreadable, "folder/a", None);
    fs::remove_file(made.below(b"folder")).expect("removed");
    // Below a file there is nothing.
    made.write(b"folder", b"a file now");
    assert_only(&made, Reason::Missing, "folder/a", None);
    made.scan_without(&[made.below(b"folder")]);
    assert_eq!(judged(&made), []);
    // An archive with an image in it.
    let mut tar = format!("{:\0<100}0000644\0", "disk.qcow").into_bytes();
    tar.extend_from_slice(b"0000000\x000000000\0");
    let image = version1();
    tar.extend_from_slice(format!("{:011o}\0{:011o}\0        0", image.len(), 0).as_bytes());
    tar.resize(257, 0);
    tar.extend_from_slice(b"ustar\x0000");
    tar.resize(512, 0);
    let sum: u32 = tar.iter().map(|byte| u32::from(*byte)).sum();
    tar[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    tar.extend_from_slice(&image);
    tar.resize(tar.len().next_multiple_of(512) + 1024, 0);
    let archive = made.write(b"b.tar", &tar);
    made.scan();
    assert_only(&made, Reason::InArchive, "b.tar", None);
    fs::write(&archive, &tar[tar.len() - 1024..]).expect("an archive without it");
    made.scan();
    assert_eq!(judged(&made), []);
    fs::write(&archive, &tar).expect("an archive");
    made.scan();
    fs::remove_file(&archive).expect("removed");
    made.scan();
    assert_only(&made, Reason::Missing, "b.tar", None);
    made.scan_without(&[archive]);
    assert_eq!(judged(&made), []);
    troubled(&made);
}

/// A folder that a scan could not look below, until a later scan could.
fn troubled(made: &Made) {
    let mut catalogue = made.catalogue();
    let mut run = catalogue.begin(&[made.file("tree")], &OPTIONS).expect("begins");
    let (path, what) = (made.below(b"shut"), "Permission denied".to_owned());
    run.take(&Event::Trouble { path, what }).expect("taken");
    run.finish(&[]).expect("ends");
    drop(catalogue);
    assert_only(made, Reason::Trouble, "shut", None);
    made.scan();
    assert_eq!(judged(made), []);
}

#[test]
fn originals_and_what_is_half_done_speak_against_it_whatever_else_is_known_of_them() {
    let made = Made::new();
    let path = made.write(b"a", &version1());
    made.scan();
    let families = vec![planned(1, &path, Strategy::Convert)];
    let (journal, run) = made.begin(families, Kept::Beside);
    let kept = made.below(b"a.calve-original");
    let mut image = record(1, &path, Some(kept.clone()));
    image.state = ImageState::Prepared;
    put((&journal, &run), FamilyState::Preparing, None, &image);
    let name = |name: &str| PathBuf::from(name);
    let number = Some(run.number);
    let unfinished = (Reason::Unfinished, name("a"), number);
    assert_eq!(judged(&made), [(Reason::Version1, name("a"), number), unfinished]);
    fs::rename(&path, &kept).expect("renamed");
    fs::write(&path, QCOW2).expect("a file");
    image.state = ImageState::Switched;
    put((&journal, &run), FamilyState::Done, None, &image);
    assert_only(&made, Reason::Original, "a.calve-original", number);
    // A scan that meets the original under its name makes no second of it.
    made.scan();
    assert_only(&made, Reason::Original, "a.calve-original", number);
    fs::remove_file(&kept).expect("removed");
    assert_only(&made, Reason::Missing, "a.calve-original", number);
    image.state = ImageState::Released;
    put((&journal, &run), FamilyState::Done, None, &image);
    made.scan();
    assert_eq!(judged(&made), []);
    // What was taken back has no original: that a scan met one is nothing to ask for.
    journal.set_undone(run.number).expect("said");
    assert_eq!(judged(&made), []);
}

#[test]
fn an_image_that_was_put_aside_stays_until_somebody_says_that_it_was_removed() {
    let made = Made::new();
    let path = made.write(b"a", &version1());
    made.scan();
    let families = vec![planned(1, &path, Strategy::Quarantine)];
    let (journal, run) = made.begin(families, Kept::Beside);
    let kept = made.below(b"a.calve-quarantined");
    fs::rename(&path, &kept).expect("renamed");
    let image = record(1, &path, Some(kept.clone()));
    let of = |state| calve_migrate::ImageRecord {
        strategy: Strategy::Quarantine,
        state,
        ..image.clone()
    };
    put((&journal, &run), FamilyState::Done, None, &of(ImageState::Switched));
    // That nothing is at its place is right.
    assert_only(&made, Reason::Original, "a.calve-quarantined", Some(run.number));
    fs::rename(&kept, made.file("away")).expect("moved");
    assert_only(&made, Reason::Missing, "a.calve-quarantined", Some(run.number));
    put((&journal, &run), FamilyState::Done, None, &of(ImageState::Released));
    assert_eq!(judged(&made), []);
    fs::rename(made.file("away"), &kept).expect("moved");
    assert_only(&made, Reason::Version1, "a.calve-quarantined", Some(run.number));
}

#[test]
fn a_report_says_of_each_image_what_is_there_now() {
    let made = Made::new();
    let path = made.write(b"a", &version1());
    made.scan();
    let families = vec![
        planned(1, &path, Strategy::Convert),
        planned(2, Path::new("/nowhere/b"), Strategy::Leave),
    ];
    made.begin(families, Kept::None);
    let rows = made.report("plan", |report| {
        let mut rows = Vec::new();
        let told = report.rows(|row| {
            rows.push((row.path().to_owned(), row.outcome(), row.found().cloned()));
            Ok(())
        });
        told.expect("told");
        rows
    });
    let expected = [
        (path, Outcome::NotBegun, Some(Found::Version1)),
        ("/nowhere/b".into(), Outcome::Left, Some(Found::Missing)),
    ];
    assert_eq!(rows, expected);
}
