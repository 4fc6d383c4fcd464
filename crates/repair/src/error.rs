//! What can go wrong with a repair.

use std::path::PathBuf;

use calve_disk::open::shown;

/// The result of everything here that can fail.
pub type Result<T> = std::result::Result<T, Error>;

/// What went wrong.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The image could not be opened, read or written.
    #[error(transparent)]
    Disk(#[from] calve_disk::Error),
    /// Copies do not fit on the file system.
    #[error("{}: needs {needed} bytes more, and its file system has {free}", shown(path))]
    NoSpace {
        /// The image.
        path: PathBuf,
        /// Bytes that would be appended.
        needed: u64,
        /// Bytes that are free.
        free: u64,
    },
    /// The note beside the image cannot be used, written or removed.
    #[error(transparent)]
    Record(#[from] calve_inplace::NoteError),
    /// Something failed, and so did taking back what was done. The note is still there, and the
    /// image is sound.
    #[error("{}: {failure}; it could not be taken back at once: {second}", shown(path))]
    HalfWay {
        /// The image.
        path: PathBuf,
        /// What failed first.
        failure: Box<Error>,
        /// What failed when that was to be taken back.
        second: Box<Error>,
    },
    /// It was asked to stop.
    #[error("stopped")]
    Stopped,
}
