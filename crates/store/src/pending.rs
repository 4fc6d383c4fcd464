//! Uploads that were begun and are not over: what a killed run asked for last may come about when
//! the next run has begun.

use ureq::http::Method;

use crate::document;
use crate::error::{Error, Kind, Result};
use crate::limits::{LONGEST_PAGE, PAGE, PENDING_PAGES};
use crate::object::Object;
use crate::request::{Failed, Request};

impl Object {
    /// Gives up each upload of this object that is not over, whoever began it. What the store does
    /// with one afterwards it refuses, so that the object stays as it is found now.
    ///
    /// A store that does not say which there are, or does not let the caller know, is believed to
    /// have none.
    ///
    /// # Errors
    /// Where the store cannot be asked, or does not give one up.
    pub fn give_up_uploads(&self) -> Result<()> {
        // What is given up is on no further page; neither is what came to its end by itself, which the
        // store does not know any more when it is given up.
        let mut last = None;
        for _ in 0..PENDING_PAGES {
            let pending = match self.uploads() {
                Err(Error { kind: Kind::Denied | Kind::Odd | Kind::Missing, .. }) => return Ok(()),
                pending => pending?,
            };
            if pending.is_empty() {
                return Ok(());
            }
            for id in pending {
                match self.give_up(id) {
                    Err(error) if error.kind == Kind::Odd => last = Some(error),
                    done => done?,
                }
            }
        }
        let why = "failed: there are more and more of them; wait a moment, then run this again";
        let doing = "giving up old uploads of it";
        Err(last.unwrap_or_else(|| Error::new(Kind::Odd, &self.name().path(), doing, why)))
    }

    /// The numbers of uploads of this object, as many as the first page has: keys that are longer
    /// come behind it.
    fn uploads(&self) -> Result<Vec<String>> {
        let bucket = self.name().in_bucket();
        let query = [
            ("uploads", String::new()),
            ("encoding-type", "url".to_owned()),
            ("max-uploads", PAGE.to_string()),
            ("prefix", self.name().key().to_owned()),
        ];
        let request = Request {
            query: &query,
            expected: LONGEST_PAGE,
            // It is a part of cleaning up.
            heeds_stop: false,
            ..Request::new(Method::GET, &bucket, "looking for old uploads of it")
        };
        let found = self.store.ask(&request, |answer| {
            let text = answer.text_of(LONGEST_PAGE)?;
            let why = "was answered with something that is no list of uploads";
            document::uploads(&text).ok_or_else(|| Failed::from(request.error(Kind::Odd, why)))
        });
        let found = found.map_err(|error| Error { path: self.name().path(), ..error })?;
        let own = found.into_iter().filter(|upload| upload.key == self.name().key());
        Ok(own.map(|upload| upload.id).collect())
    }

    fn give_up(&self, id: String) -> Result<()> {
        let query = [("uploadId", id)];
        let request = Request {
            query: &query,
            heeds_stop: false,
            ..Request::new(Method::DELETE, self.name(), "giving up an old upload of it")
        };
        match self.store.ask(&request, |_| Ok(())) {
            // It came to its end by itself.
            Err(Error { kind: Kind::Missing | Kind::Changed, .. }) => Ok(()),
            done => done,
        }
    }
}
