//! What the catalogue keeps from scan to scan.

mod common;

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::Write;
use std::ops::ControlFlow;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant, SystemTime};

use calve_fleet::{Catalogue, Error, Row, Trouble, Which};
use calve_scan::{Class, Event, Here, Look, NothingKnown, ScanOptions, scan};
use common::{Counts, image, options, scan_into, write};

fn rows(catalogue: &Catalogue, which: Which) -> Vec<Row> {
    let mut rows = Vec::new();
    let done: Result<(), Error> = catalogue.rows(which, |row| {
        rows.push(row);
        Ok(())
    });
    done.expect("told");
    rows
}

/// The rows' names below a root; members behind a bar.
fn names(root: &Path, rows: &[Row]) -> Vec<String> {
    let name = |row: &Row| {
        let path = row.path.strip_prefix(root).expect("below").to_string_lossy().into_owned();
        match &row.member {
            Some(member) => format!("{path}|{}", String::from_utf8_lossy(member)),
            None => path,
        }
    };
    rows.iter().map(name).collect()
}

/// All that a scan of a folder tells.
fn events(root: &Path) -> Vec<Event> {
    let mut events = Vec::new();
    let for_thread = || (Box::new(Here) as Box<_>, Box::new(NothingKnown) as Box<_>);
    scan(&[root.to_owned()], &options(), &AtomicBool::new(false), for_thread, |event| {
        events.push(event);
        ControlFlow::Continue(())
    });
    events
}

/// Waits until what was written is older than a tick of the host's clock.
fn settle() {
    std::thread::sleep(Duration::from_millis(60));
}

struct Bench {
    folder: tempfile::TempDir,
    catalogue: Catalogue,
}

impl Bench {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        fs::create_dir(folder.path().join("tree")).expect("a folder");
        let catalogue = Catalogue::open(&folder.path().join("catalogue")).expect("opens");
        Self { folder, catalogue }
    }

    fn root(&self) -> PathBuf {
        self.folder.path().join("tree")
    }

    fn write(&self, name: &str, bytes: &[u8]) -> PathBuf {
        write(&self.root(), name, bytes)
    }

    fn scan(&mut self) -> (Counts, i64) {
        self.scan_with(&options())
    }

    fn scan_with(&mut self, options: &ScanOptions) -> (Counts, i64) {
        let root = self.root();
        scan_into(&mut self.catalogue, &[root], options)
    }

    fn troubles(&self, scan: i64) -> Vec<Trouble> {
        let mut told = Vec::new();
        let done: Result<(), Error> = self.catalogue.troubles(scan, |trouble| {
            told.push(trouble);
            Ok(())
        });
        done.expect("told");
        told
    }

    fn names(&self, which: Which) -> Vec<String> {
        names(&self.root(), &rows(&self.catalogue, which))
    }
}

/// A tar archive with an image of each of these names.
fn packed(names: &[&str]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for name in names {
        let mut header = tar::Header::new_gnu();
        header.set_size(image().len() as u64);
        builder.append_data(&mut header, name, &image()[..]).expect("memory");
    }
    builder.into_inner().expect("memory")
}

fn counts(read: u64, known: u64) -> Counts {
    Counts { read, known }
}

#[test]
fn a_second_scan_of_a_thousand_files_reads_only_what_changed() {
    let mut bench = Bench::new();
    for number in 0..1000 {
        let bytes = if number % 3 == 0 { image() } else { vec![7; 100] };
        bench.write(&format!("{}/{number}", number % 7), &bytes);
    }
    settle();
    assert_eq!(bench.scan().0, counts(1000, 0));
    assert_eq!(bench.scan().0, counts(0, 1000));
    // Longer; other bytes of the same length and time; another file of the same length and time.
    bench.write("0/0", &[image(), vec![0; 512]].concat());
    let path = bench.root().join("1/1");
    let times = |path: &PathBuf| fs::metadata(path).expect("there").modified().expect("a time");
    let before = times(&path);
    let file = File::options().write(true).open(&path).expect("opens");
    (&file).write_all(&[8; 100]).expect("written");
    file.set_modified(before).expect("a time");
    fs::remove_file(bench.root().join("2/2")).expect("removed");
    bench.write("2/2", &[7; 100]);
    settle();
    assert_eq!(bench.scan().0, counts(3, 997));
    assert_eq!(bench.scan().0, counts(0, 1000));
    assert_eq!(bench.names(Which::All).len(), 1000);
    let totals = bench.catalogue.totals().expect("counted");
    let count = |class| totals.iter().find(|totals| totals.class == class).map(|it| it.count);
    assert_eq!((count(Class::Version1), count(Class::Other)), (Some(334), Some(666)));
}

