//! Requests that are sent again where the server or the network fails, and what answers mean.

use std::sync::PoisonError;
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::client::Store;
use crate::document;
use crate::error::{Kind, Result};
use crate::limits::{HEED, LONGEST_CODE};
use crate::request::{Answer, Failed, Request};

impl Store {
    /// Sends a request until something comes of it or it makes no sense any more. `take` makes of
    /// a good answer what is wanted.
    pub(crate) fn ask<T>(
        &self,
        request: &Request<'_>,
        mut take: impl FnMut(&mut Answer) -> std::result::Result<T, Failed>,
    ) -> Result<T> {
        let mut last = String::new();
        for attempt in 0..request.attempts {
            self.rest(request, attempt)?;
            match self.attempt(request, &mut take) {
                Ok(done) => return Ok(done),
                Err(Failed::Again(why)) => last = why,
                Err(Failed::Finally(error)) => return Err(error),
            }
        }
        let why = format!("did not come off, {} times over: {last}", request.attempts);
        Err(request.error(Kind::Unreachable, why))
    }

    /// Sends a request once, and makes of a good answer what is wanted.
    pub(crate) fn attempt<T>(
        &self,
        request: &Request<'_>,
        take: &mut dyn FnMut(&mut Answer) -> std::result::Result<T, Failed>,
    ) -> std::result::Result<T, Failed> {
        let mut answer = self.once(request)?;
        self.judge(request, &mut answer)?;
        take(&mut answer)
    }

    /// The pause before an attempt; the first one is numbered 0 and has none. Ends where the run
    /// is to stop.
    pub(crate) fn rest(&self, request: &Request<'_>, attempt: u32) -> Result<()> {
        let pause = match attempt {
            0 => Duration::ZERO,
            _ => self.settings.pause * 2u32.saturating_pow(attempt - 1),
        };
        let begun = Instant::now();
        loop {
            // What cleans up is tried once more, and no longer.
            if self.is_stopped() && (request.heeds_stop || attempt > 1) {
                return Err(request.error(Kind::Stopped, "was stopped"));
            }
            match pause.checked_sub(begun.elapsed()) {
                Some(left) if !left.is_zero() => sleep(left.min(HEED)),
                _ => return Ok(()),
            }
        }
    }

    /// Makes an error of an answer that is none that is wanted.
    fn judge(&self, request: &Request<'_>, answer: &mut Answer) -> std::result::Result<(), Failed> {
        let status = answer.status;
        if (200..300).contains(&status) {
            return Ok(());
        }
        if let Some(region) = answer.header("x-amz-bucket-region").map(str::to_owned)
            && self.settings.endpoint.is_none()
            && region != self.region()
            && region.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
        {
            let why = format!("the bucket is in the region {region}");
            *self.region.lock().unwrap_or_else(PoisonError::into_inner) = region;
            return Err(Failed::Again(why));
        }
        // What it says beside its code is not repeated: it may hold anything.
        let code = document::first(&answer.text().unwrap_or_default(), "Code").unwrap_or_default();
        let is_short = (1..=LONGEST_CODE).contains(&code.len());
        let is_word = is_short && code.bytes().all(|byte| byte.is_ascii_alphanumeric());
        let said = if is_word { format!("{status} {code}") } else { status.to_string() };
        let is_new = request.headers.iter().any(|(name, _)| *name == "if-none-match");
        let error = |kind, why: &str| request.error(kind, format!("{why} ({said})"));
        Err(match status {
            429 | 500 | 502..=504 => Failed::Again(format!("the server answered {said}")),
            408 => Failed::Again("the server was not patient (408)".into()),
            _ if ["RequestTimeout", "SlowDown", "InternalError"].contains(&&*code) => {
                Failed::Again(format!("the server answered {said}"))
            }
            404 if code == "NoSuchBucket" => {
                error(Kind::NoBucket, "failed: there is no such bucket").into()
            }
            404 if code == "NoSuchUpload" => {
                error(Kind::Odd, "failed: the store knows its parts no more").into()
            }
            404 => error(Kind::Missing, "failed: there is no such object").into(),
            401 | 403 => error(Kind::Denied, "was not allowed").into(),
            409 | 412 if is_new => error(Kind::Exists, "failed: it exists already").into(),
            409 | 412 | 416 => error(Kind::Changed, "failed: it is another one by now").into(),
            300..=399 => {
                let why = "led to another address, which is not followed: look at AWS_REGION and \
                           AWS_ENDPOINT_URL";
                error(Kind::Odd, why).into()
            }
            _ => error(Kind::Odd, "was refused").into(),
        })
    }
}
