//! What is at a path now, by the first bytes of what is there.

use std::fs::Metadata;
use std::io::{ErrorKind, Read};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use calve_disk::open::{Likeness, is_in_use, likeness, open_for_reading};

/// What is there, by its first bytes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Found {
    /// A version 1 image.
    Version1,
    /// A qcow2 image.
    Qcow2,
    /// Something else.
    Other,
    /// Nothing.
    Missing,
    /// No regular file: a link, a folder, a device.
    NoFile,
    /// It could not be read.
    Unreadable(String),
}

impl Found {
    /// A number for it, and why it could not be read.
    pub(crate) fn number(&self) -> (i64, Option<&str>) {
        match self {
            Self::Version1 => (0, None),
            Self::Qcow2 => (1, None),
            Self::Other => (2, None),
            Self::Missing => (3, None),
            Self::NoFile => (4, None),
            Self::Unreadable(problem) => (5, Some(problem)),
        }
    }

    pub(crate) fn of(number: i64, problem: Option<String>) -> Option<Self> {
        let problem = Self::Unreadable(problem.unwrap_or_default());
        let all = [Self::Version1, Self::Qcow2, Self::Other, Self::Missing, Self::NoFile, problem];
        all.into_iter().find(|found| found.number().0 == number)
    }

    /// The format as `qemu-img` names it, or a word for what is no image.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Version1 => "qcow",
            Self::Qcow2 => "qcow2",
            Self::Other => "other",
            Self::Missing => "missing",
            Self::NoFile => "no-file",
            Self::Unreadable(_) => "unreadable",
        }
    }
}

/// What a look at a path told.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Looked {
    /// What is there.
    pub found: Found,
    /// Whether another process holds it under QEMU's locks.
    pub is_in_use: bool,
    /// Its number in its file system, or one that stands for an object's tag.
    pub inode: u64,
    /// Its length in bytes.
    pub size: u64,
    /// Bytes that the host spends on it.
    pub spent: u64,
    /// When it was written last, in nanoseconds since 1970.
    pub modified: i64,
}

impl Looked {
    /// A look at what has no bytes to be told of.
    pub fn nothing(found: Found) -> Self {
        Self { found, is_in_use: false, inode: 0, size: 0, spent: 0, modified: 0 }
    }
}

impl Found {
    /// What begins with these bytes.
    pub fn by_start(start: &[u8]) -> Self {
        match likeness(start) {
            Likeness::Qcow(1) => Self::Version1,
            Likeness::Qcow(2 | 3) => Self::Qcow2,
            _ => Self::Other,
        }
    }
}

/// The unit in which the host counts what it spends, in bytes.
const BLOCK: u64 = 512;

/// How much of a file is read.
const START: u64 = 512;

/// Looks at a path. Nothing is locked, and no link followed but those in its folders.
pub(crate) fn look(path: &Path) -> Looked {
    match looked(path) {
        Ok(looked) => looked,
        // Below a file there is nothing either.
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            Looked::nothing(Found::Missing)
        }
        Err(error) => Looked::nothing(Found::Unreadable(error.to_string())),
    }
}

fn looked(path: &Path) -> std::io::Result<Looked> {
    let before = path.symlink_metadata()?;
    let of = |found, metadata: &Metadata, is_in_use| Looked {
        found,
        is_in_use,
        inode: metadata.ino(),
        size: metadata.len(),
        spent: metadata.blocks().saturating_mul(BLOCK),
        modified: metadata.mtime().saturating_mul(1_000_000_000) + metadata.mtime_nsec(),
    };
    if !before.is_file() {
        return Ok(of(Found::NoFile, &before, false));
    }
    let file = open_for_reading(path)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Ok(of(Found::NoFile, &metadata, false));
    }
    let mut start = Vec::new();
    (&file).take(START).read_to_end(&mut start)?;
    Ok(of(Found::by_start(&start), &metadata, is_in_use(&file)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_there_is_told_by_its_first_bytes_and_nothing_is_waited_for() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("file");
        let found = || look(&path).found;
        assert_eq!(found(), Found::Missing);
        for (bytes, expected) in [
            (&b"QFI\xfb\0\0\0\x01"[..], Found::Version1),
            (b"QFI\xfb\0\0\0\x02", Found::Qcow2),
            (b"QFI\xfb\0\0\0\x03rest", Found::Qcow2),
            (b"QFI\xfb\0\0\0\x09", Found::Other),
            (b"QFI\xfb\0\0", Found::Other),
            (b"", Found::Other),
        ] {
            std::fs::write(&path, bytes).expect("a file");
            assert_eq!(found(), expected, "{bytes:?}");
        }
        let link = folder.path().join("link");
        std::os::unix::fs::symlink(&path, &link).expect("a link");
        assert_eq!(look(&link).found, Found::NoFile);
        assert_eq!(look(folder.path()).found, Found::NoFile);
        let pipe = folder.path().join("pipe");
        rustix::fs::mknodat(
            rustix::fs::CWD,
            &pipe,
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::from_raw_mode(0o600),
            0,
        )
        .expect("a pipe");
        assert_eq!(look(&pipe).found, Found::NoFile);
        assert_eq!(look(&path.join("below")).found, Found::Missing);
        let around = folder.path().join("around");
        std::os::unix::fs::symlink("around", &around).expect("a link");
        assert!(matches!(look(&around.join("below")).found, Found::Unreadable(_)));
    }
}
