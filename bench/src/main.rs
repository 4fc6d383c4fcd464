//! Measures `calve` beside every other program that reads version 1: `scripts/bench`.
//!
//! Machines are shared and noisy: the programs take turns in every round, and what is reported
//! is the median of each and the ratio of the medians. Memory is touched by a first round that
//! does not count.
#![expect(clippy::print_stdout, reason = "its result is a table")]

mod archives;
mod cases;
mod checks;
mod flips;
mod limits;
mod measure;
mod programs;
mod report;
mod reports;
mod rescues;
mod shared;
mod sinks;
mod stores;
mod threads;
mod upgrades;

use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use clap::Parser;

use cases::{CASES, Case};
use measure::{Run, median};
use programs::PROGRAMS;
use report::Measured;

/// Measures calve beside the other programs that read QCOW version 1
#[derive(Parser)]
struct Arguments {
    /// Measure one command line and print it as JSON
    #[arg(long, value_name = "LINE", exclusive = true)]
    alone: Option<String>,
    /// The program to measure
    #[arg(long, required_unless_present = "alone")]
    calve: Option<PathBuf>,
    /// Where images and results lie: a folder in memory, made and removed
    #[arg(long, default_value = "/dev/shm/calve-bench")]
    folder: PathBuf,
    /// A folder on a disk, made and removed; leave out to measure in memory only
    #[arg(long)]
    disk: Option<PathBuf>,
    /// Rounds that count
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// The size of the plain and packed disks in MiB
    #[arg(long, default_value_t = 2048)]
    size: u64,
    /// Only classes whose name contains this; small, libraries, sinks, threads, shared,
    /// upgrades, checks and rescues are the other tables; flips, archives, reports and store are
    /// made only where they are named
    #[arg(long)]
    only: Option<String>,
    /// Of the bits of L2 tables flip one in so many: 7 meets every bit of an entry somewhere
    #[arg(long, default_value_t = 1)]
    every: usize,
    /// Write table, chart and single runs to files that begin like this
    #[arg(long)]
    keep: Option<String>,
}

fn main() -> io::Result<()> {
    let arguments = Arguments::parse();
    if let Some(line) = &arguments.alone {
        print!("{}", measure::alone(line)?);
        return Ok(());
    }
    let calve = arguments.calve.as_deref().map(std::fs::canonicalize).transpose()?;
    let calve = calve.unwrap_or_default().display().to_string();
    let measured = run(&arguments, &calve);
    std::fs::remove_dir_all(&arguments.folder)?;
    measured
}

fn run(arguments: &Arguments, calve: &str) -> io::Result<()> {
    let Arguments { folder, rounds, .. } = arguments;
    let rounds = *rounds;
    if arguments.only.as_deref() == Some("flips") {
        let text = flips::table(folder, calve, arguments.every)?;
        println!("{text}");
        return keep(arguments, &text);
    }
    if arguments.only.as_deref() == Some("archives") {
        std::fs::create_dir_all(folder)?;
        let text = archives::table(folder, arguments.disk.as_deref(), calve, rounds)?;
        println!("{text}");
        return keep(arguments, &text);
    }
    if arguments.only.as_deref() == Some("reports") {
        let text = reports::table(folder, calve, rounds)?;
        println!("{text}");
        return keep(arguments, &text);
    }
    if arguments.only.as_deref() == Some("store") {
        let text = stores::table(folder, calve, rounds)?;
        println!("{text}");
        return keep(arguments, &text);
    }
    cases::prepare(folder, arguments.size << 20)?;
    let processors = std::thread::available_parallelism()?;
    let mut text = format!(
        "Median of {rounds} rounds in turns, {processors} processors, disks of {} MiB (overlays {} \
         MiB), half stored.\n\n",
        arguments.size,
        arguments.size / 8
    );
    let mut all = Vec::new();
    for case in CASES.iter().filter(|case| is_wanted(arguments, case.name)) {
        all.push(converted(case, folder, calve, rounds)?);
    }
    if !all.is_empty() {
        text += &report::table(&all);
    }
    if is_wanted(arguments, "small") {
        text += &small(folder, calve, rounds)?;
    }
    if is_wanted(arguments, "libraries") {
        text += &libraries(processors.get());
    }
    if is_wanted(arguments, "sinks") {
        text += &sinks::table(folder, rounds, processors.get())?;
    }
    if is_wanted(arguments, "threads") {
        text += &grows(folder, rounds)?;
    }
    if is_wanted(arguments, "shared") {
        text += &shared::table(folder, calve, rounds)?;
    }
    if is_wanted(arguments, "upgrades") {
        text += &upgrades::table(folder, calve, rounds)?;
    }
    if is_wanted(arguments, "checks") {
        text += &checks::table(folder, calve, rounds)?;
    }
    if is_wanted(arguments, "rescues") {
        text += &rescues::table(folder, calve, rounds)?;
    }
    if let Some(disk) = &arguments.disk {
        text += &durable(arguments, disk, calve)?;
    }
    println!("{text}");
    if let Some(keep) = &arguments.keep {
        std::fs::write(format!("{keep}.md"), &text)?;
        if !all.is_empty() {
            std::fs::write(format!("{keep}.svg"), report::chart(&all))?;
            std::fs::write(format!("{keep}.jsonl"), report::lines(&all))?;
        }
    }
    Ok(())
}

