//! Opening an image that is to be changed where it lies.

use std::fs::File;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use calve_disk::open::{lock_for_reading, lock_for_writing};
use calve_disk::{Error, HostFile, Result};
use rustix::fs::OFlags;

/// Opens the file at `path` for writing, so that nobody else may, and says where it really is: a
/// link is followed, since notes are kept beside the file itself.
///
/// # Errors
/// [`Error::InUse`] where somebody else has it open, and [`Error::Refused`] where it is no
/// regular file: a device cannot become longer.
pub fn open_for_writing(path: &Path) -> Result<(HostFile, PathBuf)> {
    opened(path, lock_for_writing, |real| {
        let nonblocking = i32::try_from(OFlags::NONBLOCK.bits()).unwrap_or_default();
        File::options().read(true).write(true).custom_flags(nonblocking).open(real)
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
