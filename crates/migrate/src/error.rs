//! What can go wrong with a migration, by what the caller can do next.

use std::path::{Path, PathBuf};

use calve_disk::open::shown;

/// The result of everything here that can fail.
pub type Result<T> = std::result::Result<T, Error>;

/// What went wrong. Unless it is of the journal, it is about one family, which is then as it was.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// An image could not be opened, read or written, or breaks a rule.
    #[error(transparent)]
    Disk(#[from] calve_disk::Error),
    /// An upgrade failed.
    #[error(transparent)]
    Upgrade(#[from] calve_upgrade::Error),
    /// A conversion failed.
    #[error(transparent)]
    Convert(#[from] calve_convert::Error),
    /// A rescue failed.
    #[error(transparent)]
    Rescue(#[from] calve_rescue::Error),
    /// A store failed.
    #[error(transparent)]
    Store(#[from] calve_store::Error),
    /// What an overlay records of its base could not be changed.
    #[error(transparent)]
    References(#[from] calve_references::Error),
    /// An image is not as it should be: not the file of the plan, or not as it was left.
    #[error("{}: {why}", shown(path))]
    Changed {
        /// The image.
        path: PathBuf,
        /// What is other than it was.
        why: String,
    },
    /// It is not done as things stand.
    #[error("{}: {why}", shown(path))]
    Refused {
        /// The file it is about.
        path: PathBuf,
        /// Why not.
        why: String,
    },
    /// A disk does not read as it did before.
    #[error("{}: reads otherwise than before it was upgraded", shown(path))]
    Mismatch {
        /// The image.
        path: PathBuf,
    },
    /// A hook did not end well.
    #[error("{}: the hook {hook} {what}", shown(path))]
    Hook {
        /// The image.
        path: PathBuf,
        /// Which hook.
        hook: &'static str,
        /// How it ended.
        what: String,
    },
    /// The journal cannot be read or written: nothing goes on without it.
    #[error("{}: the journal: {source}", shown(path))]
    Journal {
        /// Its file.
        path: PathBuf,
        /// What SQLite says.
        source: rusqlite::Error,
        /// Whether there is no room for it.
        is_full: bool,
    },
    /// Something failed, and so did taking back what was done: the next run goes on from there, and
    /// nothing is lost.
    #[error("{failure}; it could not be taken back at once: {second}")]
    HalfWay {
        /// What failed first.
        failure: Box<Error>,
        /// What failed when that was to be taken back.
        second: Box<Error>,
    },
    /// It was to be taken back from where an earlier run had left it, and could not be: the next run
    /// tries again, and nothing is lost.
    #[error("is half way, and could not be taken back: {0}")]
    Unreturned(Box<Error>),
    /// All of the family is migrated, and what is no longer needed could not be given up: the next
    /// run tries again.
    #[error("is migrated, and what is no longer needed could not be given up: {0}")]
    Unreleased(Box<Error>),
    /// All of the family was migrated before, and a configuration that names its images could not
    /// be changed: the next run tries again.
    #[error("is migrated, and what names it could not follow: {0}")]
    Unfollowed(Box<Error>),
    /// It was asked to stop.
    #[error("stopped")]
    Stopped,
}

/// What a failure is about, as journals and reports group them.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Cause {
    /// The host failed.
    Host,
    /// The image is damaged.
    Damaged,
    /// A passphrase is missing.
    Key,
    /// A base is missing, or not what it should be.
    Base,
    /// A file is another one than it was.
    Changed,
    /// Somebody uses the image.
    InUse,
    /// There is no room.
    NoSpace,
    /// The result does not read as the source.
    Mismatch,
    /// It is not done as things stand.
    Refused,
    /// A hook did not end well.
    Hook,
    /// It was asked to stop.
    Stopped,
}

impl Cause {
    /// All of them.
    pub const ALL: [Self; 11] = [
        Self::Host,
        Self::Damaged,
        Self::Key,
        Self::Base,
        Self::Changed,
        Self::InUse,
        Self::NoSpace,
        Self::Mismatch,
        Self::Refused,
        Self::Hook,
        Self::Stopped,
    ];

    /// Its word in journals and reports.
    pub fn word(self) -> &'static str {
        match self {
            Self::Host => "host",
            Self::Damaged => "damaged",
            Self::Key => "key",
            Self::Base => "base",
            Self::Changed => "changed",
            Self::InUse => "in-use",
            Self::NoSpace => "no-space",
            Self::Mismatch => "mismatch",
            Self::Refused => "refused",
            Self::Hook => "hook",
            Self::Stopped => "stopped",
        }
    }
}

impl Error {
    pub(crate) fn refused(path: &Path, why: impl Into<String>) -> Self {
        Self::Refused { path: path.to_owned(), why: why.into() }
    }

    pub(crate) fn changed(path: &Path, why: impl Into<String>) -> Self {
        Self::Changed { path: path.to_owned(), why: why.into() }
    }

    pub(crate) fn host(doing: &'static str, path: &Path, source: std::io::Error) -> Self {
        Self::Disk(calve_disk::Error::host(doing, path, source))
    }

    pub(crate) fn journal(path: &Path, source: rusqlite::Error) -> Self {
        let is_full = calve_fleet::is_full(&source, calve_disk::folder_of(path));
        Self::Journal { path: path.to_owned(), source, is_full }
    }

    /// What it is about.
    pub fn cause(&self) -> Cause {
        match self {
            Self::Disk(error) => of_disk(error),
            Self::Upgrade(error) => of_upgrade(error),
            Self::Convert(error) => match error {
                calve_convert::Error::Disk(error) => of_disk(error),
                calve_convert::Error::Lost { .. } => Cause::Damaged,
                calve_convert::Error::Mismatch { .. } => Cause::Mismatch,
                calve_convert::Error::Stopped => Cause::Stopped,
                _ => Cause::Refused,
            },
            Self::Rescue(error) => match error {
                calve_rescue::Error::Disk(error) => of_disk(error),
                calve_rescue::Error::Stopped => Cause::Stopped,
                _ => Cause::Refused,
            },
            Self::Store(error) => of_store(error),
            Self::References(calve_references::Error::Disk(error)) => of_disk(error),
            Self::References(_) => Cause::Refused,
            Self::Changed { .. } => Cause::Changed,
            Self::Refused { .. } => Cause::Refused,
            Self::Mismatch { .. } => Cause::Mismatch,
            Self::Hook { .. } => Cause::Hook,
            Self::Journal { is_full: true, .. } => Cause::NoSpace,
            Self::Journal { .. } => Cause::Host,
            Self::HalfWay { failure, .. }
            | Self::Unreturned(failure)
            | Self::Unreleased(failure)
            | Self::Unfollowed(failure) => failure.cause(),
            Self::Stopped => Cause::Stopped,
        }
    }
}

fn of_store(error: &calve_store::Error) -> Cause {
    use calve_store::Kind;
    match error.kind {
        Kind::Changed | Kind::Missing => Cause::Changed,
        Kind::Exists | Kind::Name | Kind::Settings => Cause::Refused,
        Kind::Host(std::io::ErrorKind::StorageFull) => Cause::NoSpace,
        Kind::Stopped => Cause::Stopped,
        _ => Cause::Host,
    }
}

fn of_upgrade(error: &calve_upgrade::Error) -> Cause {
    match error {
        calve_upgrade::Error::Disk(error) => of_disk(error),
        calve_upgrade::Error::NoSpace { .. } => Cause::NoSpace,
        calve_upgrade::Error::Mismatch { .. } => Cause::Mismatch,
        calve_upgrade::Error::HalfWay { failure, .. } => of_upgrade(failure),
        calve_upgrade::Error::Stopped => Cause::Stopped,
        calve_upgrade::Error::Record(_) => Cause::Host,
        _ => Cause::Refused,
    }
}

fn of_disk(error: &calve_disk::Error) -> Cause {
    use calve_disk::Error as DiskError;
    use std::io::ErrorKind;
    match error {
        DiskError::Io { source, .. } if calve_store::Error::behind(source).is_some() => {
            calve_store::Error::behind(source).map_or(Cause::Host, of_store)
        }
        DiskError::Io { source, .. } => match source.kind() {
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge => {
                Cause::NoSpace
            }
            ErrorKind::UnexpectedEof => Cause::Changed,
            _ => Cause::Host,
        },
        DiskError::Broken { .. } => Cause::Damaged,
        DiskError::Key { .. } => Cause::Key,
        DiskError::Base { .. } => Cause::Base,
        DiskError::InUse { .. } => Cause::InUse,
        DiskError::Changed { .. } => Cause::Changed,
        _ => Cause::Refused,
    }
}
