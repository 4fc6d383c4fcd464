//! Images from strangers: read by a worker that is confined before it sees a byte, and whose death
//! is a finding.

use std::fs::File;
use std::io::Read;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::common::{Bench, Said, image, program, signal};
use calve_disk::open::lock_for_writing;
use calve_testkit::corpus::{self, Kind};
use calve_testkit::{Builder, Random, qemu};
use nix::sys::signal::Signal;

/// Runs the program under strace with these further words; what it said, and the trace.
fn traced(bench: &Bench, strace: &[&str], arguments: &[&str]) -> (Said, Vec<String>) {
    let output = Command::new("strace")
        .current_dir(bench.path())
        .args(["-f", "-qq", "-y", "-s", "0", "-o", "trace"])
        .args(strace)
        .arg(program())
        .args(arguments)
        .output()
        .expect("strace runs");
    let trace = String::from_utf8_lossy(&bench.read("trace")).into_owned();
    (Said::of(&output), trace.lines().map(str::to_owned).collect())
}

/// Runs the program with a worker to which the kernel does `what` at a call that concerns the file
/// `name`.
fn struck(bench: &Bench, name: &str, what: &str, arguments: &[&str]) -> Said {
    let path = bench.file(name).canonicalize().expect("a path");
    let path = path.to_str().expect("a name");
    traced(bench, &["-P", path, "-e", "trace=pread64", "-e", what], arguments).0
}

/// A bench with the image `old`, the overlay `over` over `base.raw`, and the image `secret`.
fn bench() -> Bench {
    let bench = Bench::new();
    bench.write("old", &image().0);
    let mut over = Builder::new(9, 12, 1 << 20).backing(b"base.raw");
    for cluster in 100..200 {
        over.plain(cluster, &[7; 512]);
    }
    bench.write("over", &over.build());
    bench.write("base.raw", &Random::new(5).content(1 << 20));
    let mut secret = Builder::new(12, 9, 1 << 20).encrypted(b"password");
    for cluster in 0..128 {
        secret.plain(cluster, &Random::new(cluster).number().to_be_bytes().repeat(512));
    }
    bench.write("secret", &secret.build());
    bench.write("key", b"password\n");
    bench
}

/// Whether this kernel can confine a worker; says so loudly where not.
fn may_confine(bench: &Bench) -> bool {
    let said = bench.run(&["info", "--sandbox=require", "old"]);
    if said.code == Some(18) {
        qemu::skipped(&said.err);
    }
    said.code == Some(0)
}

/// An image whose tables say that all of a large disk is one small table over and over.
fn endless() -> Vec<u8> {
    let mut builder = Builder::new(9, 13, 1 << 38);
    for cluster in (0..1 << 13).step_by(2) {
        builder.plain(cluster, &[7; 512]);
    }
    let table = builder.table_of(0);
    (1..1 << 16).for_each(|index| builder.table_at(index, table));
    builder.build()
}

