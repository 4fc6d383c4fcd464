//! What can go wrong with what names an image.

use std::path::PathBuf;

use calve_disk::open::shown;

/// The result of everything here that can fail.
pub type Result<T> = std::result::Result<T, Error>;

/// What went wrong. Unless the variant says otherwise the file is as it was before.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file could not be opened, read or written, is in use, or is no longer what was read.
    #[error(transparent)]
    Disk(#[from] calve_disk::Error),
    /// A configuration cannot be understood.
    #[error("{}: line {line}: {why}", shown(path))]
    Unreadable {
        /// The configuration.
        path: PathBuf,
        /// The line, from 1.
        line: u64,
        /// What is the matter there.
        why: String,
    },
    /// It is not done as things stand.
    #[error("{}: {why}", shown(path))]
    Refused {
        /// The file.
        path: PathBuf,
        /// Why not.
        why: String,
        /// What to do instead.
        next: &'static str,
    },
    /// The note beside an overlay cannot be used, written or removed.
    #[error(transparent)]
    Record(#[from] calve_inplace::NoteError),
    /// Something failed, and so did taking back what was done. The note is still there, and says
    /// what the header was.
    #[error("{}: {failure}; it could not be taken back at once: {second}", shown(path))]
    HalfWay {
        /// The overlay.
        path: PathBuf,
        /// What failed first.
        failure: Box<Error>,
        /// What failed when that was to be taken back.
        second: Box<Error>,
    },
}
