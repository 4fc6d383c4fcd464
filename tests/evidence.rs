//! `--evidence`: digests of all that is read, before and after, in a log that is whole or not
//! there.

use std::ffi::OsStr;
use std::fs::{File, FileTimes};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt, symlink};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::common::{Bench, Said, program, signal};
use calve_testkit::{Builder, Random, qemu};
use nix::sys::signal::Signal;
use serde_json::Value;

/// Runs a program of the host, and returns what it printed.
fn printed(bench: &Bench, program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).current_dir(bench.path()).args(arguments).output();
    let output = output.unwrap_or_else(|error| panic!("{program}: {error}"));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// The log, which is one whole document.
fn log(bench: &Bench) -> Value {
    let text = String::from_utf8(bench.read("log")).expect("text");
    assert!(text.ends_with("}\n"), "not a whole log: {text}");
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

/// The log of a run with these words, which has to end with this code and to say so.
fn logged(bench: &Bench, code: i32, words: &[&str]) -> Value {
    let _ = std::fs::remove_file(bench.file("log"));
    let (verb, rest) = words.split_first().expect("a verb");
    let said = bench.run(&[&[*verb, "--evidence", "log"], rest].concat());
    assert_eq!(said.code, Some(code), "{words:?}: {}", said.err);
    let log = log(bench);
    assert_eq!(log["exit-code"], code, "{words:?}");
    log
}

/// A small overlay on a base.
fn write_overlay(bench: &Bench) {
    let mut overlay = Builder::new(9, 12, 1 << 20).backing(b"base.raw");
    (100..300).for_each(|cluster| _ = overlay.plain(cluster, &[7; 512]));
    bench.write("overlay.qcow", &overlay.build());
    bench.write("base.raw", &Random::new(5).content(3 << 20));
}

fn write_image(bench: &Bench) {
    bench.write("old.qcow", &crate::common::image().0);
}

#[test]
fn the_digests_are_those_of_sha256sum_and_of_blake3() {
    let bench = Bench::new();
    write_overlay(&bench);
    let log = logged(&bench, 0, &["convert", "-O", "qcow2", "overlay.qcow", "new"]);
    let files = log["files"].as_array().expect("files");
    assert_eq!(files.len(), 2);
    for (file, (role, name)) in files.iter().zip([("image", "overlay.qcow"), ("base", "base.raw")])
    {
        assert_eq!((&file["role"], &file["path"]), (&role.into(), &name.into()));
        assert_eq!(file["path-bytes"], Value::Null);
        assert_eq!(file["before"], file["after"], "{name}");
        assert_eq!(file["unchanged"], true);
        let sha256 = printed(&bench, "sha256sum", &[name]);
        let look = &file["after"];
        assert_eq!(look["sha256"].as_str(), sha256.split(' ').next());
        let blake3 = blake3::hash(&bench.read(name)).to_hex();
        assert_eq!(look["blake3"], blake3.as_str());
        let metadata = bench.file(name).metadata().expect("a file");
        assert_eq!(
            (&look["size"], &look["inode"]),
            (&metadata.len().into(), &metadata.ino().into())
        );
        let modified = printed(&bench, "date", &["-u", "-r", name, "+%Y-%m-%dT%H:%M:%S.%N"]);
        let told = look["modified"].as_str().expect("a time");
        assert!(modified.starts_with(told.trim_end_matches('Z')), "{told} is not {modified}");
    }
}

#[test]
fn the_log_says_what_was_run_when_and_where() {
    let bench = Bench::new();
    write_image(&bench);
    let now = || printed(&bench, "date", &["-u", "+%Y-%m-%dT%H:%M:%S.%NZ"]).trim().to_owned();
    let before = now();
    let log = logged(&bench, 0, &["info", "old.qcow"]);
    let after = now();
    let keys: Vec<&str> = log.as_object().expect("an object").keys().map(String::as_str).collect();
    assert_eq!(
        keys,
        [
            "schema",
            "program",
            "verb",
            "command-line",
            "folder",
            "host",
            "system",
            "user-id",
            "started",
            "ended",
            "exit-code",
            "error",
            "unchanged",
            "files",
            "result",
        ]
    );
    let program = program();
    assert_eq!(log["schema"], 1);
    assert_eq!(log["program"], concat!("calve ", env!("CARGO_PKG_VERSION")));
    assert_eq!(log["verb"], "info");
    let words = serde_json::json!([program, "info", "--evidence", "log", "old.qcow"]);
    assert_eq!(log["command-line"], words);
    let folder = bench.path().canonicalize().expect("a folder");
    assert_eq!(log["folder"].as_str(), folder.to_str());
    assert_eq!(log["host"].as_str(), Some(printed(&bench, "uname", &["-n"]).trim()));
    assert_eq!(log["system"].as_str(), Some(printed(&bench, "uname", &["-srm"]).trim()));
    assert_eq!(log["user-id"].to_string(), printed(&bench, "id", &["-ru"]).trim());
    let times =
        [&*before, log["started"].as_str().unwrap(), log["ended"].as_str().unwrap(), &after];
    // A time may have fewer digits behind its point.
    let whole: Vec<&str> = times.iter().map(|time| &time[..19]).collect();
    assert!(whole.is_sorted() && times[1..3].iter().all(|time| time.ends_with('Z')), "{times:?}");
    assert_eq!((&log["error"], &log["unchanged"]), (&Value::Null, &true.into()));
}

#[test]
fn every_key_is_in_the_document() {
    fn keys(value: &Value, found: &mut Vec<String>) {
        match value {
            Value::Object(members) => members.iter().for_each(|(key, value)| {
                found.push(key.clone());
                keys(value, found);
            }),
            Value::Array(items) => items.iter().for_each(|item| keys(item, found)),
            _ => {}
        }
    }
    let bench = Bench::new();
    write_overlay(&bench);
    let mut found = Vec::new();
    for mut log in [
        logged(&bench, 0, &["info", "overlay.qcow"]),
        logged(&bench, 1, &["compare", "overlay.qcow", "base.raw"]),
        logged(&bench, 0, &["convert", "--verify", "overlay.qcow", "new"]),
        logged(&bench, 1, &["info", "missing"]),
    ] {
        // What --output json prints of a target has its own words.
        log["result"]["target"] = Value::Null;
        keys(&log, &mut found);
    }
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/evidence.md");
    let document = std::fs::read_to_string(path).expect("a document");
    for key in found {
        assert!(document.contains(&format!("`{key}`")), "docs/evidence.md says nothing of {key}");
    }
}

#[test]
fn each_verb_says_what_came_of_it() {
    let bench = Bench::new();
    write_overlay(&bench);
    assert_eq!(logged(&bench, 0, &["map", "overlay.qcow"])["result"], serde_json::json!({}));
    let info = logged(&bench, 0, &["info", "--deep", "overlay.qcow"]);
    assert_eq!(info["result"]["findings"], 0);
    assert_eq!(info["files"].as_array().map(Vec::len), Some(1), "its base was not opened");
    let compare = logged(&bench, 1, &["compare", "overlay.qcow", "base.raw"]);
    assert_eq!(compare["result"]["comparison"]["result"], "content-mismatch");
    // The base is read as what is behind the one and as the other.
    let roles: Vec<&Value> =
        compare["files"].as_array().expect("files").iter().map(|file| &file["role"]).collect();
    assert_eq!(roles, ["image", "base", "image"]);
    let convert = logged(&bench, 0, &["convert", "--verify", "overlay.qcow", "new"]);
    let target = &convert["result"]["target"];
    assert_eq!(target["filename"], "new");
    assert_eq!(target["blake3"], blake3::hash(&bench.read("new")).to_hex().as_str());
}

#[test]
fn the_base_of_a_thin_overlay_is_a_source_too() {
    let bench = Bench::new();
    write_image(&bench);
    bench.write("other.raw", &crate::common::image().1);
    let words = ["convert", "-O", "qcow2", "-B", "other.raw", "-F", "raw", "old.qcow", "new"];
    let log = logged(&bench, 0, &words);
    let paths: Vec<&Value> =
        log["files"].as_array().expect("files").iter().map(|file| &file["path"]).collect();
    assert_eq!(paths, ["old.qcow", "other.raw"]);
}

#[test]
fn a_file_is_told_of_by_every_name_that_it_was_read_by() {
    let bench = Bench::new();
    write_image(&bench);
    let odd = OsStr::from_bytes(b"od\xffd\n.qcow");
    std::fs::hard_link(bench.file("old.qcow"), bench.path().join(odd)).expect("a link");
    let mut command = bench.command(&["compare", "--evidence", "log", "old.qcow"]);
    let said = Said::of(&command.arg(odd).output().expect("the program runs"));
    assert_eq!(said.code, Some(0), "{}", said.err);
    let log = log(&bench);
    let [plain, other] = &log["files"].as_array().expect("files")[..] else { panic!("{log}") };
    assert_eq!((&plain["path"], &plain["path-bytes"]), (&"old.qcow".into(), &Value::Null));
    assert_eq!(other["path"], "od\\xffd\\n.qcow");
    assert_eq!(other["path-bytes"], "6f64ff640a2e71636f77");
    assert_eq!(plain["before"], other["before"]);
}

#[test]
fn a_data_file_is_a_source_too() {
    if !qemu::has("qemu-img") {
        return;
    }
    let bench = Bench::new();
    bench.write("disk.raw", &Random::new(6).content(1 << 20));
    let make = ["convert", "-O", "qcow2", "-o", "data_file=d.raw", "disk.raw", "d.qcow2"];
    assert!(qemu::img(bench.path(), &make).status.success());
    let log = logged(&bench, 0, &["map", "--data-file", "d.raw", "d.qcow2"]);
    let [_, data] = &log["files"].as_array().expect("files")[..] else { panic!("{log}") };
    assert_eq!((&data["role"], &data["path"]), (&"data-file".into(), &"d.raw".into()));
}

#[test]
fn a_block_device_is_digested_whole() {
    let bench = Bench::new();
    bench.write("backing", &Random::new(6).content(3 << 20));
    let losetup = |arguments: &[&str]| {
        let output = Command::new("losetup").args(arguments).output().ok()?;
        let name = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        output.status.success().then_some(name)
    };
    let backing = bench.file("backing");
    let Some(device) = losetup(&["--find", "--show", backing.to_str().expect("a plain name")])
    else {
        // Not a missing tool: only root has loop devices, and not everywhere.
        qemu::skipped("a loop device needs root and a kernel that has them");
        return;
    };
    let said = bench.run(&["info", "-f", "raw", "--evidence", "log", &device]);
    losetup(&["--detach", &device]);
    assert_eq!(said.code, Some(0), "{}", said.err);
    let look = &log(&bench)["files"][0]["after"];
    assert_eq!((&look["kind"], &look["size"]), (&"block-device".into(), &(3 << 20).into()));
    assert_eq!(look["blake3"], blake3::hash(&bench.read("backing")).to_hex().as_str());
}

/// Changes a byte of a file, and lets it have the time that it had: nothing but its bytes tells.
fn change_quietly(bench: &Bench, name: &str, at: u64) {
    let file = File::options().read(true).write(true).open(bench.file(name)).expect("a file");
    let time = file.metadata().and_then(|metadata| metadata.modified()).expect("a time");
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).expect("a byte");
    file.write_all_at(&[byte[0] ^ 1], at).expect("written");
    file.set_times(FileTimes::new().set_modified(time)).expect("a time");
}

