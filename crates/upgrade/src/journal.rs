//! The journal: one note beside an image, kept until it is not wanted any more.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use calve_disk::open::open_for_reading;
use calve_disk::{Named, PendingFile, folder_of};

/// One note beside an image. It is replaced as a whole or not at all, and is on the medium when
/// a call returns.
pub trait Journal: Send + Sync {
    /// Where it is.
    fn path(&self) -> &Path;

    /// The note, if there is one.
    fn read(&self) -> io::Result<Option<Vec<u8>>>;

    /// Writes the note, in the place of one that may be there.
    fn put(&self, note: &[u8]) -> io::Result<()>;

    /// Takes the note away.
    fn remove(&self) -> io::Result<()>;
}

/// What the journal of an image is called, behind the image's own name.
const SUFFIX: &str = ".calve-undo";

/// A record is a few hundred bytes: whatever is longer is none.
const LONGEST: u64 = 1 << 16;

/// The journal of an image, as a file beside it.
pub struct FileJournal {
    path: PathBuf,
    image: PathBuf,
}

impl FileJournal {
    /// The journal of the image at `path`.
    pub fn of(path: &Path) -> Self {
        let mut name = path.as_os_str().to_owned();
        name.push(SUFFIX);
        Self { path: PathBuf::from(name), image: path.to_owned() }
    }
}

impl Journal for FileJournal {
    fn path(&self) -> &Path {
        &self.path
    }

    fn read(&self) -> io::Result<Option<Vec<u8>>> {
        let file = match open_for_reading(&self.path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        note_in(&file).map(Some)
    }

    /// Whoever may read the image may read the note.
    fn put(&self, note: &[u8]) -> io::Result<()> {
        let mode = std::fs::metadata(&self.image)?.mode() & 0o666 | 0o600;
        let (mut file, pending) =
            PendingFile::create(&self.path, true, mode).map_err(io::Error::other)?;
        file.write_all(note)?;
        file.sync_all()?;
        match pending.take_name(true) {
            Ok(Named::Yes) => Ok(()),
            Ok(Named::Taken) => Err(io::ErrorKind::AlreadyExists.into()),
            Err(error) => Err(io::Error::other(error)),
        }
    }

    fn remove(&self) -> io::Result<()> {
        PendingFile::remove_leftovers(&self.path);
        match std::fs::remove_file(&self.path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        File::open(folder_of(&self.path))?.sync_all()
    }
}

/// The note in an open file.
pub(crate) fn note_in(file: &File) -> io::Result<Vec<u8>> {
    let mut note = Vec::new();
    file.take(LONGEST).read_to_end(&mut note)?;
    Ok(note)
}

/// No journal: for a clone, which goes away where it does not become an image.
pub(crate) struct NoJournal;

impl Journal for NoJournal {
    fn path(&self) -> &Path {
        Path::new("")
    }

    fn read(&self) -> io::Result<Option<Vec<u8>>> {
        Ok(None)
    }

    fn put(&self, _note: &[u8]) -> io::Result<()> {
        Ok(())
    }

    fn remove(&self) -> io::Result<()> {
        Ok(())
    }
}
