//! When the image was written last, where it is a file.

use calve_disk::{Error as DiskError, Status, Storage};
use rustix::fs::{Timespec, Timestamps, UTIME_OMIT};

use crate::error::Result;
use crate::record::Time;

/// When the file was written last, if it is one.
pub(crate) fn written(storage: &dyn Storage) -> Result<Option<Time>> {
    let Some(file) = storage.as_file() else { return Ok(None) };
    let status = Status::of(file)
        .map_err(|source| DiskError::host("looking at the file", storage.path(), source))?;
    let (seconds, nanoseconds) = status.modified;
    Ok(Some(Time { seconds, nanoseconds }))
}

/// Says when the file was written last. Nothing depends on it but the tools of its owner and the
/// check before an undo, so where the host does not let it be said, it stays unsaid.
pub(crate) fn set(storage: &dyn Storage, time: Option<Time>) {
    let (Some(file), Some(time)) = (storage.as_file(), time) else { return };
    let kept = Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT };
    let time = Timespec { tv_sec: time.seconds, tv_nsec: time.nanoseconds };
    let _ = rustix::fs::futimens(file, &Timestamps { last_access: kept, last_modification: time });
}

/// Now, in whole seconds: a file that is written to later hardly has just this time.
pub(crate) fn now() -> Time {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let seconds = now.map_or(0, |now| i64::try_from(now.as_secs()).unwrap_or_default());
    Time { seconds, nanoseconds: 0 }
}
