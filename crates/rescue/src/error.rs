//! What can go wrong with a rescue, by what the caller can do next.

use std::path::PathBuf;

use calve_disk::Error as DiskError;
use calve_disk::open::shown;

/// The result of a rescue.
pub type Result<T> = std::result::Result<T, Error>;

/// What went wrong.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// An image cannot be opened, or the host failed outside of the source's bytes.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// The map file is none, or one of another rescue.
    #[error("{}: {why}", shown(path))]
    Map {
        /// The map file.
        path: PathBuf,
        /// What is the matter with it.
        why: String,
    },
    /// Something bears the target's name, or its working name, and no map says that it is this
    /// rescue's.
    #[error("{}: {why}", shown(path))]
    Target {
        /// The file that is there.
        path: PathBuf,
        /// What is the matter with it.
        why: String,
    },
    /// The caller asked for the end. Map and target are saved: the next run goes on.
    #[error("stopped; the map is saved")]
    Stopped,
}
