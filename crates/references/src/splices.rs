//! A file's bytes with some of them replaced, and what is told of that.

use std::ops::Range;
use std::path::{Path, PathBuf};

use crate::{Edit, Note, Rewritten};

/// What is to be replaced in a file, in any order.
pub(crate) struct Splices<'b> {
    bytes: &'b [u8],
    edits: Vec<Splice>,
    notes: Vec<(usize, String)>,
}

struct Splice {
    range: Range<usize>,
    bytes: Vec<u8>,
    what: &'static str,
    image: PathBuf,
    was: String,
    now: String,
}

impl<'b> Splices<'b> {
    pub(crate) fn new(bytes: &'b [u8]) -> Self {
        Self { bytes, edits: Vec::new(), notes: Vec::new() }
    }

    /// Replaces a range, which no other splice may touch, by `bytes`; `what` it says of which
    /// image, and what that was and is `now`.
    pub(crate) fn replace(
        &mut self,
        range: Range<usize>,
        bytes: Vec<u8>,
        (what, image): (&'static str, &Path),
        was: impl Into<String>,
        now: impl Into<String>,
    ) {
        let (image, was, now) = (image.to_owned(), was.into(), now.into());
        self.edits.push(Splice { range, bytes, what, image, was, now });
    }

    /// Tells of something at `at` that stays as it is.
    pub(crate) fn note(&mut self, at: usize, text: impl Into<String>) {
        self.notes.push((at, text.into()));
    }

    pub(crate) fn finish(mut self) -> Rewritten {
        self.edits.sort_by_key(|splice| splice.range.start);
        self.notes.sort();
        let mut lines = Lines { bytes: self.bytes, at: 0, line: 1 };
        let notes = self.notes.into_iter();
        let notes = notes.map(|(at, text)| Note { line: lines.of(at), text }).collect();
        let mut lines = Lines { bytes: self.bytes, at: 0, line: 1 };
        let (mut new, mut kept, mut edits) = (Vec::new(), 0, Vec::new());
        let is_any = !self.edits.is_empty();
        for Splice { range, bytes, what, image, was, now } in self.edits {
            new.extend_from_slice(self.bytes.get(kept..range.start).unwrap_or_default());
            new.extend(bytes);
            kept = range.end;
            edits.push(Edit { line: lines.of(range.start), what, image, was, now });
        }
        new.extend_from_slice(self.bytes.get(kept..).unwrap_or_default());
        Rewritten { bytes: is_any.then_some(new), edits, notes }
    }
}

/// The line, from 1, of a place.
pub(crate) fn line(bytes: &[u8], at: usize) -> u64 {
    Lines { bytes, at: 0, line: 1 }.of(at)
}

/// Lines of places that come one after the other, counted once.
struct Lines<'b> {
    bytes: &'b [u8],
    at: usize,
    line: u64,
}

impl Lines<'_> {
    fn of(&mut self, at: usize) -> u64 {
        let passed = self.bytes.get(self.at..at).unwrap_or_default();
        self.line += passed.iter().filter(|byte| **byte == b'\n').count() as u64;
        self.at = self.at.max(at);
        self.line
    }
}
