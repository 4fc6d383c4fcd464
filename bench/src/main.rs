//! Measures `calve` against stock `qemu-img`: `scripts/bench [FOLDER [ROUNDS]]`.
//!
//! Machines are shared and noisy: the programs take turns in every round, and what is reported
//! is the median of each and the ratio of the medians.
#![expect(clippy::print_stdout, reason = "its result is a table")]

use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use calve_testkit::corpus::{self, Kind};
use nix::sys::resource::{UsageWho, getrusage};

const GIB: u64 = 1 << 30;

fn main() -> io::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let (Some(first), Some(folder)) = (arguments.next(), arguments.next().map(PathBuf::from))
    else {
        return Err(io::Error::other("name a program and a folder, or --prepare and a folder"));
    };
    if first == "--prepare" {
        return prepare(&folder);
    }
    let calve = PathBuf::from(first);
    let rounds = arguments.next().and_then(|rounds| rounds.parse().ok()).unwrap_or(5);
    let bench = Bench { calve, folder, rounds };
    let measured = bench.run();
    std::fs::remove_dir_all(&bench.folder)?;
    measured
}

struct Bench {
    calve: PathBuf,
    folder: PathBuf,
    rounds: usize,
}

/// What is converted.
struct Case {
    name: &'static str,
    source: &'static str,
    format: &'static str,
}

const CASES: [Case; 5] = [
    Case { name: "plain 4 KiB clusters, 2 GiB, half stored", source: "plain.qcow", format: "raw" },
    Case { name: "the same", source: "plain.qcow", format: "qcow2" },
    Case { name: "packed, 2 GiB, half stored", source: "packed.qcow", format: "raw" },
    Case { name: "512-byte overlay on raw, 512 MiB", source: "overlay.qcow", format: "qcow2" },
    Case { name: "empty, 1 TiB", source: "empty.qcow", format: "qcow2" },
];

impl Bench {
    fn run(&self) -> io::Result<()> {
        self.info()?;
        for case in &CASES {
            // The result of the first run is looked at; it also warms up memory.
            self.convert(case, &self.calve)?;
            self.check(case)?;
        }
        let peak = getrusage(UsageWho::RUSAGE_CHILDREN).map_err(io::Error::from)?.max_rss();
        println!("calve's largest memory in any of these: {} MiB", peak / 1024);
        CASES.iter().try_for_each(|case| self.measure(case))
    }

    fn command(&self, program: &Path, more: &[&str], case: &Case) -> Command {
        let mut command = Command::new(program);
        command.current_dir(&self.folder).arg("convert").args(more);
        command.args(["-O", case.format, case.source, "target"]);
        command.stdout(Stdio::null()).stderr(Stdio::null());
        command
    }

    fn timed(&self, mut command: Command) -> io::Result<Duration> {
        let target = self.folder.join("target");
        if target.exists() {
            std::fs::remove_file(target)?;
        }
        let start = Instant::now();
        let status = command.status()?;
        let took = start.elapsed();
        if status.success() {
            Ok(took)
        } else {
            Err(io::Error::other(format!("{command:?} failed")))
        }
    }

    fn convert(&self, case: &Case, program: &Path) -> io::Result<Duration> {
        self.timed(self.command(program, &[], case))
    }

    fn check(&self, case: &Case) -> io::Result<()> {
        let mut command = Command::new(&self.calve);
        command.current_dir(&self.folder).args(["compare", "-F", case.format]);
        let status = command.args([case.source, "target"]).stderr(Stdio::null()).output()?.status;
        if status.success() {
            Ok(())
        } else {
            Err(io::Error::other(format!("{} differs", case.name)))
        }
    }

    fn measure(&self, case: &Case) -> io::Result<()> {
        let qemu = Path::new("qemu-img");
        let (mut ours, mut serial, mut parallel) = (Vec::new(), Vec::new(), Vec::new());
        // An empty disk takes qemu-img minutes, whatever the round.
        let rounds = if case.source == "empty.qcow" { 1 } else { self.rounds };
        for _ in 0..rounds {
            ours.push(self.convert(case, &self.calve)?);
            if case.source == "empty.qcow" {
                continue;
            }
            serial.push(self.convert(case, qemu)?);
            parallel.push(self.timed(self.command(qemu, &["-m", "16", "-W"], case))?);
        }
        let (ours, best) = (median(ours), median(serial).min(median(parallel)));
        let Case { name, source, format } = case;
        if best == Duration::MAX {
            println!(
                "{name} -> {format}: calve {ours:.3?}   [calve convert -O {format} {source} target]"
            );
            return Ok(());
        }
        let ratio = best.as_secs_f64() / ours.as_secs_f64();
        println!(
            "{name} -> {format}: calve {ours:.3?}, the better qemu-img {best:.3?}, {ratio:.1} times \
             [convert -O {format} {source} target, with and without -m 16 -W]"
        );
        Ok(())
    }

    fn info(&self) -> io::Result<()> {
        let mut took = Vec::new();
        for _ in 0..self.rounds {
            let mut command = Command::new(&self.calve);
            command.current_dir(&self.folder).args(["info", "claims.qcow"]).stdout(Stdio::null());
            took.push(self.timed(command)?);
        }
        let peak = getrusage(UsageWho::RUSAGE_CHILDREN).map_err(io::Error::from)?.max_rss();
        let took = median(took);
        println!("a header that claims 512 TiB: info {took:.3?}   [calve info claims.qcow]");
        println!("its memory: {} MiB", peak / 1024);
        Ok(())
    }
}

/// Writes the images. In a process of its own: the memory of whoever starts a program counts as
/// that program's.
fn prepare(folder: &Path) -> io::Result<()> {
    std::fs::create_dir_all(folder)?;
    let path = |name: &str| folder.join(name);
    corpus::write(&path("plain.qcow"), Kind::Plain, 2 * GIB, 1)?;
    corpus::write(&path("packed.qcow"), Kind::Packed, 2 * GIB, 2)?;
    corpus::write(&path("overlay.qcow"), Kind::Overlay, GIB / 2, 3)?;
    corpus::write_base(&path("base.raw"), GIB / 2, 4)?;
    std::fs::write(path("empty.qcow"), corpus::empty(1 << 40))?;
    std::fs::write(path("claims.qcow"), corpus::claim((512 << 40) - (2 << 20)))
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times.get(times.len() / 2).copied().unwrap_or(Duration::MAX)
}