#[test]
fn a_row_holds_what_was_seen_whatever_the_name() {
    let mut bench = Bench::new();
    let name = OsStr::from_bytes(b"caf\xe9\n.qcow");
    let mut broken = image();
    broken[33] = 77;
    fs::write(bench.root().join(name), image()).expect("a file");
    bench.write("broken", &broken);
    bench.write("over", &common::overlay("b\u{e9}", 77));
    let (_, number) = bench.scan_with(&ScanOptions { is_deep: true, ..options() });
    let rows = rows(&bench.catalogue, Which::All);
    let [broken, odd, over] = &rows[..] else { panic!("{rows:?}") };
    assert_eq!(odd.path, bench.root().join(name));
    assert!(odd.is_version1() && broken.is_version1());
    assert_eq!((broken.seen.class, &*broken.seen.findings[0].rule), (Class::Damaged, "Q6"));
    let facts = over.seen.image.as_ref().expect("an image");
    assert_eq!(facts.backing_name.as_deref(), Some("b\u{e9}".as_bytes()));
    assert_eq!((facts.backing_time, facts.survey.expect("counted").allocated), (Some(77), 1));
    assert_eq!((odd.first_seen, odd.last_seen, odd.version1_since), (number, number, Some(number)));
    assert_eq!(bench.catalogue.row(odd.id).expect("told").as_ref(), Some(odd));
}

#[test]
fn what_is_gone_is_marked_and_only_where_it_was_looked_for() {
    let mut bench = Bench::new();
    for name in ["a/one", "a/two", "ab/three", "closed/four"] {
        bench.write(name, &image());
    }
    settle();
    bench.scan();
    for name in ["a/one", "ab/three"] {
        fs::remove_file(bench.root().join(name)).expect("removed");
    }
    let root = bench.root();
    scan_into(&mut bench.catalogue, &[root.join("a")], &options());
    assert_eq!(bench.names(Which::All), ["a/two", "ab/three", "closed/four"]);
    // A folder that cannot be read says nothing about what is in it.
    let mut run = bench.catalogue.begin(std::slice::from_ref(&root), &options()).expect("begins");
    let trouble = Event::Trouble { path: root.join("closed"), what: "no".into() };
    run.take(&trouble).expect("taken");
    let number = run.number();
    run.finish(&[]).expect("ends");
    assert_eq!(bench.names(Which::All), ["closed/four"]);
    let told = Trouble { path: root.join("closed"), what: "no".into() };
    assert_eq!(bench.troubles(number), [told]);
    // A scan that was stopped marks nothing.
    bench.catalogue.begin(&[root], &options()).expect("begins").stop().expect("ends");
    assert_eq!(bench.names(Which::All), ["closed/four"]);
    let (counts_, _) = bench.scan();
    assert_eq!(counts_, counts(0, 2));
}