#[test]
fn a_worker_is_confined_before_it_reads_a_byte_and_opens_nothing_afterwards() {
    let bench = bench();
    if !(crate::common::may_trace() && may_confine(&bench)) {
        return;
    }
    let runs: [&[&str]; 5] = [
        &["info", "--deep", "old"],
        &["check", "--deep", "old"],
        &["map", "--untrusted", "old"],
        &["compare", "-q", "--untrusted", "old", "old"],
        &["convert", "-q", "--untrusted", "-O", "qcow2", "old", "new"],
    ];
    for arguments in runs {
        let (said, trace) = traced(&bench, &[], arguments);
        assert_eq!(said.code, Some(0), "{arguments:?}: {}", said.err);
        // What the parent did is no part of it.
        let starts = trace.iter().find(|line| line.contains("execve(\"/proc/self/exe\""));
        let starts = starts.unwrap_or_else(|| panic!("no worker: {}", trace.join("\n")));
        assert!(starts.contains("/* 1 var */"), "the environment is empty: {starts}");
        let worker = starts.split(' ').next().expect("a process");
        let calls: Vec<&String> = trace.iter().filter(|line| line.starts_with(worker)).collect();
        let landlock = calls.iter().position(|call| call.contains("landlock_restrict_self("));
        let seccomp = calls.iter().rposition(|call| call.contains(" seccomp("));
        let read = calls.iter().position(|call| call.contains("/old>"));
        let (landlock, seccomp) = (landlock.expect("Landlock"), seccomp.expect("seccomp"));
        let first = calls.iter().position(|call| {
            let is_read = [" read(", " pread64(", " preadv(", " mmap("];
            call.contains("/old>") && is_read.iter().any(|read| call.contains(read))
        });
        let first = first.expect("the image is read");
        assert!(read.is_some() && landlock < seccomp && seccomp < first, "{arguments:?}");
        assert!(calls[..seccomp].iter().any(|call| call.contains("RLIMIT_AS, {")));
        assert!(calls[..seccomp].iter().any(|call| call.contains("RLIMIT_CPU, {")));
        // The parent reads none of it.
        let parent = trace.iter().filter(|line| !calls.contains(line));
        let mut reads = parent.filter(|line| line.contains("pread64(") && line.contains("/old>"));
        // Threads of the worker read it too, and are confined as it is.
        if arguments[0] == "info" || arguments[0] == "map" {
            assert_eq!(reads.next(), None);
        }
        for call in &calls[seccomp + 1..] {
            let is_open = call.contains(" open(") || call.contains(" openat(");
            let is_denied = call.contains("= -1 ");
            let is_target = arguments[0] == "convert" && !call.contains("old");
            assert!(!is_open || is_denied || is_target, "{arguments:?}: {call}");
        }
    }
}

#[test]
fn no_base_is_opened_whatever_the_image_names() {
    let bench = bench();
    let map = bench.ok(&["map", "--untrusted", "--output", "json", "over"]).json();
    let rows = map.as_array().expect("rows");
    assert_eq!(rows.len(), 3, "the base's, the image's, the base's: {map}");
    assert_eq!((&rows[0]["present"], &rows[0]["data"]), (&false.into(), &false.into()));
    assert_eq!(rows[1]["present"], true);
    let next = "--untrusted opens none";
    bench.fails(
        13,
        next,
        &["compare", "--untrusted", "old", "old"].map(|word| match word {
            "compare" => "convert",
            "old" => "over",
            word => word,
        }),
    );
    bench.fails(2, next, &["compare", "--untrusted", "over", "old"]);
    bench.fails(2, next, &["compare", "--untrusted", "old", "over"]);
    bench.fails(13, next, &["convert", "--untrusted", "--sandbox=off", "over", "new"]);
    assert!(!bench.names().contains(&"new".to_owned()));
    if !crate::common::may_trace() {
        return;
    }
    for arguments in [&["info", "over"][..], &["map", "--untrusted", "over"]] {
        let (_, trace) = traced(&bench, &["-e", "trace=%file"], arguments);
        assert!(trace.iter().any(|line| line.contains("over")));
        let about_base: Vec<_> = trace.iter().filter(|line| line.contains("base.raw")).collect();
        assert!(about_base.is_empty(), "{about_base:?}");
    }
}

#[test]
fn words_that_trust_an_image_and_words_that_do_not_make_no_sense_together() {
    let bench = bench();
    let wrong: [&[&str]; 9] = [
        &["info", "--untrusted", "--backing-chain", "over"],
        &["info", "--untrusted", "--base", "base.raw", "over"],
        &["map", "--untrusted", "--base", "base.raw", "over"],
        &["map", "--untrusted", "--base-root", ".", "over"],
        &["map", "--untrusted", "--image-opts", "file.filename=over,backing.filename=base.raw"],
        &["convert", "--untrusted", "-O", "qcow2", "-B", "base.raw", "-F", "raw", "old", "new"],
        &["convert", "--untrusted", "-n", "old", "base.raw"],
        &["convert", "--untrusted", "--progress", "json=2", "old", "new"],
        &["compare", "--untrusted", "--progress", "json=2", "old", "old"],
    ];
    for arguments in wrong {
        bench.fails(64, "", arguments);
    }
    // To require what cannot be: bases are opened.
    bench.fails(64, "--untrusted", &["map", "--sandbox=require", "over"]);
    bench.fails(64, "--untrusted", &["info", "--sandbox=require", "--backing-chain", "over"]);
    bench.ok(&["info", "--backing-chain", "over"]);
}

