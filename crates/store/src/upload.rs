//! An object that comes into being in parts: nothing is under its name until all are there.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use calve_disk::Storage;
use md5::{Digest, Md5};
use ureq::http::Method;

use crate::document;
use crate::error::{Error, Kind, Result};
use crate::limits::{GIVING_UP, SENDERS};
use crate::object::{Condition, Head, Object, Tag};
use crate::part::Part;
use crate::pieces::Piece;
use crate::request::{Answer, Body, Failed, Request};
use crate::signing::hex;

/// Parts of an object that is none yet. Where it never becomes one they are taken away.
pub struct Upload<'a> {
    object: &'a Object,
    id: String,
    /// The tags of the parts that are there.
    tags: Mutex<Vec<Option<Tag>>>,
    is_over: bool,
}

/// Why no object came of the parts, as far as that is known.
pub(crate) struct Unfinished {
    pub(crate) error: Error,
    /// Whether one may have come of them all the same, or may still.
    pub(crate) may_be: bool,
}

impl From<Error> for Unfinished {
    fn from(error: Error) -> Self {
        Self { error, may_be: false }
    }
}

impl<'a> Upload<'a> {
    /// Begins one. `like` is the head of an object whose headers it is to have.
    ///
    /// # Errors
    /// Where the store does not want it.
    pub fn begin(object: &'a Object, like: Option<&Head>) -> Result<Self> {
        if let Some(name) = like.and_then(|head| head.lost.as_ref()) {
            let why = format!("would lose its header {name}, which is not plain ASCII");
            let path = object.name().path();
            return Err(Error::new(Kind::Odd, &path, "beginning to write it", why));
        }
        let headers: Vec<(&str, String)> = like
            .iter()
            .flat_map(|head| &head.kept)
            .map(|(name, value)| (&**name, value.clone()))
            .collect();
        let query = [("uploads", String::new())];
        let request = Request {
            query: &query,
            headers: &headers,
            body: Body::Bytes(b""),
            ..Request::new(Method::POST, object.name(), "beginning to write it")
        };
        let id = object.store.ask(&request, |answer| {
            let id = document::first(&answer.text()?, "UploadId").filter(|id| !id.is_empty());
            id.ok_or_else(|| request.error(Kind::Odd, "was answered without a number").into())
        })?;
        Ok(Self { object, id, tags: Mutex::default(), is_over: false })
    }

    /// Makes all `pieces` parts: those that changed are sent out of `storage`, and the others are
    /// copied by the server out of the object `original`, which has to have this tag.
    ///
    /// # Errors
    /// Where one does not come about, and [`Kind::Stopped`] where `stop` said so.
    pub fn put(
        &self,
        pieces: &[Piece],
        storage: &dyn Storage,
        original: Option<(&Object, &Tag)>,
        stop: &AtomicBool,
        progress: &(dyn Fn(u64) + Sync),
    ) -> Result<()> {
        *self.lock() = vec![None; pieces.len()];
        let (next, failure) = (AtomicUsize::new(0), Mutex::new(None));
        let work = || {
            while let Some((index, piece)) = {
                let index = next.fetch_add(1, Ordering::Relaxed);
                pieces.get(index).map(|piece| (index, piece))
            } {
                let is_over = stop.load(Ordering::Relaxed) || locked(&failure).is_some();
                let done = match (is_over, original) {
                    (true, _) => Err(self.stopped()),
                    (false, Some((original, tag))) if piece.is_kept => {
                        self.copy(index, piece, original, tag)
                    }
                    (false, _) => self.send(index, piece, storage),
                };
                match done {
                    Ok(()) => progress(piece.length),
                    Err(error) => {
                        locked(&failure).get_or_insert(error);
                        return;
                    }
                }
            }
        };
        std::thread::scope(|scope| {
            for _ in 1..SENDERS.min(pieces.len()) {
                scope.spawn(work);
            }
            work();
        });
        match failure.into_inner().unwrap_or_else(PoisonError::into_inner) {
            Some(error) => Err(error),
            None if stop.load(Ordering::Relaxed) => Err(self.stopped()),
            None => Ok(()),
        }
    }

    fn stopped(&self) -> Error {
        Error::new(Kind::Stopped, &self.object.name().path(), "writing it", "was stopped")
    }

