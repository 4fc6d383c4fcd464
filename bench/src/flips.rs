//! Flipped bits: what each program says of a file of which one bit is another.
//!
//! Nobody is timed here. A program tells of a flip when it refuses the file or fails, a check also
//! when it finds something; else the raw result is compared with what the file held before.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use calve_testkit::{BASE_NAME, Specimen};

use crate::programs::Program;

/// Seeded flips in packed payloads of one image.
const PAYLOAD_FLIPS: usize = 1000;

/// Seconds after which a program is stopped.
const PATIENCE: &str = "2";

/// What a program made of a file.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Told,
    Right,
    Wrong,
    /// It was stopped: the disk became longer than anybody would wait for.
    Stopped,
}

/// Told, right, wrong, stopped.
type Counts = [u64; 4];

/// A program that can be asked about many files.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Reader {
    CalveCheck,
    CalveConvert,
    QemuImg,
    SevenZip,
    Libqcow,
}

const READERS: [Reader; 5] =
    [Reader::CalveCheck, Reader::CalveConvert, Reader::QemuImg, Reader::SevenZip, Reader::Libqcow];

/// Reads every file whose name comes in a line, in one process, and says what became of it.
const LIBQCOW: &str = r#"
import resource, sys, pyqcow
resource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30))
right = open("right", "rb").read()
for line in sys.stdin:
    try:
        file = pyqcow.file()
        file.open(line.strip())
        size = file.get_media_size()
        read = file.read_buffer(len(right) + 1) if size >= len(right) else b""
        if size < len(right): file.read_buffer(size)
        said = "right" if size == len(right) and read == right else "wrong"
    except Exception:
        said = "told"
    print(said, flush=True)
"#;

/// One file with one flipped bit, and the field that it is in.
struct Flip {
    field: &'static str,
    name: String,
}

impl Reader {
    fn name(self) -> &'static str {
        match self {
            Reader::CalveCheck => "calve check --deep",
            Reader::CalveConvert => "calve convert",
            Reader::QemuImg => "qemu-img convert",
            Reader::SevenZip => "7z x",
            Reader::Libqcow => "libqcow",
        }
    }

    /// What it makes of the files, one after the other.
    fn read(self, folder: &Path, calve: &str, files: &[String]) -> io::Result<Vec<Outcome>> {
        let right = fs::read(folder.join("right"))?;
        let one = |file: &String| match self {
            Reader::CalveCheck => checked(folder, calve, file, &right),
            Reader::CalveConvert => converted(folder, &[calve, "convert", "-q"], file, &right),
            Reader::QemuImg => converted(folder, &["qemu-img", "convert"], file, &right),
            Reader::SevenZip => unpacked(folder, file, &right),
            Reader::Libqcow => Ok(Outcome::Stopped),
        };
        match self {
            Reader::Libqcow => libqcow(folder, files),
            _ => files.iter().map(one).collect(),
        }
    }
}

/// The exit code of a command line that is given only so long; `None` where a signal ended it.
fn quiet(folder: &Path, line: &[&str]) -> io::Result<Option<i32>> {
    let status = Command::new("timeout")
        .current_dir(folder)
        .arg(PATIENCE)
        .args(line)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()?;
    Ok(status.code())
}

/// What a check finds. Where that is nothing, it is right if the disk is what it was: a disk that
/// cannot be had then is one of which the check should have told.
fn checked(folder: &Path, calve: &str, file: &str, right: &[u8]) -> io::Result<Outcome> {
    let words = ["check", "-q", "--sandbox=off", "--deep", "--backing-chain", file];
    Ok(match quiet(folder, &[&[calve], &words[..]].concat())? {
        Some(0) => match converted(folder, &[calve, "convert", "-q"], file, right)? {
            Outcome::Told => Outcome::Wrong,
            outcome => outcome,
        },
        Some(124) => Outcome::Stopped,
        _ => Outcome::Told,
    })
}

fn converted(folder: &Path, line: &[&str], file: &str, right: &[u8]) -> io::Result<Outcome> {
    let target = folder.join("target");
    let code = quiet(folder, &[line, &["-O", "raw", file, "target"]].concat())?;
    let outcome = match code {
        Some(0) if fs::metadata(&target)?.len() != right.len() as u64 => Outcome::Wrong,
        Some(0) if fs::read(&target)? == right => Outcome::Right,
        Some(0) => Outcome::Wrong,
        Some(124) => Outcome::Stopped,
        _ => Outcome::Told,
    };
    if target.exists() {
        fs::remove_file(&target)?;
    }
    Ok(outcome)
}

/// What 7-Zip writes to a pipe, of which no more is taken than shows that it is too much.
fn unpacked(folder: &Path, file: &str, right: &[u8]) -> io::Result<Outcome> {
    let mut child = Command::new("timeout")
        .current_dir(folder)
        .args([PATIENCE, Program::seven_zip(), "x", "-so", "-tqcow", file])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()?;
    let mut bytes = Vec::new();
    if let Some(out) = child.stdout.take() {
        out.take(right.len() as u64 + 1).read_to_end(&mut bytes)?;
    }
    let is_longer = bytes.len() > right.len();
    let code = child.wait()?.code();
    Ok(match code {
        _ if is_longer => Outcome::Wrong,
        Some(0) if bytes == right => Outcome::Right,
        Some(0) => Outcome::Wrong,
        Some(124) => Outcome::Stopped,
        _ => Outcome::Told,
    })
}

