//! What can go wrong with a store, by what the caller can do next.

use std::io;
use std::path::{Path, PathBuf};

use calve_disk::Error as DiskError;
use calve_disk::open::shown;

/// The result of everything here that can fail.
pub type Result<T> = std::result::Result<T, Error>;

/// What went wrong, told without anything that is secret: no signature, no key, no answer of the
/// server but its code.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{}: {doing} {why}", shown(path))]
pub struct Error {
    /// What the caller can do about it.
    pub kind: Kind,
    /// The object.
    pub path: PathBuf,
    /// What was being done, or what it is about.
    pub doing: String,
    /// The fact, as the rest of the sentence.
    pub why: String,
}

/// What the caller can do about it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// The name is none: write another.
    Name,
    /// A setting makes no sense.
    Settings,
    /// There are no credentials, or they cannot be had.
    Credentials,
    /// There is no such object.
    Missing,
    /// There is no such bucket.
    NoBucket,
    /// The server knows the caller not, or does not let him.
    Denied,
    /// The object is not the one that it was.
    Changed,
    /// There is an object already.
    Exists,
    /// It may have come about, or not: an answer was lost.
    Unclear,
    /// Nothing came of it however often it was tried: the network, or the server.
    Unreachable,
    /// The server answered what no such server may, or refused for a reason of its own.
    Odd,
    /// The server's list of objects is none that can be understood.
    NoList,
    /// The host failed, with a file of its own.
    Host(io::ErrorKind),
    /// The run is to stop.
    Stopped,
}

impl Error {
    /// What is the matter with the object at `path`.
    pub fn new(kind: Kind, path: &Path, doing: impl Into<String>, why: impl Into<String>) -> Self {
        Self { kind, path: path.to_owned(), doing: doing.into(), why: why.into() }
    }

    /// That the host failed.
    pub fn host(path: &Path, doing: &str, error: &io::Error) -> Self {
        Self::new(Kind::Host(error.kind()), path, doing, format!("failed: {error}"))
    }

    /// What the caller can do next, where that is known.
    pub fn next(&self) -> Option<&'static str> {
        Some(match self.kind {
            Kind::Name => "write s3://BUCKET/KEY; a file of such a name is ./s3:/...",
            Kind::Settings => "docs/store.md says what the settings are",
            Kind::Credentials => {
                "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE, or \
                 AWS_SKIP_SIGNATURE=true for what anybody may read"
            }
            Kind::Missing => "look at how the name is spelled",
            Kind::NoBucket => "look at how the bucket is spelled, and at AWS_ENDPOINT_URL",
            Kind::Denied => "look at the credentials, and at what they are allowed to do",
            Kind::Changed => "stop whatever writes to it, then run this again",
            Kind::Exists => "name another target, or replace it with --force",
            Kind::Unclear => "look at what is there now before anything else is done with it",
            Kind::Unreachable => "look at the network and at AWS_ENDPOINT_URL, then run this again",
            Kind::NoList => {
                "look at whether AWS_ENDPOINT_URL is a store that lists as S3 does (ListObjectsV2); \
                 else fetch the objects into a folder, and scan that"
            }
            Kind::Odd | Kind::Host(_) | Kind::Stopped => return None,
        })
    }

    fn io_kind(&self) -> io::ErrorKind {
        match self.kind {
            Kind::Name | Kind::Settings => io::ErrorKind::InvalidInput,
            Kind::Missing | Kind::NoBucket => io::ErrorKind::NotFound,
            Kind::Credentials | Kind::Denied => io::ErrorKind::PermissionDenied,
            Kind::Changed => io::ErrorKind::StaleNetworkFileHandle,
            Kind::Exists => io::ErrorKind::AlreadyExists,
            Kind::Unreachable | Kind::Unclear => io::ErrorKind::NetworkUnreachable,
            Kind::Odd | Kind::NoList => io::ErrorKind::InvalidData,
            Kind::Host(kind) => kind,
            // What is interrupted is done again by those who copy, and this is not.
            Kind::Stopped => io::ErrorKind::Other,
        }
    }

    /// What stands behind a failure of the host, if it is one of a store.
    pub fn behind(error: &io::Error) -> Option<&Self> {
        error.get_ref()?.downcast_ref::<Inside>().map(|inside| &inside.0)
    }
}

/// The same inside of something that names the object already.
#[derive(Debug, thiserror::Error)]
#[error("{} {}", .0.doing, .0.why)]
struct Inside(Error);

impl From<Error> for io::Error {
    fn from(error: Error) -> Self {
        io::Error::new(error.io_kind(), Inside(error))
    }
}

impl From<Error> for DiskError {
    fn from(error: Error) -> Self {
        if error.kind == Kind::Changed {
            return DiskError::Changed { path: error.path };
        }
        let path = error.path.clone();
        DiskError::host("using the store", &path, error)
    }
}
