//! Upgrades in place through the real binary: what is said, what is refused, and what survives.

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::process::Command;
use std::time::Duration;

use crate::common::{Bench, Said, program};
use calve_testkit::{Builder, Random, qemu, seeds};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

fn ready(bench: &Bench) -> Vec<u8> {
    let (image, disk) = crate::common::image();
    bench.write("old.qcow", &image);
    bench.write("kept", &image);
    disk
}

/// Asserts that an image reads as this disk, for calve and for stock QEMU.
fn assert_holds(bench: &Bench, name: &str, disk: &[u8]) {
    bench.ok(&["convert", "-q", "--force", name, "read.raw"]);
    assert!(bench.read("read.raw") == disk, "{name}: other bytes");
    std::fs::remove_file(bench.file("read.raw")).expect("a file");
    if qemu::has("qemu-img") {
        qemu::assert_clean(bench.path(), name);
        assert!(qemu::content(bench.path(), &["-f", "qcow2"], name) == disk, "{name}");
    }
}

fn assert_untouched(bench: &Bench) {
    assert!(bench.read("old.qcow") == bench.read("kept"), "the image was changed");
    assert_eq!(bench.names(), ["kept", "old.qcow"]);
}

#[test]
fn an_image_is_upgraded_and_comes_back() {
    let bench = Bench::new();
    let disk = ready(&bench);
    let plan = bench.ok(&["upgrade", "--dry-run", "--output", "json", "old.qcow"]).json();
    assert_untouched(&bench);
    let said = bench.ok(&["upgrade", "old.qcow"]);
    assert!(said.out.starts_with("old.qcow: upgraded to qcow2\n"), "{}", said.out);
    assert_eq!(bench.read("old.qcow").len() as u64, plan["file-length"].as_u64().expect("one"));
    assert_holds(&bench, "old.qcow", &disk);
    assert!(bench.ok(&["info", "old.qcow"]).out.contains("can be undone"));
    bench.fails(18, "upgraded already", &["upgrade", "old.qcow"]);
    bench.ok(&["upgrade", "--undo", "old.qcow"]);
    assert_untouched(&bench);
    bench.fails(18, "no undo record", &["upgrade", "--undo", "old.qcow"]);
    bench.ok(&["upgrade", "--verify", "full", "-q", "old.qcow"]);
    bench.ok(&["upgrade", "--release", "old.qcow"]);
    assert_eq!(bench.names(), ["kept", "old.qcow"]);
    bench.fails(63, "QCOW version 3", &["upgrade", "old.qcow"]);
    assert_holds(&bench, "old.qcow", &disk);
}

#[test]
fn what_the_file_is_to_the_host_stays() {
    let bench = Bench::new();
    ready(&bench);
    let file = std::fs::File::options().write(true).open(bench.file("old.qcow")).expect("a file");
    let long_ago = std::time::UNIX_EPOCH + Duration::new(1_100_000_000, 123_456_789);
    file.set_modified(long_ago).expect("a time");
    drop(file);
    let mode = std::fs::Permissions::from_mode(0o640);
    std::fs::set_permissions(bench.file("old.qcow"), mode).expect("permissions");
    let before = std::fs::metadata(bench.file("old.qcow")).expect("a file");
    for preserve in [false, true] {
        let mut arguments = vec!["upgrade", "-q", "old.qcow"];
        arguments.extend(preserve.then_some("--preserve"));
        bench.ok(&arguments);
        let after = std::fs::metadata(bench.file("old.qcow")).expect("a file");
        assert_eq!(
            (after.ino(), after.uid(), after.mode()),
            (before.ino(), before.uid(), before.mode())
        );
        let is_same = after.modified().expect("a time") == long_ago;
        assert_eq!(is_same, preserve, "the time");
        bench.ok(&["upgrade", "-q", "--undo", "old.qcow"]);
        let undone = std::fs::metadata(bench.file("old.qcow")).expect("a file");
        assert_eq!(undone.modified().expect("a time"), long_ago, "the time, undone");
    }
    assert_untouched(&bench);
}