/// Starts a slow conversion with a log, and waits until it writes.
fn start_conversion(bench: &Bench, more: &[&str]) -> Child {
    bench.write("large.qcow", &crate::common::large(8));
    let words = [&["convert", "-r", "4M", "--evidence", "log"][..], more, &["large.qcow", "new"]];
    let mut command = bench.command(&words.concat());
    let child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("it runs");
    let end = Instant::now() + Duration::from_secs(60);
    let is_writing = || {
        let names = bench.names();
        let temporary = names.iter().find(|name| name.starts_with(".new.calve-"));
        temporary.is_some_and(|name| bench.file(name).metadata().is_ok_and(|it| it.len() > 1 << 20))
    };
    while !is_writing() {
        assert!(Instant::now() < end, "it never wrote");
        std::thread::sleep(Duration::from_millis(10));
    }
    child
}

#[test]
fn a_source_that_changes_without_its_time_is_noticed_before_the_target_has_its_name() {
    let bench = Bench::new();
    let child = start_conversion(&bench, &[]);
    change_quietly(&bench, "large.qcow", 100_000);
    let said = Said::of(&child.wait_with_output().expect("it ends"));
    assert_eq!(said.code, Some(14), "{}", said.err);
    assert!(said.err.contains("digests are not what they were"), "{}", said.err);
    assert_eq!(said.err.lines().count(), 1, "told once: {}", said.err);
    assert_eq!(bench.names(), ["large.qcow", "log"]);
    let log = log(&bench);
    assert_eq!((&log["exit-code"], &log["unchanged"]), (&14.into(), &false.into()));
    assert_eq!(log["files"][0]["unchanged"], false);
    let text = log["error"]["text"].as_str().expect("a text");
    assert!(text.contains("large.qcow: changed while it was read"), "{text}");
    let [before, after] = ["before", "after"].map(|look| &log["files"][0][look]);
    assert_eq!(before["modified"], after["modified"]);
    assert_ne!(before["sha256"], after["sha256"]);
    assert_eq!(after["blake3"], blake3::hash(&bench.read("large.qcow")).to_hex().as_str());
}

