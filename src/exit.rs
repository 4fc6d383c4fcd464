//! Exit codes, and what an error becomes at the edge: one line and one code.

use std::io;

use calve_convert::{CompareError, Error as ConvertError, Loss};
use calve_disk::{Error as DiskError, Finding, Format};
use calve_evidence::Error as EvidenceError;
use calve_fleet::Error as FleetError;
use calve_migrate::{Cause, Error as MigrateError};
use calve_plan::Error as PlanError;
use calve_repair::Error as RepairError;
use calve_report::Error as ReportError;
use calve_rescue::Error as RescueError;
use calve_upgrade::Error as UpgradeError;

use crate::print;

/// The exit codes, frozen: `docs/exit-codes.md`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Code {
    Done,
    /// Failed; of `compare`: the disks differ.
    Failed,
    /// Of `check`: there is corruption; of `compare`: an image could not be opened.
    Corruption,
    /// Of `check`: there are leaks only; of `compare`: where bytes are could not be told.
    Leaks,
    /// Done, with recorded losses; of `compare`: bytes could not be read.
    Losses,
    Damaged,
    /// Some images of a batch were not migrated.
    Partly,
    Key,
    Base,
    Changed,
    InUse,
    NoSpace,
    Mismatch,
    Refused,
    Unsupported,
    Usage,
    /// The budget is reached, or shards are missing: later again.
    Later,
    /// Stopped by SIGTERM, and the next run goes on.
    Checkpoint,
    /// Stopped by this signal.
    Signal(u8),
}

impl Code {
    pub(crate) const fn number(self) -> u8 {
        match self {
            Code::Done => 0,
            Code::Failed => 1,
            Code::Corruption => 2,
            Code::Leaks => 3,
            Code::Losses => 4,
            Code::Damaged => 10,
            Code::Partly => 11,
            Code::Key => 12,
            Code::Base => 13,
            Code::Changed => 14,
            Code::InUse => 15,
            Code::NoSpace => 16,
            Code::Mismatch => 17,
            Code::Refused => 18,
            Code::Unsupported => 63,
            Code::Usage => 64,
            Code::Later => 75,
            Code::Checkpoint => 85,
            Code::Signal(number) => 128 + number,
        }
    }

    /// The code of this number, if there is one.
    pub(crate) fn of_number(number: u8) -> Option<Self> {
        let signals = [1, 2, 15].map(Code::Signal);
        Self::ALL.iter().copied().chain(signals).find(|code| code.number() == number)
    }

    /// All codes but those of signals.
    const ALL: &'static [Self] = &[
        Code::Done,
        Code::Failed,
        Code::Corruption,
        Code::Leaks,
        Code::Losses,
        Code::Damaged,
        Code::Partly,
        Code::Key,
        Code::Base,
        Code::Changed,
        Code::InUse,
        Code::NoSpace,
        Code::Mismatch,
        Code::Refused,
        Code::Unsupported,
        Code::Usage,
        Code::Later,
        Code::Checkpoint,
    ];
}

/// What is printed and returned where something did not work.
#[derive(Clone, Debug)]
pub(crate) struct Failure {
    pub(crate) code: Code,
    /// The fact: one line.
    pub(crate) text: String,
    /// What to do next, as the end of that line.
    pub(crate) next: Option<String>,
    /// Lines that come before it: the places of damage.
    pub(crate) places: Vec<String>,
}

impl Failure {
    pub(crate) fn new(code: Code, text: impl Into<String>) -> Self {
        Self { code, text: text.into(), next: None, places: Vec::new() }
    }

    pub(crate) fn usage(text: impl Into<String>) -> Self {
        Self::new(Code::Usage, text)
    }

    /// What the host said of something, with the code and the next thing to do for that.
    pub(crate) fn host(text: impl Into<String>, source: &io::Error) -> Self {
        let (code, next) = host_error(source);
        Self { next: next.map(str::to_owned), ..Self::new(code, text) }
    }

    /// Standard output did not take what was written to it.
    pub(crate) fn not_printed(error: &io::Error) -> Self {
        match Self::host(format!("writing to standard output: {error}"), error) {
            full @ Self { code: Code::NoSpace, .. } => full.next("make room where it leads to"),
            other => other,
        }
    }

