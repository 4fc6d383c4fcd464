//! A member of an archive as storage: its first bytes, or a range of the archive; and a file from
//! any place on.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use calve_disk::Storage;
use calve_disk::units::{HostOffset, in_memory};

/// The beginning of a member, of which the rest was not kept.
pub(crate) struct Start {
    /// By what name errors speak of it.
    pub(crate) path: PathBuf,
    /// The bytes that were kept.
    pub(crate) bytes: Vec<u8>,
    /// How long the member is; `None` where nobody knows.
    pub(crate) size: Option<u64>,
}

/// What is taken for the length of a member of unknown length: anything may be in it.
const ANY_LENGTH: u64 = i64::MAX as u64;

impl Storage for Start {
    fn path(&self) -> &Path {
        &self.path
    }

    fn size(&self) -> io::Result<u64> {
        Ok(self.size.unwrap_or(ANY_LENGTH))
    }

    fn read_at(&self, out: &mut [u8], at: HostOffset) -> io::Result<()> {
        if ends_behind(out, at, self.size.unwrap_or(ANY_LENGTH)) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let kept = self.bytes.get(in_memory(at.get())..).and_then(|rest| rest.get(..out.len()));
        let kept = kept.ok_or_else(|| {
            io::Error::other("only the beginning of what is in an archive is looked at")
        })?;
        out.copy_from_slice(kept);
        Ok(())
    }
}

fn ends_behind(out: &[u8], at: HostOffset, size: u64) -> bool {
    at.get().checked_add(out.len() as u64).is_none_or(|end| end > size)
}

/// A member that lies in its archive as it is.
pub(crate) struct Window {
    /// By what name errors speak of it.
    pub(crate) path: PathBuf,
    pub(crate) file: File,
    /// Where in the file it begins.
    pub(crate) start: u64,
    pub(crate) size: u64,
}

impl Storage for Window {
    fn path(&self) -> &Path {
        &self.path
    }

    fn size(&self) -> io::Result<u64> {
        Ok(self.size)
    }

    fn read_at(&self, out: &mut [u8], at: HostOffset) -> io::Result<()> {
        if ends_behind(out, at, self.size) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let at = self.start.checked_add(at.get()).ok_or(io::ErrorKind::UnexpectedEof)?;
        self.file.read_exact_at(out, at)
    }
}

/// An open file, read from a place of its own: its descriptor may be somebody else's too.
#[derive(Clone)]
pub(crate) struct Positioned<'a> {
    file: &'a File,
    size: u64,
    at: u64,
}

impl<'a> Positioned<'a> {
    pub(crate) fn new(file: &'a File, size: u64) -> Self {
        Self { file, size, at: 0 }
    }
}

impl Read for Positioned<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read_at(out, self.at)?;
        self.at += count as u64;
        Ok(count)
    }
}

impl Seek for Positioned<'_> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let at = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::End(by) => self.size.checked_add_signed(by),
            SeekFrom::Current(by) => self.at.checked_add_signed(by),
        };
        self.at = at.ok_or(io::ErrorKind::InvalidInput)?;
        Ok(self.at)
    }
}

/// Reads until `out` is full or there is nothing more, and says how much that was.
pub(crate) fn fill(reader: &mut dyn Read, out: &mut [u8]) -> (usize, io::Result<()>) {
    let mut filled = 0;
    while filled < out.len() {
        match reader.read(&mut out[filled..]) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return (filled, Err(error)),
        }
    }
    (filled, Ok(()))
}