#[test]
fn a_dead_worker_is_a_finding_in_the_report() {
    let bench = bench();
    if !crate::common::may_trace() {
        return;
    }
    let kill = "inject=pread64:signal=ILL:when=2";
    let said = struck(&bench, "old", kill, &["info", "--deep", "old"]);
    assert_eq!(said.code, Some(10), "{}{}", said.out, said.err);
    assert!(said.out.starts_with("image: old\ndamage: the worker that read this file died [H2]; "));
    assert!(said.out.contains("\nworker: it was killed by signal 4 (SIGILL)\n"), "{}", said.out);
    let kill = "inject=pread64:signal=KILL:when=2";
    let said = struck(&bench, "old", kill, &["info", "--output", "json", "old"]);
    assert_eq!(said.code, Some(10));
    let report = said.json();
    assert_eq!(report["filename"], "old");
    assert_eq!(report["findings"][0]["rule"], "H2");
    assert_eq!(report["findings"][0]["weight"], "damage");
    assert_eq!(report["worker"], "it was killed by signal 9 (SIGKILL)");
}

#[test]
fn a_dead_worker_is_an_error_of_verbs_without_a_report() {
    let bench = bench();
    if !crate::common::may_trace() {
        return;
    }
    let kill = "inject=pread64:signal=KILL:when=3";
    let runs: [&[&str]; 3] = [
        &["map", "--untrusted", "old"],
        &["compare", "--untrusted", "old", "old"],
        &["convert", "--untrusted", "-O", "qcow2", "old", "new"],
    ];
    for arguments in runs {
        let said = struck(&bench, "old", kill, arguments);
        assert_eq!(said.code, Some(10), "{arguments:?}: {}{}", said.out, said.err);
        assert!(said.err.starts_with("calve: old: the worker that read this file died [H2]: "));
        assert!(said.err.contains("SIGKILL"), "{}", said.err);
    }
}

#[test]
fn what_a_dead_worker_has_begun_to_write_is_taken_away() {
    let bench = bench();
    if !crate::common::may_trace() {
        return;
    }
    let before = bench.names();
    let salvage = ["convert", "--untrusted", "--salvage", "--map", "lost.map", "old", "new"];
    let strace = ["-e", "trace=pwrite64", "-e", "inject=pwrite64:signal=KILL:when=1"];
    let (said, _) = traced(&bench, &strace, &salvage);
    assert_eq!(said.code, Some(10), "{}", said.err);
    std::fs::remove_file(bench.file("trace")).expect("a trace");
    assert_eq!(bench.names(), before);
    bench.ok(&salvage);
    assert_eq!(bench.read("new"), image().1);
}

#[test]
fn an_image_that_never_ends_is_ended_and_told_as_a_finding() {
    let bench = Bench::new();
    bench.write("endless", &endless());
    let output = Command::new("sh")
        .current_dir(bench.path())
        // The limit of the file would be longer than anybody waits for a test.
        .args(["-c", "ulimit -S -t 1 && exec \"$0\" check --deep --output json endless"])
        .arg(program())
        .output()
        .expect("a shell");
    let said = Said::of(&output);
    assert_eq!(said.code, Some(2), "{}{}", said.out, said.err);
    let how = said.json()["worker"].as_str().expect("words").to_owned();
    assert!(how.contains("seconds of processor time"), "{how}");
}

