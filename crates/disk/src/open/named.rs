//! Files that a caller names: opened for reading, or open already.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{OpenOptions, open_for_reading};
use crate::error::{Error, Result};
use crate::storage::{HostFile, Storage};

/// A file that a caller named, and opened, before anybody looks into it.
#[derive(Clone, Debug)]
pub struct OpenedFile {
    path: PathBuf,
    file: Arc<File>,
}

impl OpenedFile {
    /// Opens the file at `path` for reading, as [`Disk::open`](crate::Disk::open) does it. Nothing is read.
    ///
    /// # Errors
    /// [`Error::Io`] where the host does not open it.
    pub fn open(path: &Path) -> Result<Self> {
        let file = open_for_reading(path).map_err(|source| Error::host("opening", path, source))?;
        Ok(Self::new(file, path.to_owned()))
    }

    /// The open `file`, which callers name `path`.
    pub fn new(file: File, path: PathBuf) -> Self {
        Self { path, file: Arc::new(file) }
    }

    /// What callers name it.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The file itself.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// How many bytes there are, of a file or a device.
    ///
    /// # Errors
    /// [`Error::Io`] where the host does not say.
    pub fn size(&self) -> Result<u64> {
        let failed = |source| Error::host("looking at the file", &self.path, source);
        let file = self.file.try_clone().map_err(failed)?;
        HostFile::new(file, self.path.clone()).size().map_err(failed)
    }
}

impl OpenOptions {
    /// Opens a file that the caller names. What was opened already is the same file, under the
    /// same locks.
    pub(super) fn open_named(&self, path: &Path) -> std::io::Result<File> {
        match self.opened.iter().find(|opened| opened.path == path) {
            Some(opened) => opened.file.try_clone(),
            None => open_for_reading(path),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Disk;

    #[test]
    fn what_is_open_already_is_not_opened_again() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("disk");
        std::fs::write(&path, [7; 1024]).expect("a file");
        let opened = OpenedFile::open(&path).expect("opens");
        assert_eq!(opened.size().expect("told"), 1024);
        std::fs::remove_file(&path).expect("removes");
        let mut options = OpenOptions { opened: vec![opened], ..OpenOptions::default() };
        // As often as it is wanted.
        for _ in 0..2 {
            assert_eq!(Disk::open(&path, &options).expect("opens").virtual_size(), 1024);
        }
        options.opened.clear();
        assert!(Disk::open(&path, &options).is_err());
    }
}