#[test]
fn a_change_that_the_verb_itself_notices_is_logged_too() {
    let bench = Bench::new();
    let child = start_conversion(&bench, &[]);
    let longer = File::options().append(true).open(bench.file("large.qcow"));
    longer.and_then(|mut file| file.write_all(&[1; 512])).expect("written");
    let said = Said::of(&child.wait_with_output().expect("it ends"));
    assert_eq!(said.code, Some(14), "{}", said.err);
    assert_eq!(bench.names(), ["large.qcow", "log"]);
    let log = log(&bench);
    assert_eq!((&log["exit-code"], &log["unchanged"]), (&14.into(), &false.into()));
}

/// Of a verb that has nothing to take back the code still says that its result is worth nothing.
#[test]
fn a_source_that_changes_while_it_is_told_of_is_noticed() {
    let bench = Bench::new();
    let mut builder = Builder::new(9, 12, 16 << 20);
    // Every other cluster: a map of more lines than a pipe takes.
    (0..16_000).step_by(2).for_each(|cluster| _ = builder.plain(cluster, &[7; 512]));
    bench.write("old.qcow", &builder.build());
    let mut command = bench.command(&["map", "--evidence", "log", "old.qcow"]);
    let command = command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("it runs");
    let mut out = child.stdout.take().expect("a pipe");
    out.read_exact(&mut [0]).expect("it has begun");
    change_quietly(&bench, "old.qcow", 40_000);
    out.read_to_end(&mut Vec::new()).expect("the rest");
    let said = Said::of(&child.wait_with_output().expect("it ends"));
    assert_eq!(said.code, Some(14), "{}", said.err);
    assert_eq!(log(&bench)["unchanged"], false);
}

