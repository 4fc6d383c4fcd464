//! What can go wrong with an upgrade.

use std::path::PathBuf;

use calve_disk::open::shown;

/// The result of everything here that can fail.
pub type Result<T> = std::result::Result<T, Error>;

/// What went wrong. Unless the variant says otherwise the image is as it was before.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The image could not be opened, read or written, or breaks a rule.
    #[error(transparent)]
    Disk(#[from] calve_disk::Error),
    /// It is not done as things stand.
    #[error("{}: {why}", shown(path))]
    Refused {
        /// The image.
        path: PathBuf,
        /// Why not.
        why: String,
        /// What to do instead.
        next: &'static str,
    },
    /// The new tables do not fit on the file system.
    #[error("{}: needs {needed} bytes more, and its file system has {free}", shown(path))]
    NoSpace {
        /// The image.
        path: PathBuf,
        /// Bytes that would be appended.
        needed: u64,
        /// Bytes that are free.
        free: u64,
    },
    /// The upgraded image did not read as the old one; it was made the old one again.
    #[error("{}: {why}", shown(path))]
    Mismatch {
        /// The image.
        path: PathBuf,
        /// What differs.
        why: String,
    },
    /// The undo record beside the image cannot be used.
    #[error(transparent)]
    Record(#[from] calve_inplace::NoteError),
    /// Something failed, and so did taking back what was done. The undo record is still there,
    /// and nothing is lost.
    #[error("{}: {failure}; it could not be taken back at once: {second}", shown(path))]
    HalfWay {
        /// The image.
        path: PathBuf,
        /// What failed first.
        failure: Box<Error>,
        /// What failed when that was to be taken back.
        second: Box<Error>,
    },
    /// It was asked to stop, and the image is as it was.
    #[error("stopped")]
    Stopped,
}
