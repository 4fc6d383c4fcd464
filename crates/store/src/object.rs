//! One object of a store: what is asked of it.

use std::io::Read;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use ureq::http::Method;

use crate::client::{Store, Traffic};
use crate::error::{Error, Kind, Result};
use crate::limits::{BLOCK, LONGEST_OBJECT};
use crate::name::ObjectName;
use crate::request::{Answer, Body, Failed, Request};

/// An object, which need not be there.
#[derive(Clone)]
pub struct Object {
    pub(crate) store: Arc<Store>,
    name: ObjectName,
}

/// The tag (`ETag`) of an object or a part. With quotes or without, it is the same.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Tag(String);

impl Tag {
    /// The tag that a server writes so, unless it is none.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        // A proxy that changed how the answer travels marks it.
        let text = text.trim();
        let bare = text.strip_prefix("W/").unwrap_or(text).trim_matches('"');
        (!bare.is_empty()).then(|| Self(bare.to_owned()))
    }

    /// A number that stands for it, as lists of stores are kept with.
    pub fn number(&self) -> u64 {
        crate::signing::number(&self.0)
    }

    /// Without quotes.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// As headers and documents have it.
    pub(crate) fn quoted(&self) -> String {
        format!("\"{}\"", self.0)
    }
}

/// What the head of an object says of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Head {
    /// Its length in bytes.
    pub size: u64,
    /// The tag of just this content.
    pub tag: Tag,
    /// Headers that a new object of its content has to have too.
    pub(crate) kept: Vec<(String, String)>,
    /// The name of one of those whose value cannot be sent again as it is.
    pub(crate) lost: Option<String>,
}

/// What has to hold when an object gets its name.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Condition {
    /// Nothing: whatever is there is replaced.
    Any,
    /// There is none of this name.
    IsNew,
    /// It is still the one of this tag.
    Is(Tag),
}

impl Condition {
    pub(crate) fn header(&self) -> Option<(&'static str, String)> {
        match self {
            Condition::Any => None,
            Condition::IsNew => Some(("if-none-match", "*".into())),
            Condition::Is(tag) => Some(("if-match", tag.quoted())),
        }
    }
}

/// Headers of an object that belong to it, but for those of its own users, which begin with
/// [`USERS`].
const OWN: &[&str] = &[
    "cache-control",
    "content-disposition",
    "content-encoding",
    "content-language",
    "content-type",
    "expires",
    "x-amz-server-side-encryption",
    "x-amz-server-side-encryption-aws-kms-key-id",
    "x-amz-server-side-encryption-bucket-key-enabled",
    "x-amz-storage-class",
    "x-amz-website-redirect-location",
];
const USERS: &str = "x-amz-meta-";

impl Object {
    /// The object of that name in a store.
    pub fn new(store: &Arc<Store>, name: ObjectName) -> Self {
        Self { store: Arc::clone(store), name }
    }

    /// What it is called.
    pub fn name(&self) -> &ObjectName {
        &self.name
    }

    /// What went to and fro between here and its store.
    pub fn traffic(&self) -> &Traffic {
        self.store.traffic()
    }

    /// Has its store ask nothing again where `stop` says that the run is to stop.
    pub fn heed(&self, stop: &Arc<AtomicBool>) {
        self.store.heed(Arc::clone(stop));
    }

    /// The object beside it whose key is longer by `suffix`.
    #[must_use]
    pub fn with_suffix(&self, suffix: &str) -> Self {
        Self { store: Arc::clone(&self.store), name: self.name.with_suffix(suffix) }
    }

    /// What its head says, or `None` where there is no such object.
    ///
    /// # Errors
    /// Where it cannot be told.
    pub fn head(&self) -> Result<Option<Head>> {
        self.look(true)
    }

    /// The same, also where the run is to stop and has to know what it leaves.
    pub(crate) fn last_head(&self) -> Result<Option<Head>> {
        self.look(false)
    }