#[test]
fn a_verb_that_fails_is_logged_with_its_failure() {
    let bench = Bench::new();
    let (mut image, _) = crate::common::image();
    image.truncate(image.len() - 5000);
    bench.write("damaged.qcow", &image);
    let mut secret = Builder::new(12, 9, 1 << 20).encrypted(b"swordfish");
    (0..64).for_each(|cluster: u64| _ = secret.plain(cluster, &cluster.to_be_bytes().repeat(512)));
    bench.write("secret.qcow", &secret.build());
    bench.write("wrong", b"carp");
    bench.write("orphan.qcow", &Builder::new(9, 12, 4096).backing(b"gone").build());
    bench.write("vmdk", b"KDMV\x01\0\0\0 and what follows");
    for (code, text, words) in [
        (10, "lost", &["convert", "damaged.qcow", "new"][..]),
        (12, "noise", &["convert", "--passphrase-file", "wrong", "secret.qcow", "new"]),
        (13, "gone", &["convert", "orphan.qcow", "new"]),
        (63, "magic", &["info", "-f", "qcow", "vmdk"]),
        (2, "magic", &["compare", "-f", "qcow", "vmdk", "vmdk"]),
    ] {
        let log = logged(&bench, code, words);
        let told = log["error"]["text"].as_str().expect("a text");
        assert!(told.contains(text), "{words:?}: {told}");
        let name = words.iter().rfind(|word| bench.file(word).exists()).expect("a source");
        assert_eq!(log["files"][0]["path"], *name);
        assert_eq!(log["unchanged"], true, "{words:?}");
        let blake3 = blake3::hash(&bench.read(name)).to_hex();
        assert_eq!(log["files"][0]["before"]["blake3"], blake3.as_str(), "{words:?}");
        assert!(!bench.file("new").exists());
    }
    let damaged = logged(&bench, 10, &["convert", "damaged.qcow", "new"]);
    let place = damaged["error"]["places"][0].as_str().expect("a place");
    assert!(place.starts_with("lost: "), "{place}");
    let missing = logged(&bench, 1, &["info", "missing"]);
    assert_eq!((&missing["files"], &missing["unchanged"]), (&Value::Array(vec![]), &Value::Null));
}

#[test]
fn losses_that_are_salvaged_are_logged() {
    let bench = Bench::new();
    let (mut image, _) = crate::common::image();
    image.truncate(image.len() - 5000);
    bench.write("damaged.qcow", &image);
    let log = logged(&bench, 4, &["convert", "--salvage", "damaged.qcow", "new"]);
    assert!(log["result"]["target"]["lost-bytes"].as_u64() > Some(0), "{log}");
}

/// The words of runs with a worker, and what each takes down of its result.
const WITH_A_WORKER: [(&[&str], &str); 4] = [
    (&["info", "--deep", "old.qcow"], "/findings"),
    (&["map", "--untrusted", "old.qcow"], ""),
    (&["compare", "--untrusted", "old.qcow", "other.qcow"], "/comparison/result"),
    (&["convert", "--untrusted", "--verify", "old.qcow", "new"], "/target/blake3"),
];

#[test]
fn with_a_worker_the_log_is_the_same_and_nothing_of_it_is_printed() {
    let bench = Bench::new();
    write_image(&bench);
    bench.write("other.qcow", &crate::common::image().0);
    for (words, key) in WITH_A_WORKER {
        let here: Vec<&str> = words.iter().copied().filter(|word| *word != "--untrusted").collect();
        let mut runs = [&words.to_vec(), &[&here[..], &["--sandbox=off"]].concat()].map(|words| {
            let said = bench.run(&[&[words[0], "--evidence", "log"], &words[1..]].concat());
            assert_eq!((said.code, said.err.as_str()), (Some(0), ""), "{words:?}");
            let log = log(&bench);
            std::fs::remove_file(bench.file("log")).expect("a log");
            let _ = std::fs::remove_file(bench.file("new"));
            (said.out, log)
        });
        let [(out, log), (expected_out, expected)] = &mut runs;
        assert_eq!(out, expected_out, "{words:?}");
        assert!(log.pointer("/result").and_then(|it| it.pointer(key)).is_some(), "{words:?}");
        assert!(log["files"][0]["before"]["sha256"].is_string(), "{words:?}");
        assert_eq!(log["files"][0]["before"], log["files"][0]["after"], "{words:?}");
        for key in ["started", "ended", "command-line"] {
            (log[key], expected[key]) = (Value::Null, Value::Null);
        }
        assert_eq!(log, expected, "{words:?}");
    }
}