    #[must_use]
    pub(crate) fn next(self, next: impl Into<String>) -> Self {
        Self { next: Some(next.into()), ..self }
    }

    /// The same failure under the code that `compare` has for it.
    #[must_use]
    pub(crate) fn with_code(self, code: Code) -> Self {
        Self { code, ..self }
    }
}

/// The refusal to make what this program exists to replace.
pub(crate) fn would_create_v1() -> Failure {
    Failure::new(Code::Refused, "QCOW version 1 is deprecated and no new image is made of it")
        .next("write -O qcow2 (create: -f qcow2) for everything it could do and more, or raw")
}

/// The format of that name.
pub(crate) fn format_named(name: &str) -> Result<Format, Failure> {
    Format::from_name(name).ok_or_else(|| {
        let text = format!("the format '{name}' is not supported");
        Failure::new(Code::Unsupported, text).next("raw, qcow and qcow2 are")
    })
}

impl From<DiskError> for Failure {
    fn from(error: DiskError) -> Self {
        let text = error.to_string();
        let (code, next) = match &error {
            DiskError::Io { source, .. } => host_error(source),
            DiskError::NotThisFormat { .. } | DiskError::Unsupported { .. } => {
                (Code::Unsupported, None)
            }
            DiskError::Broken { finding, .. } => (Code::Damaged, Some(finding.rule.next())),
            DiskError::Refused { .. } => (Code::Refused, None),
            DiskError::Key { .. } => (
                Code::Key,
                Some("give it with --passphrase-file, with --passphrase-fd or at a terminal"),
            ),
            DiskError::Base { .. } => (
                Code::Base,
                Some("name the base itself with --base, or allow its folder with --base-root"),
            ),
            DiskError::InUse { .. } => (
                Code::InUse,
                Some("end the program that uses it, or add -U to read it all the same"),
            ),
            DiskError::Changed { .. } => {
                (Code::Changed, Some("stop whatever writes to it, then run this again"))
            }
            _ => (Code::Failed, None),
        };
        Self { code, text, next: next.map(str::to_owned), places: Vec::new() }
    }
}

pub(crate) fn host_error(source: &io::Error) -> (Code, Option<&'static str>) {
    if let Some(error) = calve_store::Error::behind(source) {
        return crate::store::outcome(error);
    }
    match source.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
            (Code::NoSpace, Some("make room, or name a target on another file system"))
        }
        io::ErrorKind::NotFound => (Code::Failed, Some("look at how the name is spelled")),
        io::ErrorKind::PermissionDenied => {
            (Code::Failed, Some("run this as a user who may, or change the permissions"))
        }
        io::ErrorKind::UnexpectedEof => {
            (Code::Changed, Some("the file became shorter: stop whatever writes to it"))
        }
        _ => (Code::Failed, None),
    }
}

impl From<ConvertError> for Failure {
    fn from(error: ConvertError) -> Self {
        let text = error.to_string();
        match error {
            ConvertError::Disk(error) => error.into(),
            ConvertError::Lost { first, at_least, .. } => {
                let more = if at_least { "at least " } else { "" };
                let text = text.replacen(": ", &format!(": the disk has {more}"), 1);
                let mut failure = Self::new(Code::Damaged, text)
                    .next("--salvage goes on without them, --map FILE then lists them");
                failure.places = first.iter().map(place).collect();
                failure
            }
            ConvertError::Target { .. } => Self::new(Code::Refused, text),
            ConvertError::Mismatch { .. } => Self::new(Code::Mismatch, text)
                .next("it was removed; test this machine's memory and disk, then run this again"),
            ConvertError::Stopped => stopped(),
            _ => Self::new(Code::Failed, text),
        }
    }
}

/// What to do where an upgrade has no room.
const NO_ROOM: &str = "the image is as it was; make room, or convert it to another file system";

