//! `migrate`: archives of which everything is known become qcow2 and version 1 again, whatever
//! happens meanwhile.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, SystemTime};

use serde_json::Value;

use crate::common::{Bench, Said, image};
use calve_testkit::archive::{Archive, Entry, Found, Truth};
use calve_testkit::{Builder, Mounted, Random, qemu, seeds};

/// A bench with an archive in `tree`, and what is true of it.
pub(crate) fn archive(seed: u64) -> (Bench, Truth) {
    let bench = Bench::new();
    let archive = Archive { seed, images: 60, families: 14, disk: 1 << 20 };
    let truth = archive.write(&bench.file("tree")).expect("an archive");
    (bench, truth)
}

pub(crate) fn scan_and_plan(bench: &Bench, words: &[&str]) -> Vec<Value> {
    bench.run(&["scan", "-q", "--deep", "--catalogue", "catalogue", "tree"]);
    let _ = fs::remove_file(bench.file("plan"));
    let save = ["plan", "catalogue", "--save", "plan", "--output", "jsonl", "-q"];
    let said = bench.ok(&[&save, words].concat());
    let lines = said.out.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
    lines.filter(|line| line["kind"] == "image").collect()
}

/// Every file below a folder: its bytes' digest, and when it was written.
pub(crate) fn files(folder: &Path) -> BTreeMap<PathBuf, (String, i64, i64)> {
    let mut all = BTreeMap::new();
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        let metadata = path.symlink_metadata().expect("there");
        if metadata.is_dir() {
            all.extend(files(&path));
        } else if metadata.is_file() {
            let digest = blake3::hash(&fs::read(&path).expect("read")).to_hex().to_string();
            all.insert(path, (digest, metadata.mtime(), metadata.mtime_nsec()));
        }
    }
    all
}

/// Asserts that each image that was to be migrated is no version 1 image, and has the disk that it
/// had; says how many those are.
pub(crate) fn assert_migrated(bench: &Bench, truth: &Truth, planned: &[Value]) -> usize {
    let root = bench.file("tree").canonicalize().expect("a folder");
    let mut count = 0;
    for image in planned.iter().filter(|image| image["strategy"] != "leave") {
        let path = PathBuf::from(image["path"].as_str().expect("a path"));
        let name = path.strip_prefix(&root).expect("below").to_string_lossy().into_owned();
        let magic = &fs::read(&path).expect("read")[..8];
        assert_eq!(magic, b"QFI\xfb\0\0\0\x03", "{name}: {}", image["strategy"]);
        let Some(entry) = truth.of(&name) else { continue };
        let Some(digest) = &entry.digest else { continue };
        let mut words: Vec<String> =
            ["convert", "-q", "--force", "-O", "raw", "--base-root", "tree"]
                .map(str::to_owned)
                .to_vec();
        let keys = truth.chain(entry).into_iter().filter_map(|layer| layer.passphrase.as_deref());
        for (number, key) in keys.enumerate() {
            let file = format!("key-{number}");
            bench.write(&file, key.as_bytes());
            words.extend(["--passphrase-file".to_owned(), file]);
        }
        words.extend([path.to_str().expect("a text").to_owned(), "out.raw".to_owned()]);
        bench.ok(&words.iter().map(String::as_str).collect::<Vec<_>>());
        let disk = bench.read("out.raw");
        // qcow2 has whole sectors.
        let size = usize::try_from(entry.virtual_size.expect("a disk")).expect("small");
        assert!(disk[size..].iter().all(|byte| *byte == 0) && disk.len() < size + 512, "{name}");
        let found = blake3::hash(&disk[..size]).to_hex().to_string();
        assert_eq!(found, *digest, "{name}: {}", image["strategy"]);
        count += 1;
    }
    count
}

#[test]
fn an_archive_migrates_by_every_way_with_the_disks_that_it_had_and_comes_back_to_the_bit() {
    for (seed, way) in [(1, "upgrade"), (2, "convert"), (3, "flatten")] {
        let (bench, truth) = archive(seed);
        let planned = scan_and_plan(&bench, &["--way", way]);
        let before = files(&bench.file("tree"));
        let said = bench.ok(&["migrate", "plan", "--output", "json"]).json();
        assert_eq!(said["failed"], serde_json::json!({}), "{way}");
        let count = assert_migrated(&bench, &truth, &planned);
        assert!(count >= 15, "{way}: only {count} images were migrated");
        // Again, there is nothing to do.
        let again = bench.ok(&["migrate", "plan", "--output", "json"]).json();
        assert_eq!((&again["done"], &again["known"]), (&0.into(), &said["done"]), "{way}");
        bench.ok(&["migrate", "-q", "--undo", "1", "plan"]);
        let after = files(&bench.file("tree"));
        let changed =
            before.keys().chain(after.keys()).find(|path| before.get(*path) != after.get(*path));
        assert_eq!(changed, None, "{way}");
        bench.fails(18, "taken back already", &["migrate", "--undo", "1", "plan"]);
        // And once more, as another run.
        let third = bench.ok(&["migrate", "plan", "--output", "json"]).json();
        assert_eq!((&third["run"], &third["done"]), (&2.into(), &said["done"]), "{way}");
        assert_migrated(&bench, &truth, &planned);
    }
}

