//! What can go wrong with a plan.

use std::path::PathBuf;

use calve_disk::open::shown;

/// The result of everything here that can fail.
pub type Result<T> = std::result::Result<T, Error>;

/// What went wrong.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The catalogue cannot be read.
    #[error(transparent)]
    Fleet(#[from] calve_fleet::Error),
    /// The plan's file cannot be read or written.
    #[error("{}: {source}", shown(path))]
    Host {
        /// The plan's file.
        path: PathBuf,
        /// What the host says.
        source: std::io::Error,
    },
    /// A line is not one of a plan: mend it, or make the plan anew.
    #[error("{}, line {line}: {what}", shown(path))]
    Line {
        /// The plan's file.
        path: PathBuf,
        /// Which line, from 1.
        line: usize,
        /// What is wrong with it.
        what: String,
    },
    /// It was asked to stop.
    #[error("stopped")]
    Stopped,
}
