//! Files that are there to be locked: beside a journal, and beside that of a shard.

use std::fs::{File, TryLockError};
use std::io::{self, ErrorKind};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rustix::fs::OFlags;
use rustix::io::Errno;

use crate::error::{Error, Result};

/// Locks the file at `path` until the result is dropped, and makes it where there is none. It may be
/// somebody else's, and only be readable.
///
/// # Errors
/// [`calve_disk::Error::InUse`] where somebody has the lock; [`Error::Refused`] where there is a
/// symbolic link; what the host says.
pub(crate) fn take(path: &Path) -> Result<File> {
    let file = open(path).map_err(|error| match Errno::from_io_error(&error) {
        Some(Errno::LOOP) => {
            Error::refused(path, "is a symbolic link, which is not followed: remove it")
        }
        _ => Error::host("opening", path, error),
    })?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => {
            Err(calve_disk::Error::InUse { path: path.to_owned() }.into())
        }
        Err(TryLockError::Error(error)) => Err(Error::host("locking", path, error)),
    }
}

fn open(path: &Path) -> io::Result<File> {
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let flags = i32::try_from(flags.bits()).unwrap_or_default();
    let there = |options: &mut std::fs::OpenOptions| options.custom_flags(flags).open(path);
    // Only what is open for writing can be locked alone on NFS.
    let opened = || match there(File::options().write(true)) {
        Err(error) if error.kind() == ErrorKind::PermissionDenied => {
            there(File::options().read(true)).map_err(|_| error)
        }
        opened => opened,
    };
    match opened() {
        // Making it follows no link, and fails where it came to be there meanwhile.
        Err(error) if error.kind() == ErrorKind::NotFound => {
            match File::options().write(true).create_new(true).open(path) {
                Err(error) if error.kind() == ErrorKind::AlreadyExists => opened(),
                made => made,
            }
        }
        opened => opened,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_is_not_followed_and_nothing_is_made_where_it_leads() {
        let folder = tempfile::tempdir().unwrap();
        let [link, target] = ["lock", "target"].map(|name| folder.path().join(name));
        std::os::unix::fs::symlink(&target, &link).unwrap();
        let refused = take(&link).map(drop);
        assert!(matches!(refused, Err(Error::Refused { .. })), "{refused:?}");
        assert!(!target.exists());
        std::fs::write(&target, "").unwrap();
        assert!(matches!(take(&link), Err(Error::Refused { .. })));
    }

    #[test]
    fn one_has_it_at_a_time() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lock");
        let lock = take(&path).unwrap();
        let second = take(&path).map(drop);
        assert!(matches!(second, Err(Error::Disk(calve_disk::Error::InUse { .. }))), "{second:?}");
        drop(lock);
        take(&path).unwrap();
    }
}