#[test]
fn a_worker_makes_no_digests_and_no_log() {
    let bench = Bench::new();
    write_image(&bench);
    bench.write("other.qcow", &crate::common::image().0);
    if !crate::common::may_trace() {
        return;
    }
    for (words, _) in WITH_A_WORKER {
        let output = Command::new("strace")
            .current_dir(bench.path())
            .args(["-f", "-qq", "-y", "-s", "0", "-o", "trace", &program()])
            .args([&[words[0], "--evidence", "log"], &words[1..]].concat())
            .output()
            .expect("strace runs");
        assert!(output.status.success(), "{words:?}");
        let trace = String::from_utf8_lossy(&bench.read("trace")).into_owned();
        let starts = trace.lines().find(|line| line.contains("execve(\"/proc/self/exe\""));
        let starts = starts.unwrap_or_else(|| panic!("{words:?}: no worker"));
        let worker = starts.split(' ').next().expect("a process");
        let of_the_worker = |line: &&str| line.starts_with(worker) && line.contains("log");
        assert_eq!(trace.lines().filter(of_the_worker).count(), 0, "{words:?}");
        // All that the digests read, at either end, is read before it starts or after it ended.
        let digested = |line: &str| line.contains("/old.qcow>") && !line.starts_with(worker);
        let lines: Vec<&str> = trace.lines().collect();
        let at = |wanted: &str| lines.iter().position(|line| line.contains(wanted));
        let started = at("execve(\"/proc/self/exe\"").expect("a worker");
        let is_read = |line: &&str| digested(line) && line.contains(" pread64(");
        assert!(lines[..started].iter().any(&is_read), "{words:?}: not before");
        let ended = lines.iter().rposition(|line| line.starts_with(worker)).expect("its end");
        assert!(lines[ended..].iter().any(is_read), "{words:?}: not afterwards");
        for name in ["log", "new"] {
            let _ = std::fs::remove_file(bench.file(name));
        }
    }
}

#[test]
fn a_worker_that_fails_or_dies_leaves_a_log_that_says_so() {
    let bench = Bench::new();
    bench.write("cut.qcow", &crate::common::image().0[..40]);
    let failed = logged(&bench, 10, &["map", "--untrusted", "cut.qcow"]);
    let here = logged(&bench, 10, &["map", "cut.qcow"]);
    assert!(failed["error"]["text"].is_string(), "{failed}");
    assert_eq!((&failed["error"], &failed["files"]), (&here["error"], &here["files"]));
    if !crate::common::may_trace() {
        return;
    }
    write_image(&bench);
    for words in [
        &["info", "--evidence", "log", "--deep", "old.qcow"][..],
        &["convert", "--untrusted", "--evidence", "log", "old.qcow", "new"],
    ] {
        let _ = std::fs::remove_file(bench.file("log"));
        // Only a worker gives up its calls.
        let output = Command::new("strace")
            .current_dir(bench.path())
            .args(["-f", "-qq", "-o", "trace", "-e", "trace=seccomp"])
            .args(["-e", "inject=seccomp:signal=SEGV"])
            .arg(program())
            .args(words)
            .output()
            .expect("strace runs");
        let said = Said::of(&output);
        assert_eq!(said.code, Some(10), "{words:?}: {}", said.err);
        let log = log(&bench);
        assert_eq!((&log["exit-code"], &log["unchanged"]), (&10.into(), &true.into()), "{words:?}");
        let text = log["error"]["text"].as_str().expect("a text");
        assert!(text.contains("[H2]") && text.contains("SIGSEGV"), "{text}");
        assert!(log["files"][0]["after"]["sha256"].is_string());
    }
    assert_eq!(bench.names(), ["cut.qcow", "log", "old.qcow", "trace"]);
}

#[test]
fn a_change_behind_the_back_of_a_worker_is_noticed() {
    let bench = Bench::new();
    let child = start_conversion(&bench, &["--untrusted"]);
    change_quietly(&bench, "large.qcow", 100_000);
    let said = Said::of(&child.wait_with_output().expect("it ends"));
    assert_eq!(said.code, Some(14), "{}", said.err);
    // The worker named the target itself.
    assert_eq!(bench.names(), ["large.qcow", "log", "new"]);
    assert_eq!(log(&bench)["unchanged"], false);
}

#[test]
fn a_worker_that_is_stopped_says_so_once_and_there_is_a_log() {
    let bench = Bench::new();
    let child = start_conversion(&bench, &["--untrusted"]);
    signal(&child, Signal::SIGTERM);
    let said = Said::of(&child.wait_with_output().expect("it ends"));
    assert_eq!(said.code, Some(143), "{}", said.err);
    assert_eq!(said.err.matches("stopped by signal").count(), 1, "{}", said.err);
    assert_eq!(bench.names(), ["large.qcow", "log"]);
    let log = log(&bench);
    assert_eq!((&log["exit-code"], &log["unchanged"]), (&143.into(), &Value::Null));
}

#[test]
fn words_that_make_no_sense_leave_no_log() {
    let bench = Bench::new();
    write_image(&bench);
    bench.fails(64, "-m", &["convert", "--evidence", "log", "-m", "99", "old.qcow", "new"]);
    bench.fails(64, "", &["info", "--evidence", "log"]);
    bench.fails(64, "", &["create", "--evidence", "log", "new", "1M"]);
    assert_eq!(bench.names(), ["old.qcow"]);
}