#[test]
fn a_kernel_that_cannot_confine_is_told_of_or_refused() {
    let bench = bench();
    if !(crate::common::may_trace() && may_confine(&bench)) {
        return;
    }
    for (call, fault, what) in [
        ("landlock_create_ruleset", "ENOSYS", "Landlock (not in this kernel)"),
        ("landlock_create_ruleset", "EOPNOTSUPP", "Landlock (switched off in this kernel)"),
        ("landlock_restrict_self", "E2BIG", "Landlock ("),
        ("seccomp", "EINVAL", "seccomp ("),
        ("prctl", "EPERM", "seccomp ("),
    ] {
        let inject = format!("inject={call}:error={fault}");
        let strace = ["-e", &format!("trace=pread64,{call}"), "-e", &inject];
        let (said, trace) = traced(&bench, &strace, &["info", "old"]);
        assert_eq!(said.code, Some(0), "{call}: {}", said.err);
        assert!(said.out.contains("file format: qcow"), "{}", said.out);
        assert_eq!(said.err.lines().count(), 1, "once: {}", said.err);
        assert!(said.err.contains("note: ") && said.err.contains(what), "{}", said.err);
        assert!(trace.iter().any(|line| line.contains("/old>")));
        let (said, trace) = traced(&bench, &strace, &["info", "--sandbox=require", "old"]);
        assert_eq!((said.code, said.out.as_str()), (Some(18), ""), "{call}: {}", said.err);
        assert!(said.err.contains(what), "{}", said.err);
        assert!(!trace.iter().any(|line| line.contains("/old>")), "nothing was read");
    }
    // Asked for nothing but errors, it keeps the note to itself.
    let strace = ["-e", "trace=seccomp", "-e", "inject=seccomp:error=EINVAL"];
    let quiet = ["compare", "-q", "--untrusted", "old", "old"];
    let (said, _) = traced(&bench, &strace, &quiet);
    assert_eq!((said.code, said.err.as_str()), (Some(0), ""));
}

#[test]
fn without_a_worker_to_be_had_it_reads_itself_or_refuses() {
    let bench = bench();
    if !crate::common::may_trace() {
        return;
    }
    // The program itself is started by strace under its own name.
    let strace = ["-P", "/proc/self/exe", "-e", "inject=execve:error=ENOMEM"];
    let (said, _) = traced(&bench, &strace, &["info", "old"]);
    assert_eq!(said.code, Some(0), "{}", said.err);
    assert!(said.err.contains("no worker can be started"), "{}", said.err);
    assert!(said.out.contains("file format: qcow"));
    let (said, _) = traced(&bench, &strace, &["info", "--sandbox=require", "old"]);
    assert_eq!((said.code, said.out.as_str()), (Some(18), ""), "{}", said.err);
}

#[test]
fn the_switch_turns_the_worker_off() {
    let bench = bench();
    assert_eq!(bench.ok(&["info", "--sandbox=off", "old"]).out, bench.ok(&["info", "old"]).out);
    if !crate::common::may_trace() {
        return;
    }
    let (_, trace) = traced(&bench, &["-e", "trace=execve"], &["info", "--sandbox=off", "old"]);
    assert_eq!(trace.len(), 1, "{trace:?}");
}

#[test]
fn long_maps_are_passed_on_whole() {
    let bench = Bench::new();
    let mut builder = Builder::new(9, 12, 64 << 20);
    for cluster in 0..32768 {
        builder.plain(cluster * 3 % 131_072, &[7; 512]);
    }
    bench.write("scattered", &builder.build());
    for output in ["human", "json", "ddrescue"] {
        let here = bench.ok(&["map", "--output", output, "scattered"]);
        let there = bench.ok(&["map", "--output", output, "--untrusted", "scattered"]);
        assert!(here.out == there.out, "{output}");
        assert!(output == "ddrescue" || here.out.len() > 1 << 20, "{}", here.out.len());
    }
    // It comes as it is made, not at the end.
    let mut child = bench
        .command(&["map", "--untrusted", "scattered"])
        .stdout(Stdio::piped())
        .spawn()
        .expect("starts");
    let mut first = [0; 16];
    child.stdout.as_mut().expect("a pipe").read_exact(&mut first).expect("reads");
    assert!(child.try_wait().expect("a child").is_none(), "it waits for its reader");
    drop(child.stdout.take());
    let output = child.wait_with_output().expect("ends");
    assert_eq!(output.status.code(), Some(0), "who has seen enough is no failure");
}

