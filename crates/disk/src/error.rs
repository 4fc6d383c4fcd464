//! What can go wrong, by what the caller can do next.

use std::io;
use std::path::{Path, PathBuf};

use crate::finding::Finding;
use crate::open::shown;
use crate::storage::Storage;
use crate::units::HostOffset;

/// The result of everything here that can fail.
pub type Result<T> = std::result::Result<T, Error>;

/// What went wrong. Each variant is another next step for the caller.
///
/// The text is one line: the file, the place, the fact and the rule. What to type next is the
/// program's to say, which knows what was typed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The host failed: look at the device, the permissions, the free space.
    #[error("{}: {doing}{}: {source}", shown(path), place(*at))]
    Io {
        /// What was being done, as in "reading the L2 table".
        doing: &'static str,
        /// To which file.
        path: PathBuf,
        /// Where in it.
        at: Option<HostOffset>,
        /// What the host said.
        source: io::Error,
    },
    /// The file is not of the format that was expected: name another format or another file.
    #[error("{}: not {expected}; {resembles}", shown(path))]
    NotThisFormat {
        /// The file.
        path: PathBuf,
        /// What was expected, with its article where it takes one.
        expected: &'static str,
        /// What it looks like instead, as the rest of a sentence.
        resembles: String,
    },
    /// The file uses something that is not supported, named.
    #[error("{}: {what}", shown(path))]
    Unsupported {
        /// The file.
        path: PathBuf,
        /// What it uses.
        what: String,
    },
    /// The file breaks a rule so that it cannot be opened or read on.
    #[error("{}: {finding}", shown(path))]
    Broken {
        /// The file.
        path: PathBuf,
        /// The rule and the place.
        finding: Finding,
    },
    /// It could be done, but is not done unless the caller asks for it in so many words.
    #[error("{}: {why}", shown(path))]
    Refused {
        /// The file.
        path: PathBuf,
        /// Why not.
        why: String,
    },
    /// A passphrase is missing or wrong.
    #[error("{}: {why}", shown(path))]
    Key {
        /// The encrypted file.
        path: PathBuf,
        /// What is the matter with the key.
        why: String,
    },
    /// A backing file is missing, not what it should be, or not allowed.
    #[error("{}: {why}", shown(overlay))]
    Base {
        /// The overlay that names it.
        overlay: PathBuf,
        /// What is the matter with it; names it, escaped.
        why: String,
    },
    /// Another process has the file open and could change it, or must not be disturbed.
    #[error("{}: in use by another process", shown(path))]
    InUse {
        /// The file.
        path: PathBuf,
    },
    /// The file changed while it was read: what was read may be of two ages.
    #[error("{}: changed while it was read", shown(path))]
    Changed {
        /// The file.
        path: PathBuf,
    },
}

impl Error {
    /// A failure of the host at some place of some storage.
    pub fn io(
        doing: &'static str,
        storage: &(impl Storage + ?Sized),
        at: HostOffset,
        source: io::Error,
    ) -> Self {
        Self::Io { doing, path: storage.path().to_owned(), at: Some(at), source }
    }

    /// A failure of the host to do something to a whole file.
    pub fn host(doing: &'static str, path: &Path, source: impl Into<io::Error>) -> Self {
        Self::Io { doing, path: path.to_owned(), at: None, source: source.into() }
    }

    /// The finding that makes an image unreadable.
    pub fn broken(path: &Path, finding: Finding) -> Self {
        Self::Broken { path: path.to_owned(), finding }
    }
}

fn place(at: Option<HostOffset>) -> String {
    at.map(|at| format!(" at {at}")).unwrap_or_default()
}