#[test]
fn secrets_are_never_in_the_log() {
    let bench = Bench::new();
    let mut secret = Builder::new(12, 9, 1 << 20).encrypted(b"swordfish");
    (0..64).for_each(|cluster: u64| _ = secret.plain(cluster, &cluster.to_be_bytes().repeat(512)));
    bench.write("secret.qcow", &secret.build());
    bench.write("key", b"swordfish\n");
    let image = "driver=qcow,file.filename=secret.qcow,encrypt.key-secret=s";
    let opened = ["--image-opts", image, "new"];
    let base64 = "--object=secret,id=s,format=base64,data=c3dvcmRmaXNo";
    for (code, words) in [
        (0, [&["convert", "--object", "secret,id=s,data=swordfish"][..], &opened].concat()),
        (0, [&["convert", "--object=secret,data=swordfish,id=s"][..], &opened].concat()),
        (0, [&["convert", base64][..], &opened].concat()),
        (12, [&["convert", "--object", "secret,id=s,data=sw,,ordfish"][..], &opened].concat()),
        (0, vec!["convert", "--passphrase-file", "key", "secret.qcow", "new"]),
        // Not of use to the verb, but there.
        (0, vec!["info", "--object", "secret,id=s,data=swordfish", "secret.qcow"]),
    ] {
        let log = logged(&bench, code, &words).to_string();
        for part in ["swordfish", "ordfish", "c3dvcmRmaXNo"] {
            assert!(!log.contains(part), "{words:?}: {log}");
        }
        let is_left_out = words.iter().any(|word| word.contains("data="));
        assert_eq!(log.contains("(left out)"), is_left_out, "{log}");
        let _ = std::fs::remove_file(bench.file("new"));
    }
    // A comma that is not doubled ends the secret, and what follows is a part of it all the same.
    for object in ["secret,id=s,data=sw,ordfish", "secret,id=s,format=base64,data=swordfish!"] {
        let words = [&["convert", "--object", object][..], &opened].concat();
        let said = bench.fails(64, "--object", &words);
        assert!(!said.err.contains("ordfish"), "{}", said.err);
    }
}

#[test]
fn a_log_that_would_be_in_the_way_is_refused_before_anything_is_done() {
    let bench = Bench::new();
    write_image(&bench);
    bench.write("there", b"precious");
    symlink("nowhere", bench.file("dangling")).expect("a link");
    symlink("old.qcow", bench.file("soft")).expect("a link");
    std::fs::hard_link(bench.file("old.qcow"), bench.file("hard")).expect("a link");
    std::fs::create_dir(bench.file("d")).expect("a folder");
    symlink("..", bench.file("d/up")).expect("a link");
    let names = bench.names();
    for log in ["there", "dangling", "soft", "hard", "old.qcow", "d"] {
        for words in [&["info", "old.qcow"][..], &["convert", "--force", "old.qcow", "new"]] {
            let words = [&[words[0], "--evidence", log], &words[1..]].concat();
            let said = bench.fails(18, "exists already", &words);
            assert!(said.err.contains("none is ever replaced"), "{}", said.err);
            assert_eq!(said.out, "", "nothing was done");
            assert_eq!(bench.names(), names, "{log}");
        }
    }
    let convert = ["convert", "--salvage", "--map", "new.map", "old.qcow", "new"];
    for log in ["new", "./new", "d/../new", "d/up/new", "new.map"] {
        let words = [&[convert[0], "--evidence", log], &convert[1..]].concat();
        bench.fails(18, "is the name of something else", &words);
        assert_eq!(bench.names(), names, "{log}");
    }
    assert_eq!(bench.read("there"), b"precious");
    bench.fails(1, "--evidence: ", &["info", "--evidence", "nowhere/log", "old.qcow"]);
    bench.fails(18, "--evidence: ", &["info", "--evidence", "..", "old.qcow"]);
    assert_eq!(bench.names(), names);
}

#[test]
fn a_log_that_finds_no_room_is_said_to_be_missing() {
    let bench = Bench::new();
    write_image(&bench);
    // In units of 512 bytes or more: the log is longer than one.
    let script = "ulimit -f 1; exec \"$0\" info --evidence log old.qcow";
    let output = Command::new("sh")
        .current_dir(bench.path())
        .args(["-c", script, &program()])
        .output()
        .expect("a shell");
    let said = Said::of(&output);
    assert_eq!(said.code, Some(16), "{}", said.err);
    assert!(said.err.contains("--evidence: log: writing the log"), "{}", said.err);
    assert_eq!(bench.names(), ["old.qcow"]);
}