fn keep(arguments: &Arguments, text: &str) -> io::Result<()> {
    let keep = arguments.keep.as_ref();
    keep.map_or(Ok(()), |keep| std::fs::write(format!("{keep}.md"), text))
}

fn is_wanted(arguments: &Arguments, name: &str) -> bool {
    arguments.only.as_ref().is_none_or(|only| name.contains(only))
}

/// Runs a line on a target that is not there.
fn fresh(folder: &Path, line: &str) -> io::Result<Run> {
    let target = folder.join("target");
    if target.exists() {
        std::fs::remove_file(target)?;
    }
    measure::run(folder, line)
}

fn converted(
    case: &'static Case,
    folder: &Path,
    calve: &str,
    rounds: usize,
) -> io::Result<Measured> {
    let secret = if case.source == "secret.qcow" { "--passphrase-file key" } else { "" };
    if case.format == "raw" {
        let line = format!("{calve} convert -q --force {secret} -O raw {} raw", case.source);
        measure::run(folder, &line)?;
    }
    let there = PROGRAMS.into_iter().filter(|program| program.is_there());
    let lines: Vec<_> = there
        .filter_map(|program| Some((program, program.line(case, calve, "raw", "target")?)))
        .collect();
    let mut runs: Vec<_> = lines.iter().map(|(program, _)| (*program, Vec::new())).collect();
    for round in 0..=rounds {
        for ((program, line), (_, runs)) in lines.iter().zip(&mut runs) {
            let run = fresh(folder, line)?;
            if round > 0 {
                runs.push(run);
            } else if program.name() == "calve" && secret.is_empty() {
                check(case, folder)?;
            }
        }
    }
    Ok(Measured { case, runs })
}

/// What calve wrote is what QEMU reads of the source.
fn check(case: &Case, folder: &Path) -> io::Result<()> {
    if case.source == "empty.qcow" {
        return Ok(());
    }
    let compare = ["compare", "-q", "-f", "qcow", "-F", case.format, case.source, "target"];
    let status = Command::new("qemu-img").current_dir(folder).args(compare).status()?;
    match status.success() {
        true => Ok(()),
        false => Err(io::Error::other(format!("{} to {} differs", case.name, case.format))),
    }
}

/// The median of a line over some rounds, in seconds.
fn wall(folder: &Path, line: &str, rounds: usize) -> io::Result<f64> {
    let runs: io::Result<Vec<Run>> = (0..rounds).map(|_| fresh(folder, line)).collect();
    Ok(median(runs?.into_iter().map(|run| run.wall).collect()))
}