#[test]
fn upgraded_disks_are_digested_as_their_guests_see_them() {
    let (bench, truth) = archive(1);
    let root = bench.file("tree").canonicalize().expect("a folder");
    for way in ["upgrade", "convert"] {
        scan_and_plan(&bench, &["--way", way]);
        bench.ok(&["migrate", "-q", "--digests", "plan"]);
        let report = bench.run(&["report", "--output", "json", "plan"]).json();
        let mut compared = 0;
        for image in report["images"].as_array().expect("images") {
            let path = PathBuf::from(image["filename"].as_str().expect("a path"));
            let name = path.strip_prefix(&root).expect("below").to_string_lossy().into_owned();
            let Some(entry) = truth.of(&name).filter(|_| image["result"] == "migrated") else {
                continue;
            };
            let is_secret = truth.chain(entry).iter().any(|layer| layer.passphrase.is_some());
            if is_secret || image["strategy"] == "rebase" {
                assert_eq!(image["disk-blake3"], Value::Null, "{name}");
                continue;
            }
            assert_eq!(image["disk-blake3"].as_str(), entry.digest.as_deref(), "{way}: {name}");
            compared += 1;
        }
        assert!(compared >= 10, "{way}: only {compared} digests");
        bench.ok(&["migrate", "-q", "--undo", "1", "plan"]);
        fs::remove_file(bench.file("catalogue")).expect("removed");
    }
}

#[test]
fn a_disk_with_another_digest_than_before_stops_everything_and_its_family_is_what_it_was() {
    let bench = two_families();
    scan_and_plan(&bench, &[]);
    let before = files(&bench.file("tree"));
    let words = ["migrate", "-q", "--digests", "--jobs", "1", "plan"];
    // As if another digest had been taken, of a run that is killed when all is switched.
    bench.fails(75, "not begun", &["migrate", "-q", "--max-duration", "0s", "plan"]);
    let journal = rusqlite::Connection::open(bench.file("catalogue")).expect("a catalogue");
    let sql = "CREATE TRIGGER other AFTER INSERT ON migrated_image WHEN NEW.digest NOT NULL BEGIN \
               UPDATE migrated_image SET digest = 'ff' WHERE run = NEW.run AND family = NEW.family \
               AND place = NEW.place; END";
    journal.execute(sql, []).expect("a trigger");
    let killed = bench.run(&[&words[..], &["--after", "kill -9 $PPID"]].concat());
    assert_eq!(killed.code, None);
    bench.fails(17, "reads otherwise than before", &words);
    assert!(before == files(&bench.file("tree")), "not to the bit");
}

#[test]
fn no_image_is_migrated_over_another_base_than_its_own() {
    let mut has_guessed = false;
    for seed in seeds("CALVE_PLAN_CASES", 8) {
        let bench = Bench::new();
        let archive = Archive { seed, images: 120, families: 40, disk: 1 << 20 };
        let truth = archive.write(&bench.file("tree")).expect("an archive");
        let root = bench.file("tree").canonicalize().expect("a folder");
        let place = |path: &Path| {
            let metadata = fs::metadata(path).expect("there");
            (metadata.dev(), metadata.ino())
        };
        let files = truth.files.iter();
        let of: BTreeMap<_, _> = files.map(|it| (place(&root.join(&it.path)), it)).collect();
        let mut compared = 0;
        let guessed = scan_and_plan(&bench, &["--way", "convert", "--guess-bases"]);
        has_guessed |= guessed.iter().any(|image| image["base-moved"] == true);
        for image in scan_and_plan(&bench, &["--way", "convert"]) {
            let path = Path::new(image["path"].as_str().expect("a path"));
            let (Some(base), true) = (image["base"].as_str(), image["strategy"] != "leave") else {
                continue;
            };
            let what = format!("seed {seed}: {}", path.display());
            // By what the file is, under whichever of its names it is planned.
            let entry = of.get(&place(path)).unwrap_or_else(|| panic!("{what}: is not known"));
            let own = entry.base.as_ref().and_then(|base| base.path.as_ref());
            let own = own.unwrap_or_else(|| panic!("{what}: has no base, and not {base}"));
            assert_eq!(place(Path::new(base)), place(&root.join(own)), "{what}: {base}");
            let names = fs::metadata(path).expect("there").nlink();
            let is_replaced = !matches!(image["strategy"].as_str(), Some("upgrade" | "rebase"));
            assert!(names == 1 || !is_replaced, "{what}: only one of its names would be new");
            assert_eq!(image["base-moved"], false, "{what}: a guess that nobody asked for");
            compared += 1;
        }
        assert!(compared >= 5, "seed {seed}: only {compared} overlays are migrated");
    }
    assert!(has_guessed, "no plan takes a guess where it is asked to");
}