#[test]
fn progress_ends_when_the_sources_were_looked_at_again() {
    let bench = Bench::new();
    write_image(&bench);
    for words in [&["convert", "old.qcow", "new"][..], &["compare", "old.qcow", "old.qcow"]] {
        let words = [&[words[0], "--progress=json", "--evidence", "log"], &words[1..]].concat();
        let said = bench.ok(&words);
        let lines: Vec<Value> = said.err.lines().map(|line| line.parse().expect("JSON")).collect();
        let phases: Vec<&str> = lines.iter().filter_map(|line| line["phase"].as_str()).collect();
        assert_eq!((phases.first(), phases.last()), (Some(&"digesting"), Some(&"done")));
        assert_eq!(phases[phases.len() - 2], "digesting", "{phases:?}");
        std::fs::remove_file(bench.file("log")).expect("a log");
    }
    let shown = bench.ok(&["convert", "-p", "--evidence", "log", "old.qcow", "other"]);
    assert!(shown.out.ends_with("(100.00/100%)\r\n"), "{}", shown.out);
}

/// Starts a verb that digests for long, and waits until it does.
fn start_digesting(bench: &Bench) -> Child {
    let file = File::create(bench.file("long.raw")).expect("a file");
    file.set_len(64 << 30).expect("a sparse file");
    let words = ["compare", "--progress=json", "--evidence", "log", "long.raw", "long.raw"];
    let mut child = bench.command(&words).stderr(Stdio::piped()).spawn().expect("it runs");
    let mut first = *br#"{"phase":"digesting""#;
    let expected = first;
    child.stderr.as_mut().expect("a pipe").read_exact(&mut first).expect("a line");
    assert_eq!(first, expected);
    child
}

#[test]
fn digesting_stops_when_it_is_asked_to_and_the_log_says_so() {
    for (sent, code) in [(Signal::SIGINT, 130), (Signal::SIGTERM, 143), (Signal::SIGHUP, 129)] {
        let bench = Bench::new();
        let child = start_digesting(&bench);
        signal(&child, sent);
        let said = Said::of(&child.wait_with_output().expect("it ends"));
        assert_eq!(said.code, Some(code), "{}", said.err);
        assert!(said.err.contains("nothing but the log was left behind"), "{}", said.err);
        assert_eq!(bench.names(), ["log", "long.raw"]);
        let log = log(&bench);
        assert_eq!((&log["exit-code"], &log["unchanged"]), (&code.into(), &Value::Null));
        assert_eq!(
            (&log["files"][0]["before"], &log["files"][0]["after"]),
            (&Value::Null, &Value::Null)
        );
    }
}

#[test]
fn a_conversion_that_is_stopped_has_a_log_and_no_target() {
    let bench = Bench::new();
    let child = start_conversion(&bench, &[]);
    signal(&child, Signal::SIGTERM);
    let said = Said::of(&child.wait_with_output().expect("it ends"));
    assert_eq!(said.code, Some(143), "{}", said.err);
    assert_eq!(bench.names(), ["large.qcow", "log"]);
    let log = log(&bench);
    assert_eq!(log["exit-code"], 143);
    assert!(log["files"][0]["before"]["sha256"].is_string());
    assert_eq!((&log["files"][0]["after"], &log["unchanged"]), (&Value::Null, &Value::Null));
}

/// As long as nobody takes it down, no signal waits for anybody.
#[test]
fn a_verb_that_heeds_no_signal_is_ended_by_one_at_once() {
    use std::os::unix::process::ExitStatusExt;
    let bench = Bench::new();
    let mut builder = Builder::new(9, 12, 16 << 20);
    (0..16_000).step_by(2).for_each(|cluster| _ = builder.plain(cluster, &[7; 512]));
    bench.write("old.qcow", &builder.build());
    let mut command = bench.command(&["map", "--evidence", "log", "old.qcow"]);
    let mut child = command.stdout(Stdio::piped()).spawn().expect("it runs");
    let out = child.stdout.as_mut().expect("a pipe");
    out.read_exact(&mut [0]).expect("it has begun");
    signal(&child, Signal::SIGINT);
    let ended = child.wait().expect("it ends");
    assert_eq!(ended.signal(), Some(2));
    assert_eq!(bench.names(), ["old.qcow"]);
}

#[test]
fn nobody_may_write_a_source_until_the_second_look_is_over() {
    if !qemu::has("qemu-io") {
        return;
    }
    let bench = Bench::new();
    let file = File::create(bench.file("long.raw")).expect("a file");
    file.set_len(2 << 30).expect("a sparse file");
    let words = ["convert", "-f", "raw", "--progress=json", "--evidence", "log", "long.raw", "new"];
    let mut child = bench.command(&words).stderr(Stdio::piped()).spawn().expect("it runs");
    let err = BufReader::new(child.stderr.take().expect("a pipe"));
    let mut lines = err.lines().map(|line| line.expect("a line"));
    assert!(lines.any(|line| line.contains("syncing")), "the conversion is done");
    assert!(lines.any(|line| line.contains("digesting")), "and its sources are looked at again");
    let refused = qemu::io(bench.path(), &["-f", "raw", "-c", "write 0 512", "long.raw"]);
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(said.contains("lock"), "{said}");
    child.kill().expect("it runs");
    child.wait().expect("it ends");
}