impl From<UpgradeError> for Failure {
    fn from(error: UpgradeError) -> Self {
        let text = error.to_string();
        match error {
            UpgradeError::Disk(error) => {
                let failure = Self::from(error);
                match failure.code {
                    Code::Damaged => failure.next(
                        "nothing was changed; look for a better copy, or take what is left: \
                         calve convert --salvage",
                    ),
                    Code::InUse => failure.next("end the program that uses it"),
                    Code::NoSpace => failure.next(NO_ROOM),
                    _ => failure,
                }
            }
            UpgradeError::Refused { next, .. } => Self::new(Code::Refused, text).next(next),
            UpgradeError::NoSpace { .. } => Self::new(Code::NoSpace, text).next(NO_ROOM),
            UpgradeError::Mismatch { .. } => Self::new(Code::Mismatch, text).next(
                "it was made what it was before; test this machine's memory and disk, then run \
                 this again",
            ),
            UpgradeError::Record(_) => Self::new(Code::Failed, text)
                .next("the image itself was not changed by that; look at the record"),
            UpgradeError::HalfWay { failure, .. } => {
                let code = Self::from(*failure).code;
                Self::new(code, text).next("calve upgrade --recover settles it; nothing is lost")
            }
            UpgradeError::Stopped => stopped(),
            _ => Self::new(Code::Failed, text),
        }
    }
}

impl From<RepairError> for Failure {
    fn from(error: RepairError) -> Self {
        let text = error.to_string();
        match error {
            RepairError::Disk(error) => match Self::from(error) {
                failure @ Self { code: Code::InUse, .. } => {
                    failure.next("end the program that uses it")
                }
                failure @ Self { code: Code::NoSpace, .. } => failure.next(NO_ROOM_TO_COPY),
                failure => failure,
            },
            RepairError::NoSpace { .. } => Self::new(Code::NoSpace, text).next(NO_ROOM_TO_COPY),
            RepairError::Record(_) => Self::new(Code::Failed, text)
                .next("the image is sound as it is; look at the record"),
            RepairError::HalfWay { failure, .. } => {
                let code = Self::from(*failure).code;
                Self::new(code, text).next("check -r again settles it; nothing is lost")
            }
            RepairError::Stopped => {
                stopped().next("what was told is mended, and nothing else; check -r again goes on")
            }
            _ => Self::new(Code::Failed, text),
        }
    }
}

/// What to do where copies have no room.
const NO_ROOM_TO_COPY: &str = "make room, or rescue what is there to another file system";

impl From<EvidenceError> for Failure {
    fn from(error: EvidenceError) -> Self {
        let text = error.to_string();
        match error {
            EvidenceError::Disk(error) => error.into(),
            EvidenceError::Stopped => stopped(),
            EvidenceError::Refused { .. } => Self::new(Code::Refused, text),
            _ => Self::new(Code::Failed, text),
        }
    }
}

/// What to do where a catalogue, a journal or what stands beside it has no room.
const MAKE_ROOM: &str = "make room on its file system, then run the same again";

/// The same of what has no name.
const MAKE_TEMPORARY_ROOM: &str =
    "make room where temporary files are kept, or name another folder in TMPDIR";

impl From<FleetError> for Failure {
    fn from(error: FleetError) -> Self {
        let text = error.to_string();
        match error {
            FleetError::Foreign { .. } => Self::new(Code::Refused, text).next(
                "name another file; calve scan --catalogue FILE makes one where there is none",
            ),
            FleetError::Confirmed { .. } => Self::new(Code::Refused, text)
                .next("name another base, or scan the folder where it lies first"),
            FleetError::Catalogue { is_full: true, path, .. } => {
                let is_temporary = path.as_os_str() == calve_fleet::Catalogue::TEMPORARY;
                let next = if is_temporary { MAKE_TEMPORARY_ROOM } else { MAKE_ROOM };
                Self::new(Code::NoSpace, text).next(next)
            }
            FleetError::Catalogue { .. } => Self::new(Code::Failed, text)
                .next("look at its folder: who may write there, and its room"),
            _ => Self::new(Code::Failed, text),
        }
    }
}

impl From<MigrateError> for Failure {
    fn from(error: MigrateError) -> Self {
        let text = error.to_string();
        let code = match error.cause() {
            Cause::Host | Cause::Hook => Code::Failed,
            Cause::Damaged => Code::Damaged,
            Cause::Key => Code::Key,
            Cause::Base => Code::Base,
            Cause::Changed => Code::Changed,
            Cause::InUse => Code::InUse,
            Cause::NoSpace => Code::NoSpace,
            Cause::Mismatch => Code::Mismatch,
            Cause::Refused => Code::Refused,
            Cause::Stopped => return stopped(),
        };
        let next = match error {
            _ if code == Code::NoSpace => Some(MAKE_ROOM),
            MigrateError::Journal { .. } => {
                Some("look at its folder: who may write there, and its room")
            }
            _ => None,
        };
        Self { next: next.map(str::to_owned), ..Self::new(code, text) }
    }
}