#[test]
fn a_base_that_is_named_is_the_one_that_its_overlay_gets() {
    for (seed, way) in [(1, "upgrade"), (2, "convert"), (4, "flatten"), (5, "upgrade")] {
        let (bench, truth) = archive(seed);
        let count =
            |planned: &[Value]| planned.iter().filter(|image| image["strategy"] != "leave").count();
        let before = count(&scan_and_plan(&bench, &["--way", way]));
        // What a person would write down who knows the archive.
        let lost = |entry: &&Entry| {
            let base = entry.base.as_ref();
            base.is_some_and(|base| matches!(base.found, Found::Moved | Found::Renamed))
        };
        let mut lines = String::from("# overlay=base\n\n");
        for entry in truth.files.iter().filter(lost) {
            let base = entry.base.as_ref().and_then(|base| base.path.as_ref()).expect("is there");
            lines += &format!("tree/{}=tree/{base}\n", entry.path);
        }
        bench.write("bases", lines.as_bytes());
        let planned = scan_and_plan(&bench, &["--way", way, "--bases", "bases"]);
        let moved: Vec<&Value> = planned
            .iter()
            .filter(|image| image["base-moved"] == true && image["strategy"] != "leave")
            .collect();
        assert!(count(&planned) > before && !moved.is_empty(), "seed {seed}");
        let files_before = files(&bench.file("tree"));
        let said = bench.ok(&["migrate", "plan", "--output", "json"]).json();
        assert_eq!(said["failed"], serde_json::json!({}), "seed {seed}");
        assert_migrated(&bench, &truth, &planned);
        // QEMU finds the base under the name that was recorded now.
        let root = bench.file("tree").canonicalize().expect("a folder");
        for image in moved.iter().filter(|_| qemu::has("qemu-img")) {
            let path = Path::new(image["path"].as_str().expect("a path"));
            let name = path.strip_prefix(&root).expect("below").to_string_lossy();
            let Some(entry) = truth.of(&name) else { continue };
            let is_encrypted = |layer: &&Entry| layer.passphrase.is_some();
            let Some(digest) = &entry.digest else { continue };
            if truth.chain(entry).iter().any(is_encrypted) {
                continue;
            }
            let text = path.to_str().expect("text");
            let disk = qemu::content(bench.path(), &["-f", "qcow2"], text);
            let size = usize::try_from(entry.virtual_size.expect("a disk")).expect("small");
            let found = blake3::hash(&disk[..size]).to_hex().to_string();
            assert_eq!(found, *digest, "seed {seed}: {name}");
        }
        bench.ok(&["migrate", "-q", "--undo", "1", "plan"]);
        assert!(files_before == files(&bench.file("tree")), "seed {seed}: not to the bit");
    }
}

/// How often a run is killed: `CALVE_KILLS`.
pub(crate) fn kills() -> u32 {
    std::env::var("CALVE_KILLS").ok().and_then(|it| it.parse().ok()).unwrap_or(6)
}

/// Kills a run after so many microseconds, wherever it is then.
pub(crate) fn kill_within(mut run: Child, micros: u64) {
    std::thread::sleep(Duration::from_micros(micros));
    run.kill().expect("killed");
    run.wait().expect("ended");
}

/// Asserts that no new file is left that was made for an image and did not take its place.
pub(crate) fn assert_nothing_staged(bench: &Bench, seed: u64) {
    let left: Vec<PathBuf> = files(&bench.file("tree"))
        .into_keys()
        .filter(|path| path.to_string_lossy().contains("calve-staged"))
        .collect();
    assert_eq!(left, Vec::<PathBuf>::new(), "seed {seed}");
}

#[test]
fn a_run_that_is_killed_at_any_moment_goes_on_and_no_image_is_lost_or_half() {
    let kills = kills();
    for seed in seeds("CALVE_MIGRATE_CASES", 2) {
        let mut random = Random::new(seed);
        let (bench, truth) = archive(seed);
        let way = ["upgrade", "convert"][usize::try_from(seed % 2).expect("small")];
        let planned = scan_and_plan(&bench, &["--way", way]);
        let before = files(&bench.file("tree"));
        for _ in 0..kills {
            let run = bench.command(&["migrate", "-q", "plan"]).spawn().expect("starts");
            kill_within(run, random.below(250_000));
        }
        bench.ok(&["migrate", "-q", "plan"]);
        assert_migrated(&bench, &truth, &planned);
        assert_nothing_staged(&bench, seed);
        let undo = ["migrate", "-q", "--undo", "1", "plan"];
        for _ in 0..kills {
            let run = bench.command(&undo).stderr(Stdio::null()).spawn().expect("starts");
            kill_within(run, random.below(60_000));
        }
        let said = bench.run(&undo);
        // One of those may have been quick enough to end.
        assert!(matches!(said.code, Some(0 | 18)), "seed {seed}: {}", said.err);
        assert!(before == files(&bench.file("tree")), "seed {seed}: not to the bit: {}", said.err);
    }
}

fn overlay(base: &str) -> Vec<u8> {
    let mut builder = Builder::new(9, 12, 1 << 20).backing(base.as_bytes());
    builder.plain(5, &[9; 512]);
    builder.build()
}

/// A bench with two families: a chain of three, and one alone.
pub(crate) fn two_families() -> Bench {
    let bench = Bench::new();
    fs::create_dir(bench.file("tree")).expect("a folder");
    let (v1, _) = image();
    for (name, bytes) in [
        ("tree/a.qcow", &v1[..]),
        ("tree/b.qcow", &overlay("a.qcow")),
        ("tree/c.qcow", &overlay("b.qcow")),
        ("tree/z.qcow", &v1),
    ] {
        bench.write(name, bytes);
    }
    bench
}

pub(crate) fn magic(bench: &Bench, name: &str) -> u8 {
    bench.read(name)[7]
}