#[test]
fn a_closed_pipe_ends_quietly() {
    let bench = Bench::new();
    bench.write("endless", &endless());
    let script = "\"$0\" map --untrusted --max-length 1G endless | head -n 1";
    let output = Command::new("sh")
        .current_dir(bench.path())
        .args(["-c", script])
        .arg(program())
        .output()
        .expect("a shell");
    let said = Said::of(&output);
    assert_eq!((said.code, said.err.as_str()), (Some(0), ""));
    assert!(said.out.starts_with("Offset"));
}

#[test]
fn an_image_in_use_is_in_use_for_a_worker_too() {
    let bench = bench();
    let file = File::options().read(true).write(true).open(bench.file("old")).expect("opens");
    lock_for_writing(&file, &bench.file("old")).expect("locks");
    bench.fails(15, "-U", &["info", "old"]);
    bench.fails(15, "-U", &["map", "--untrusted", "old"]);
    bench.fails(15, "-U", &["convert", "--untrusted", "old", "new"]);
    bench.fails(2, "-U", &["compare", "--untrusted", "old", "secret"]);
    bench.ok(&["info", "-U", "old"]);
}

#[test]
fn what_cannot_be_opened_is_told_as_without_a_worker() {
    let bench = bench();
    for (name, code) in [("nowhere", 1), (".", 18), ("/dev/null", 18)] {
        let here = bench.run(&["info", "--sandbox=off", name]);
        let there = bench.run(&["info", name]);
        assert_eq!((here.code, &here.err), (there.code, &there.err));
        assert_eq!(here.code, Some(code), "{}", here.err);
        let convert = bench.run(&["convert", "--untrusted", name, "new"]);
        assert_eq!((convert.code, &convert.err), (here.code, &here.err));
        let compare = bench.run(&["compare", "--untrusted", "old", name]);
        assert_eq!((compare.code, &compare.err), (Some(2), &here.err));
    }
}

#[test]
fn a_folder_that_is_not_there_is_told_of() {
    let bench = bench();
    let convert = ["convert", "--untrusted", "old", "nowhere/new"];
    bench.fails(1, "nowhere: opening the folder: No such file or directory", &convert);
}

#[test]
fn a_worker_gets_the_passphrases_that_are_named() {
    let bench = bench();
    bench.ok(&["convert", "--passphrase-file", "key", "secret", "plain"]);
    let plain = bench.read("plain");
    let convert = |script: &str| {
        let output = Command::new("sh")
            .current_dir(bench.path())
            .args(["-c", &format!("\"$0\" convert --untrusted --force {script}")])
            .arg(program())
            .stdin(Stdio::null())
            .output()
            .expect("a shell");
        let said = Said::of(&output);
        assert_eq!(said.code, Some(0), "{script}: {}", said.err);
        assert!(bench.read("new") == plain, "{script}");
        std::fs::remove_file(bench.file("new")).expect("a file");
    };
    convert("--passphrase-file key secret new");
    // A file that can be read more than once, and a pipe that cannot.
    convert("--passphrase-fd 7 secret new 7<key");
    let opts = "--image-opts file.filename=secret,encrypt.key-secret=s new";
    let object = "--object secret,id=s,data=password";
    convert(&format!("{object} {opts}"));
    let bash = Command::new("bash")
        .current_dir(bench.path())
        .args(["-c", "\"$0\" compare --untrusted --passphrase-file <(cat key) secret plain"])
        .arg(program())
        .output();
    if let Ok(output) = bash {
        let said = Said::of(&output);
        assert_eq!(said.code, Some(0), "{}", said.err);
    }
    // Nobody is asked.
    bench.fails(12, "--passphrase-file", &["convert", "--untrusted", "secret", "new"]);
}

