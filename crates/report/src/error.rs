//! What can go wrong with a report, by what the caller can do next.

use std::path::{Path, PathBuf};

use calve_disk::open::shown;

/// The result of everything here that can fail.
pub type Result<T> = std::result::Result<T, Error>;

/// Why there is no report.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The catalogue could not be read.
    #[error(transparent)]
    Fleet(#[from] calve_fleet::Error),
    /// The journal could not be read.
    #[error(transparent)]
    Migrate(#[from] calve_migrate::Error),
    /// The plan could not be read.
    #[error(transparent)]
    Plan(#[from] calve_plan::Error),
    /// What is gathered for a report could not be kept meanwhile.
    #[error("keeping what is gathered for the report: {0}")]
    Gathered(#[from] rusqlite::Error),
    /// What is saved could not be given its name.
    #[error(transparent)]
    Disk(#[from] calve_disk::Error),
    /// The host failed.
    #[error("{}: {doing}: {source}", shown(path))]
    Host {
        /// What was being done.
        doing: &'static str,
        /// The file.
        path: PathBuf,
        /// What the host said.
        source: std::io::Error,
    },
    /// What the report rests on was written to meanwhile.
    #[error("{}: was written to while the report was made", shown(path))]
    Changed {
        /// The file.
        path: PathBuf,
    },
    /// It cannot be told as things stand.
    #[error("{}: {why}", shown(path))]
    Refused {
        /// The file it is about.
        path: PathBuf,
        /// Why not.
        why: String,
    },
    /// What was written could not be taken.
    #[error("writing the report: {0}")]
    Write(#[from] std::io::Error),
}

impl Error {
    pub(crate) fn host(doing: &'static str, path: &Path, source: std::io::Error) -> Self {
        Self::Host { doing, path: path.to_owned(), source }
    }

    pub(crate) fn refused(path: &Path, why: impl Into<String>) -> Self {
        Self::Refused { path: path.to_owned(), why: why.into() }
    }
}

impl From<csv::Error> for Error {
    fn from(error: csv::Error) -> Self {
        Self::Write(error.into())
    }
}