    fn look(&self, heeds_stop: bool) -> Result<Option<Head>> {
        let request =
            Request { heeds_stop, ..Request::new(Method::HEAD, &self.name, "looking at it") };
        let head = self.store.ask(&request, |answer| {
            let size = answer.header("content-length").and_then(|size| size.parse().ok());
            let (Some(size), Some(tag)) = (size, answer.header("etag").and_then(Tag::parse)) else {
                return Err(odd(&request, "was answered without its length or its tag").into());
            };
            let is_kept = |name: &str| OWN.contains(&name) || name.starts_with(USERS);
            let (mut kept, mut lost) = (Vec::new(), None);
            for (name, value) in answer.headers.iter().filter(|(name, _)| is_kept(name.as_str())) {
                match value.to_str() {
                    Ok(value) => kept.push((name.as_str().to_owned(), value.to_owned())),
                    Err(_) => lost = Some(name.as_str().to_owned()),
                }
            }
            Ok(Head { size, tag, kept, lost })
        });
        match head {
            Ok(head) => Ok(Some(head)),
            Err(Error { kind: Kind::Missing, .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// What it begins with, at most a block; how long it is, and its tag.
    pub(crate) fn start(&self) -> Result<(Vec<u8>, u64, Tag)> {
        let headers = [("range", format!("bytes=0-{}", BLOCK - 1))];
        let request = Request {
            headers: &headers,
            expected: BLOCK,
            ..Request::new(Method::GET, &self.name, "opening it")
        };
        let done = self.store.ask(&request, |answer| {
            let tag = tag_of(answer, &request)?;
            let (from, end, size) = range_of(answer, &request)?;
            if from != 0 || end != size.min(BLOCK) {
                return Err(odd(&request, "was answered with another range").into());
            }
            let mut bytes = vec![0; calve_disk::units::in_memory(end)];
            read_exactly(answer, &mut bytes)?;
            Ok((bytes, size, tag))
        });
        match done {
            // There is no range in nothing.
            Err(Error { kind: Kind::Changed, .. }) => match self.head()? {
                Some(Head { size: 0, tag, .. }) => Ok((Vec::new(), 0, tag)),
                _ => Err(request.error(Kind::Changed, "failed: it is another one by now")),
            },
            done => {
                let (bytes, size, tag) = done?;
                self.store.traffic().add_received(bytes.len() as u64);
                Ok((bytes, size, tag))
            }
        }
    }

    /// Fills `out` from `at` of the object that has this tag and is `size` bytes long.
    pub(crate) fn get(&self, out: &mut [u8], at: u64, size: u64, tag: &Tag) -> Result<()> {
        let length = out.len() as u64;
        let wanted = (at, at + length, size);
        let headers =
            [("range", format!("bytes={at}-{}", at + length - 1)), ("if-match", tag.quoted())];
        let request = Request {
            headers: &headers,
            expected: length,
            ..Request::new(Method::GET, &self.name, "reading it")
        };
        let done = self.store.ask(&request, |answer| {
            let changed = || Failed::from(request.error(Kind::Changed, "failed: it changed"));
            // Some servers heed no conditions.
            if tag_of(answer, &request)? != *tag {
                return Err(changed());
            }
            match range_of(answer, &request)? {
                range if range == wanted => read_exactly(answer, out),
                (.., now) if now != size => Err(changed()),
                _ => Err(odd(&request, "was answered with another range").into()),
            }
        });
        match done {
            Ok(()) => {
                self.store.traffic().add_received(length);
                Ok(())
            }
            // It was there when it was opened.
            Err(error) if error.kind == Kind::Missing => {
                Err(Error { kind: Kind::Changed, ..error })
            }
            Err(error) => Err(error),
        }
    }

    /// All of it and its tag, where it is there and no longer than that.
    ///
    /// # Errors
    /// Where it cannot be read, or is longer.
    pub fn read(&self, longest: u64) -> Result<Option<(Vec<u8>, Tag)>> {
        let request =
            Request { expected: longest, ..Request::new(Method::GET, &self.name, "reading it") };
        let done = self.store.ask(&request, |answer| {
            let tag = tag_of(answer, &request)?;
            let mut bytes = Vec::new();
            let length: Option<u64> =
                answer.header("content-length").and_then(|it| it.parse().ok());
            let read = answer.body.as_reader().take(longest + 1).read_to_end(&mut bytes);
            read.map_err(|error| broke_off(&error))?;
            if bytes.len() as u64 > longest {
                return Err(odd(&request, "failed: it is longer than it may be").into());
            }
            match length {
                Some(length) if length != bytes.len() as u64 => Err(too_short()),
                _ => Ok((bytes, tag)),
            }
        });
        match done {
            Ok((bytes, tag)) => {
                self.store.traffic().add_received(bytes.len() as u64);
                Ok(Some((bytes, tag)))
            }
            Err(Error { kind: Kind::Missing, .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Makes an object of a few bytes where `condition` holds, and returns its tag if that is
    /// told.
    ///
    /// # Errors
    /// Where it does not come into being.
    pub fn write(&self, bytes: &[u8], condition: &Condition) -> Result<Option<Tag>> {
        let headers: Vec<(&str, String)> = condition.header().into_iter().collect();
        let request = Request {
            headers: &headers,
            body: Body::Bytes(bytes),
            ..Request::new(Method::PUT, &self.name, "writing it")
        };
        let tag =
            self.store.ask(&request, |answer| Ok(answer.header("etag").and_then(Tag::parse)))?;
        self.store.traffic().add_sent(bytes.len() as u64);
        Ok(tag)
    }

    /// Takes the object away, if there is one.
    ///
    /// # Errors
    /// Where it stays.
    pub fn remove(&self) -> Result<()> {
        let request = Request {
            // What is to go has had its time.
            heeds_stop: false,
            ..Request::new(Method::DELETE, &self.name, "removing it")
        };
        match self.store.ask(&request, |_| Ok(())) {
            Err(error) if error.kind == Kind::Missing => Ok(()),
            done => done,
        }
    }
}

fn odd(request: &Request<'_>, why: &str) -> Error {
    request.error(Kind::Odd, why)
}

fn tag_of(answer: &Answer, request: &Request<'_>) -> std::result::Result<Tag, Failed> {
    match answer.header("etag").and_then(Tag::parse) {
        Some(tag) => Ok(tag),
        None => {
            Err(odd(request, "was answered without a tag, by which a change would show").into())
        }
    }
}

/// The range that an answer has, up to before its end, and the object's length.
fn range_of(
    answer: &Answer,
    request: &Request<'_>,
) -> std::result::Result<(u64, u64, u64), Failed> {
    if answer.status == 200 {
        // All of it, which may be what was asked for.
        let length = answer.header("content-length").and_then(|length| length.parse().ok());
        if let Some(length) = length {
            return no_longer_than_files((0, length, length), request);
        }
    }
    let range = || {
        let range = answer.header("content-range")?.strip_prefix("bytes ")?;
        let (range, size) = range.split_once('/')?;
        let (from, last) = range.split_once('-')?;
        let (from, last): (u64, u64) = (from.parse().ok()?, last.parse().ok()?);
        Some((from, last.checked_add(1)?, size.parse().ok()?))
    };
    let range = range().ok_or_else(|| odd(request, "was answered without a range"))?;
    no_longer_than_files(range, request)
}

fn no_longer_than_files(
    range: (u64, u64, u64),
    request: &Request<'_>,
) -> std::result::Result<(u64, u64, u64), Failed> {
    match range.2 <= LONGEST_OBJECT && range.1 <= range.2 {
        true => Ok(range),
        false => Err(odd(request, "was answered with a length that none has").into()),
    }
}

/// Fills `out` with the body, which has as many bytes and no more.
fn read_exactly(answer: &mut Answer, out: &mut [u8]) -> std::result::Result<(), Failed> {
    let mut reader = answer.body.as_reader();
    reader.read_exact(out).map_err(|error| match error.kind() {
        std::io::ErrorKind::UnexpectedEof => too_short(),
        _ => broke_off(&error),
    })?;
    match reader.read(&mut [0]) {
        Ok(0) => Ok(()),
        Ok(_) => Err(Failed::Again("the answer is longer than it says".into())),
        Err(error) => Err(broke_off(&error)),
    }
}

fn too_short() -> Failed {
    Failed::Again("the answer is shorter than it says".into())
}

fn broke_off(error: &std::io::Error) -> Failed {
    Failed::Again(format!("the answer broke off: {error}"))
}
