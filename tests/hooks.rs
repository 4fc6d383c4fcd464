//! Commands before and after images: several at once, one that wants the terminal, and those that run
//! when the end is asked for.

use std::fs;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::common::{Bench, Said, image, program};
use crate::migrate::{magic, scan_and_plan, two_families};
use calve_testkit::qemu;

/// A bench with a plan of so many families of one image each.
fn families(count: usize, words: &[&str]) -> Bench {
    let bench = Bench::new();
    fs::create_dir(bench.file("tree")).expect("a folder");
    for number in 0..count {
        bench.write(&format!("tree/{number}.qcow"), &image().0);
    }
    scan_and_plan(&bench, words);
    bench
}

/// Starts a worker of the only shard.
fn start(bench: &Bench, hook: &str) -> Child {
    let words = ["work", "-q", "--plan", "plan", "--shard", "0/1", "--before", hook];
    let mut command = bench.command(&words);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().expect("starts")
}

/// Waits until its command has made the file `begun`.
fn wait_for_begun(bench: &Bench) {
    for _ in 0..1000 {
        if bench.file("begun").exists() {
            return;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("the command does not begin");
}

fn terminate(mut worker: Child) -> Option<i32> {
    let pid = i32::try_from(worker.id()).expect("a process");
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), Signal::SIGTERM).expect("is sent");
    worker.wait().expect("ended").code()
}

#[test]
fn commands_of_several_jobs_keep_no_image_in_use() {
    let bench = families(12, &["--way", "convert"]);
    for run in 1..=8 {
        let words = ["migrate", "plan", "-j", "4", "--before", "true", "--after", "true"];
        bench.ok(&words);
        bench.ok(&["migrate", "-q", "--undo", &run.to_string(), "plan"]);
    }
}

#[test]
fn what_a_command_prints_is_seen_and_is_no_part_of_the_summary() {
    let bench = families(1, &[]);
    let words = ["migrate", "plan", "--output", "json", "--before", "echo said; echo told >&2"];
    let said = bench.ok(&words);
    assert_eq!(said.json()["done"], 1);
    for word in ["said\n", "told\n"] {
        assert!(said.err.contains(word), "{}", said.err);
    }
}

#[test]
fn a_command_that_wants_the_terminal_is_a_failure_and_no_run_that_hangs() {
    let bench = families(1, &[]);
    // What the kernel does to whoever reads a terminal from the background.
    let words = ["migrate", "plan", "--before", "kill -s TTIN 0; touch on"];
    bench.fails(11, "uses the terminal", &words);
    assert!(!bench.file("on").exists());
    assert_eq!(magic(&bench, "tree/0.qcow"), 1);
    if !qemu::has("script") {
        return;
    }
    // And the kernel itself.
    let line = format!("{} migrate plan --before 'read x </dev/tty; touch on'", program());
    let mut command = Command::new("script");
    command.args(["-qec", &line, "/dev/null"]).current_dir(bench.path());
    let said = Said::of(&command.stdin(Stdio::piped()).output().expect("runs"));
    assert_eq!(said.code, Some(11), "{}", said.out);
    assert!(said.out.contains("uses the terminal"), "{}", said.out);
    assert!(!bench.file("on").exists());
}

#[test]
fn what_a_command_has_started_is_ended_when_its_shell_has_gone() {
    let bench = families(1, &[]);
    let hook = "(trap '' TERM; touch begun; sleep 60; sleep 60) & echo $! >child; wait";
    let worker = start(&bench, hook);
    wait_for_begun(&bench);
    let asked = Instant::now();
    assert_eq!(terminate(worker), Some(85));
    assert!(asked.elapsed() < Duration::from_secs(7), "{:?}", asked.elapsed());
    let child = String::from_utf8(bench.read("child")).expect("text");
    let state = fs::read_to_string(format!("/proc/{}/stat", child.trim())).unwrap_or_default();
    let is_gone = state.is_empty() || state.contains(") Z ");
    assert!(is_gone, "{state}");
}

#[test]
fn a_command_that_ends_badly_a_moment_before_the_end_is_stopped_and_did_not_fail() {
    let bench = two_families();
    scan_and_plan(&bench, &[]);
    // As one that looks at how what it has started ended.
    let worker = start(&bench, "touch begun; exit 143");
    wait_for_begun(&bench);
    std::thread::sleep(Duration::from_millis(800));
    assert_eq!(terminate(worker), Some(85));
    let merge = ["merge-reports", "--output", "json", "plan.shards"];
    let merged = bench.run(&merge).json();
    assert_eq!((&merged["total"]["failed"], &merged["total"]["done"]), (&0.into(), &0.into()));
    bench.ok(&["work", "-q", "--plan", "plan", "--shard", "0/1"]);
}