#[test]
fn a_version_1_image_is_new_until_a_scan_that_knows_it_as_one_has_ended() {
    let mut bench = Bench::new();
    bench.write("old", &image());
    bench.write("text", b"a text");
    let (_, first) = bench.scan();
    assert_eq!(bench.names(Which::NewVersion1(0)), ["old"]);
    bench.write("text", &image());
    bench.write("new.img", &image());
    bench.write("old", &[image(), vec![0; 4096]].concat());
    // A scan that is stopped has told nobody.
    let root = bench.root();
    let mut run = bench.catalogue.begin(&[root], &options()).expect("begins");
    for event in events(&bench.folder.path().join("tree")) {
        run.take(&event).expect("taken");
    }
    run.stop().expect("ends");
    assert_eq!(bench.catalogue.last_scan().expect("told"), Some(first));
    let (_, second) = bench.scan();
    assert_eq!(bench.names(Which::NewVersion1(first)), ["new.img", "text"]);
    assert_eq!(bench.catalogue.count_new_version1(first).expect("counted"), 2);
    assert_eq!(bench.names(Which::NewVersion1(second)), [""; 0]);
    // One that comes back is new again.
    let (away, back) = (bench.folder.path().join("away"), bench.root().join("old"));
    fs::rename(&back, &away).expect("moved");
    let (_, third) = bench.scan();
    fs::rename(&away, &back).expect("moved");
    bench.scan();
    assert_eq!(bench.names(Which::NewVersion1(third)), ["old"]);
    assert_eq!(bench.catalogue.count_version1().expect("counted"), 3);
}

#[test]
fn names_of_one_file_are_counted_once_and_told_each_by_its_own_class() {
    let mut bench = Bench::new();
    let path = bench.write("b.qcow", &image());
    fs::hard_link(&path, bench.root().join("a.img")).expect("a link");
    fs::hard_link(&path, bench.root().join("c")).expect("a link");
    settle();
    for _ in 0..3 {
        bench.scan();
        let rows = rows(&bench.catalogue, Which::All);
        let classes: Vec<Class> = rows.iter().map(|row| row.seen.class).collect();
        assert_eq!(classes, [Class::Version1Misnamed, Class::Version1, Class::Version1]);
        let first: Vec<_> = rows.iter().map(|row| row.name_of).collect();
        assert_eq!(first, [None, Some(rows[0].id), Some(rows[0].id)]);
        assert_eq!(bench.catalogue.count_version1().expect("counted"), 1);
    }
    fs::remove_file(bench.root().join("a.img")).expect("removed");
    bench.scan();
    let rows = rows(&bench.catalogue, Which::All);
    assert_eq!((rows[0].name_of, rows[1].name_of), (None, Some(rows[0].id)));
}

#[test]
fn members_stay_with_an_archive_that_stays_and_go_with_what_goes() {
    let mut bench = Bench::new();
    bench.write("all.tar", &packed(&["a", "b"]));
    settle();
    bench.scan();
    assert_eq!(bench.names(Which::All), ["all.tar", "all.tar|a", "all.tar|b"]);
    assert_eq!(bench.scan().0, counts(0, 1));
    assert_eq!(bench.names(Which::All).len(), 3);
    bench.write("all.tar", &packed(&["b", "c"]));
    settle();
    bench.scan();
    assert_eq!(bench.scan().0, counts(0, 1));
    assert_eq!(bench.names(Which::All), ["all.tar", "all.tar|b", "all.tar|c"]);
    fs::remove_file(bench.root().join("all.tar")).expect("removed");
    bench.write("text", b"a text");
    bench.scan();
    assert_eq!(bench.names(Which::All), ["text"]);
}

#[test]
fn what_may_be_otherwise_without_a_trace_is_looked_at_again() {
    let mut bench = Bench::new();
    let path = bench.write("v1", &image());
    settle();
    let held = File::open(&path).expect("opens");
    calve_disk::open::lock_for_reading(&held, &path).expect("locked");
    bench.scan();
    assert_eq!(rows(&bench.catalogue, Which::All)[0].seen.class, Class::InUse);
    drop(held);
    assert_eq!(bench.scan().0, counts(1, 0));
    assert_eq!(rows(&bench.catalogue, Which::All)[0].seen.class, Class::Version1);
    // More is asked than was looked at.
    let deep = ScanOptions { is_deep: true, ..options() };
    assert_eq!(bench.scan_with(&deep).0, counts(1, 0));
    assert_eq!(bench.scan().0, counts(0, 1));
    // What was written within a tick of the look may have changed after it.
    // Whether a scan was so early is for a busy machine to say: it is tried again until one was.
    loop {
        let began = Instant::now();
        bench.write("young", b"x");
        bench.scan();
        if began.elapsed() < Duration::from_millis(15) {
            break;
        }
    }
    let ahead = SystemTime::now() + Duration::from_secs(3600);
    File::options().write(true).open(&path).expect("opens").set_modified(ahead).expect("a time");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("a mode");
    assert_eq!(bench.scan().0.read, 2);
}