#[test]
fn a_family_whose_last_image_fails_is_what_it_was_and_others_go_on() {
    for way in ["upgrade", "convert"] {
        let bench = two_families();
        scan_and_plan(&bench, &["--way", way]);
        let before = files(&bench.file("tree"));
        let hook = "case $CALVE_IMAGE in *c.qcow) exit 3;; esac";
        let said = bench.fails(11, "the hook after ended", &["migrate", "plan", "--after", hook]);
        assert!(said.out.contains("1 family migrated, 1 failed"), "{}", said.out);
        let now = files(&bench.file("tree"));
        for name in ["a.qcow", "b.qcow", "c.qcow"] {
            let path = bench.file("tree").join(name);
            assert_eq!(before.get(&path), now.get(&path), "{way}: {name}");
        }
        assert_eq!(magic(&bench, "tree/z.qcow"), 3, "{way}");
        bench.ok(&["migrate", "-q", "plan"]);
        for name in ["tree/a.qcow", "tree/b.qcow", "tree/c.qcow", "tree/z.qcow"] {
            assert_eq!(magic(&bench, name), 3, "{way}: {name}");
        }
    }
}

#[test]
fn overlays_in_qcow2_follow_their_base_as_stock_qemu_sees_it() {
    if !qemu::has("qemu-img") {
        return;
    }
    let bench = two_families();
    let img = |words: &[&str]| {
        let said = Command::new("qemu-img").current_dir(bench.path()).args(words).output();
        let said = Said::of(&said.expect("qemu-img runs"));
        assert_eq!(said.code, Some(0), "{words:?}: {}", said.err);
        said
    };
    img(&["create", "-q", "-f", "qcow2", "-b", "c.qcow", "-F", "qcow", "tree/top.qcow2"]);
    img(&["convert", "-O", "raw", "tree/top.qcow2", "before.raw"]);
    scan_and_plan(&bench, &[]);
    let before = files(&bench.file("tree"));
    bench.ok(&["migrate", "-q", "plan"]);
    let info = img(&["info", "--output", "json", "tree/top.qcow2"]).json();
    assert_eq!(info["backing-filename-format"], "qcow2");
    img(&["convert", "-O", "raw", "tree/top.qcow2", "after.raw"]);
    assert!(bench.read("before.raw") == bench.read("after.raw"));
    img(&["check", "-q", "tree/top.qcow2"]);
    bench.ok(&["migrate", "-q", "--undo", "1", "plan"]);
    assert!(before == files(&bench.file("tree")), "not to the bit");
}

#[test]
fn what_was_written_to_since_the_plan_or_the_run_is_not_touched() {
    let bench = two_families();
    scan_and_plan(&bench, &[]);
    let z = bench.file("tree/z.qcow");
    let mut bytes = fs::read(&z).expect("read");
    *bytes.last_mut().expect("bytes") ^= 1;
    fs::write(&z, &bytes).expect("written");
    let said = bench.fails(11, "was written to since the plan", &["migrate", "plan"]);
    assert!(said.out.contains("1 family migrated, 1 failed"), "{}", said.out);
    assert!(fs::read(&z).expect("read") == bytes);
    // A result that somebody wrote to is not lost by an undo, unless that is asked for.
    let c = bench.file("tree/c.qcow");
    let time = fs::metadata(&c).and_then(|it| it.modified()).expect("a time");
    let file = fs::File::options().write(true).open(&c).expect("opens");
    file.set_modified(time + Duration::from_secs(5)).expect("set");
    bench.fails(11, "family 1 was not taken back", &["migrate", "--undo", "1", "plan"]);
    bench.ok(&["migrate", "-q", "--undo", "1", "--force", "plan"]);
    assert_eq!(magic(&bench, "tree/a.qcow"), 1);
}

#[test]
fn originals_are_kept_as_the_plan_says_and_given_up_when_asked() {
    let names = |bench: &Bench| {
        let names = files(&bench.file("tree")).into_keys();
        names.filter(|path| path.to_string_lossy().contains(".calve-")).count()
    };
    for (way, kept, left, elsewhere) in [
        ("convert", "none", 0, 0),
        ("upgrade", "none", 0, 0),
        ("convert", "beside", 4, 0),
        ("convert", "30d", 4, 0),
        ("upgrade", "30d", 4, 0),
        ("convert", "kept", 0, 4),
    ] {
        let what = format!("{way}, {kept}");
        let bench = two_families();
        fs::create_dir(bench.file("kept")).expect("a folder");
        scan_and_plan(&bench, &["--way", way, "--keep-originals", kept]);
        bench.ok(&["migrate", "-q", "plan"]);
        assert_eq!(names(&bench), left, "{what}");
        assert_eq!(files(&bench.file("kept")).len(), elsewhere, "{what}");
        if kept == "none" {
            bench.fails(11, "was given up", &["migrate", "--undo", "1", "plan"]);
            continue;
        }
        let released = bench.run(&["migrate", "--release", "1", "plan", "--output", "json"]);
        let (waiting, code) = if kept == "30d" { (4, 11) } else { (0, 0) };
        assert_eq!(released.code, Some(code), "{what}: {}", released.err);
        let released = released.json();
        assert_eq!(released["waiting"], waiting, "{what}");
        bench.ok(&["migrate", "-q", "--release", "1", "--force", "plan"]);
        assert_eq!(names(&bench) + files(&bench.file("kept")).len(), 0, "{what}");
        for name in ["tree/a.qcow", "tree/c.qcow"] {
            assert_eq!(magic(&bench, name), 3, "{what}: {name}");
        }
    }
}