    fn send(&self, index: usize, piece: &Piece, storage: &dyn Storage) -> Result<()> {
        let part = Part::of(storage, piece.at, piece.length)?;
        let headers = [("content-md5", part.content_md5())];
        let query = self.query(index);
        let request = Request {
            query: &query,
            headers: &headers,
            body: Body::Part(&part),
            ..Request::new(Method::PUT, self.object.name(), "sending a part of it")
        };
        let tag = self.object.store.ask(&request, |answer| {
            let Some(tag) = answer.header("etag").and_then(Tag::parse) else {
                return Err(request.error(Kind::Odd, "was answered without a tag").into());
            };
            // What is encrypted with somebody's keys has another tag.
            let encryption = answer.header("x-amz-server-side-encryption");
            let is_plain = encryption.is_none_or(|encryption| encryption == "AES256")
                && answer.header("x-amz-server-side-encryption-customer-algorithm").is_none();
            let is_md5 =
                |tag: &str| tag.len() == 32 && tag.bytes().all(|it| it.is_ascii_hexdigit());
            let bare = tag.as_str();
            if is_plain && is_md5(bare) && !bare.eq_ignore_ascii_case(&part.md5_in_hex()) {
                return Err(Failed::Again("the part arrived with other bytes".into()));
            }
            Ok(tag)
        })?;
        self.object.store.traffic().add_sent(piece.length);
        self.keep(index, tag);
        Ok(())
    }

    fn copy(&self, index: usize, piece: &Piece, original: &Object, tag: &Tag) -> Result<()> {
        let name = original.name();
        let source = format!("{}/{}", name.bucket(), crate::signing::escaped_path(name.key()));
        let headers = [
            ("x-amz-copy-source", source),
            ("x-amz-copy-source-if-match", tag.quoted()),
            (
                "x-amz-copy-source-range",
                format!("bytes={}-{}", piece.at, piece.at + piece.length - 1),
            ),
        ];
        let query = self.query(index);
        let request = Request {
            query: &query,
            headers: &headers,
            body: Body::Bytes(b""),
            is_slow: true,
            ..Request::new(Method::PUT, self.object.name(), "having a part of it copied")
        };
        let tag = self.object.store.ask(&request, |answer| {
            let text = answer.text()?;
            if document::is_error(&text) {
                let code = document::first(&text, "Code").unwrap_or_default();
                return Err(match code == "PreconditionFailed" {
                    true => request.error(Kind::Changed, "failed: it changed").into(),
                    false => Failed::Again("the server could not copy a part".into()),
                });
            }
            let tag = document::first(&text, "ETag").as_deref().and_then(Tag::parse);
            tag.ok_or_else(|| request.error(Kind::Odd, "was answered without a tag").into())
        });
        let tag = tag.map_err(|error| match error.kind {
            Kind::Missing => Error { kind: Kind::Changed, ..error },
            _ => error,
        })?;
        self.object.store.traffic().add_copied(piece.length);
        self.keep(index, tag);
        Ok(())
    }

    /// Makes an object of the parts, and returns its tag. `length` is how long it then is.
    ///
    /// # Errors
    /// Where `condition` does not hold, and where the store does not make it; and
    /// [`Kind::Unclear`] where it may have made it.
    pub fn complete(self, condition: &Condition, length: u64) -> Result<Tag> {
        self.finish(condition, length).map_err(|unfinished| unfinished.error)
    }

    /// The same, and says of a failure whether there may be an object all the same.
    pub(crate) fn finish(
        mut self,
        condition: &Condition,
        length: u64,
    ) -> std::result::Result<Tag, Unfinished> {
        let error =
            |kind, why: &str| Error::new(kind, &self.object.name().path(), "naming it", why);
        let tags: Option<Vec<Tag>> = self.lock().iter().cloned().collect();
        let Some(tags) = tags else {
            return Err(error(Kind::Odd, "failed: not all of its parts are there").into());
        };
        // Some servers heed no conditions; between this look and the end they would be needed.
        let old = match (self.object.head(), condition) {
            // Who may not list a bucket is not told what is missing in it.
            (Err(Error { kind: Kind::Denied, .. }), Condition::IsNew | Condition::Any) => None,
            (head, _) => head?.map(|head| head.tag),
        };
        match condition {
            Condition::IsNew if old.is_some() => {
                return Err(error(Kind::Exists, "failed: it came into being meanwhile").into());
            }
            Condition::Is(tag) if old.as_ref() != Some(tag) => {
                return Err(error(Kind::Changed, "failed: it is another one by now").into());
            }
            _ => {}
        }
        let tag = self.name(&tags, condition, old.as_ref())?;
        let may_be = |error| Err(Unfinished { error, may_be: true });
        let done = match self.object.last_head() {
            Ok(Some(head)) if head.size == length && head.tag == tag => Ok(tag),
            Ok(Some(head)) if head.tag != tag => {
                may_be(error(Kind::Changed, "came off, but somebody else replaced it at once"))
            }
            Ok(_) => may_be(error(Kind::Odd, "failed: it is not as long as what was sent")),
            // Who may only write cannot look, and the store said that it is there.
            Err(Error { kind: Kind::Denied, .. }) => Ok(tag),
            Err(failed) => {
                let why = format!("came off, but then {} {}", failed.doing, failed.why);
                may_be(error(Kind::Unclear, &why))
            }
        };
        self.is_over = true;
        done
    }