/// Many small images, one process each.
fn small(folder: &Path, calve: &str, rounds: usize) -> io::Result<String> {
    const IMAGES: f64 = 500.0;
    let mut text = format!("\n{IMAGES} images of 4 MiB, one process each:\n\n");
    text += "| what | calve ms | qemu-img ms | qemu-img / calve | a bare process ms |\n";
    text += "|---|---:|---:|---:|---:|\n";
    let many = |line: &str| format!("for i in $(seq {IMAGES}); do {line}; done");
    for what in [
        "info small.qcow",
        "convert -O raw small.qcow target",
        "convert -O qcow2 small.qcow target",
    ] {
        let mut took = [Vec::new(), Vec::new(), Vec::new()];
        let lines = [
            format!("{calve} {what}; rm -f target"),
            format!("qemu-img {what}; rm -f target"),
            "/bin/true; rm -f target".into(),
        ];
        let bare = wall(folder, &many("rm -f target"), rounds)?;
        for _ in 0..rounds {
            for (line, took) in lines.iter().zip(&mut took) {
                took.push((measure::run(folder, &many(line))?.wall - bare) / IMAGES * 1000.0);
            }
        }
        let [ours, theirs, bare] = took.map(median);
        text +=
            &format!("| {what} | {ours:.2} | {theirs:.2} | {:.1}x | {bare:.2} |\n", theirs / ours);
    }
    let claim = fresh(folder, &format!("{calve} info claims.qcow"))?;
    text += &format!(
        "\n`info` on a 48-byte header that claims 512 TiB: {:.1} ms, {} MiB.\n",
        claim.wall * 1000.0,
        claim.peak >> 10
    );
    let map = wall(folder, &format!("{calve} map empty.qcow"), rounds)?;
    text += &format!("`map` of an empty 1 TiB image: {:.1} ms.\n", map * 1000.0);
    Ok(text)
}

/// What the libraries do by themselves.
fn libraries(processors: usize) -> String {
    let mega = |rate: f64| rate / 1e6;
    let rates = (0..3).map(|_| (limits::inflate(processors), limits::deflate(processors)));
    let (inflate, deflate) = rates.unzip::<f64, f64, Vec<_>, Vec<_>>();
    format!(
        "\nThe libraries by themselves, on all processors: unpacking 4 KiB clusters {:.0} MB/s, \
         packing 64 KiB clusters {:.0} MB/s.\n",
        mega(median(inflate)),
        mega(median(deflate))
    )
}

/// How a conversion grows with threads.
fn grows(folder: &Path, rounds: usize) -> io::Result<String> {
    let mut text = String::from(
        "\n| threads | packed to raw s | part.qcow to raw s, each read answered after 5 ms |\n|---:|---:|---:|\n",
    );
    for threads in [1, 2, 4, 8] {
        let of = |source: &str, answer| -> io::Result<f64> {
            let runs = (0..rounds).map(|_| {
                threads::seconds(&folder.join(source), &folder.join("target"), answer, threads)
            });
            Ok(median(runs.collect::<io::Result<Vec<f64>>>()?))
        };
        let packed = of("packed.qcow", Duration::ZERO)?;
        let far = of("part.qcow", Duration::from_millis(5))?;
        text += &format!("| {threads} | {packed:.3} | {far:.3} |\n");
    }
    Ok(text)
}

/// The time until a result is on the medium.
fn durable(arguments: &Arguments, disk: &Path, calve: &str) -> io::Result<String> {
    std::fs::create_dir_all(disk)?;
    std::fs::copy(arguments.folder.join("plain.qcow"), disk.join("plain.qcow"))?;
    let mut text = String::from(
        "\nOn a disk, until the result is on the medium:\n\n| to | command | s |\n|---|---|---:|\n",
    );
    for format in ["raw", "qcow2"] {
        let lines = [
            format!("{calve} convert -q -O {format} plain.qcow target"),
            format!("{calve} convert -q -t none -O {format} plain.qcow target"),
            format!("qemu-img convert -m 16 -W -O {format} plain.qcow target && sync target"),
            format!("qemu-img convert -t none -m 16 -W -O {format} plain.qcow target"),
        ];
        let mut took = lines.each_ref().map(|_| Vec::new());
        for round in 0..=arguments.rounds {
            for (line, took) in lines.iter().zip(&mut took) {
                let run = fresh(disk, line)?;
                if round > 0 {
                    took.push(run.wall);
                }
            }
        }
        for (line, took) in lines.iter().zip(took) {
            let line = line.replace(calve, "calve");
            text += &format!("| {format} | `{line}` | {:.2} |\n", median(took));
        }
    }
    std::fs::remove_dir_all(disk)?;
    Ok(text)
}
