//! Reading verbs only read: what they do to their sources is watched in the kernel, call by call,
//! and nothing that the host tells of a file is another afterwards, its access time included.

use std::collections::BTreeMap;
use std::fs::{File, FileTimes, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Output};
use std::time::{Duration, SystemTime};

use crate::common::{Bench, Said, program};
use calve_testkit::{Builder, Random, qemu};

/// What is run: `IMAGE` is each of [`IMAGES`], and `new` a file that is not there. A further
/// reading verb is a further line.
const RUNS: &[&str] = &[
    "info IMAGE",
    "info --deep --backing-chain --output=json IMAGE",
    "info --deep secret.qcow",
    "info --data-file data.raw data.qcow2",
    "map IMAGE",
    "map --output=ddrescue IMAGE",
    "map --data-file data.raw data.qcow2",
    "compare IMAGE IMAGE",
    "compare -s -T none IMAGE IMAGE",
    "compare --passphrase-file key secret.qcow secret.qcow",
    "convert -O raw --verify IMAGE new",
    "convert -O qcow2 -T none -c IMAGE new",
    "convert -O raw -S 0 --copy kernel IMAGE new",
    "convert -O qcow2 -B base.raw -F raw IMAGE new",
    "convert -O qcow2 --salvage --map new.map IMAGE new",
    "convert --passphrase-file key -O raw secret.qcow new",
    "convert --data-file data.raw -O raw data.qcow2 new",
    "check --deep plain.qcow",
    "check --deep --backing-chain --sandbox=off overlay.qcow",
    "check --deep --sandbox=off --evidence log secret.qcow",
    "layout plain.qcow",
    "timeline secret.qcow",
    "carve plain.qcow finds",
    "rescue -O raw IMAGE new",
    "rescue -O qcow2 --passphrase-file key --evidence log secret.qcow new",
    "upgrade --dry-run plain.qcow",
    "info --evidence log IMAGE",
    "map --evidence log --data-file data.raw data.qcow2",
    "compare --evidence log IMAGE IMAGE",
    "convert --evidence log --passphrase-file key -T none secret.qcow new",
    "convert --evidence log -O qcow2 -B base.raw -F raw IMAGE new",
    "map --untrusted IMAGE",
    "compare --untrusted --evidence log plain.qcow plain.qcow",
    "convert --untrusted --evidence log -O qcow2 plain.qcow new",
    "info --sandbox=off IMAGE",
    "scan IMAGE",
    "scan --deep --sandbox=off --families .",
    "audit-sources .",
    "audit-sources --output=jsonl -j 1 script.sh IMAGE",
];

const IMAGES: &[&str] =
    &["plain.qcow", "packed.qcow", "overlay.qcow", "upgraded.qcow", "other.raw"];

const SIZE: u64 = 1 << 20;

/// Writes all images and what they need into the folder.
fn write_sources(bench: &Bench) {
    let mut plain = Builder::new(12, 9, SIZE).aligned(4096);
    (0..64).for_each(|cluster| _ = plain.plain(cluster, &Random::new(cluster).content(4096)));
    bench.write("plain.qcow", &plain.clone().build());
    bench.write("upgraded.qcow", &plain.build());
    bench.ok(&["upgrade", "-q", "upgraded.qcow"]);
    let content = |cluster: u64| cluster.to_be_bytes().repeat(512);
    let mut packed = Builder::new(12, 9, SIZE);
    (0..64).for_each(|cluster| _ = packed.packed(cluster, &content(cluster)));
    bench.write("packed.qcow", &packed.build());
    let mut secret = Builder::new(12, 9, SIZE).encrypted(b"swordfish");
    (0..64).for_each(|cluster| _ = secret.plain(cluster, &content(cluster)));
    bench.write("secret.qcow", &secret.build());
    bench.write("key", b"swordfish\n");
    bench.write("script.sh", b"qemu-img create -f qcow2 new 1G\nqemu-img info old.qcow\n");
    let mut overlay = Builder::new(9, 12, SIZE).backing(b"base.raw");
    (100..300).for_each(|cluster| _ = overlay.plain(cluster, &[7; 512]));
    bench.write("overlay.qcow", &overlay.build());
    bench.write("base.raw", &Random::new(5).content(SIZE));
    bench.write("other.raw", &Random::new(6).content(SIZE));
    if qemu::has("qemu-img") {
        let options = "data_file=data.raw,data_file_raw=off";
        let arguments = ["convert", "-O", "qcow2", "-o", options, "other.raw", "data.qcow2"];
        let made = qemu::img(bench.path(), &arguments);
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    }
}

