//! The program and malformed or hostile files: whatever they say, it ends with a code that is
//! documented, within a second, in an address space of 64 MiB, and leaves the file alone.
//!
//! `CALVE_HOSTILE_RUNS` says how many files, `CALVE_SEED` begins elsewhere.

use std::time::Duration;

use crate::common::Bench;
use calve_fuzzing::{Input, Kind, hostile};
use calve_testkit::seeds;
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeVal;

/// KiB of address space, the program and its libraries included.
const LIMIT: u64 = 64 << 10;

/// What a run may take of a processor, and a MiB that is written.
const LONGEST: Duration = Duration::from_secs(1);
const FOR_A_MEBIBYTE: Duration = Duration::from_millis(10);

/// The codes that a file may be the reason of: done, done with losses, damaged, a passphrase or a
/// base missing, refused, not supported; 2, with which `compare` says any of these; and what `check`
/// finds.
const CODES: [i32; 9] = [0, 2, 3, 4, 10, 12, 13, 18, 63];

#[test]
#[expect(clippy::print_stderr, reason = "figures for docs/reliability.md")]
fn no_file_makes_the_program_crash_or_hang_or_take_much_memory() {
    let bench = Bench::new();
    let (mut slowest, mut runs) = ((Duration::ZERO, 0, ""), 0);
    for number in seeds("CALVE_HOSTILE_RUNS", 60) {
        let (kind, data) = hostile(number);
        let input = Input::of(&data).expect("an input");
        bench.write("image", input.image);
        bench.write("base.raw", &input.base().unwrap_or_default());
        for arguments in commands(kind) {
            // What an earlier one wrote is not this one's.
            let _ = std::fs::remove_file(bench.file("new"));
            let before = processor_time();
            let said = bench.run_within(LIMIT, arguments);
            let took = processor_time() - before;
            let what = format!("file {number}, {arguments:?}");
            let is_known = said.code.is_some_and(|code| CODES.contains(&code));
            assert!(
                is_known && !said.err.contains("panicked"),
                "{what}: {:?} {}",
                said.code,
                said.err
            );
            let written = std::fs::metadata(bench.file("new")).map_or(0, |file| file.len());
            let most = LONGEST + FOR_A_MEBIBYTE * u32::try_from(written >> 20).expect("small");
            assert!(took < most, "{what}: {took:?}");
            slowest = slowest.max((took, number, arguments[0]));
            runs += 1;
        }
        assert!(bench.read("image") == input.image, "file {number} was written to");
        let mut names = bench.names();
        names.retain(|name| !["image", "base.raw", "new"].contains(&name.as_str()));
        assert!(names.is_empty(), "file {number} leaves {names:?}");
    }
    eprintln!(
        "{runs} runs; the slowest is {} of file {} with {:?}",
        slowest.2, slowest.1, slowest.0
    );
}

/// What is done with each file. Maps are of the front: a map has a line for each piece.
fn commands(kind: Kind) -> &'static [&'static [&'static str]] {
    const ALL: &[&[&str]] = &[
        &["info", "--deep", "--sandbox=off", "image"],
        &["check", "--deep", "--sandbox=off", "image"],
        &["info", "--output", "json", "--sandbox=off", "image"],
        &["map", "--max-length", "64M", "image"],
        &["compare", "-q", "image", "image"],
        &["convert", "-q", "-m", "2", "--force", "--salvage", "-O", "qcow2", "image", "new"],
        &["upgrade", "-q", "--dry-run", "image"],
    ];
    if kind == Kind::Version1 { ALL } else { &ALL[..6] }
}

/// What all programs that were started and have ended had of a processor.
fn processor_time() -> Duration {
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN).expect("a host that counts");
    let time = |value: TimeVal| {
        let microseconds = value.tv_sec() * 1_000_000 + value.tv_usec();
        Duration::from_micros(u64::try_from(microseconds).expect("time goes on"))
    };
    time(usage.user_time()) + time(usage.system_time())
}