#[test]
fn what_was_written_since_is_not_undone() {
    if !qemu::has("qemu-io") {
        return;
    }
    let bench = Bench::new();
    let write = |command: &str| {
        qemu::io(bench.path(), &["-f", "qcow2", "-c", command, "old.qcow"]);
    };
    // To a cluster that was there already, and stayed where it was: no table tells.
    let mut builder = Builder::new(12, 9, 64 << 10).aligned(4096);
    let mut disk = vec![0; 64 << 10];
    for cluster in [0usize, 1, 9] {
        let content = Random::new(cluster as u64).content(4096);
        builder.plain(cluster as u64, &content);
        disk[cluster << 12..][..4096].copy_from_slice(&content);
    }
    bench.write("old.qcow", &builder.build());
    bench.ok(&["upgrade", "-q", "old.qcow"]);
    write("write -P 9 0 4k");
    bench.fails(18, "--force", &["upgrade", "--undo", "old.qcow"]);
    bench.ok(&["upgrade", "--undo", "--force", "old.qcow"]);
    bench.ok(&["convert", "-q", "-f", "qcow", "old.qcow", "new.raw"]);
    let raw = bench.read("new.raw");
    assert!(raw[..4096] == [9; 4096] && raw[4096..] == disk[4096..], "not what was written");
    std::fs::remove_file(bench.file("new.raw")).expect("a file");
    // To one that was copied: there is no way back, also by force.
    let disk = ready(&bench);
    bench.ok(&["upgrade", "-q", "old.qcow"]);
    write("write -P 9 0 4k");
    bench.fails(18, "was written to since", &["upgrade", "--undo", "--force", "old.qcow"]);
    bench.ok(&["upgrade", "--release", "old.qcow"]);
    // To a new one: neither.
    ready(&bench);
    bench.ok(&["upgrade", "-q", "old.qcow"]);
    write("write -P 9 512k 4k");
    for force in [&[][..], &["--force"]] {
        let arguments = [&["upgrade", "--undo", "old.qcow"][..], force].concat();
        bench.fails(18, "was written to since", &arguments);
    }
    assert!(bench.ok(&["info", "old.qcow"]).out.contains("written to since"));
    let recovered = bench.ok(&["upgrade", "--recover", "--output", "json", "old.qcow"]).json();
    assert_eq!(recovered["done"], "in-use");
    bench.ok(&["upgrade", "--release", "old.qcow"]);
    let mut expected = disk;
    expected[512 << 10..][..4096].fill(9);
    assert_holds(&bench, "old.qcow", &expected);
}

#[test]
fn what_is_held_is_overwritten_by_nobody_and_can_be_released() {
    if !qemu::has("qemu-io") {
        return;
    }
    let bench = Bench::new();
    let mut disk = ready(&bench);
    bench.ok(&["upgrade", "-q", "--hold", "old.qcow"]);
    let commands: Vec<String> =
        (0..60).map(|n| format!("write -P 5 {}k 4k", 300 + 8 * n)).collect();
    let mut arguments = vec!["-f", "qcow2"];
    arguments.extend(commands.iter().flat_map(|command| ["-c", command]));
    arguments.push("old.qcow");
    qemu::io(bench.path(), &arguments);
    for n in 0..60 {
        disk[(300 + 8 * n) << 10..][..4096].fill(5);
    }
    let (now, then) = (bench.read("old.qcow"), bench.read("kept"));
    let differs = (512..then.len()).find(|at| now[*at] != then[*at]);
    // The clusters 100 and 255 of the disk were there, and were written to in place.
    let is_data = |at: usize| then[at..].starts_with(&Random::new(107).content(4096));
    assert!(differs.is_none_or(is_data), "a byte of the old tables was overwritten: {differs:?}");
    qemu::img(bench.path(), &["snapshot", "-c", "s", "old.qcow"]);
    bench.fails(63, "snapshots", &["upgrade", "--release", "old.qcow"]);
    qemu::img(bench.path(), &["snapshot", "-d", "s", "old.qcow"]);
    let said = bench.ok(&["upgrade", "--release", "--output", "json", "old.qcow"]).json();
    assert!(said["freed-bytes"].as_u64().expect("a number") > 0);
    assert_holds(&bench, "old.qcow", &disk);
}