/// Every run over every image that is there.
fn runs(bench: &Bench) -> Vec<Vec<String>> {
    let mut runs = Vec::new();
    for line in RUNS {
        let images = if line.contains("IMAGE") { IMAGES } else { &[""] };
        for image in images {
            let words: Vec<String> =
                line.replace("IMAGE", image).split(' ').map(str::to_owned).collect();
            let needs_qemu = line.contains("data.qcow2");
            if !needs_qemu || bench.file("data.qcow2").exists() {
                runs.push(words);
            }
        }
    }
    runs
}

/// Takes away what a run wrote.
fn tidy(bench: &Bench) {
    for name in ["new", "new.map", "new.rescue", "log", "trace"] {
        let _ = std::fs::remove_file(bench.file(name));
    }
    let _ = std::fs::remove_dir_all(bench.file("finds"));
}

/// Runs a program with every call to the kernel written down.
fn traced(bench: &Bench, program: &str, words: &[String]) -> (Output, String) {
    let output = Command::new("strace")
        .current_dir(bench.path())
        // File names are told in full, data not at all.
        .args(["-f", "-y", "-s", "0", "-o", "trace", program])
        .args(words)
        .output()
        .expect("strace runs");
    (output, String::from_utf8_lossy(&bench.read("trace")).into_owned())
}

/// What in a trace does more to one of the files than read it. A call that this test does not
/// know is not taken for a reading one.
fn trespasses<'t>(trace: &'t str, names: &[String]) -> Vec<&'t str> {
    let is_trespass = |line: &&str| {
        assert!(!line.contains("io_uring"), "calls that cannot be watched: {line}");
        names.iter().any(|name| touches(line, name) && !only_reads(line, name))
    };
    trace.lines().filter(is_trespass).collect()
}

/// Whether a call is given this file, by its name or as a descriptor.
fn touches(line: &str, name: &str) -> bool {
    [format!("\"{name}\""), format!("/{name}\""), format!("/{name}>")]
        .iter()
        .any(|told| line.contains(told.as_str()))
}

fn only_reads(line: &str, name: &str) -> bool {
    // `123 pread64(3</folder/plain.qcow>, ""..., 4096, 512) = 4096`
    let call = line.split_once(' ').map_or("", |(_, rest)| rest.trim_start());
    // What it was given stands where it began.
    if call.starts_with("<... ") {
        return true;
    }
    let Some((call, arguments)) = call.split_once('(') else { return false };
    let has = |word: &str| arguments.contains(word);
    let first = arguments.split(',').next().unwrap_or_default();
    match call {
        "read" | "pread64" | "readv" | "preadv" | "preadv2" | "lseek" | "readahead"
        | "fadvise64" | "close" | "dup" | "dup2" | "dup3" => true,
        "stat" | "lstat" | "fstat" | "newfstatat" | "statx" | "statfs" | "fstatfs" | "access"
        | "faccessat" | "faccessat2" | "readlink" | "readlinkat" => true,
        // The words of the command line.
        "execve" => true,
        "open" | "openat" | "openat2" => {
            let writes = ["O_WRONLY", "O_RDWR", "O_CREAT", "O_TRUNC", "O_APPEND"];
            has("O_RDONLY") && !writes.into_iter().any(has)
        }
        // Locks that others may have too.
        "fcntl" => has("F_RDLCK") || has("F_OFD_GETLK") || has("F_DUPFD_CLOEXEC") || has("F_GETF"),
        // To another file.
        "copy_file_range" => touches(first, name) && line.matches(name).count() == 1,
        // Where its blocks lie. Only of a file that shares them all are they written first.
        "ioctl" if has("FS_IOC_FIEMAP") => has("fm_flags=0,"),
        "ioctl" => (has("FICLONERANGE") || has("FICLONE")) && !touches(first, name),
        _ => false,
    }
}

/// What the host tells of files: number, size, mode, blocks, times.
type Told = BTreeMap<String, (u64, u64, u32, u64, [i64; 6])>;