#[test]
fn an_original_that_is_not_there_is_not_given_up_and_one_that_was_left_is() {
    let bench = two_families();
    scan_and_plan(&bench, &["--way", "convert"]);
    bench.ok(&["migrate", "-q", "plan"]);
    let kept = bench.file("tree/z.qcow.calve-original");
    fs::rename(&kept, bench.file("away")).expect("moved");
    let said = bench.fails(11, "original is not there", &["migrate", "--release", "1", "plan"]);
    assert!(said.out.contains("3 images released"), "{}", said.out);
    bench.fails(2, "", &["report", "--watch-exit", "plan"]);
    fs::rename(bench.file("away"), &kept).expect("moved back");
    bench.ok(&["migrate", "-q", "--release", "1", "plan"]);
    assert!(!kept.exists());
    bench.ok(&["report", "--watch-exit", "plan"]);
    let said = bench.ok(&["migrate", "--release", "1", "plan"]);
    assert!(said.out.contains("0 images released"), "{}", said.out);
    // A process that was killed has said so and not done it.
    let bench = two_families();
    scan_and_plan(&bench, &["--way", "convert"]);
    bench.ok(&["migrate", "-q", "plan"]);
    let journal = rusqlite::Connection::open(bench.file("catalogue")).expect("a journal");
    journal.execute("UPDATE migrated_image SET state = 'released'", []).expect("said");
    drop(journal);
    bench.fails(2, "", &["report", "--watch-exit", "plan"]);
    let said = bench.ok(&["migrate", "--release", "1", "plan"]);
    assert!(said.out.contains("4 images released"), "{}", said.out);
    bench.ok(&["report", "--watch-exit", "plan"]);
    // Where somebody has removed one, that may be said.
    let bench = two_families();
    scan_and_plan(&bench, &["--way", "convert"]);
    bench.ok(&["migrate", "-q", "plan"]);
    fs::remove_file(bench.file("tree/z.qcow.calve-original")).expect("removed");
    bench.ok(&["migrate", "-q", "--release", "1", "--force", "plan"]);
    bench.ok(&["report", "--watch-exit", "plan"]);
}

#[test]
fn attributes_times_and_permissions_stay() {
    use std::os::unix::fs::PermissionsExt;
    for way in ["upgrade", "convert"] {
        let bench = two_families();
        let z = bench.file("tree/z.qcow");
        // Read before it was written: with relatime the next read would be noted.
        let read = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
        let file = fs::File::open(&z).expect("opens");
        file.set_times(fs::FileTimes::new().set_accessed(read)).expect("set");
        fs::set_permissions(&z, fs::Permissions::from_mode(0o640)).expect("set");
        let attributed =
            rustix::fs::setxattr(&z, "user.owner", b"me", rustix::fs::XattrFlags::empty());
        scan_and_plan(&bench, &["--way", way]);
        let before = fs::metadata(&z).expect("there");
        bench.ok(&["migrate", "-q", "plan"]);
        let after = fs::metadata(&z).expect("there");
        let of = |it: &fs::Metadata| {
            (it.mode(), it.uid(), it.gid(), it.mtime(), it.mtime_nsec(), it.accessed().ok())
        };
        assert_eq!(of(&before), of(&after), "{way}");
        assert_eq!(after.accessed().ok(), Some(read), "{way}");
        if attributed.is_ok() {
            let mut value = [0; 8];
            let length = rustix::fs::getxattr(&z, "user.owner", &mut value[..]).expect("kept");
            assert_eq!(&value[..length], b"me", "{way}");
        }
    }
}

#[test]
fn damaged_images_are_rescued_or_put_aside_where_the_plan_says_so() {
    for (word, code) in [("rescue", 4), ("quarantine", 0)] {
        let bench = two_families();
        let (mut cut, _) = image();
        cut.truncate(cut.len() - 5000);
        bench.write("tree/cut.qcow", &cut);
        scan_and_plan(&bench, &["--damaged", word]);
        let before = files(&bench.file("tree"));
        let said = bench.run(&["migrate", "-q", "plan"]);
        assert_eq!(said.code, Some(code), "{word}: {}", said.err);
        match word {
            "rescue" => {
                assert_eq!(magic(&bench, "tree/cut.qcow"), 3);
                assert!(bench.read("tree/cut.qcow.calve-original") == cut);
                assert!(bench.file("tree/cut.qcow.calve-map").exists());
            }
            _ => {
                assert!(!bench.file("tree/cut.qcow").exists());
                assert!(bench.read("tree/cut.qcow.calve-original") == cut);
            }
        }
        bench.ok(&["migrate", "-q", "--undo", "1", "plan"]);
        assert!(before == files(&bench.file("tree")), "{word}: not to the bit");
    }
}

