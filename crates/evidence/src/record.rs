//! Record: what was run, what it read and what came of it, as one document.

use std::ffi::{CStr, OsStr, OsString};
use std::fmt::Write;
use std::time::{SystemTime, UNIX_EPOCH};

use calve_disk::open::escaped;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::look::{Look, time};
use crate::witness::{Role, Witness};

/// The number of the schema in `docs/evidence.md`. It grows when a key changes its meaning or
/// goes away; new keys do not change it.
const SCHEMA: u32 = 1;

/// All that the log says, in the order in which it says it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Record {
    schema: u32,
    #[serde(flatten)]
    run: Run,
    ended: String,
    exit_code: u8,
    error: Option<Failed>,
    unchanged: Option<bool>,
    files: Vec<File>,
    result: Map<String, Value>,
}

/// What was run, where and when.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Run {
    program: String,
    verb: String,
    command_line: Vec<String>,
    folder: Option<String>,
    host: String,
    system: String,
    user_id: u32,
    started: String,
}

impl Run {
    /// A run that begins now, here. `program` has its version with it, and `command_line` is
    /// without the secrets among its words.
    pub fn begin(program: &str, verb: &str, command_line: &[OsString]) -> Self {
        let name = rustix::system::uname();
        let text = |text: &CStr| escaped(text.to_bytes());
        Self {
            program: program.to_owned(),
            verb: verb.to_owned(),
            command_line: command_line.iter().map(|word| readable(word)).collect(),
            folder: std::env::current_dir().ok().map(|folder| readable(folder.as_os_str())),
            host: text(name.nodename()),
            system: [name.sysname(), name.release(), name.machine()].map(text).join(" "),
            user_id: rustix::process::getuid().as_raw(),
            started: now(),
        }
    }
}

/// What did not work.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Failed {
    text: String,
    next: Option<String>,
    places: Vec<String>,
}

impl Failed {
    /// The fact, what to do next, and the places of damage, as they are told to people.
    pub fn new(text: &str, next: Option<&str>, places: &[String]) -> Self {
        let readable = |text: &str| escaped(text.as_bytes());
        Self {
            text: readable(text),
            next: next.map(readable),
            places: places.iter().map(|place| readable(place)).collect(),
        }
    }
}

/// One name of one file that was read.
#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
struct File {
    role: Role,
    path: String,
    /// Where the path is not all of what the name is.
    path_bytes: Option<String>,
    unchanged: Option<bool>,
    before: Option<Look>,
    after: Option<Look>,
}

impl Record {
    /// What `run` came to, ending now.
    pub fn new(
        run: Run,
        witness: &Witness,
        exit_code: u8,
        error: Option<Failed>,
        result: Map<String, Value>,
    ) -> Self {
        let files: Vec<File> = witness
            .files()
            .iter()
            .flat_map(|watched| {
                watched.names.iter().map(|(role, path)| File {
                    role: *role,
                    path: readable(path.as_os_str()),
                    path_bytes: exact(path.as_os_str()),
                    unchanged: watched.is_unchanged(),
                    before: watched.before.clone(),
                    after: watched.after.clone(),
                })
            })
            .collect();
        let unchanged = all(files.iter().map(|file| file.unchanged));
        Self { schema: SCHEMA, run, ended: now(), exit_code, error, unchanged, files, result }
    }
}

/// False where one is; else `None` where one is not known, or where there is none.
fn all(answers: impl Iterator<Item = Option<bool>>) -> Option<bool> {
    let mut all = None;
    for (number, answer) in answers.enumerate() {
        match answer {
            Some(false) => return Some(false),
            answer if number == 0 => all = answer,
            None => all = None,
            Some(true) => {}
        }
    }
    all
}

/// The present time as RFC 3339 has it, in UTC.
pub(crate) fn now() -> String {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    time(i64::try_from(since.as_secs()).unwrap_or(i64::MAX), i64::from(since.subsec_nanos()))
}

fn readable(name: &OsStr) -> String {
    escaped(name.as_encoded_bytes())
}

/// The bytes of a name in hexadecimal digits, where something had to be escaped.
fn exact(name: &OsStr) -> Option<String> {
    let bytes = name.as_encoded_bytes();
    let mut digits = String::new();
    // Writing to a string cannot fail.
    bytes.iter().for_each(|byte| _ = write!(digits, "{byte:02x}"));
    (readable(name).as_bytes() != bytes).then_some(digits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_file_that_changed_is_enough_and_one_that_is_unknown_too() {
        let of = |answers: &[Option<bool>]| all(answers.iter().copied());
        assert_eq!(of(&[]), None);
        assert_eq!(of(&[Some(true), Some(true)]), Some(true));
        assert_eq!(of(&[Some(true), None, Some(true)]), None);
        assert_eq!(of(&[None, Some(true)]), None);
        assert_eq!(of(&[None, Some(false)]), Some(false));
    }

    #[test]
    fn names_that_cannot_be_read_stand_there_in_bytes_too() {
        use std::os::unix::ffi::OsStrExt;
        assert_eq!(exact(OsStr::new("old.qcow")), None);
        let name = OsStr::from_bytes(b"a\nb\xe9");
        assert_eq!(readable(name), "a\\nb\\xe9");
        assert_eq!(exact(name).as_deref(), Some("610a62e9"));
    }
}