#[test]
fn every_refusal_names_a_reason_and_leaves_the_file_alone() {
    let bench = Bench::new();
    let refuses = |image: Vec<u8>, code: i32, text: &str, more: &[&str]| {
        bench.write("old.qcow", &image);
        bench.write("kept", &image);
        for dry in [&["--dry-run"][..], &[]] {
            let arguments = [&["upgrade", "old.qcow"][..], dry, more].concat();
            bench.fails(code, text, &arguments);
            assert_untouched(&bench);
        }
    };
    let (whole, _) = crate::common::image();
    let new = || Builder::new(12, 9, 1 << 20);
    let mut cut = whole.clone();
    cut.truncate(20_000);
    refuses(cut, 10, "[Q", &[]);
    let mut invalid = new();
    invalid.entry(3, 0x1001);
    refuses(invalid.build(), 10, "[Q17]", &[]);
    let mut short = Builder::new(12, 9, 4096 - 512);
    short.plain(0, &[1; 4096]);
    short.cut(short.length() - 512);
    refuses(short.build(), 10, "[Q20]", &[]);
    let mut twice = Builder::new(12, 9, 4 << 20);
    let table = twice.table_of(0);
    twice.plain(1, &[1; 4096]);
    twice.l1_entry(1, table);
    refuses(twice.build(), 10, "[Q27]", &[]);
    let mut overlap = new().aligned(4096);
    let at = overlap.plain(0, &Random::new(3).content(4096));
    let packed = overlap.packed_entry(at + 100, 200);
    overlap.entry(1, packed);
    refuses(overlap.build(), 10, "[Q22]", &[]);
    refuses(new().backing(b"not-there").build(), 13, "--backing-format", &[]);
    let long = vec![b'n'; 377];
    refuses(new().backing(&long).build(), 63, "one sector", &["-F", "raw"]);
    refuses(Builder::new(9, 12, 200 << 30).build(), 63, "cluster size", &[]);
    refuses(b"a raw disk".repeat(100), 63, "not a QCOW version 1 image", &[]);
    refuses(new().build(), 18, "has no backing file", &["-F", "raw"]);
    bench.fails(18, "a folder", &["upgrade", "."]);
    bench.fails(64, "cannot be used with", &["upgrade", "--undo", "--recover", "old.qcow"]);
}

#[test]
fn names_that_just_fit_are_kept() {
    let bench = Bench::new();
    let name = format!("{}/base.raw", "d/".repeat(183));
    let name = format!("{}{}", "./".repeat((376 - name.len()) / 2), name);
    let mut builder = Builder::new(12, 9, 1 << 20).backing(name.as_bytes());
    builder.plain(3, &[7; 4096]);
    bench.write("old.qcow", &builder.build());
    bench.ok(&["upgrade", "-q", "-F", "raw", "old.qcow"]);
    let info = bench.ok(&["info", "--output", "json", "old.qcow"]).json();
    assert_eq!(info["backing-filename"], name.as_str());
    assert_eq!(info["backing-filename-format"], "raw");
}

#[test]
fn under_any_of_its_names_the_record_is_beside_the_file() {
    let bench = Bench::new();
    let disk = ready(&bench);
    std::fs::create_dir(bench.file("links")).expect("a folder");
    std::os::unix::fs::symlink("../old.qcow", bench.file("links/link")).expect("a link");
    bench.ok(&["upgrade", "-q", "links/link"]);
    assert!(bench.file("old.qcow.calve-undo").exists());
    assert!(bench.ok(&["info", "links/link"]).out.contains("can be undone"));
    bench.ok(&["upgrade", "-q", "--undo", "links/link"]);
    bench.ok(&["upgrade", "-q", "--then-repack", "links/link"]);
    assert!(bench.file("links/link").is_symlink());
    assert_holds(&bench, "old.qcow", &disk);
    ready(&bench);
    std::fs::hard_link(bench.file("old.qcow"), bench.file("other")).expect("a link");
    let said = bench.ok(&["upgrade", "old.qcow"]);
    assert!(said.err.contains("has 2 names"), "{}", said.err);
}

#[test]
fn an_image_in_use_is_left_alone() {
    if !qemu::has("qemu-io") {
        return;
    }
    let bench = Bench::new();
    ready(&bench);
    let mut other = Command::new("qemu-io")
        .current_dir(bench.path())
        .args(["-r", "-f", "qcow", "old.qcow"])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::null())
        .spawn()
        .expect("qemu-io starts");
    let lock = || std::fs::read_to_string("/proc/locks").unwrap_or_default();
    let inode = std::fs::metadata(bench.file("old.qcow")).expect("a file").ino();
    while !lock().contains(&format!(":{inode} ")) {
        std::thread::sleep(Duration::from_millis(10));
    }
    bench.fails(15, "in use", &["upgrade", "old.qcow"]);
    drop(other.stdin.take());
    other.wait().expect("it ends");
    assert_untouched(&bench);
}

