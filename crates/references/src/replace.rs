//! Replacing a configuration as a whole, or not at all.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;

use calve_disk::open::{FileIdentity, lock_for_writing, open_for_reading};
use calve_disk::{Error as DiskError, Named, PendingFile, take_over_attributes};

use crate::error::{Error, Result};

/// Makes the file at `path`, which is `old`, `new`: under a temporary name beside it, on the
/// medium, then renamed over it. It keeps its owner, permissions and extended attributes; a link
/// is followed. Whether it had to be written: `false` where it was `new` already, as after a crash.
///
/// Programs that change such files do not tell others: somebody who writes between the last look
/// and the renaming is not noticed. That is a few microseconds.
///
/// # Errors
/// [`Error::Refused`] where it is neither `old` nor `new`, or no regular file; [`Error::Disk`]
/// where the host fails. The file is then what it was.
pub fn replace(path: &Path, old: &[u8], new: &[u8]) -> Result<bool> {
    let failed = |doing: &'static str| move |source| DiskError::host(doing, path, source);
    let real = path.canonicalize().map_err(failed("opening"))?;
    let original = open_for_reading(&real).map_err(failed("opening"))?;
    if !original.metadata().map_err(failed("looking at the file"))?.is_file() {
        return Err(refused(path, "is no regular file"));
    }
    let longest = old.len().max(new.len());
    let now = content(&original, longest).map_err(failed("reading"))?;
    if now == new {
        original.sync_all().map_err(failed("syncing"))?;
        return Ok(false);
    }
    if now != old {
        return Err(refused(path, "is no longer what was read"));
    }
    PendingFile::remove_leftovers(&real);
    // Nobody else may read it until it is known who may.
    let (mut file, pending) = PendingFile::create(&real, true, 0o600)?;
    lock_for_writing(&file, pending.path())?;
    file.write_all(new).map_err(failed("writing beside it"))?;
    take_over_attributes(&file, &original).map_err(failed("taking over attributes"))?;
    file.sync_all().map_err(failed("syncing"))?;
    let again = open_for_reading(&real).map_err(failed("opening"))?;
    let is_same = FileIdentity::of(&again).map_err(failed("looking at the file"))?
        == FileIdentity::of(&original).map_err(failed("looking at the file"))?
        && content(&again, longest).map_err(failed("reading"))? == old;
    if !is_same {
        return Err(refused(path, "was changed just now"));
    }
    match pending.take_name(true)? {
        Named::Yes => Ok(true),
        Named::Taken => Err(refused(path, "was changed just now")),
    }
}

/// The content of a file, or its start if that is longer than `longest` bytes.
fn content(file: &File, longest: usize) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.take(longest as u64 + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn refused(path: &Path, why: &str) -> Error {
    let next = "look at what became of it, and begin again";
    Error::Refused { path: path.to_owned(), why: why.into(), next }
}
