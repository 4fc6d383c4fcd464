//! What can go wrong with a conversion.

use std::path::PathBuf;

use calve_disk::open::shown;
use calve_disk::units::GuestOffset;

/// The result of everything here that can fail.
pub type Result<T> = std::result::Result<T, Error>;

/// What went wrong. Whichever it is, nothing bears the target's name that did not before.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A disk could not be opened, read or written.
    #[error(transparent)]
    Disk(#[from] calve_disk::Error),
    /// Source bytes are lost, and nobody asked to go on without them.
    #[error("{}: {count} lost ranges, {bytes} bytes", shown(path))]
    Lost {
        /// The source.
        path: PathBuf,
        /// How many ranges.
        count: u64,
        /// How many guest bytes.
        bytes: u64,
        /// The first few.
        first: Vec<crate::Loss>,
        /// Whether the walk ended early, so that there may be more.
        at_least: bool,
    },
    /// The target exists, or is one of the sources, or cannot take the disk.
    #[error("{}: {why}", shown(path))]
    Target {
        /// The target.
        path: PathBuf,
        /// Why not.
        why: String,
    },
    /// The result does not read as the source did.
    #[error("{}: differs from the source at guest byte {at}", shown(path))]
    Mismatch {
        /// The result, which was removed.
        path: PathBuf,
        /// The first place where it differs, to within a batch.
        at: GuestOffset,
    },
    /// The run was asked to stop.
    #[error("stopped")]
    Stopped,
}