#[test]
fn a_file_at_which_a_worker_died_is_not_silent_and_is_looked_at_again() {
    let mut bench = Bench::new();
    for name in ["archive", "other"] {
        bench.write(name, b"x");
    }
    settle();
    let root = bench.root();
    let mut run = bench.catalogue.begin(std::slice::from_ref(&root), &options()).expect("begins");
    for mut event in events(&root) {
        if let Event::Sighted(sighting) = &mut event
            && sighting.path.ends_with("archive")
        {
            sighting.look = Look::died("it was killed");
        }
        run.take(&event).expect("taken");
    }
    run.finish(&[]).expect("ends");
    assert_eq!(bench.names(Which::Notable), ["archive"]);
    assert_eq!(bench.catalogue.count_problems().expect("counted"), 1);
    assert_eq!(bench.scan().0, counts(1, 1));
    assert_eq!(bench.catalogue.count_problems().expect("counted"), 0);
}

#[test]
fn what_is_no_catalogue_is_refused_and_left_as_it_is() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("file");
    let text = b"not a catalogue".repeat(100);
    fs::write(&path, &text).expect("a file");
    let refused = Catalogue::open(&path).expect_err("refused");
    assert!(matches!(&refused, Error::Foreign { .. }), "{refused}");
    assert_eq!(fs::read(&path).expect("there"), text);
    let missing = Catalogue::open(&folder.path().join("no/where"));
    assert!(matches!(missing, Err(Error::Catalogue { .. })));
}

#[test]
fn a_root_below_which_nothing_is_any_more_is_trouble_and_its_files_stay() {
    let mut bench = Bench::new();
    bench.write("a", &image());
    bench.write("other/b", &image());
    settle();
    bench.scan();
    let (root, path) = (bench.root(), bench.root().join("a"));
    fs::remove_file(&path).expect("removed");
    fs::remove_file(root.join("other/b")).expect("removed");
    // A folder that was never a root may become empty; a file may be a root.
    fs::write(&path, image()).expect("a file");
    scan_into(&mut bench.catalogue, &[root.clone(), path.clone()], &options());
    assert_eq!(bench.names(Which::All), ["a"]);
    fs::remove_file(&path).expect("removed");
    for removed in [vec![], vec![root.join("other")], vec![path.clone()]] {
        let roots = std::slice::from_ref(&root);
        let run = bench.catalogue.begin(roots, &options()).expect("begins");
        let number = run.number();
        let ended = run.finish(&removed).expect("ends");
        assert_eq!(ended.empty_roots, 1, "{removed:?}");
        assert_eq!(
            ended.removed,
            removed.iter().map(|it| u64::from(*it != path)).collect::<Vec<_>>()
        );
        assert_eq!(bench.names(Which::All), ["a"]);
        let told = bench.troubles(number);
        assert_eq!(told[0].path, root);
        assert!(told[0].what.contains("where 1 file was"), "{}", told[0].what);
    }
    let run = bench.catalogue.begin(std::slice::from_ref(&root), &options()).expect("begins");
    let ended = run.finish(&[root]).expect("ends");
    assert_eq!((ended.empty_roots, &*ended.removed), (0, &[2][..]));
    assert!(bench.names(Which::All).is_empty());
}

#[test]
fn many_may_make_one_catalogue_at_once() {
    for _ in 0..20 {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("catalogue");
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| Catalogue::open(&path).expect("a catalogue"));
            }
        });
        assert_eq!(Catalogue::open(&path).expect("a catalogue").last_scan().expect("read"), None);
    }
}

