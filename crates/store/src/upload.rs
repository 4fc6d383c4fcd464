//! An object that comes into being in parts: nothing is under its name until all are there.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use calve_disk::Storage;
use md5::{Digest, Md5};
use ureq::http::Method;

use crate::client::{Body, Failed, Request};
use crate::document;
use crate::error::{Error, Kind, Result};
use crate::limits::SENDERS;
use crate::object::{Condition, Head, Object};
use crate::part::Part;
use crate::pieces::Piece;
use crate::signing::hex;

/// Parts of an object that is none yet. Where it never becomes one they are taken away.
pub struct Upload<'a> {
    object: &'a Object,
    id: String,
    /// The tags of the parts that are there.
    tags: Mutex<Vec<Option<String>>>,
    is_over: bool,
}

impl<'a> Upload<'a> {
    /// Begins one. `like` is the head of an object whose headers it is to have.
    ///
    /// # Errors
    /// Where the store does not want it.
    pub fn begin(object: &'a Object, like: Option<&Head>) -> Result<Self> {
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
        original: Option<(&Object, &str)>,
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
            let Some(tag) = answer.header("etag") else {
                return Err(request.error(Kind::Odd, "was answered without a tag").into());
            };
            // What is encrypted with somebody's keys has another tag.
            let encryption = answer.header("x-amz-server-side-encryption");
            let is_plain = encryption.is_none_or(|encryption| encryption == "AES256")
                && answer.header("x-amz-server-side-encryption-customer-algorithm").is_none();
            let is_md5 =
                |tag: &str| tag.len() == 32 && tag.bytes().all(|it| it.is_ascii_hexdigit());
            let bare = tag.trim_matches('"');
            if is_plain && is_md5(bare) && !bare.eq_ignore_ascii_case(&part.md5_in_hex()) {
                return Err(Failed::Again("the part arrived with other bytes".into()));
            }
            Ok(tag.to_owned())
        })?;
        self.object.store.traffic().add_sent(piece.length);
        self.keep(index, tag);
        Ok(())
    }

    fn copy(&self, index: usize, piece: &Piece, original: &Object, tag: &str) -> Result<()> {
        let name = original.name();
        let source = format!("{}/{}", name.bucket(), crate::signing::escaped_path(name.key()));
        let headers = [
            ("x-amz-copy-source", source),
            ("x-amz-copy-source-if-match", tag.to_owned()),
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
            let tag = document::first(&text, "ETag").filter(|tag| !tag.is_empty());
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
    /// Where `condition` does not hold, and where the store does not make it.
    pub fn complete(mut self, condition: &Condition, length: u64) -> Result<String> {
        let tags: Vec<String> = self.lock().iter().flatten().cloned().collect();
        // Some servers heed no conditions; between this look and the end they would be needed.
        let is = self.object.head()?;
        let error =
            |kind, why: &str| Err(Error::new(kind, &self.object.name().path(), "naming it", why));
        match condition {
            Condition::IsNew if is.is_some() => {
                return error(Kind::Exists, "failed: it came into being meanwhile");
            }
            Condition::Is(tag) if is.as_ref().is_none_or(|is| is.tag != *tag) => {
                return error(Kind::Changed, "failed: it is another one by now");
            }
            _ => {}
        }
        let done = self.name(&tags, condition);
        let tag = match done {
            // It may have come about all the same: only an answer was lost.
            Err(error) if error.kind != Kind::Denied => {
                match (self.object.head(), expected_tag(&tags)) {
                    (Ok(Some(head)), Some(tag)) if head.tag.trim_matches('"') == tag => head.tag,
                    _ => return Err(error),
                }
            }
            done => done?,
        };
        self.is_over = true;
        let is = self.object.head()?;
        match is {
            Some(head) if head.size == length && head.tag == tag => Ok(tag),
            Some(head) if head.tag != tag => {
                error(Kind::Changed, "failed: it was replaced by somebody else at once")
            }
            _ => error(Kind::Odd, "failed: the object is not as long as what was sent"),
        }
    }

    fn name(&self, tags: &[String], condition: &Condition) -> Result<String> {
        let text = document::parts(tags);
        let headers: Vec<(&str, String)> = condition.header().into_iter().collect();
        let query = [("uploadId", self.id.clone())];
        let request = Request {
            query: &query,
            headers: &headers,
            body: Body::Bytes(text.as_bytes()),
            is_slow: true,
            ..Request::new(Method::POST, self.object.name(), "naming it")
        };
        self.object.store.ask(&request, |answer| {
            let text = answer.text()?;
            if document::is_error(&text) {
                let code = document::first(&text, "Code").unwrap_or_default();
                return Err(match (&*code, condition) {
                    ("PreconditionFailed", Condition::IsNew) => {
                        request.error(Kind::Exists, "failed: it came into being meanwhile").into()
                    }
                    ("PreconditionFailed", _) => {
                        request.error(Kind::Changed, "failed: it is another one by now").into()
                    }
                    _ => Failed::Again("the server could not put the parts together".into()),
                });
            }
            let tag = document::first(&text, "ETag").filter(|tag| !tag.is_empty());
            tag.ok_or_else(|| request.error(Kind::Odd, "was answered without a tag").into())
        })
    }

    fn query(&self, index: usize) -> [(&'static str, String); 2] {
        [("partNumber", (index + 1).to_string()), ("uploadId", self.id.clone())]
    }

    fn keep(&self, index: usize, tag: String) {
        if let Some(place) = self.lock().get_mut(index) {
            *place = Some(tag);
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Option<String>>> {
        self.tags.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The tag that most stores give an object of these parts: a digest of theirs.
fn expected_tag(tags: &[String]) -> Option<String> {
    let mut md5 = Md5::new();
    for tag in tags {
        let tag = tag.trim_matches('"');
        for at in (0..tag.len()).step_by(2) {
            md5.update([u8::from_str_radix(tag.get(at..at + 2)?, 16).ok()?]);
        }
    }
    Some(format!("{}-{}", hex(&md5.finalize()), tags.len()))
}

impl Drop for Upload<'_> {
    fn drop(&mut self) {
        if self.is_over {
            return;
        }
        let query = [("uploadId", self.id.clone())];
        let request = Request {
            query: &query,
            ..Request::new(Method::DELETE, self.object.name(), "giving it up")
        };
        // Best effort: what failed is told already, and a rule of the bucket takes away the rest.
        let _ = self.object.store.ask(&request, |_| Ok(()));
    }
}
