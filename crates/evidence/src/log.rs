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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Run, Witness};

    fn record() -> Record {
        let run = Run::begin("calve", "info", &[]);
        Record::new(run, &Witness::default(), 0, None, serde_json::Map::new())
    }

    #[test]
    fn it_is_there_when_it_is_written_and_alone_in_its_folder() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let log = Log::new(&path).unwrap();
        let names = || std::fs::read_dir(folder.path()).unwrap().count();
        assert_eq!(names(), 0, "the look whether it can be had leaves nothing");
        log.write(&record()).unwrap();
        assert_eq!(names(), 1);
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.starts_with("{\n  \"schema\": 1,\n") && text.ends_with("}\n"), "{text}");
    }

    #[test]
    fn nothing_is_replaced_whenever_it_came_to_be_there() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let log = Log::new(&path).unwrap();
        std::fs::write(&path, b"precious").unwrap();
        assert!(matches!(log.write(&record()), Err(Error::Refused { .. })));
        assert!(matches!(Log::new(&path), Err(Error::Refused { .. })));
        assert_eq!(std::fs::read(&path).unwrap(), b"precious");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn it_is_known_by_any_spelling_of_its_name() {
        let folder = tempfile::tempdir().unwrap();
        let log = Log::new(&folder.path().join("log")).unwrap();
        assert!(log.refuse(&folder.path().join("./log")).is_err());
        assert!(log.refuse(&folder.path().join("other")).is_ok());
        assert!(log.refuse(Path::new("log")).is_ok());
    }
}
