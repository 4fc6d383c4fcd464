//! Runs while they go on: shown on a terminal, asked and changed from outside.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::Value;

use crate::common::{Bench, image, large, program};
use crate::migrate::{files, magic, migrated, scan_and_plan, six_families, two_families};
use calve_testkit::qemu;

/// What a run answers to a word on its socket.
fn ask(bench: &Bench, word: &str) -> Value {
    let mut stream = (0..500)
        .find_map(|_| {
            std::thread::sleep(Duration::from_millis(10));
            UnixStream::connect(bench.file("socket")).ok()
        })
        .unwrap_or_else(|| panic!("{word}: nobody listens"));
    stream.write_all(format!("{word}\n").as_bytes()).expect("sent");
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line).expect("answered");
    serde_json::from_str(&line).unwrap_or_else(|error| panic!("{word}: {error}: {line}"))
}

#[test]
fn a_limit_of_the_rate_holds_for_conversions_that_have_begun_and_is_lifted_for_them_too() {
    let bench = Bench::new();
    fs::create_dir(bench.file("tree")).expect("a folder");
    bench.write("tree/large.qcow", &large(32));
    scan_and_plan(&bench, &["--way", "convert"]);
    let mut run = bench
        .command(&["migrate", "-q", "plan", "--control", "socket"])
        .args(["--before", "touch begun; while ! test -e go; do sleep 0.05; done"])
        .stdin(Stdio::null())
        .spawn()
        .expect("starts");
    // The family has begun without a limit, and is about to be converted.
    while !bench.file("begun").exists() {
        std::thread::sleep(Duration::from_millis(10));
    }
    assert_eq!(ask(&bench, "status")["rate-limit"], Value::Null);
    ask(&bench, "rate 1");
    bench.write("go", b"");
    // What was written: the first piece at most goes at once, and the next is due in an hour.
    std::thread::sleep(Duration::from_millis(1500));
    let counted = fs::read_to_string(format!("/proc/{}/io", run.id())).expect("its counts");
    let written = counted.lines().find_map(|line| line.strip_prefix("wchar: "));
    let written: u64 = written.and_then(|count| count.parse().ok()).expect("a count");
    assert!(written < 1 << 20, "{written} bytes at a byte a second");
    assert_eq!(ask(&bench, "status")["active"], 1);
    // In some hours it would be as far.
    ask(&bench, "rate none");
    assert!(run.wait().expect("ended").success());
    assert_eq!(magic(&bench, "tree/large.qcow"), 3);
}

#[test]
fn a_run_is_paused_and_asked_and_stopped_from_outside_and_goes_on() {
    let bench = six_families();
    let mut run = bench
        .command(&["migrate", "-q", "plan", "--control", "socket", "--jobs", "1"])
        .args(["--before", "sleep 0.2", "--events", "events"])
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("starts");
    let ask = |word| ask(&bench, word);
    let paused = ask("pause");
    assert_eq!((&paused["paused"], &paused["families"]), (&true.into(), &6.into()));
    std::thread::sleep(Duration::from_millis(600));
    let (one, other) = (ask("status"), ask("status"));
    assert_eq!(one["done"], other["done"], "goes on though it is paused");
    assert!(ask("dance")["error"].is_string());
    assert_eq!(ask("jobs 2")["jobs"], 2);
    assert_eq!(ask("rate 1M")["rate-limit"], 1 << 20);
    // Nobody else may carry out the same plan.
    bench.fails(15, "another process", &["migrate", "plan"]);
    ask("stop");
    assert!(!run.wait().expect("ended").success());
    assert!(!bench.file("socket").exists());
    bench.ok(&["migrate", "-q", "plan", "--events", "events"]);
    assert_eq!(migrated(&bench), 6);
    let events = String::from_utf8(bench.read("events")).expect("text");
    let ended = events.lines().filter(|line| line.contains("\"outcome\":\"done\"")).count();
    assert_eq!(ended, 6, "{events}");
}

/// A run shown on a terminal that is none: `script` makes it, and takes keys from a pipe.
struct Live {
    process: std::process::Child,
    keys: std::process::ChildStdin,
    /// All that was written to the terminal so far.
    said: std::sync::Arc<std::sync::Mutex<Vec<u8>>>,
}

impl Live {
    fn start(bench: &Bench, words: &str) -> Self {
        Self::of(bench, &format!("{} migrate --live {words} plan", program()))
    }