#[test]
fn a_worker_converts_to_the_same_bytes() {
    let bench = Bench::new();
    let size = 6 << 20;
    for (name, kind) in [("plain", Kind::Plain), ("packed", Kind::Packed)] {
        corpus::write(&bench.file(name), kind, size, 5).expect("a file");
    }
    std::fs::create_dir(bench.file("folder")).expect("a folder");
    let ways: [&[&str]; 6] = [
        &["-O", "raw"],
        &["-O", "qcow2", "--verify"],
        &["-O", "qcow2", "-c"],
        &["-O", "qcow2", "--copy", "kernel"],
        &["-O", "qcow2", "-t", "none", "-T", "none"],
        &["-O", "raw", "-t", "writethrough", "-p"],
    ];
    for source in ["plain", "packed"] {
        for way in ways {
            bench.ok(&[&["convert", "--force"], way, &[source, "here"]].concat());
            let words = ["convert", "--force", "--untrusted"];
            bench.ok(&[&words, way, &[source, "folder/there"]].concat());
            assert!(bench.read("here") == bench.read("folder/there"), "{source} {way:?}");
        }
    }
}

#[test]
fn a_worker_shares_blocks_where_the_file_system_can() {
    let bench = Bench::new();
    let Some(mounted) = crate::common::mounted(&bench, "xfs") else { return };
    let folder = mounted.folder().to_str().expect("a name");
    let (old, new) = (format!("{folder}/old"), format!("{folder}/new"));
    corpus::write(old.as_ref(), Kind::Plain, 16 << 20, 5).expect("a file");
    bench.ok(&["convert", "--untrusted", "--copy", "clone", "-O", "qcow2", &old, &new]);
    bench.ok(&["compare", "-q", "--untrusted", &old, &new]);
}

/// A conversion by a worker that takes its time, once it has begun to write.
fn slow(bench: &Bench, words: &[&str]) -> Child {
    bench.write("old", &crate::common::large(8));
    let arguments = ["convert", "--untrusted", "-r", "1M", "-O", "qcow2", "old", "new"];
    let mut command = bench.command(&[&arguments[..2], words, &arguments[2..]].concat());
    let child = command.stderr(Stdio::piped()).spawn().expect("starts");
    until("it writes", || bench.names().iter().any(|name| name.starts_with(".new.calve-")));
    child
}

fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let started = Instant::now();
    while !holds() {
        assert!(started.elapsed() < Duration::from_secs(60), "{what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn signals_reach_a_worker_that_has_to_tidy_up() {
    for (sent, code) in [(Signal::SIGINT, 130), (Signal::SIGTERM, 143)] {
        let bench = Bench::new();
        let child = slow(&bench, &[]);
        signal(&child, sent);
        let said = Said::of(&child.wait_with_output().expect("ends"));
        assert_eq!(said.code, Some(code), "{}", said.err);
        assert_eq!(bench.names(), ["old"]);
    }
}

#[test]
fn a_worker_whose_parent_is_killed_tidies_up_and_ends() {
    let bench = Bench::new();
    let mut child = slow(&bench, &[]);
    signal(&child, Signal::SIGKILL);
    child.wait().expect("ends");
    until("it tidies up", || bench.names() == ["old"]);
}

#[test]
fn a_word_of_progress_can_be_asked_of_a_worker() {
    let bench = Bench::new();
    let child = slow(&bench, &[]);
    signal(&child, Signal::SIGUSR1);
    std::thread::sleep(Duration::from_millis(600));
    signal(&child, Signal::SIGTERM);
    let said = Said::of(&child.wait_with_output().expect("ends"));
    assert!(said.err.contains("/100%)"), "{}", said.err);
}