    /// Has the store put the parts together. Before it is asked again it is looked whether it did.
    fn name(
        &self,
        tags: &[Tag],
        condition: &Condition,
        old: Option<&Tag>,
    ) -> std::result::Result<Tag, Unfinished> {
        let text = document::parts(&tags.iter().map(Tag::quoted).collect::<Vec<_>>());
        let headers: Vec<(&str, String)> = condition.header().into_iter().collect();
        let query = [("uploadId", self.id.clone())];
        let request = Request {
            query: &query,
            headers: &headers,
            body: Body::Bytes(text.as_bytes()),
            is_slow: true,
            ends_at_once: false,
            ..Request::new(Method::POST, self.object.name(), "naming it")
        };
        let unclear = |why: &str| {
            let why = format!("may have come off, or not: {why}");
            Unfinished { error: request.error(Kind::Unclear, why), may_be: true }
        };
        let (store, expected) = (&self.object.store, expected_tag(tags));
        let (mut is_unclear, mut last) = (false, String::new());
        for attempt in 0..request.attempts {
            if let Err(error) = store.rest(&request, attempt) {
                return Err(if is_unclear { unclear(&error.why) } else { error.into() });
            }
            let error = match store.attempt(&request, &mut |answer| named(&request, answer)) {
                Ok(tag) => return Ok(tag),
                Err(Failed::Finally(error)) if error.kind == Kind::Denied && !is_unclear => {
                    return Err(error.into());
                }
                // An answer to what was asked before may be lost, and this is what came of it.
                Err(Failed::Finally(error)) => Some(error),
                Err(Failed::Again(why)) => {
                    (is_unclear, last) = (true, why);
                    None
                }
            };
            let is = self.object.last_head().map(|head| head.map(|head| head.tag));
            match (is, error) {
                (Ok(Some(tag)), _) if expected.as_ref() == Some(&tag) => return Ok(tag),
                (_, Some(error)) if !is_unclear => return Err(error.into()),
                (_, Some(error)) => return Err(unclear(&format!("{last}; then it {}", error.why))),
                // Nothing came of it so far.
                (Ok(is), None) if is.as_ref() == old => {}
                (Ok(_), None) => {
                    return Err(unclear(&format!("{last}, and it is another one now")));
                }
                (Err(error), None) => {
                    return Err(unclear(&format!("{last}; {} {}", error.doing, error.why)));
                }
            }
        }
        Err(unclear(&last))
    }

    fn query(&self, index: usize) -> [(&'static str, String); 2] {
        [("partNumber", (index + 1).to_string()), ("uploadId", self.id.clone())]
    }

    fn keep(&self, index: usize, tag: Tag) {
        if let Some(place) = self.lock().get_mut(index) {
            *place = Some(tag);
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Option<Tag>>> {
        self.tags.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The tag that the answer to the end of an upload has.
fn named(request: &Request<'_>, answer: &mut Answer) -> std::result::Result<Tag, Failed> {
    let text = answer.text()?;
    if document::is_error(&text) {
        let is_new = request.headers.iter().any(|(name, _)| *name == "if-none-match");
        let code = document::first(&text, "Code").unwrap_or_default();
        return Err(match (&*code, is_new) {
            ("PreconditionFailed", true) => {
                request.error(Kind::Exists, "failed: it came into being meanwhile").into()
            }
            ("PreconditionFailed", false) => {
                request.error(Kind::Changed, "failed: it is another one by now").into()
            }
            _ => Failed::Again("the server could not put the parts together".into()),
        });
    }
    let tag = document::first(&text, "ETag").as_deref().and_then(Tag::parse);
    tag.ok_or_else(|| Failed::Again("the server answered without a tag".into()))
}

/// The tag that most stores give an object of these parts: a digest of theirs.
fn expected_tag(tags: &[Tag]) -> Option<Tag> {
    let mut md5 = Md5::new();
    for tag in tags {
        let tag = tag.as_str();
        for at in (0..tag.len()).step_by(2) {
            md5.update([u8::from_str_radix(tag.get(at..at + 2)?, 16).ok()?]);
        }
    }
    Tag::parse(&format!("{}-{}", hex(&md5.finalize()), tags.len()))
}

impl Drop for Upload<'_> {
    fn drop(&mut self) {
        if self.is_over {
            return;
        }
        let query = [("uploadId", self.id.clone())];
        let request = Request {
            query: &query,
            attempts: GIVING_UP.0,
            limit: Some(GIVING_UP.1),
            heeds_stop: false,
            ..Request::new(Method::DELETE, self.object.name(), "giving it up")
        };
        // Best effort: what failed is told already, and a rule of the bucket takes away the rest.
        let _ = self.object.store.ask(&request, |_| Ok(()));
    }
}