    /// The same of any command.
    fn of(bench: &Bench, command: &str) -> Self {
        let line = format!(
            "stty rows 24 cols 80; stty -a >before; \
             sh -c 'echo $$ >pid; exec {command}'; \
             echo $? >code; stty -a >after"
        );
        let mut process = Command::new("script")
            .current_dir(bench.path())
            .args(["-qec", &line, "/dev/null"])
            .env("TERM", "xterm")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("script starts");
        let keys = process.stdin.take().expect("a pipe");
        let mut out = process.stdout.take().expect("a pipe");
        let said = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
        let into = std::sync::Arc::clone(&said);
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(count @ 1..) = std::io::Read::read(&mut out, &mut bytes) {
                into.lock().expect("whole").extend_from_slice(&bytes[..count]);
            }
        });
        Self { process, keys, said }
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.said.lock().expect("whole")).into_owned()
    }

    /// Waits until this was written behind the first `from` bytes; says how much was by then.
    fn wait(&self, from: usize, what: &str) -> usize {
        for _ in 0..600 {
            let text = self.text();
            if text.get(from..).is_some_and(|text| text.contains(what)) {
                return text.len();
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        panic!("{what} was never shown: {:?}", self.text());
    }

    fn press(&mut self, key: &str) {
        self.keys.write_all(key.as_bytes()).expect("somebody listens");
        self.keys.flush().expect("somebody listens");
    }

    /// Waits for the end, and no longer than that may take.
    fn over(&mut self) {
        for _ in 0..600 {
            if self.process.try_wait().expect("a child").is_some() {
                return;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        panic!("it does not end: {:?}", self.text());
    }

    /// The exit code at the end, by which the terminal is what it was before.
    fn end(mut self, bench: &Bench) -> String {
        self.over();
        let (before, after) = (bench.read("before"), bench.read("after"));
        assert!(before == after, "{}", String::from_utf8_lossy(&after));
        let text = self.text();
        let count = |what: &str| text.matches(what).count();
        assert!(count("\x1b[?1049h") > 0, "it was not shown: {text:?}");
        assert_eq!(count("\x1b[?1049h"), count("\x1b[?1049l"), "the screen before is not back");
        assert!(text.rfind("\x1b[?25h") > text.rfind("\x1b[?25l"), "no cursor: {text:?}");
        String::from_utf8_lossy(&bench.read("code")).trim().to_owned()
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        // What goes on where a test has failed goes with its terminal.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[test]
fn a_run_that_is_shown_heeds_keys_gives_the_terminal_back_and_does_the_same() {
    if !qemu::has("script") {
        return;
    }
    let bench = two_families();
    scan_and_plan(&bench, &["--way", "convert"]);
    let before = files(&bench.file("tree"));
    bench.fails(64, "--live", &["migrate", "--live", "plan"]);
    assert!(before == files(&bench.file("tree")));
    bench.ok(&["migrate", "-q", "plan"]);
    let expected = files(&bench.file("tree"));
    bench.ok(&["migrate", "-q", "--undo", "1", "plan"]);

    // Paused and gone on, one job more and one less.
    let slow = "-j 1 --before \"sleep 0.5\" --events events --control socket";
    let mut live = Live::start(&bench, slow);
    live.wait(0, "pauses");
    // What is drawn anew is only what is other than before: the socket says what a key did.
    for (key, word, value) in [
        ("p", "paused", Value::Bool(true)),
        ("+", "jobs", 2.into()),
        ("-", "jobs", 1.into()),
        ("p", "paused", Value::Bool(false)),
    ] {
        live.press(key);
        let is_so = (0..200).any(|_| {
            std::thread::sleep(Duration::from_millis(50));
            let mut stream = UnixStream::connect(bench.file("socket")).expect("it listens");
            stream.write_all(b"status\n").expect("sent");
            let mut line = String::new();
            BufReader::new(stream).read_line(&mut line).expect("answered");
            let status: Value = serde_json::from_str(&line).expect("JSON");
            status[word] == value
        });
        assert!(is_so, "{key}: {word} is not {value}");
    }
    assert_eq!(live.end(&bench), "0");
    let digests = |files: &BTreeMap<PathBuf, (String, i64, i64)>| -> Vec<(PathBuf, String)> {
        files.iter().map(|(path, (digest, ..))| (path.clone(), digest.clone())).collect()
    };
    assert_eq!(digests(&files(&bench.file("tree"))), digests(&expected));
    assert_eq!(bench.read("events").iter().filter(|byte| **byte == b'\n').count(), 5);
    bench.ok(&["migrate", "-q", "--undo", "2", "plan"]);

    // Stopped by a key that is asked about, by Ctrl-C, and by a signal; suspended before.
    for (way, code) in [("qy", "143"), ("\u{3}", "130"), ("kill", "143")] {
        let mut live = Live::start(&bench, "-j 1 --before \"sleep 2\"");
        let at = live.wait(0, "pauses");
        let pid = String::from_utf8(bench.read("pid")).expect("a number");
        let signal = |name: &str| {
            let sent = Command::new("kill").args(["-s", name, pid.trim()]).status();
            assert!(sent.expect("kill").success());
        };
        if way == "kill" {
            live.press("\u{1a}");
            let at = live.wait(at, "\x1b[?1049l");
            std::thread::sleep(Duration::from_millis(300));
            signal("CONT");
            live.wait(at, "\x1b[?1049h");
            signal("TERM");
        } else {
            live.press(way);
        }
        assert_eq!(live.end(&bench), code, "{way:?}");
        assert_eq!(digests(&files(&bench.file("tree"))), digests(&before), "{way:?}");
    }
    // A terminal that goes away stops the run as SIGHUP does, and nothing waits for keys from it.
    let live = Live::start(&bench, "-j 1 --before \"sleep 1\"");
    live.wait(0, "pauses");
    let pid = String::from_utf8(bench.read("pid")).expect("a number");
    drop(live);
    let process = Path::new("/proc").join(pid.trim());
    let is_over = (0..300).any(|_| {
        std::thread::sleep(Duration::from_millis(50));
        // What nobody has waited for has no command line any more.
        fs::read(process.join("cmdline")).is_ok_and(|line| line.is_empty()) || !process.exists()
    });
    assert!(is_over, "it waits for a terminal that is gone");
    bench.ok(&["migrate", "-q", "plan"]);
    assert_eq!(digests(&files(&bench.file("tree"))), digests(&expected));
}

/// What was said by commands, as the events have it.
fn said(bench: &Bench) -> Vec<Value> {
    let text = String::from_utf8(bench.read("events")).expect("text");
    let all = text.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
    all.filter(|event| event["event"] == "said").collect()
}

#[test]
fn what_commands_say_is_shown_in_a_run_that_is_shown_and_kept_within_bounds() {
    if !qemu::has("script") {
        return;
    }
    let bench = Bench::new();
    fs::create_dir(bench.file("tree")).expect("a folder");
    bench.write("tree/one.qcow", &image().0);
    scan_and_plan(&bench, &[]);
    // It leaves a child behind that keeps its standard error open for longer than anybody waits.
    bench.write(
        "hook",
        b"printf 'look\\033[2Jhere\\n'; i=0
        while [ $i -lt 120 ]; do echo \"line $i\" >&2; i=$((i + 1)); done
        sleep 300 & echo $! >child; sleep 1",
    );
    bench.write("other", b"head -c 5000 /dev/zero | tr '\\0' y >&2; exit 1");
    let words = "--events events --before \"sh hook\" --after \"sh other\"";
    let mut live = Live::start(&bench, words);
    let at = live.wait(0, "commands");
    live.wait(at, "failed");
    live.over();
    let child = String::from_utf8(bench.read("child")).expect("a number");
    let ended = Command::new("kill").arg(child.trim()).status();
    assert!(ended.expect("kill").success(), "the child that was left behind is gone");
    let text = live.text();
    assert_eq!(live.end(&bench), "11", "{text}");
    // Nothing of it was written to the terminal as it was, and the last of it is there at the end.
    assert!(!text.contains("look\u{1b}[2Jhere"), "{text:?}");
    let after = &text[text.rfind("\x1b[?1049l").expect("given back")..];
    for line in [
        "family 1, before: look\\u{1b}[2Jhere",
        "family 1, before: 21 more lines are left out",
        "(3976 more bytes)",
        "the hook after ended with",
    ] {
        assert!(after.contains(line), "{line}: {after:?}");
    }
    let said = said(&bench);
    assert_eq!(said.len(), 102, "{said:?}");
    assert_eq!(said[99]["line"], "line 98");
    assert_eq!((&said[100]["hook"], &said[100]["left-out-lines"]), (&"before".into(), &21.into()));
    let long = &said[101];
    assert_eq!(long["line"].as_str().map(str::len), Some(1024));
    assert_eq!((&long["hook"], &long["left-out-bytes"]), (&"after".into(), &3976.into()));
    // Without it, commands write themselves.
    let run = bench.run(&["migrate", "-q", "plan", "--before", "printf 'as\\tit is'"]);
    assert_eq!((run.code, &*run.err), (Some(0), "as\tit is"));
}

#[test]
fn the_terminal_is_given_back_by_runs_that_end_with_an_error_or_a_panic() {
    if !qemu::has("script") || !qemu::has("strace") {
        return;
    }
    let bench = two_families();
    scan_and_plan(&bench, &[]);
    // Of a run; of what was opened for it; of what cannot be told.
    for (words, code) in [
        ("--before \"exit 1\"", "11"),
        ("--control plan", "18"),
        ("--metrics missing/numbers", "1"),
    ] {
        let live = Live::start(&bench, words);
        assert_eq!(live.end(&bench), code, "{words}");
    }
    bench.ok(&["migrate", "-q", "--undo", "1", "plan"]);
    // A thread that cannot be started is a panic of the standard library: here while the run is
    // shown, whose threads are the first of all.
    let strace = "strace -f -qq -o trace -e trace=clone3 -e inject=clone3:error=EAGAIN:when=4";
    let live = Live::of(&bench, &format!("{strace} {} migrate --live plan", program()));
    assert_eq!(live.end(&bench), "101");
}
