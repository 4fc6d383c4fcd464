//! Look: what a file is at one moment.

use std::fs::Metadata;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};

use calve_disk::{Error as DiskError, HostFile, Storage};
use rustix::fs::{major, minor};
use serde::Serialize;

use crate::Control;
use crate::digest::{self, Digests};
use crate::error::{Error, Result};

/// What a file is at one moment.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct Look {
    kind: &'static str,
    /// Of a file the device that it is on, of a device itself.
    device: String,
    inode: u64,
    /// In bytes.
    size: u64,
    /// When its bytes changed last, and when anything about it did.
    modified: String,
    changed: String,
    sha256: Option<String>,
    blake3: Option<String>,
    /// Why there are no digests.
    error: Option<String>,
    /// Whether it ended before its size.
    #[serde(skip)]
    is_short: bool,
}

impl Look {
    /// Looks at a file, and reads all of it. What cannot be read is part of what is seen.
    ///
    /// # Errors
    /// Where not even its size can be told, and [`Error::Stopped`].
    pub(crate) fn at(file: &HostFile, control: &Control) -> Result<Self> {
        let mut look = Self::without_digests(file)
            .map_err(|source| DiskError::host("looking at the file", file.path(), source))?;
        match digest::of(file, look.size, control) {
            Ok(Digests { sha256, blake3 }) => {
                (look.sha256, look.blake3) = (Some(sha256), Some(blake3));
            }
            Err(Error::Stopped) => return Err(Error::Stopped),
            Err(error) => {
                look.is_short = is_short(&error);
                look.error = Some(error.to_string());
            }
        }
        Ok(look)
    }

    fn without_digests(file: &HostFile) -> io::Result<Self> {
        let metadata = file.as_file().map(std::fs::File::metadata).transpose()?;
        let metadata = metadata.ok_or(io::ErrorKind::Unsupported)?;
        let is_device = metadata.file_type().is_block_device();
        let device = if is_device { metadata.rdev() } else { metadata.dev() };
        Ok(Self {
            kind: if is_device { "block-device" } else { "file" },
            device: format!("{}:{}", major(device), minor(device)),
            inode: metadata.ino(),
            size: file.size()?,
            modified: time(metadata.mtime(), metadata.mtime_nsec()),
            changed: time(metadata.ctime(), metadata.ctime_nsec()),
            sha256: None,
            blake3: None,
            error: None,
            is_short: false,
        })
    }

    /// Whether this later look is of the same bytes; `None` where that cannot be told.
    pub(crate) fn has_same_bytes(&self, later: &Self) -> Option<bool> {
        if self.size != later.size || self.is_short || later.is_short {
            return Some(false);
        }
        let is_known = self.sha256.is_some() && later.sha256.is_some();
        is_known.then(|| (&self.sha256, &self.blake3) == (&later.sha256, &later.blake3))
    }

    /// Why there are no digests, where there are none.
    pub(crate) fn error(&self) -> Option<&str> {
        self.error.as_deref()
    }
}

/// Whether a file can be looked at: others have no bytes of their own, or no end.
pub(crate) fn has_bytes(metadata: &Metadata) -> bool {
    metadata.is_file() || metadata.file_type().is_block_device()
}

fn is_short(error: &Error) -> bool {
    matches!(error, Error::Disk(DiskError::Io { source, .. })
        if source.kind() == io::ErrorKind::UnexpectedEof)
}

/// A time as RFC 3339 has it, in UTC. What no calendar has stays a number.
pub(crate) fn time(seconds: i64, nanoseconds: i64) -> String {
    let timestamp = i32::try_from(nanoseconds)
        .ok()
        .and_then(|nanoseconds| jiff::Timestamp::new(seconds, nanoseconds).ok());
    timestamp.map_or_else(|| format!("@{seconds}"), |time| time.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_in_utc_as_rfc_3339_has_them() {
        assert_eq!(time(0, 0), "1970-01-01T00:00:00Z");
        assert_eq!(time(1_000_000_000, 50), "2001-09-09T01:46:40.00000005Z");
        assert_eq!(time(-1, 500_000_000), "1969-12-31T23:59:59.5Z");
        assert_eq!(time(i64::MAX, 0), "@9223372036854775807");
    }
}