#[test]
fn odd_images_are_upgraded_too() {
    let bench = Bench::new();
    // Clusters at odd places, two of them at one, and a payload beside the header.
    let size = (1 << 20) - 300;
    let mut builder = Builder::new(16, 9, size);
    builder.packed(3, &[0x33; 65536]);
    let at = builder.plain(1, &Random::new(1).content(65536));
    builder.entry(2, at);
    let mut aligned = builder.aligned(65536);
    let at = aligned.plain(5, &Random::new(5).content(65536));
    aligned.entry(6, at);
    aligned.plain(15, &Random::new(15).content(65236));
    bench.write("old.qcow", &aligned.build());
    bench.write("kept", &bench.read("old.qcow"));
    bench.ok(&["convert", "-q", "old.qcow", "was.raw"]);
    let mut was = bench.read("was.raw");
    was.resize(1 << 20, 0);
    std::fs::remove_file(bench.file("was.raw")).expect("a file");
    let said = bench.run(&["upgrade", "--verify", "full", "--output", "json", "old.qcow"]);
    assert!(said.err.contains("1048276 bytes became 1048576"), "{}", said.err);
    let plan = said.json();
    for (key, count) in
        [("misaligned-clusters", 2), ("shared-clusters", 1), ("clusters-beside-header", 1)]
    {
        assert_eq!(plan[key], count, "{key}: {plan}");
    }
    assert_holds(&bench, "old.qcow", &was);
    bench.ok(&["upgrade", "--undo", "old.qcow"]);
    assert_untouched(&bench);
}

fn chain(bench: &Bench) -> Vec<u8> {
    ready(bench);
    let mut top = Builder::new(9, 12, 1 << 20).backing(b"old.qcow");
    top.plain(9, &[0x99; 512]);
    bench.write("top.qcow", &top.build());
    bench.ok(&["convert", "-q", "top.qcow", "was.raw"]);
    bench.read("was.raw")
}

#[test]
fn a_chain_is_upgraded_from_its_base_up() {
    let bench = Bench::new();
    let was = chain(&bench);
    let top = bench.read("top.qcow");
    let said = bench.ok(&["upgrade", "top.qcow"]);
    assert!(said.err.contains("--chain upgrades both"), "{}", said.err);
    bench.ok(&["upgrade", "-q", "--undo", "top.qcow"]);
    let plans = bench.ok(&["upgrade", "--chain", "--dry-run", "--output", "json", "top.qcow"]);
    assert_eq!(plans.json()[0]["filename"], "old.qcow");
    assert_eq!(plans.json()[1]["backing-filename-format"], "qcow2");
    bench.ok(&["upgrade", "--chain", "top.qcow"]);
    let chain = bench.ok(&["info", "--backing-chain", "--output", "json", "top.qcow"]).json();
    assert_eq!((&chain[0]["format"], &chain[1]["format"]), (&"qcow2".into(), &"qcow2".into()));
    assert_holds(&bench, "top.qcow", &was);
    bench.ok(&["upgrade", "--chain", "--undo", "top.qcow"]);
    assert!(bench.read("top.qcow") == top && bench.read("old.qcow") == bench.read("kept"));
    bench.fails(18, "no undo record", &["upgrade", "--chain", "--undo", "top.qcow"]);
    // One that cannot be upgraded keeps all of them from it.
    let mut broken = top.clone();
    let entry = broken.len() - 512 - (8 << 12) + 8 * 100;
    broken[entry..entry + 8].copy_from_slice(&0x1001u64.to_be_bytes());
    bench.write("top.qcow", &broken);
    bench.fails(10, "[Q", &["upgrade", "--chain", "top.qcow"]);
    assert!(bench.read("top.qcow") == broken && bench.read("old.qcow") == bench.read("kept"));
}

