//! Malformed and hostile files: none takes long, and all together take little memory.
//!
//! `CALVE_HOSTILE_FILES` says how many, `CALVE_SEED` begins elsewhere. What the program itself
//! does with such files is in `tests/hostile.rs` of the root.

use std::time::Duration;

use calve_fuzzing::{hostile, look_at};
use calve_testkit::seeds;
use rustix::time::{ClockId, clock_gettime};

/// What a file may take of a processor. Others have it too: what the clock says proves nothing.
const LONGEST: Duration = Duration::from_secs(1);

/// The most memory of all that is tried here, the program and a copy of each file included.
const MOST_MEMORY: u64 = 64 << 10;

#[test]
#[expect(clippy::print_stderr, reason = "figures for docs/reliability.md")]
fn no_file_takes_a_second_and_all_take_little_memory() {
    let (mut slowest, mut opened, mut count) = ((Duration::ZERO, 0), 0u64, 0u64);
    for number in seeds("CALVE_HOSTILE_FILES", 1200) {
        let (kind, data) = hostile(number);
        let start = processor_time();
        opened += u64::from(look_at(kind, &data));
        let took = processor_time() - start;
        assert!(took < LONGEST, "file {number} takes {took:?}");
        slowest = slowest.max((took, number));
        count += 1;
    }
    let memory = most_memory();
    eprintln!(
        "{count} files, of which {opened} opened; the slowest is {} with {:?}; {memory} KiB at most",
        slowest.1, slowest.0
    );
    assert!(memory < MOST_MEMORY, "{memory} KiB");
    assert!(opened > count / 4, "only {opened} of {count} opened");
}

/// What this thread has had of a processor.
fn processor_time() -> Duration {
    let now = clock_gettime(ClockId::ThreadCPUTime);
    Duration::try_from(now).expect("time goes on")
}

/// The most memory in KiB that this process ever had.
fn most_memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux");
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).expect("a line");
    let words: Vec<&str> = line.split_whitespace().collect();
    words[1].parse().expect("a number of KiB")
}