fn told(bench: &Bench, names: &[String]) -> Told {
    let tell = |name: &String| {
        let file = std::fs::metadata(bench.file(name)).expect("a file");
        let times = [
            file.atime(),
            file.atime_nsec(),
            file.mtime(),
            file.mtime_nsec(),
            file.ctime(),
            file.ctime_nsec(),
        ];
        (name.clone(), (file.ino(), file.size(), file.mode(), file.blocks(), times))
    };
    names.iter().map(tell).collect()
}

fn contents(bench: &Bench, names: &[String]) -> Vec<blake3::Hash> {
    names.iter().map(|name| blake3::hash(&bench.read(name))).collect()
}

/// Gives all files an access time before their time of change: the next read is then one that
/// every file system notes, unless it is asked not to.
fn forget_access(bench: &Bench, names: &[String]) {
    let long_ago = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
    for name in names {
        let file = File::options().append(true).open(bench.file(name)).expect("a file");
        file.set_times(FileTimes::new().set_accessed(long_ago)).expect("a time");
    }
}

fn notes_access(bench: &Bench) -> bool {
    let probe = ["probe".to_owned()];
    bench.write(&probe[0], &[1; 4096]);
    forget_access(bench, &probe);
    let before = told(bench, &probe);
    bench.read(&probe[0]);
    let is_noted = told(bench, &probe) != before;
    std::fs::remove_file(bench.file(&probe[0])).expect("a file");
    is_noted
}

#[test]
fn no_call_of_a_reading_verb_does_more_than_read_its_sources() {
    if !crate::common::may_trace() {
        return;
    }
    let bench = Bench::new();
    write_sources(&bench);
    let names = bench.names();
    let before = contents(&bench, &names);
    for words in runs(&bench) {
        let (output, trace) = traced(&bench, &program(), &words);
        let said = Said::of(&output);
        assert_eq!(said.code, Some(0), "{words:?}: {}", said.err);
        let watched = |name: &String| trace.lines().any(|line| touches(line, name));
        assert!(names.iter().any(watched), "{words:?}: no source was seen");
        assert_eq!(trespasses(&trace, &names), <[&str; 0]>::default(), "{words:?}");
        tidy(&bench);
        assert_eq!(bench.names(), names, "{words:?}");
    }
    assert!(contents(&bench, &names) == before, "not what it was");
}

/// The judge of the test above can tell.
#[test]
fn calls_that_do_more_than_read_are_recognised() {
    if !crate::common::may_trace() {
        return;
    }
    let bench = Bench::new();
    bench.write("source", &[7; 4096]);
    bench.write("other", &[8; 4096]);
    let names = ["source".to_owned()];
    for (program, words) in [
        ("touch", "-c source"),
        ("touch", "-c -a source"),
        ("chmod", "0600 source"),
        ("chown", "0 source"),
        ("truncate", "-s 4096 source"),
        ("dd", "if=other of=source conv=notrunc"),
        ("cp", "other source"),
        ("ln", "source link"),
        ("mv", "source moved"),
        ("rm", "-f moved source"),
    ] {
        let words: Vec<String> = words.split(' ').map(str::to_owned).collect();
        if !bench.file("source").exists() {
            bench.write("source", &[7; 4096]);
        }
        let (_, trace) = traced(&bench, program, &words);
        assert!(!trespasses(&trace, &names).is_empty(), "{program} {words:?} passes for reading");
    }
    bench.write("source", &[7; 4096]);
    let (_, trace) = traced(&bench, "cat", &names);
    assert_eq!(trespasses(&trace, &names), <[&str; 0]>::default());
}

#[test]
fn blocks_that_are_shared_leave_the_source_as_it_was() {
    if !crate::common::may_trace() {
        return;
    }
    let bench = Bench::new();
    let Some(mounted) = crate::common::mounted(&bench, "xfs") else { return };
    std::fs::write(mounted.folder().join("large.qcow"), crate::common::large(8)).expect("a file");
    let names = ["large.qcow".to_owned()];
    for format in ["raw", "qcow2"] {
        let words = format!("convert -O {format} --copy clone xfs/large.qcow xfs/new.{format}");
        let words: Vec<String> = words.split(' ').map(str::to_owned).collect();
        let (output, trace) = traced(&bench, &program(), &words);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        assert!(trace.contains("FICLONERANGE"), "nothing was shared");
        assert_eq!(trespasses(&trace, &names), <[&str; 0]>::default());
    }
}