#[test]
fn a_repacked_image_has_large_clusters_and_the_same_disk() {
    let bench = Bench::new();
    let disk = ready(&bench);
    let mode = std::fs::Permissions::from_mode(0o751);
    std::fs::set_permissions(bench.file("old.qcow"), mode).expect("permissions");
    let file = std::fs::File::options().write(true).open(bench.file("old.qcow")).expect("a file");
    file.set_modified(std::time::UNIX_EPOCH + Duration::from_secs(1_100_000_000)).expect("a time");
    let has_attributes =
        rustix::fs::fsetxattr(&file, "user.owner", b"museum", rustix::fs::XattrFlags::empty())
            .is_ok();
    let before = file.metadata().expect("a file");
    bench.ok(&["upgrade", "--then-repack", "--preserve", "old.qcow"]);
    let file = std::fs::File::open(bench.file("old.qcow")).expect("a file");
    let after = file.metadata().expect("a file");
    assert_eq!(
        (after.uid(), after.mode(), after.mtime()),
        (before.uid(), before.mode(), before.mtime())
    );
    let mut value = [0; 16];
    let length = rustix::fs::fgetxattr(&file, "user.owner", &mut value[..]).unwrap_or(0);
    assert!(!has_attributes || &value[..length] == b"museum", "an attribute is gone");
    let info = bench.ok(&["info", "--output", "json", "old.qcow"]).json();
    assert_eq!(info["cluster-size"], 65536);
    assert_eq!(bench.names(), ["kept", "old.qcow"]);
    assert_holds(&bench, "old.qcow", &disk);
    let was = chain(&bench);
    bench.ok(&["upgrade", "-q", "--then-repack", "top.qcow"]);
    let info = bench.ok(&["info", "--output", "json", "top.qcow"]).json();
    assert_eq!(
        (&info["cluster-size"], &info["backing-filename"]),
        (&65536.into(), &"old.qcow".into())
    );
    assert_holds(&bench, "top.qcow", &was);
    let mut secret = Builder::new(12, 9, 8192).encrypted(b"sesame");
    secret.plain(0, &[1; 4096]);
    let secret = secret.build();
    bench.write("old.qcow", &secret);
    bench.fails(63, "encrypted", &["upgrade", "--then-repack", "old.qcow"]);
    assert!(bench.read("old.qcow") == secret);
}

#[test]
fn an_encrypted_image_needs_no_passphrase() {
    let bench = Bench::new();
    let mut builder = Builder::new(12, 9, 64 << 10).encrypted(b"sesame");
    for cluster in [0, 3, 9] {
        builder.plain(cluster, &[7; 4096]);
    }
    bench.write("old.qcow", &builder.build());
    bench.write("key", b"sesame");
    let read = |name: &str| {
        bench.ok(&["convert", "-q", "--passphrase-file", "key", "old.qcow", name]);
        bench.read(name)
    };
    let was = read("was.raw");
    bench.ok(&["upgrade", "-q", "--verify", "full", "old.qcow"]);
    bench.fails(12, "passphrase", &["convert", "old.qcow", "new.raw"]);
    assert!(read("new.raw") == was);
    if qemu::has("qemu-img") {
        let name = "driver=qcow2,encrypt.key-secret=s,file.filename=old.qcow";
        let options = ["--object", "secret,id=s,data=sesame", "--image-opts"];
        assert!(qemu::content(bench.path(), &options, name) == was);
    }
}

#[test]
fn killed_at_any_moment_it_recovers() {
    // Large enough for a few milliseconds between the first write and the last.
    let (image, bench) = (crate::common::large(24), Bench::new());
    for seed in seeds("CALVE_KILLS", 20) {
        let mut random = Random::new(seed ^ u64::from(std::process::id()));
        let what = format!("seed {seed}");
        bench.write("old.qcow", &image);
        let mut child =
            bench.command(&["upgrade", "-q", "--hold", "old.qcow"]).spawn().expect("it starts");
        std::thread::sleep(Duration::from_micros(random.below(12_000)));
        let pid = Pid::from_raw(i32::try_from(child.id()).expect("a process"));
        // It may have ended already.
        let _ = kill(pid, Signal::SIGKILL);
        child.wait().expect("it ends");
        if bench.names().contains(&"old.qcow.calve-undo".to_owned()) {
            let done = bench.ok(&["upgrade", "--recover", "--output", "json", "old.qcow"]).json();
            if done["done"] == "finished" {
                if qemu::has("qemu-img") {
                    let check = qemu::img(bench.path(), &["check", "-f", "qcow2", "old.qcow"]);
                    let text = String::from_utf8_lossy(&check.stdout).into_owned();
                    assert!(!text.contains("ERROR"), "{what}: {text}");
                }
                bench.ok(&["upgrade", "-q", "--undo", "--force", "old.qcow"]);
            }
        }
        assert!(bench.read("old.qcow") == image, "{what}: not what it was");
    }
    // What was killed before the record had its name is gone with the next one.
    bench.ok(&["upgrade", "-q", "old.qcow"]);
    bench.ok(&["upgrade", "-q", "--undo", "old.qcow"]);
    assert!(bench.read("old.qcow") == image);
    assert_eq!(bench.names(), ["old.qcow"]);
}

