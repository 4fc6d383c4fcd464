//! What can go wrong with a catalogue, by what the caller can do next.

use std::path::PathBuf;

use calve_disk::open::shown;

/// The result of everything here that can fail.
pub type Result<T> = std::result::Result<T, Error>;

/// What went wrong.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The catalogue cannot be read or written: look at its file, its folder, the free space.
    #[error("{}: the catalogue: {source}", shown(path))]
    Catalogue {
        /// The catalogue's file.
        path: PathBuf,
        /// What SQLite says.
        source: rusqlite::Error,
        /// Whether there is no room for it.
        is_full: bool,
    },
    /// The file is no catalogue, or one of another version: name another.
    #[error("{}: {what}", shown(path))]
    Foreign {
        /// The file.
        path: PathBuf,
        /// What it is instead.
        what: String,
    },
    /// The base that somebody named for an overlay cannot be it: name another.
    #[error("{}: its base cannot be {}: {what}", shown(overlay), shown(base))]
    Confirmed {
        /// The overlay.
        overlay: PathBuf,
        /// What was named as its base.
        base: PathBuf,
        /// Why not.
        what: String,
    },
}
