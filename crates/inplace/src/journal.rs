//! The journal: one note beside an image, kept until it is not wanted any more.

use std::fs::File;
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use calve_disk::open::open_for_reading;
use calve_disk::{Named, PendingFile, folder_of, with_end};

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

/// What a note is about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NoteKind {
    /// What its file is called, behind the image's own name.
    pub suffix: &'static str,
    /// Bytes that such a note has at most: whatever is longer is none.
    pub longest: u64,
}

/// The undo record of an upgrade: a few hundred bytes.
pub const UNDO_RECORD: NoteKind = NoteKind { suffix: ".calve-undo", longest: 1 << 16 };

impl NoteKind {
    /// Where the note of this kind is of the image that is really at `path`.
    pub fn beside(&self, path: &Path) -> PathBuf {
        with_end(path, self.suffix)
    }
}

/// The journal of an image, as a file beside it.
pub struct FileJournal {
    path: PathBuf,
    image: PathBuf,
    longest: u64,
}

impl FileJournal {
    /// The journal of the image that is really at `path`, for notes of one kind.
    pub fn of(path: &Path, kind: NoteKind) -> Self {
        Self { path: kind.beside(path), image: path.to_owned(), longest: kind.longest }
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
        note_in(&file, self.longest).map(Some)
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
fn note_in(file: &File, longest: u64) -> io::Result<Vec<u8>> {
    let mut note = Vec::new();
    file.take(longest).read_to_end(&mut note)?;
    Ok(note)
}

/// The note beside an image, open and not yet read: a process that may open nothing more can
/// still look at it.
#[derive(Debug)]
pub struct FoundNote {
    /// Or why it cannot be opened, which is told when it is to be read.
    file: Result<File, ErrorKind>,
    path: PathBuf,
    longest: u64,
}

impl FoundNote {
    /// Opens the note of that kind of the image at `path`, where there is one.
    pub fn beside(path: &Path, kind: NoteKind) -> Option<Self> {
        // Most images have none, and to know that is worth two looks at most.
        let journal = match path.read_link() {
            Err(_) => FileJournal::of(path, kind),
            Ok(_) => match path.canonicalize() {
                Ok(real) => FileJournal::of(&real, kind),
                Err(_) => return None,
            },
        };
        match open_for_reading(journal.path()).map_err(|error| error.kind()) {
            Err(ErrorKind::NotFound) => None,
            file => Some(Self { file, path: journal.path, longest: kind.longest }),
        }
    }
}

/// It is looked at and nothing else.
impl Journal for FoundNote {
    fn path(&self) -> &Path {
        &self.path
    }

    fn read(&self) -> io::Result<Option<Vec<u8>>> {
        match &self.file {
            Ok(file) => note_in(file, self.longest).map(Some),
            Err(kind) => Err((*kind).into()),
        }
    }

    fn put(&self, _note: &[u8]) -> io::Result<()> {
        Err(ErrorKind::ReadOnlyFilesystem.into())
    }

    fn remove(&self) -> io::Result<()> {
        Err(ErrorKind::ReadOnlyFilesystem.into())
    }
}

/// A text of one line as a note: with its digest behind it.
pub(crate) fn sealed(mut text: Vec<u8>) -> Vec<u8> {
    let digest = blake3::hash(&text).to_hex();
    text.push(b'\n');
    text.extend_from_slice(digest.as_bytes());
    text.push(b'\n');
    text
}

/// The text of a sealed note, if it is whole.
pub(crate) fn unsealed(note: &[u8]) -> Option<&[u8]> {
    let end = note.iter().position(|byte| *byte == b'\n')?;
    let text = &note[..end];
    (note == sealed(text.to_vec())).then_some(text)
}

/// No journal: for a clone, which goes away where it does not become an image.
pub struct NoJournal;

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