/// Each system call that matters fails in its turn, in the kernel's own words.
#[test]
fn a_host_that_fails_at_any_step_leaves_the_image_as_it_was() {
    if !crate::common::may_trace() {
        return;
    }
    let bench = Bench::new();
    let disk = ready(&bench);
    let mut failures = 0;
    for (call, fault) in [
        ("pread64", "EIO"),
        ("pwrite64", "EIO"),
        ("pwrite64", "ENOSPC"),
        ("write", "ENOSPC"),
        ("fsync", "EIO"),
        ("fdatasync", "EIO"),
        ("ftruncate", "EIO"),
        ("renameat", "EACCES"),
        ("utimensat", "EPERM"),
    ] {
        for number in 1..=10 {
            let said = bench.run_with_fault((call, fault, number), &["upgrade", "-q", "old.qcow"]);
            let what = format!("{call} number {number}: {}", said.err);
            match said.code {
                Some(0) => {
                    assert_holds(&bench, "old.qcow", &disk);
                    bench.ok(&["upgrade", "-q", "--undo", "--force", "old.qcow"]);
                }
                // The loader failed, and the program never ran.
                Some(127) => {}
                Some(1 | 10 | 14 | 16) => failures += 1,
                other => panic!("{other:?}: {what}"),
            }
            if said.err.contains("--recover") {
                bench.ok(&["upgrade", "-q", "--recover", "old.qcow"]);
            }
            assert_untouched(&bench);
        }
    }
    assert!(failures > 10, "too few of the faults were met: {failures}");
}

/// The order in which things reach the medium, as the kernel is told of it.
#[test]
fn what_is_written_is_synced_in_this_order() {
    if !crate::common::may_trace() {
        return;
    }
    let bench = Bench::new();
    let mut builder = Builder::new(12, 9, 1 << 20).aligned(4096);
    builder.plain(5, &[5; 4096]);
    bench.write("old.qcow", &builder.build());
    let calls = |arguments: &[&str]| {
        let calls =
            "trace=pwrite64,write,fsync,fdatasync,ftruncate,rename,renameat,unlink,utimensat";
        let traced = Command::new("strace")
            .current_dir(bench.path())
            .args(["-f", "-y", "-s", "0", "-o", "trace", "-e", calls])
            .arg(program())
            .args(arguments)
            .output()
            .expect("strace runs");
        assert!(traced.status.success(), "{}", Said::of(&traced).err);
        let text = String::from_utf8(bench.read("trace")).expect("text");
        let folder = bench.path().to_string_lossy().into_owned();
        text.lines()
            .filter(|line| line.contains(&folder))
            .map(|line| {
                let call = line.split_once(' ').map_or("", |(_, rest)| rest.trim_start());
                let call = call.split('(').next().unwrap_or_default();
                let what = match () {
                    () if line.contains("calve-undo") => "record",
                    () if line.contains("old.qcow") => "image",
                    () => "folder",
                };
                let at = line.rsplit_once(") = ").and_then(|(line, _)| line.rsplit(", ").next());
                match call {
                    "pwrite64" => format!("{call} {what} @ {}", at.unwrap_or_default()),
                    _ => format!("{call} {what}"),
                }
            })
            .collect::<Vec<_>>()
    };
    let record = ["write record", "fsync record", "renameat record", "fsync folder"];
    let expected = [
        &record[..],
        // L2 table, L1 table, refcount block and table, and nothing behind them; then the record of
        // what they are.
        &["pwrite64 image @ 12288", "ftruncate image", "fsync image"],
        &record,
        // The one sector.
        &["pwrite64 image @ 0", "fsync image", "utimensat image"],
    ];
    assert_eq!(calls(&["upgrade", "-q", "old.qcow"]), expected.concat());
    let expected = [
        "pwrite64 image @ 0",
        "fsync image",
        "ftruncate image",
        "fsync image",
        "utimensat image",
        "unlink record",
        "fsync folder",
    ];
    assert_eq!(calls(&["upgrade", "-q", "--undo", "old.qcow"]), expected);
}

