//! Names beside images: of a new file that waits for its place, and of an original that left it.

use std::ffi::OsString;
use std::fs::{File, Metadata};
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use calve_disk::{folder_of, with_end};
use calve_plan::{Image, Kept};

use crate::error::{Error, Result};
use crate::journal::Stamped;

/// Behind the name of a file that waits for its place.
const STAGED: &str = ".calve-staged";

/// Behind the name of an original that left its place.
const ORIGINAL: &str = ".calve-original";

/// Where the file waits that takes the place of `path`.
pub(crate) fn staged(path: &Path) -> PathBuf {
    with_end(path, STAGED)
}

/// Where the original of `path` goes, by its place in the plan where names from many folders meet.
pub(crate) fn kept(path: &Path, kept: &Kept, (run, image): (i64, &Image)) -> PathBuf {
    match kept {
        // A bucket is no folder, and keeps what it has beside.
        Kept::Folder(folder) if !crate::stores::is_object(path) => {
            let mut name = OsString::from(format!("{run}-{}-{}-", image.family, image.order));
            name.push(path.file_name().unwrap_or_default());
            folder.0.join(name)
        }
        Kept::Beside | Kept::Days(_) | Kept::None | Kept::Folder(_) => with_end(path, ORIGINAL),
    }
}

/// What the host says of the file at `path`, itself and no link; `None` where there is none.
pub(crate) fn look(path: &Path) -> Result<Option<Stamped>> {
    match path.symlink_metadata() {
        Ok(metadata) => Ok(Some(stamp(&metadata))),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Error::host("looking at the file", path, error)),
    }
}

fn stamp(metadata: &Metadata) -> Stamped {
    let modified = metadata.mtime().saturating_mul(1_000_000_000);
    Stamped {
        inode: metadata.ino(),
        size: metadata.len(),
        modified: modified.saturating_add(metadata.mtime_nsec()),
    }
}

/// What the host says of a file that has to be there.
pub(crate) fn look_at(path: &Path) -> Result<Stamped> {
    look(path)?.ok_or_else(|| Error::changed(path, "is gone"))
}

/// Gives the file at `from` the further name `to`, where nothing bears it, durably.
pub(crate) fn link(from: &Path, to: &Path) -> Result<()> {
    std::fs::hard_link(from, to).map_err(|error| match error.kind() {
        ErrorKind::AlreadyExists => Error::refused(to, "exists already: move it away first"),
        ErrorKind::CrossesDevices => Error::refused(
            to,
            "is on another file system than the image: keep originals in a folder on the same",
        ),
        _ => Error::host("keeping the original", to, error),
    })?;
    sync(to)
}

/// Gives the file at `from` the name `to`, in place of what bears it, durably.
pub(crate) fn rename(from: &Path, to: &Path) -> Result<()> {
    std::fs::rename(from, to).map_err(|error| Error::host("taking its place", to, error))?;
    sync(to)?;
    if folder_of(from) == folder_of(to) { Ok(()) } else { sync(from) }
}

/// Removes the file at `path`, where there is one, durably.
pub(crate) fn remove(path: &Path) -> Result<()> {
    match std::fs::remove_file(path) {
        Ok(()) => sync(path),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        // A file system that is only read says so before it looks for the name.
        Err(error) if error.kind() == ErrorKind::ReadOnlyFilesystem && look(path)?.is_none() => {
            Ok(())
        }
        Err(error) => Err(Error::host("removing", path, error)),
    }
}

/// Returns when the names in the folder of `path` are on the medium.
fn sync(path: &Path) -> Result<()> {
    let folder = folder_of(path);
    File::open(folder)
        .and_then(|folder| folder.sync_all())
        .map_err(|error| Error::host("syncing the folder", folder, error))
}