#[test]
fn what_is_damaged_is_given_up_only_when_that_is_asked_for() {
    let (mut cut, _) = image();
    cut.truncate(cut.len() - 5000);
    for (word, code, released) in [("rescue", 4, 1), ("quarantine", 0, 0)] {
        let bench = Bench::new();
        fs::create_dir(bench.file("tree")).expect("a folder");
        bench.write("tree/cut.qcow", &cut);
        let planned = scan_and_plan(&bench, &["--damaged", word, "--keep-originals", "none"]);
        let reason = planned[0]["reason"].as_str().expect("a reason");
        assert!(reason.contains("kept as") || word == "quarantine", "{reason}");
        let (before, kept) = (files(&bench.file("tree")), "tree/cut.qcow.calve-original");
        let said = bench.run(&["migrate", "-q", "plan"]);
        assert_eq!(said.code, Some(code), "{word}: {}", said.err);
        assert!(bench.read(kept) == cut, "{word}");
        bench.ok(&["migrate", "-q", "--undo", "1", "plan"]);
        assert!(before == files(&bench.file("tree")), "{word}: not to the bit");
        // What was put aside has nothing in its place, and is never given up.
        assert_eq!(bench.run(&["migrate", "-q", "plan"]).code, Some(code), "{word}");
        let said = bench.ok(&["migrate", "--release", "2", "--output", "json", "plan"]).json();
        assert_eq!(said["images"], released, "{word}: {said}");
        assert_eq!(bench.file(kept).exists(), released == 0, "{word}");
        match word {
            "rescue" => {
                bench.fails(11, "was given up", &["migrate", "--undo", "2", "plan"]);
            }
            _ => {
                bench.ok(&["migrate", "-q", "--undo", "2", "plan"]);
                assert!(before == files(&bench.file("tree")), "{word}: not to the bit");
            }
        }
    }
}

#[test]
fn what_was_put_aside_is_removed_by_hand_and_that_is_said() {
    let (mut cut, _) = image();
    cut.truncate(cut.len() - 5000);
    let bench = Bench::new();
    for name in ["tree", "kept"] {
        fs::create_dir(bench.file(name)).expect("a folder");
    }
    bench.write("tree/cut.qcow", &cut);
    scan_and_plan(&bench, &["--damaged", "quarantine", "--keep-originals", "kept"]);
    bench.ok(&["migrate", "-q", "plan"]);
    bench.ok(&["migrate", "-q", "--release", "1", "--force", "plan"]);
    let kept = files(&bench.file("kept"));
    assert_eq!(kept.len(), 1, "--force removes none that is there");
    bench.fails(2, "", &["report", "--watch-exit", "plan"]);
    fs::remove_dir_all(bench.file("kept")).expect("removed");
    bench.fails(2, "", &["report", "--watch-exit", "plan"]);
    bench.fails(11, "put aside is not there", &["migrate", "--release", "1", "plan"]);
    bench.fails(2, "", &["report", "--watch-exit", "plan"]);
    bench.ok(&["migrate", "-q", "--release", "1", "--force", "plan"]);
    bench.ok(&["report", "--watch-exit", "plan"]);
}

/// Six families of one image of two kinds.
pub(crate) fn six_families() -> Bench {
    let bench = Bench::new();
    fs::create_dir(bench.file("tree")).expect("a folder");
    let (v1, _) = image();
    let mut other = Builder::new(9, 6, 1 << 20);
    other.plain(1, &[7; 512]);
    for number in 0..6 {
        let bytes = if number % 2 == 0 { v1.clone() } else { other.clone().build() };
        bench.write(&format!("tree/{number}.qcow"), &bytes);
    }
    scan_and_plan(&bench, &[]);
    bench
}

pub(crate) fn migrated(bench: &Bench) -> usize {
    (0..6).filter(|number| magic(bench, &format!("tree/{number}.qcow")) == 3).count()
}

#[test]
fn one_process_at_a_time_has_a_journal_whatever_plan_it_was_given() {
    let bench = six_families();
    fs::copy(bench.file("plan"), bench.file("copy")).expect("a copy");
    std::os::unix::fs::symlink("catalogue", bench.file("link")).expect("a link");
    let held = "touch held; while [ -e held ]; do sleep 0.01; done";
    let mut first = bench.command(&["migrate", "-q", "-j", "1", "plan", "--before", held]);
    let mut first = first.stdin(Stdio::null()).spawn().expect("starts");
    while !bench.file("held").exists() {
        assert!(first.try_wait().expect("asked").is_none(), "it ended before its hook began");
        std::thread::sleep(Duration::from_millis(5));
    }
    fs::rename(bench.file("plan"), bench.file("moved")).expect("moved");
    let in_use = "another process carries out a run of this journal";
    for words in [
        &["migrate", "copy"][..],
        &["migrate", "copy", "--journal", "link"],
        &["migrate", "--undo", "1", "copy"],
        &["migrate", "--undo", "1", "catalogue"],
        &["migrate", "--release", "1", "--force", "link"],
    ] {
        bench.fails(15, in_use, words);
    }
    // Who only reads waits for nobody.
    let list = bench.ok(&["migrate", "--list", "--output", "json", "catalogue"]).json();
    assert_eq!(list[0]["run"], 1);
    let began = std::time::Instant::now();
    while first.try_wait().expect("asked").is_none() {
        // Each hook waits for its own.
        let _ = fs::remove_file(bench.file("held"));
        std::thread::sleep(Duration::from_millis(5));
        assert!(began.elapsed() < Duration::from_secs(120), "it hangs");
    }
    assert_eq!(migrated(&bench), 6);
    let list = bench.ok(&["migrate", "--list", "--output", "json", "catalogue"]).json();
    assert_eq!(list.as_array().map(Vec::len), Some(1));
    bench.ok(&["migrate", "-q", "--undo", "1", "copy"]);
    assert_eq!(migrated(&bench), 0);
}

