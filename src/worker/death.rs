//! How a worker died, and what is told of it.

use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::Duration;

use calve_confine::Limits;
use calve_disk::open::shown;
use calve_disk::{Finding, Rule};
use nix::sys::signal::Signal;

use crate::exit::{Code, Failure};

/// A worker that did not end by itself.
#[derive(Debug)]
pub(crate) struct Death {
    /// The image that it read, the first where there were several.
    pub(crate) path: PathBuf,
    /// How it ended, as the end of a sentence about it.
    pub(crate) how: String,
}

impl Death {
    /// The finding that it is.
    pub(crate) const FINDING: Finding = Finding::new(Rule::WorkerDied);

    /// The death that the status of a process tells of, or else its code.
    pub(super) fn of(status: ExitStatus, path: &Path, limits: Limits) -> Result<Code, Self> {
        let known = |number: i32| u8::try_from(number).ok().and_then(Code::of_number);
        let how = match (status.code(), status.signal()) {
            (Some(number), _) => match known(number) {
                Some(code) => return Ok(code),
                None if number == PANICKED => "it panicked".to_owned(),
                None => format!("it ended with {number}, which is no code of this program"),
            },
            (None, Some(signal)) => by_signal(signal, limits),
            (None, None) => status.to_string(),
        };
        Err(Self { path: path.to_owned(), how })
    }

    /// The death of a worker that was ended because it did nothing for so long.
    pub(super) fn hung(path: &Path, wait: Duration) -> Self {
        let how = format!("it had not ended after {} seconds, and was ended", wait.as_secs());
        Self { path: path.to_owned(), how }
    }
}

/// What Rust programs end with where they panic.
const PANICKED: i32 = 101;

fn by_signal(number: i32, limits: Limits) -> String {
    match Signal::try_from(number) {
        Ok(Signal::SIGXCPU) => {
            format!("it had used up its {} seconds of processor time", limits.seconds)
        }
        Ok(Signal::SIGABRT) => format!(
            "it gave up (SIGABRT), as it does without memory; it had {} MiB",
            limits.memory >> 20
        ),
        Ok(signal) => format!("it was killed by signal {number} ({signal})"),
        Err(_) => format!("it was killed by signal {number}"),
    }
}

/// A worker's death as an error, for verbs without a report of their own.
pub(crate) fn told(death: &Death) -> Result<Code, Failure> {
    let path = shown(&death.path);
    let text = format!("{path}: {}: {}", Death::FINDING, death.how);
    Err(Failure::new(Code::Damaged, text).next(Rule::WorkerDied.next()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ended(raw: i32) -> Result<Code, String> {
        let status = ExitStatus::from_raw(raw);
        Death::of(status, Path::new("x"), Limits::for_reading(0)).map_err(|death| death.how)
    }

    #[test]
    fn codes_of_this_program_are_codes_and_all_else_is_a_death() {
        assert_eq!(ended(0), Ok(Code::Done));
        assert_eq!(ended(10 << 8), Ok(Code::Damaged));
        assert_eq!(ended(101 << 8), Err("it panicked".into()));
        assert!(ended(77 << 8).expect_err("no code").contains("77"));
        assert!(ended(11).expect_err("a signal").contains("SIGSEGV"));
        assert!(ended(6).expect_err("a signal").contains("512 MiB"));
        assert!(ended(24).expect_err("a signal").contains("60 seconds"));
    }

    #[test]
    fn a_death_is_told_with_file_rule_and_next_step() {
        let death = Death::hung(Path::new("a\x1bb"), Duration::from_secs(600));
        let failure = told(&death).expect_err("an error");
        assert_eq!(failure.code, Code::Damaged);
        assert!(failure.text.starts_with("a\\u{1b}b: the worker that read this file died [H2]: "));
        assert!(failure.text.contains("600 seconds"));
    }
}
