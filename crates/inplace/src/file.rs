//! Opening an image that is to be changed where it lies.

use std::fs::File;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use calve_disk::open::{lock_for_reading, lock_for_writing};
use calve_disk::{Error, HostFile, Result, Storage, StorageMut};
use rustix::fs::OFlags;
use rustix::io::Errno;

/// Opens the file at `path` for writing, so that nobody else may, and says where it really is: a
/// link is followed, since notes are kept beside the file itself. Reading it changes no access time
/// where the host allows that.
///
/// # Errors
/// [`Error::InUse`] where somebody else has it open, and [`Error::Refused`] where it is no
/// regular file: a device cannot become longer.
pub fn open_for_writing(path: &Path) -> Result<(HostFile, PathBuf)> {
    opened(path, lock_for_writing, |real| {
        let open = |flags: OFlags| {
            let flags = i32::try_from(flags.bits()).unwrap_or_default();
            File::options().read(true).write(true).custom_flags(flags).open(real)
        };
        match open(OFlags::NONBLOCK | OFlags::NOATIME) {
            Err(error) if error.raw_os_error() == Some(Errno::PERM.raw_os_error()) => {
                open(OFlags::NONBLOCK)
            }
            done => done,
        }
    })
}

/// As [`open_for_writing`], to look at it only: others may read it meanwhile.
///
/// # Errors
/// As [`open_for_writing`].
pub fn open_for_reading(path: &Path) -> Result<(HostFile, PathBuf)> {
    opened(path, lock_for_reading, calve_disk::open::open_for_reading)
}

fn opened(
    path: &Path,
    lock: impl Fn(&File, &Path) -> Result<()>,
    open: impl Fn(&Path) -> std::io::Result<File>,
) -> Result<(HostFile, PathBuf)> {
    let failed = |source| Error::host("opening", path, source);
    let real = path.canonicalize().map_err(failed)?;
    let file = open(&real).map_err(failed)?;
    if !file.metadata().map_err(failed)?.is_file() {
        return Err(Error::Refused {
            path: path.to_owned(),
            why: "is no regular file, and only those are changed where they lie".into(),
        });
    }
    lock(&file, path)?;
    Ok((HostFile::new(file, path.to_owned()), real))
}

/// How long the storage is, in bytes.
///
/// # Errors
/// Where the host does not tell.
pub fn size_of(storage: &dyn Storage) -> Result<u64> {
    let failed = |source| Error::host("asking for the file's size", storage.path(), source);
    storage.size().map_err(failed)
}

/// Returns when all that was written is on the medium.
///
/// # Errors
/// Where the host fails.
pub fn sync(storage: &dyn StorageMut) -> Result<()> {
    storage.sync().map_err(|source| Error::host("syncing", storage.path(), source))
}

/// Makes the storage that long, on the medium.
///
/// # Errors
/// Where the host fails.
pub fn set_size(storage: &dyn StorageMut, length: u64) -> Result<()> {
    let failed = |source| Error::host("setting the file's size", storage.path(), source);
    storage.set_size(length).map_err(failed)?;
    sync(storage)
}

/// Bytes that are free on its file system, where it is a file and the host tells.
pub fn free_room(storage: &dyn Storage) -> Option<u64> {
    let status = rustix::fs::fstatvfs(storage.as_file()?).ok()?;
    Some(status.f_bavail.saturating_mul(status.f_frsize.max(1)))
}