#[test]
fn nothing_that_the_host_tells_of_a_source_changes_not_even_its_access_time() {
    let bench = Bench::new();
    if !notes_access(&bench) {
        // Not a missing tool: a file system may be mounted so that it never notes an access.
        qemu::skipped("this file system notes no access");
        return;
    }
    write_sources(&bench);
    let names = bench.names();
    // A passphrase is no evidence, and is read as any file is.
    let names: Vec<String> = names.into_iter().filter(|name| name != "key").collect();
    forget_access(&bench, &names);
    let before = told(&bench, &names);
    for words in runs(&bench) {
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        bench.ok(&words);
        assert_eq!(told(&bench, &names), before, "{words:?}");
        tidy(&bench);
    }
}

/// Makes it a folder in which somebody else may run the program and write; says whether that is
/// so.
fn let_somebody_else_in(bench: &Bench) -> bool {
    let copy = bench.file("calve");
    std::fs::copy(program(), &copy).expect("a copy");
    std::fs::set_permissions(bench.path(), Permissions::from_mode(0o777)).expect("permissions");
    somebody_else(bench, &["--version"]).is_some_and(|said| said.code == Some(0))
}

/// Who is neither root nor anybody with files here.
const SOMEBODY_ELSE: u32 = 54_321;

fn somebody_else(bench: &Bench, words: &[&str]) -> Option<Said> {
    let mut command = Command::new(bench.file("calve"));
    let command = command.current_dir(bench.path()).args(words);
    let output = command.uid(SOMEBODY_ELSE).gid(SOMEBODY_ELSE).output();
    output.ok().map(|output| Said::of(&output))
}

#[test]
fn a_file_of_somebody_else_that_nobody_may_write_is_read() {
    let bench = Bench::new();
    write_sources(&bench);
    let names = bench.names();
    if !let_somebody_else_in(&bench) {
        // Not a missing tool: only root may become somebody else.
        qemu::skipped("running as another user needs root");
        return;
    }
    for name in &names {
        chown(bench.file(name), Some(SOMEBODY_ELSE + 1), Some(SOMEBODY_ELSE + 1)).expect("root");
        let mode = Permissions::from_mode(0o444);
        std::fs::set_permissions(bench.file(name), mode).expect("permissions");
    }
    for words in runs(&bench) {
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let said = somebody_else(&bench, &words).expect("it ran before");
        assert_eq!(said.code, Some(0), "{words:?}: {}", said.err);
        tidy(&bench);
    }
}

#[test]
fn a_file_system_that_is_mounted_for_reading_only_is_read() {
    let bench = Bench::new();
    let folder = bench.file("mounted");
    std::fs::create_dir(&folder).expect("a folder");
    let mount = |options: &str, folder: &Path| {
        let mut mount = Command::new("mount");
        let output = mount.args(["-t", "tmpfs", "-o", options, "tmpfs"]).arg(folder).output();
        output.is_ok_and(|output| output.status.success())
    };
    if !mount("size=64m", &folder) {
        // Not a missing tool: only root may mount.
        qemu::skipped("mounting a tmpfs needs root");
        return;
    }
    write_sources(&bench);
    let names: Vec<String> = bench.names().into_iter().filter(|name| name != "mounted").collect();
    for name in &names {
        std::fs::copy(bench.file(name), folder.join(name)).expect("a copy");
        std::fs::remove_file(bench.file(name)).expect("a file");
    }
    let remounted = mount("remount,ro", &folder);
    let mut failed = Vec::new();
    for words in runs(&bench) {
        let there = |word: &String| match names.contains(word) {
            true => format!("mounted/{word}"),
            false => word.clone(),
        };
        let mut words: Vec<String> = words.iter().map(there).collect();
        if words.iter().any(|word| word == "-B") {
            // A base is named as from the target's folder, and that is no allowed one.
            words.insert(1, "--base-root=mounted".into());
        }
        let said = bench.run(&words.iter().map(String::as_str).collect::<Vec<_>>());
        if said.code != Some(0) {
            failed.push((words, said.err));
        }
        tidy(&bench);
    }
    let unmounted = Command::new("umount").arg(&folder).output();
    assert!(unmounted.is_ok_and(|output| output.status.success()), "unmounted again");
    assert!(remounted);
    assert!(failed.is_empty(), "{failed:?}");
}
