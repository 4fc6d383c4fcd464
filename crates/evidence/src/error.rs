//! What can go wrong with evidence.

use std::path::PathBuf;

use calve_disk::open::shown;

/// The result of everything here that can fail.
pub type Result<T> = std::result::Result<T, Error>;

/// What went wrong.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The host failed.
    #[error(transparent)]
    Disk(#[from] calve_disk::Error),
    /// The log may not be written under this name.
    #[error("{}: {why}", shown(path))]
    Refused {
        /// The log.
        path: PathBuf,
        /// Why not.
        why: String,
    },
    /// The caller asked for the end.
    #[error("stopped")]
    Stopped,
}