#[test]
fn a_catalogue_of_version_2_is_read_as_it_is_and_becomes_one_of_this_version() {
    let mut bench = Bench::new();
    bench.write("a", &image());
    bench.write("b", &image());
    settle();
    bench.scan();
    let path = bench.folder.path().join("catalogue");
    bench.catalogue = Catalogue::temporary().expect("another one");
    let old = rusqlite::Connection::open(&path).expect("a catalogue");
    let script = "ALTER TABLE file DROP COLUMN removed; PRAGMA user_version = 2";
    old.execute_batch(script).expect("an old one");
    drop(old);
    let read = Catalogue::open_for_reading(&path).expect("an old one");
    assert_eq!(names(&bench.root(), &rows(&read, Which::All)), ["a", "b"]);
    drop(read);
    bench.catalogue = Catalogue::open(&path).expect("a catalogue");
    assert_eq!(bench.scan().0, counts(0, 2));
    assert_eq!(bench.names(Which::All), ["a", "b"]);
}

/// A catalogue as version 1 of the schema had it, with a scan in it.
fn of_version_1(path: &Path) {
    let connection = rusqlite::Connection::open(path).expect("a catalogue");
    // It walked no tables in archives, and said that it had.
    connection.execute_batch("UPDATE file SET is_deep = 1").expect("rows");
    let columns =
        ["on_disk", "shared", "is_all_shared", "is_cut", "layout", "reflink_of", "removed"];
    connection.execute_batch("DROP INDEX file_layout").expect("an index");
    for column in columns {
        connection.execute_batch(&format!("ALTER TABLE file DROP COLUMN {column}")).expect("one");
    }
    connection.execute_batch("PRAGMA user_version = 1").expect("a version");
}

#[test]
fn a_catalogue_of_version_1_is_read_as_it_is_and_becomes_one_of_this_version() {
    let folder = tempfile::tempdir().expect("a folder");
    let root = folder.path().join("root");
    fs::create_dir(&root).expect("a folder");
    write(&root, "old", &image());
    write(&root, "text", b"a text");
    settle();
    let path = folder.path().join("catalogue");
    let mut catalogue = Catalogue::open(&path).expect("a catalogue");
    scan_into(&mut catalogue, std::slice::from_ref(&root), &options());
    drop(catalogue);
    of_version_1(&path);
    let before = fs::read(&path).expect("a file");
    let read = Catalogue::open_for_reading(&path).expect("an old one");
    let told = rows(&read, Which::All);
    assert_eq!(told.iter().map(|row| row.blocks).collect::<Vec<_>>(), [None, None]);
    assert_eq!(read.count_version1().expect("counted"), 1);
    assert_eq!(read.on_disk(None).expect("counted").bytes, 0);
    drop(read);
    assert!(fs::read(&path).expect("a file") == before, "reading changed it");
    for expected in [counts(1, 1), counts(0, 2)] {
        // The image is asked about once more, and nothing else.
        let mut catalogue = Catalogue::open(&path).expect("a catalogue");
        assert_eq!(scan_into(&mut catalogue, std::slice::from_ref(&root), &options()).0, expected);
        assert!(rows(&catalogue, Which::All)[0].blocks.is_some());
        assert_eq!(catalogue.count_new_version1(1).expect("counted"), 0);
    }
}

#[test]
fn images_in_archives_that_version_1_called_walked_are_walked_by_the_next_deep_scan() {
    let mut bench = Bench::new();
    bench.write("all.tar", &packed(&["a"]));
    bench.write("none.tar", &packed(&[]));
    bench.write("text", b"a text");
    settle();
    bench.scan();
    let survey = |bench: &Bench| {
        let rows = rows(&bench.catalogue, Which::All);
        let member = rows.iter().find(|row| row.member.is_some()).expect("an image in it");
        member.seen.image.as_ref().expect("an image").survey.map(|survey| survey.allocated)
    };
    assert_eq!(survey(&bench), None);
    let path = bench.folder.path().join("catalogue");
    bench.catalogue = Catalogue::temporary().expect("another one");
    of_version_1(&path);
    bench.catalogue = Catalogue::open(&path).expect("a catalogue");
    // Less is asked than version 1 said to have done, and that is done.
    assert_eq!(bench.scan().0, counts(0, 3));
    let deep = ScanOptions { is_deep: true, ..options() };
    assert_eq!(bench.scan_with(&deep).0, counts(1, 2));
    assert_eq!(survey(&bench), Some(1));
    assert_eq!(bench.scan_with(&deep).0, counts(0, 3));
}