impl From<ReportError> for Failure {
    fn from(error: ReportError) -> Self {
        let text = error.to_string();
        match error {
            ReportError::Disk(error) => error.into(),
            ReportError::Fleet(error) => error.into(),
            ReportError::Migrate(error) => error.into(),
            ReportError::Plan(error) => error.into(),
            ReportError::Host { source, .. } => Self::host(text, &source),
            ReportError::Changed { .. } => {
                Self::new(Code::Changed, text).next("run this again when nobody writes to it")
            }
            ReportError::Refused { .. } => Self::new(Code::Refused, text),
            ReportError::Gathered(source) => {
                let is_full = calve_fleet::is_full(&source, &std::env::temp_dir());
                let code = if is_full { Code::NoSpace } else { Code::Failed };
                Self::new(code, text).next(MAKE_TEMPORARY_ROOM)
            }
            ReportError::Write(source) => Self::host(text, &source),
            _ => Self::new(Code::Failed, text),
        }
    }
}

impl From<PlanError> for Failure {
    fn from(error: PlanError) -> Self {
        let text = error.to_string();
        match error {
            PlanError::Fleet(error) => error.into(),
            PlanError::Host { source, .. } => Self::host(text, &source),
            PlanError::Line { .. } => {
                Self::new(Code::Refused, text).next("mend that line, or make the plan anew")
            }
            PlanError::Stopped => stopped(),
            _ => Self::new(Code::Failed, text),
        }
    }
}

impl From<RescueError> for Failure {
    fn from(error: RescueError) -> Self {
        let text = error.to_string();
        match error {
            RescueError::Disk(error) => error.into(),
            RescueError::Map { .. } => Self::new(Code::Refused, text)
                .next("name another with --map, or begin anew without it"),
            RescueError::Target { .. } => {
                Self::new(Code::Refused, text).next("name another target, or remove what is there")
            }
            RescueError::Stopped => {
                stopped().next("what was rescued is kept; run the same again to go on")
            }
            _ => Self::new(Code::Failed, text),
        }
    }
}

impl From<CompareError> for Failure {
    fn from(error: CompareError) -> Self {
        match error {
            CompareError::Map(error) => Self::from(error).with_code(Code::Leaks),
            CompareError::Read(error) => match Self::from(error) {
                changed @ Self { code: Code::Changed, .. } => changed,
                other => other.with_code(Code::Losses),
            },
            CompareError::Stopped => stopped(),
            error => Self::new(Code::Failed, error.to_string()),
        }
    }
}

/// The code of the signal that stopped the run.
pub(crate) fn stopped() -> Failure {
    let signal = crate::signals::received().unwrap_or(2);
    Failure::new(Code::Signal(signal), format!("stopped by signal {signal}"))
        .next("nothing was left behind")
}

/// One lost range, as a line of its own.
fn place(loss: &Loss) -> String {
    let finding = Finding::new(loss.lost.rule).at(loss.lost.at).guest(loss.range);
    format!("lost: {finding}")
}

const DOCUMENT: &str = include_str!("../docs/exit-codes.md");

/// Prints what the document says of a code.
pub(crate) fn explain(code: u8) -> Result<(), Failure> {
    let heading = format!("\n## {code}: ");
    let Some((_, section)) = DOCUMENT.split_once(&heading) else {
        return Err(Failure::usage(format!("there is no exit code {code}"))
            .next("docs/exit-codes.md lists them"));
    };
    let section = section.split("\n## ").next().unwrap_or_default();
    print::out(&format!("{code}: {}\n", section.trim_end()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_is_in_the_document() {
        let signals = [1, 2, 15].map(Code::Signal);
        for code in Code::ALL.iter().copied().chain(signals) {
            let heading = format!("\n## {}: ", code.number());
            assert_eq!(DOCUMENT.matches(&heading).count(), 1, "{code:?}");
            assert_eq!(Code::of_number(code.number()), Some(code));
        }
    }
}