#[test]
fn a_file_that_may_not_grow_stays_as_it_was() {
    let bench = Bench::new();
    ready(&bench);
    let blocks = bench.read("old.qcow").len() / 512 + 4;
    let output = Command::new("sh")
        .current_dir(bench.path())
        .args(["-c", &format!("ulimit -f {blocks} && exec \"$0\" upgrade old.qcow")])
        .arg(program())
        .output()
        .expect("a shell");
    let said = Said::of(&output);
    assert_eq!(said.code, Some(16), "{}", said.err);
    assert_untouched(&bench);
}

#[test]
fn an_interrupted_upgrade_is_told_of_and_settled() {
    let bench = Bench::new();
    let disk = ready(&bench);
    // As a crash leaves it: the record is there, and something behind the old end.
    bench.ok(&["upgrade", "-q", "old.qcow"]);
    let mut interrupted = bench.read("old.qcow");
    interrupted[..512].copy_from_slice(&bench.read("kept")[..512]);
    bench.write("old.qcow", &interrupted);
    assert!(bench.ok(&["info", "old.qcow"]).out.contains("--recover"));
    for verb in [&["map", "old.qcow"][..], &["compare", "old.qcow", "kept"]] {
        let said = bench.ok(verb);
        assert!(said.err.contains("calve upgrade --recover"), "{}", said.err);
    }
    let said = bench.ok(&["upgrade", "old.qcow"]);
    assert!(said.err.contains("as it was before its upgrade"), "{}", said.err);
    assert_holds(&bench, "old.qcow", &disk);
    // A record that is damaged is not believed.
    let mut record = bench.read("old.qcow.calve-undo");
    record[100] ^= 1;
    bench.write("old.qcow.calve-undo", &record);
    bench.fails(1, "no undo record", &["upgrade", "--undo", "old.qcow"]);
    assert_eq!(bench.ok(&["info", "--output", "json", "old.qcow"]).json()["upgrade"], "unknown");
    assert_holds(&bench, "old.qcow", &disk);
}

fn reflinked(kind: &str) {
    let bench = Bench::new();
    let Some(mounted) = crate::common::mounted(&bench, kind) else { return };
    let path = |name| mounted.folder().join(name).to_str().expect("a plain name").to_owned();
    let mut builder = Builder::new(12, 9, 24 << 20).aligned(4096);
    for cluster in 0..4000 {
        builder.plain(cluster, &Random::new(cluster).content(4096));
    }
    let image = builder.build();
    std::fs::write(path("old.qcow"), &image).expect("a file");
    bench.ok(&["upgrade", "-q", "--reflink-to", &path("new.qcow2"), &path("old.qcow")]);
    assert!(std::fs::read(path("old.qcow")).expect("a file") == image);
    bench.ok(&["compare", "-q", &path("old.qcow"), &path("new.qcow2")]);
    if qemu::has("qemu-img") {
        qemu::assert_clean(mounted.folder(), "new.qcow2");
    }
    let own = crate::common::exclusive(&path("new.qcow2"));
    assert!(own < 256 << 10, "{kind}: {own} bytes of its own");
    bench.fails(
        18,
        "exists already",
        &["upgrade", "--reflink-to", &path("new.qcow2"), &path("old.qcow")],
    );
    let left = std::fs::read_dir(mounted.folder()).expect("a folder");
    let names = left.map(|entry| entry.expect("an entry").file_name()).filter(|name| {
        let name = name.to_string_lossy();
        name.contains("calve")
    });
    assert_eq!(names.count(), 0, "something was left behind");
}

#[test]
fn on_xfs_a_clone_is_upgraded_and_no_data_is_written() {
    reflinked("xfs");
}

#[test]
fn on_btrfs_a_clone_is_upgraded_and_no_data_is_written() {
    reflinked("btrfs");
}

#[test]
fn where_nothing_can_be_cloned_that_is_said() {
    let bench = Bench::new();
    ready(&bench);
    // No two file systems share blocks, whatever this folder is on.
    let target = format!("/dev/shm/calve-test-{}.qcow2", std::process::id());
    bench.fails(63, "cannot share blocks", &["upgrade", "--reflink-to", &target, "old.qcow"]);
    assert!(!std::path::Path::new(&target).exists());
    assert_untouched(&bench);
}