#[test]
fn a_device_or_a_link_is_not_replaced_by_numbers_or_a_patch() {
    let bench = six_families();
    bench.write("file", b"");
    std::os::unix::fs::symlink("file", bench.file("link")).expect("a link");
    let _socket = std::os::unix::net::UnixListener::bind(bench.file("socket")).expect("a socket");
    for name in ["link", "socket"] {
        for words in [&["--metrics"][..], &["--configs", "tree", "--patches"]] {
            let words = [&["migrate", "plan"], words, &[name]].concat();
            bench.fails(
                18,
                if name == "link" { "a symbolic link" } else { "no regular file" },
                &words,
            );
            assert!(!bench.file(name).symlink_metadata().expect("there").is_file(), "{words:?}");
        }
    }
    assert_eq!(migrated(&bench), 0);
    assert!(bench.ok(&["migrate", "--list", "catalogue"]).out.is_empty(), "a run was begun");
}

/// A pipe with a name that nobody reads keeps whoever opens it to write waiting, signals or not.
#[test]
fn a_pipe_that_nobody_reads_is_refused_and_one_that_is_read_gets_all_events() {
    let bench = six_families();
    nix::unistd::mkfifo(&bench.file("pipe"), nix::sys::stat::Mode::S_IRWXU).expect("a pipe");
    let why = "pipe: nobody reads it; start the reader first";
    bench.fails(18, why, &["migrate", "-q", "plan", "--events", "pipe"]);
    let work = ["work", "-q", "--plan", "plan", "--shard", "0/1", "--events", "pipe"];
    bench.fails(18, why, &work);
    let why = "pipe: is neither a regular file nor a folder";
    bench.fails(18, why, &["migrate", "-q", "plan", "--configs", "pipe"]);
    assert_eq!(migrated(&bench), 0);
    assert!(bench.ok(&["migrate", "--list", "catalogue"]).out.is_empty(), "a run was begun");
    assert!(!bench.file("plan.shards").exists(), "a shard was begun");
    let flags = i32::try_from(rustix::fs::OFlags::NONBLOCK.bits()).expect("small");
    let reader = fs::File::options().read(true).custom_flags(flags).open(bench.file("pipe"));
    bench.ok(&["migrate", "-q", "plan", "--events", "pipe"]);
    // All that was written waits in it: a pipe has room for 64 KiB.
    let mut events = String::new();
    reader.expect("opened").read_to_string(&mut events).expect("text");
    let ended = events.lines().filter(|line| line.contains("\"event\":\"ended\""));
    assert_eq!(ended.count(), 6, "{events}");
}

#[test]
fn where_nothing_can_be_written_families_fail_each_time_and_none_is_half_way() {
    let bench = Bench::new();
    fs::create_dir(bench.file("tree")).expect("a folder");
    let Some(mounted) = Mounted::in_memory(&bench.file("tree"), 8 << 20) else { return };
    bench.write("tree/one.qcow", &image().0);
    scan_and_plan(&bench, &["--way", "convert"]);
    let before = files(&bench.file("tree"));
    mounted.make_read_only().expect("mounted anew");
    for _ in 0..4 {
        let words = ["migrate", "plan", "-p", "--output", "json"];
        let said = bench.fails(11, "Read-only file system", &words).json();
        assert_eq!((&said["failed"]["host"], &said["open"]), (&1.into(), &0.into()), "{said}");
    }
    let list = bench.ok(&["migrate", "--list", "--output", "json", "catalogue"]).json();
    assert_eq!(list[0]["families"]["failed"], 1, "{list}");
    assert!(before == files(&bench.file("tree")), "something was made");
}

#[test]
fn what_was_put_aside_is_not_counted_as_released_and_stays() {
    for (kept, code, told) in [("beside", 0, [[4, 0], [0, 0]]), ("30d", 11, [[0, 4], [0, 4]])] {
        let bench = two_families();
        let (mut cut, _) = image();
        for length in [5000, 6000] {
            cut.truncate(cut.len() - length);
            bench.write(&format!("tree/cut-{length}.qcow"), &cut);
        }
        scan_and_plan(&bench, &["--damaged", "quarantine", "--keep-originals", kept]);
        bench.ok(&["migrate", "-q", "plan"]);
        for [images, waiting] in told {
            let said = bench.run(&["migrate", "--output", "json", "--release", "1", "plan"]);
            let aside = "put aside, and never removed by calve: 2 images";
            assert!(said.err.contains(aside), "{}", said.err);
            let (code_, said) = (said.code, said.json());
            assert_eq!(code_, Some(code), "{said}");
            let numbers = (&said["images"], &said["waiting"], &said["put-aside"]);
            assert_eq!(numbers, (&images.into(), &waiting.into(), &2.into()), "{said}");
        }
        assert!(bench.file("tree/cut-5000.qcow.calve-original").exists());
        assert!(bench.file("tree/cut-6000.qcow.calve-original").exists());
    }
}

