//! One run of one program: how long it took, what it needed.

use std::io;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::resource::{UsageWho, getrusage};
use serde::{Deserialize, Serialize};

/// What one run took.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Run {
    /// Seconds by the clock.
    pub(crate) wall: f64,
    /// Seconds of all processors.
    pub(crate) cpu: f64,
    /// The largest process, in KiB.
    pub(crate) peak: i64,
    /// Bytes that system calls read and wrote.
    pub(crate) read: u64,
    pub(crate) written: u64,
}

/// Runs a command line in a process of its own, which sees only that program's children.
pub(crate) fn run(folder: &Path, line: &str) -> io::Result<Run> {
    let this = std::env::current_exe()?;
    let output = Command::new(this).current_dir(folder).args(["--alone", line]).output()?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        return Err(io::Error::other(format!("{line}: {said}")));
    }
    serde_json::from_slice(&output.stdout).map_err(io::Error::other)
}

/// What [`run`] starts: measures the command line and prints the result as JSON.
pub(crate) fn alone(line: &str) -> io::Result<String> {
    let before = moved()?;
    let start = Instant::now();
    let status = Command::new("sh").args(["-c", line]).stdout(Stdio::null()).status()?;
    let wall = start.elapsed();
    if !status.success() {
        return Err(io::Error::other("failed"));
    }
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN).map_err(io::Error::from)?;
    let seconds = |time: nix::sys::time::TimeVal| {
        let micros = u64::try_from(time.tv_usec()).unwrap_or_default();
        Duration::from_micros(micros).as_secs_f64()
            + Duration::from_secs(u64::try_from(time.tv_sec()).unwrap_or_default()).as_secs_f64()
    };
    let after = moved()?;
    let run = Run {
        wall: wall.as_secs_f64(),
        cpu: seconds(usage.user_time()) + seconds(usage.system_time()),
        peak: usage.max_rss(),
        read: after.0 - before.0,
        written: after.1 - before.1,
    };
    serde_json::to_string(&run).map_err(io::Error::other)
}

/// Bytes that this process and its ended children read and wrote so far.
fn moved() -> io::Result<(u64, u64)> {
    let text = std::fs::read_to_string("/proc/self/io")?;
    let of = |name: &str| {
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok());
        value.unwrap_or_default()
    };
    Ok((of("rchar:"), of("wchar:")))
}

/// The median; for an even number of runs the higher of the two in the middle.
pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
