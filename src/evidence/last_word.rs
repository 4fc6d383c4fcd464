//! The last word of a worker: what came of its run, for the log that the program which started it
//! writes.

use std::io::Write;

use calve_disk::open::escaped;
use calve_evidence::Failed;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::exit::{Code, Failure};

/// Stands before it, and nowhere in what a worker prints: the record separator.
pub(crate) const MARK: u8 = 0x1E;

/// Bytes of it that are listened to. Who says more has said nothing.
pub(crate) const LONGEST: usize = 1 << 20;

/// What a worker says last, as JSON behind [`MARK`].
#[derive(Default, Serialize, Deserialize)]
pub(super) struct LastWord {
    pub(super) error: Option<Failed>,
    pub(super) result: Map<String, Value>,
}

impl LastWord {
    /// Says it on standard output, as it is.
    pub(super) fn say(&self) -> Result<(), Failure> {
        let said = serde_json::to_vec(self).map_err(std::io::Error::from).and_then(|word| {
            let mut out = std::io::stdout().lock();
            out.write_all(&[&[MARK], word.as_slice()].concat()).and_then(|()| out.flush())
        });
        said.map_err(|error| {
            Failure::new(Code::Failed, format!("telling what came of the run: {error}"))
        })
    }

    /// What was said, made harmless: whoever took the worker over may have said it.
    pub(super) fn heard(bytes: &[u8]) -> Option<Self> {
        let word = bytes.strip_prefix(&[MARK])?;
        if bytes.len() > LONGEST {
            return None;
        }
        serde_json::from_value(harmless(serde_json::from_slice(word).ok()?)).ok()
    }
}

fn harmless(value: Value) -> Value {
    match value {
        Value::String(text) => Value::String(escaped(text.as_bytes())),
        Value::Array(items) => items.into_iter().map(harmless).collect(),
        Value::Object(members) => {
            let members = members.into_iter();
            members.map(|(key, value)| (escaped(key.as_bytes()), harmless(value))).collect()
        }
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_last_word_is_heard_as_it_was_said_and_drives_no_terminal() {
        let said = b"\x1e{\"error\":null,\"result\":{\"a\\u001b\":[\"\\u202eb\",1]}}";
        let word = LastWord::heard(said).expect("a word");
        assert!(word.error.is_none());
        assert_eq!(Value::from(word.result).to_string(), r#"{"a\\u{1b}":["\\u{202e}b",1]}"#);
        let failed = LastWord {
            error: Some(Failed::new("a", Some("b"), &["c".into()])),
            ..LastWord::default()
        };
        let said = [&[MARK], serde_json::to_vec(&failed).expect("JSON").as_slice()].concat();
        let heard = LastWord::heard(&said).expect("a word").error;
        assert_eq!(serde_json::to_value(heard).ok(), serde_json::to_value(failed.error).ok());
    }

    #[test]
    fn what_is_no_last_word_is_none() {
        let long = [&[MARK], b"{\"result\":{}}".as_slice(), &vec![b' '; LONGEST]].concat();
        for said in [&b""[..], b"\x1e", b"{}", b"\x1e[1]", b"\x1e{\"result\":1}", &long] {
            assert!(LastWord::heard(said).is_none());
        }
    }
}