/// A link that leads nowhere would have a file made by whoever may write there.
#[test]
fn a_lock_is_no_link_and_may_be_somebody_elses() {
    let bench = six_families();
    let lock = bench.file("catalogue.lock");
    std::os::unix::fs::symlink("made", &lock).expect("a link");
    bench.fails(18, "is a symbolic link, which is not followed", &["migrate", "-q", "plan"]);
    assert!(!bench.file("made").exists());
    fs::remove_file(&lock).expect("removed");
    bench.write("catalogue.lock", b"");
    if !rustix::process::geteuid().is_root() {
        return qemu::skipped("becoming another user needs root");
    }
    // All is theirs, but for the lock.
    let nobody = 65_534;
    for name in [".", "tree", "catalogue", "plan"] {
        std::os::unix::fs::chown(bench.file(name), Some(nobody), None).expect("given away");
    }
    for path in files(&bench.file("tree")).keys() {
        std::os::unix::fs::chown(path, Some(nobody), None).expect("given away");
    }
    let mut theirs = bench.command(&["migrate", "-q", "plan"]);
    let said = Said::of(&theirs.uid(nobody).gid(nobody).output().expect("the program runs"));
    assert_eq!(said.code, Some(0), "{}", said.err);
    assert_eq!(migrated(&bench), 6);
}

#[test]
fn canaries_go_first_and_the_others_when_asked() {
    let bench = six_families();
    let said = bench.ok(&["migrate", "plan", "--canary", "1"]);
    assert!(said.err.contains("only so many of each kind were meant: 1 family"), "{}", said.err);
    let first = migrated(&bench);
    assert!((1..=2).contains(&first), "{first}");
    bench.ok(&["migrate", "-q", "plan"]);
    assert_eq!(migrated(&bench), 6);
    let list = bench.ok(&["migrate", "--list", "--output", "json", "catalogue"]).json();
    assert_eq!(list[0]["families"]["done"], 6);
    assert!(list[0]["ended"].is_number());
}

#[test]
fn limits_of_nothing_are_refused() {
    let bench = two_families();
    scan_and_plan(&bench, &[]);
    let before = (files(&bench.file("tree")), bench.read("catalogue"));
    bench.fails(64, "--canary", &["migrate", "plan", "--canary", "0"]);
    bench.fails(64, "leave it away for no limit", &["migrate", "plan", "--rate-limit", "0"]);
    assert!(before == (files(&bench.file("tree")), bench.read("catalogue")), "it began");
}

#[test]
fn a_plan_whose_catalogue_is_gone_begins_no_journal_in_its_place() {
    let bench = two_families();
    scan_and_plan(&bench, &[]);
    fs::remove_file(bench.file("catalogue")).expect("removed");
    bench.fails(18, "is gone, and the plan was made from it", &["migrate", "plan"]);
    bench.fails(18, "make another plan", &["report", "plan"]);
    assert!(!bench.file("catalogue").exists());
    bench.ok(&["migrate", "-q", "plan", "--journal", "new"]);
    assert_eq!(magic(&bench, "tree/z.qcow"), 3);
}

#[test]
fn what_nothing_is_to_be_done_with_is_said_plainly() {
    let bench = Bench::new();
    fs::create_dir(bench.file("tree")).expect("a folder");
    bench.ok(&["scan", "-q", "--catalogue", "catalogue", "tree"]);
    let said = bench.ok(&["plan", "catalogue", "--save", "none"]);
    assert_eq!(said.out, "Nothing to do: the catalogue has no version 1 image.\n");
    assert_eq!(bench.ok(&["migrate", "none"]).out, "run 1: nothing to do\n");
    for name in ["tree/a.qcow", "tree/b.qcow"] {
        bench.write(name, &overlay("gone.img"));
    }
    bench.ok(&["scan", "-q", "--catalogue", "catalogue", "tree"]);
    let said = bench.ok(&["plan", "catalogue", "--save", "left"]);
    let line = "\nNothing to do: 2 version 1 images are left as they are.\n";
    assert!(said.out.ends_with(line), "{}", said.out);
    let said = bench.ok(&["migrate", "left"]);
    assert_eq!(said.out, "run 2: nothing to do: 2 images are left as they are\n");
    assert_eq!(bench.ok(&["migrate", "left"]).out, said.out);
}

#[test]
fn a_family_is_told_with_its_number_and_its_size() {
    let bench = two_families();
    scan_and_plan(&bench, &[]);
    assert!(bench.ok(&["plan", "show", "plan"]).out.contains("\nfamily 1 (3 images):\n"));
    let said = bench.ok(&["migrate", "-p", "plan"]);
    for family in ["family 1 (3 images), ", "family 2 (1 image), "] {
        assert!(said.err.contains(family), "{}", said.err);
    }
}

#[test]
fn too_many_failures_stop_new_work() {
    let bench = Bench::new();
    fs::create_dir(bench.file("tree")).expect("a folder");
    let (v1, _) = image();
    for number in 0..30 {
        bench.write(&format!("tree/{number}.qcow"), &v1);
    }
    scan_and_plan(&bench, &[]);
    let words = ["migrate", "plan", "--before", "exit 1", "--jobs", "1", "--metrics", "numbers"];
    let said = bench.fails(11, "of 10 families failed", &words);
    assert!(said.out.contains("20 were not begun"), "{}", said.out);
    let numbers = String::from_utf8(bench.read("numbers")).expect("text");
    assert!(numbers.contains("calve_migrate_families_failed{run=\"1\"} 10\n"), "{numbers}");
    let words = ["migrate", "-q", "plan", "--before", "exit 1", "--max-failures", "100"];
    assert_eq!(bench.run(&words).code, Some(11));
    bench.ok(&["migrate", "-q", "plan"]);
}
