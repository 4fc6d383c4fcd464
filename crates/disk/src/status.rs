//! Status: what the host says of an open file.
//!
//! It is asked for through the descriptor alone, never through a name: a process that is confined
//! to the files it has open can still ask.

use std::fs::File;
use std::io;

use rustix::fs::FileType;

/// What the host says of an open file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Status {
    /// What it is: a regular file, a device, a folder.
    pub kind: FileType,
    /// Its permissions.
    pub mode: u32,
    /// How many bytes long it is; 0 for devices.
    pub size: u64,
    /// Bytes that the host spends on it.
    pub spent: u64,
    /// When it was written last: seconds since 1970, and nanoseconds.
    pub modified: (i64, i64),
    /// The device that it is on, and its number there.
    pub(crate) place: (u64, u64),
    /// The device that it is, if it is one.
    pub(crate) device: u64,
}

/// The unit in which the host counts what it spends, in bytes.
const BLOCK: u64 = 512;

impl Status {
    /// What the host says of `file`.
    pub fn of(file: &File) -> io::Result<Self> {
        let stat = rustix::fs::fstat(file)?;
        // The fields are of other types on other processors; none of these is ever negative.
        Ok(Self {
            kind: FileType::from_raw_mode(stat.st_mode),
            mode: stat.st_mode & 0o7777,
            size: stat.st_size.try_into().unwrap_or_default(),
            spent: u64::try_from(stat.st_blocks).unwrap_or_default() * BLOCK,
            modified: (stat.st_mtime, stat.st_mtime_nsec.try_into().unwrap_or_default()),
            place: (stat.st_dev, stat.st_ino),
            device: stat.st_rdev,
        })
    }
}