/// One process for all files; where it dies, another one goes on with the next file.
fn libqcow(folder: &Path, files: &[String]) -> io::Result<Vec<Outcome>> {
    let mut outcomes = Vec::new();
    while outcomes.len() < files.len() {
        fs::write(folder.join("files"), files[outcomes.len()..].join("\n"))?;
        let output = Command::new("python3")
            .current_dir(folder)
            .args(["-c", LIBQCOW])
            .stdin(File::open(folder.join("files"))?)
            .stderr(Stdio::null())
            .output()?;
        let said = String::from_utf8_lossy(&output.stdout);
        outcomes.extend(said.lines().map(|line| match line {
            "right" => Outcome::Right,
            "wrong" => Outcome::Wrong,
            _ => Outcome::Told,
        }));
        if outcomes.len() < files.len() {
            // It died of this one, and that was to be seen.
            outcomes.push(Outcome::Told);
        }
    }
    Ok(outcomes)
}

/// The table of every program on every image. Of the bits of L2 tables one in `every` is flipped.
pub(crate) fn table(folder: &Path, calve: &str, every: usize) -> io::Result<String> {
    let mut text = String::from(
        "\nOne flipped bit a file: told of / right content / silently wrong content (stopped \
         after 2 s):\n",
    );
    for specimen in [Specimen::small_plain(), Specimen::small_packed(), Specimen::small_overlay()] {
        let folder = folder.join("flips");
        fs::create_dir_all(&folder)?;
        text += &one(&folder, calve, &specimen, every)?;
        fs::remove_dir_all(&folder)?;
    }
    Ok(text)
}

fn one(folder: &Path, calve: &str, specimen: &Specimen, every: usize) -> io::Result<String> {
    fs::write(folder.join("intact"), &specimen.image)?;
    let base: Vec<_> = specimen.base.iter().flatten().copied().map(Some).collect();
    let right = calve_testkit::read(&specimen.image, None, &base);
    let right: Vec<u8> = right.into_iter().map(Option::unwrap_or_default).collect();
    fs::write(folder.join("right"), right)?;
    if let Some(base) = &specimen.base {
        fs::write(folder.join(BASE_NAME), base)?;
    }
    let mut flips = Vec::new();
    let payload =
        specimen.payload_bits(PAYLOAD_FLIPS).into_iter().map(|bit| ("packed payload", bit));
    let bits = specimen.bits().enumerate().filter_map(|(number, (field, bit))| {
        (!field.starts_with("L2,") || number % every == 0).then_some((field, bit))
    });
    for (number, (field, bit)) in bits.chain(payload).enumerate() {
        let name = format!("{number}.qcow");
        File::create(folder.join(&name))?.write_all(&specimen.flipped(bit))?;
        flips.push(Flip { field, name });
    }
    let mut columns: Vec<(Reader, Option<BTreeMap<&str, Counts>>)> = Vec::new();
    for reader in READERS {
        columns.push((reader, column(reader, folder, calve, &flips)?));
    }
    let mut fields: Vec<&str> = Vec::new();
    for flip in &flips {
        if !fields.contains(&flip.field) {
            fields.push(flip.field);
        }
    }
    let mut text = format!("\n{}, {} files:\n\n| field |", specimen.name, flips.len());
    for (reader, _) in &columns {
        text += &format!(" {} |", reader.name());
    }
    text += &format!("\n|---|{}\n", "---:|".repeat(columns.len()));
    for field in fields {
        text += &format!("| {field} |");
        for (_, counts) in &columns {
            text += &match counts {
                Some(counts) => cell(counts[field]),
                None => " - |".into(),
            };
        }
        text.push('\n');
    }
    for (reader, _) in columns.iter().filter(|(_, counts)| counts.is_none()) {
        text += &format!("\n{} is not here, or does not read the intact file.\n", reader.name());
    }
    Ok(text)
}

fn cell([told, right, wrong, stopped]: Counts) -> String {
    match stopped {
        0 => format!(" {told} / {right} / {wrong} |"),
        _ => format!(" {told} / {right} / {wrong} ({stopped}) |"),
    }
}

/// The counts of one program by field; nothing where it does not read even the intact file.
fn column(
    reader: Reader,
    folder: &Path,
    calve: &str,
    flips: &[Flip],
) -> io::Result<Option<BTreeMap<&'static str, Counts>>> {
    if reader.read(folder, calve, &["intact".into()])? != [Outcome::Right] {
        return Ok(None);
    }
    let files: Vec<String> = flips.iter().map(|flip| flip.name.clone()).collect();
    let mut counts: BTreeMap<&str, Counts> = BTreeMap::new();
    for (flip, outcome) in flips.iter().zip(reader.read(folder, calve, &files)?) {
        let place = match outcome {
            Outcome::Told => 0,
            Outcome::Right => 1,
            Outcome::Wrong => 2,
            Outcome::Stopped => 3,
        };
        counts.entry(flip.field).or_default()[place] += 1;
    }
    Ok(Some(counts))
}
