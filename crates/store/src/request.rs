//! What is asked of a store, and what it answers.

use std::io::Read;
use std::time::Duration;

use ureq::http::{HeaderMap, Method};

use crate::error::{Error, Kind};
use crate::limits::{ATTEMPTS, LONGEST_ANSWER};
use crate::name::ObjectName;
use crate::part;

/// What is asked of the store.
pub(crate) struct Request<'a> {
    pub(crate) name: &'a ObjectName,
    /// What it is for, as in "reading it".
    pub(crate) doing: &'a str,
    pub(crate) method: Method,
    pub(crate) query: &'a [(&'a str, String)],
    /// Names in small letters.
    pub(crate) headers: &'a [(&'a str, String)],
    pub(crate) body: Body<'a>,
    /// Bytes that the answer has about.
    pub(crate) expected: u64,
    /// Whether the server may take long before it answers.
    pub(crate) is_slow: bool,
    /// How often it is sent at most.
    pub(crate) attempts: u32,
    /// How long each time may take, in place of what is usual.
    pub(crate) limit: Option<Duration>,
    /// Whether it is not sent any more where the run is to stop.
    pub(crate) heeds_stop: bool,
    /// Whether it ends on its way where the run is to stop. What may have come off by then has a while.
    pub(crate) ends_at_once: bool,
}

impl<'a> Request<'a> {
    /// One without anything special about it.
    pub(crate) fn new(method: Method, name: &'a ObjectName, doing: &'a str) -> Self {
        Self {
            name,
            doing,
            method,
            query: &[],
            headers: &[],
            body: Body::None,
            expected: 0,
            is_slow: false,
            attempts: ATTEMPTS,
            limit: None,
            heeds_stop: true,
            ends_at_once: true,
        }
    }

    pub(crate) fn error(&self, kind: Kind, why: impl Into<String>) -> Error {
        Error::new(kind, &self.name.path(), self.doing, why)
    }
}

/// What a request carries.
pub(crate) enum Body<'a> {
    None,
    Bytes(&'a [u8]),
    Part(&'a part::Part<'a>),
}

/// What the server answered, as far as its head goes.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: ureq::Body,
}

impl Answer {
    /// A header, where it is there and plain.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// The document in the body. One that is too long is cut.
    pub(crate) fn text(&mut self) -> std::result::Result<String, Failed> {
        self.text_of(LONGEST_ANSWER)
    }

    /// The same of a document that may have so many bytes.
    pub(crate) fn text_of(&mut self, most: u64) -> std::result::Result<String, Failed> {
        let mut bytes = Vec::new();
        let mut reader = self.body.as_reader().take(most);
        let read = reader.read_to_end(&mut bytes);
        read.map_err(|error| Failed::Again(format!("its answer broke off: {error}")))?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }
}

/// Why nothing came of a request.
pub(crate) enum Failed {
    /// It may work when it is sent again.
    Again(String),
    /// It will not.
    Finally(Error),
}

impl From<Error> for Failed {
    fn from(error: Error) -> Self {
        Self::Finally(error)
    }
}
