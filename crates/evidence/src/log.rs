//! Log: the file that the record stands in, which is there whole or not at all.

use std::io::Write;
use std::path::{Path, PathBuf};

use calve_disk::{Error as DiskError, Named, PendingFile, folder_of};

use crate::error::{Error, Result};
use crate::record::Record;

/// Whoever the user's mask lets may read it.
const MODE: u32 = 0o666;

/// A log that is to be written.
pub struct Log {
    path: PathBuf,
}

impl Log {
    /// The log at `path`, where nothing may be. It is found out now whether a file can be made
    /// there, and none is left.
    ///
    /// # Errors
    /// [`Error::Refused`] where something is there, [`Error::Disk`] where no file can be made.
    pub fn new(path: &Path) -> Result<Self> {
        let log = Self { path: path.to_owned() };
        if path.symlink_metadata().is_ok() {
            return Err(log.refused("exists already"));
        }
        PendingFile::create(path, false, MODE)?;
        Ok(log)
    }

    /// Fails where the log would be the file at `path`, however that is spelled.
    ///
    /// # Errors
    /// [`Error::Refused`].
    pub fn refuse(&self, path: &Path) -> Result<()> {
        let folder = |path: &Path| folder_of(path).canonicalize().ok();
        let is_same =
            path.file_name() == self.path.file_name() && folder(path) == folder(&self.path);
        if is_same {
            Err(self.refused("is the name of something else that is to be written"))
        } else {
            Ok(())
        }
    }

    /// Writes it: under a temporary name first, and under its own when all of it is on the medium.
    ///
    /// # Errors
    /// [`Error::Refused`] where something came to be there meanwhile, [`Error::Disk`] where the
    /// host fails. There is no log then.
    pub fn write(&self, record: &Record) -> Result<()> {
        let failed = |source| DiskError::host("writing the log", &self.path, source);
        let mut text = serde_json::to_vec_pretty(record)
            .map_err(|error| failed(std::io::Error::from(error)))?;
        text.push(b'\n');
        let (mut file, pending) = PendingFile::create(&self.path, false, MODE)?;
        file.write_all(&text).and_then(|()| file.sync_all()).map_err(failed)?;
        match pending.take_name(true)? {
            Named::Yes => Ok(()),
            Named::Taken => Err(self.refused("came into being while this ran")),
        }
    }

    fn refused(&self, why: &str) -> Error {
        Error::Refused { path: self.path.clone(), why: why.to_owned() }
    }
}