#[test]
fn a_host_that_fails_at_any_step_leaves_a_whole_log_or_none() {
    if !crate::common::may_trace() {
        return;
    }
    let bench = Bench::new();
    write_image(&bench);
    // Long enough for a second thread.
    bench.write("long.raw", &Random::new(3).content((2 << 20) + 512));
    let names = bench.names();
    let steps =
        std::env::var("CALVE_FAULT_STEPS").ok().and_then(|it| it.parse().ok()).unwrap_or(10);
    let (mut failures, mut logs) = (0, 0);
    for (call, fault) in [
        ("write", "EIO"),
        ("write", "ENOSPC"),
        ("fsync", "EIO"),
        ("fsync", "ENOSPC"),
        ("renameat2", "EIO"),
        ("renameat2", "EXDEV"),
        ("openat", "EACCES"),
        ("openat", "ENOSPC"),
        ("unlinkat", "EIO"),
        ("pread64", "EIO"),
        ("statx", "EIO"),
        ("fstat", "EIO"),
        ("fcntl", "EIO"),
        ("clone3", "EAGAIN"),
    ] {
        for words in [&["info", "old.qcow"][..], &["convert", "-q", "-f", "raw", "long.raw", "new"]]
        {
            for number in 1..=steps {
                let words = [&[words[0], "--evidence", "log"], &words[1..]].concat();
                let said = bench.run_with_fault((call, fault, number), &words);
                let what = format!("{words:?}, {call} number {number}: {}", said.err);
                // The loader failed, and the program never ran.
                if said.code == Some(127) {
                    continue;
                }
                assert!(!said.err.contains("panicked"), "{what}");
                failures += u32::from(said.code != Some(0));
                if bench.file("log").exists() {
                    assert_eq!(
                        Some(&log(&bench)["exit-code"]),
                        said.code.map(Value::from).as_ref(),
                        "{what}"
                    );
                    std::fs::remove_file(bench.file("log")).expect("a file");
                    logs += 1;
                } else {
                    assert_ne!(said.code, Some(0), "no log, and no word of it: {what}");
                }
                let _ = std::fs::remove_file(bench.file("new"));
                let left: Vec<String> =
                    bench.names().into_iter().filter(|name| !names.contains(name)).collect();
                assert!(left.is_empty() || call == "unlinkat", "{what}: {left:?}");
                left.iter()
                    .for_each(|name| std::fs::remove_file(bench.file(name)).expect("a file"));
            }
        }
    }
    assert!(failures > 30 && logs > 100, "{failures} failures, {logs} logs");
}

#[test]
fn what_cannot_be_read_has_no_digests_and_is_no_success() {
    if !crate::common::may_trace() {
        return;
    }
    let bench = Bench::new();
    bench.write("long.raw", &Random::new(3).content(3 << 20));
    // The second read of the first look.
    let words = ["info", "-f", "raw", "--evidence", "log", "long.raw"];
    let mut seen = false;
    for number in 1..=12 {
        let said = bench.run_with_fault(("pread64", "EIO", number), &words);
        let Ok(text) = std::fs::read_to_string(bench.file("log")) else { continue };
        let log: Value = serde_json::from_str(&text).expect("a whole log");
        std::fs::remove_file(bench.file("log")).expect("a file");
        let before = &log["files"][0]["before"];
        let Some(error) = before["error"].as_str() else { continue };
        assert_eq!(said.code, Some(1), "{}", said.err);
        assert!(error.contains("long.raw: digesting at 0x"), "{error}");
        assert!(said.err.contains("the log has no digests of that file"), "{}", said.err);
        assert_eq!((&before["sha256"], &before["blake3"]), (&Value::Null, &Value::Null));
        assert!(log["files"][0]["after"]["sha256"].is_string());
        assert_eq!(log["unchanged"], Value::Null);
        seen = true;
    }
    assert!(seen, "no read of the first look was met");
}

#[test]
fn a_log_can_be_signed_and_a_changed_one_is_found_out() {
    if !qemu::has("ssh-keygen") {
        return;
    }
    let bench = Bench::new();
    write_image(&bench);
    logged(&bench, 0, &["info", "old.qcow"]);
    let key = ["-q", "-t", "ed25519", "-N", "", "-C", "examiner", "-f", "key"];
    printed(&bench, "ssh-keygen", &key);
    let public = String::from_utf8(bench.read("key.pub")).expect("text");
    bench.write("signers", format!("examiner {public}").as_bytes());
    printed(&bench, "ssh-keygen", &["-q", "-Y", "sign", "-n", "calve", "-f", "key", "log"]);
    let verifies = || {
        let words = ["-Y", "verify", "-n", "calve", "-I", "examiner", "-f", "signers"];
        let mut command = Command::new("ssh-keygen");
        command.current_dir(bench.path()).args(words).args(["-s", "log.sig"]);
        let log = File::open(bench.file("log")).expect("a log");
        command.stdin(log).output().expect("it runs").status.success()
    };
    assert!(verifies());
    let text = String::from_utf8(bench.read("log")).expect("text");
    bench.write("log", text.replace("\"exit-code\": 0", "\"exit-code\": 1").as_bytes());
    assert!(!verifies(), "a changed log passes for the one that was signed");
}
