//! Objects that the store makes of other ones, and whether two hold the same.

use std::sync::atomic::{AtomicBool, Ordering};

use calve_disk::units::in_memory;

use crate::error::{Error, Kind, Result};
use crate::file::ObjectFile;
use crate::limits::{LEAST_PART, SPOOLED_READ};
use crate::object::{Condition, Head, Object, Tag};
use crate::pieces;
use crate::upload::Upload;

impl Object {
    /// Makes this object one that holds what `source` does, and returns its tag. The store copies
    /// it by itself, but for what is shorter than a part. It gets the headers of `like`.
    ///
    /// # Errors
    /// Where `condition` does not hold, where `source` is another one by now, and where the store
    /// does not copy.
    pub fn become_copy(
        &self,
        source: &ObjectFile,
        like: &Head,
        condition: &Condition,
        stop: &AtomicBool,
    ) -> Result<Tag> {
        let size = source.length();
        let mut pieces = pieces::over(size, size, &[]);
        if size <= LEAST_PART {
            // A range of so few bytes is copied by no store.
            pieces = pieces::all_new(size);
        }
        let upload = Upload::begin(self, Some(like))?;
        upload.put(&pieces, source, Some((source.object(), source.tag())), stop, &|_| {})?;
        upload.complete(condition, size)
    }
}

/// Whether two objects hold the same bytes: all of both is read, unless their tags are the same.
///
/// # Errors
/// Where one cannot be read, and [`Kind::Stopped`] where `stop` said so.
pub fn hold_the_same(one: &ObjectFile, other: &ObjectFile, stop: &AtomicBool) -> Result<bool> {
    if one.length() != other.length() {
        return Ok(false);
    }
    if one.tag() == other.tag() {
        return Ok(true);
    }
    let mut at = 0;
    while at < one.length() {
        if stop.load(Ordering::Relaxed) {
            let path = one.object().name().path();
            return Err(Error::new(Kind::Stopped, &path, "comparing it", "was stopped"));
        }
        let length = in_memory(SPOOLED_READ.min(one.length() - at));
        let (mut first, mut second) = (vec![0; length], vec![0; length]);
        one.read(&mut first, at)?;
        other.read(&mut second, at)?;
        if first != second {
            return Ok(false);
        }
        at += length as u64;
    }
    Ok(true)
}
