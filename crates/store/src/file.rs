//! An object as a file that is read: by ranges, of one age, with what is small kept.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use calve_disk::Storage;
use calve_disk::units::{HostOffset, in_memory};

use crate::blocks::Blocks;
use crate::error::{Error, Kind, Result};
use crate::limits::{BLOCK, LONG_READ};
use crate::object::{Object, Tag};

/// An object that is read. All that is read of it is of the object that was opened: one that
/// takes its place meanwhile is an error.
pub struct ObjectFile {
    path: PathBuf,
    blocks: Arc<Blocks>,
}

impl ObjectFile {
    /// Opens the object, by reading what it begins with.
    ///
    /// # Errors
    /// Where there is none, or it cannot be read.
    pub fn open(object: Object) -> Result<Self> {
        let (start, size, tag) = object.start()?;
        let path = object.name().path();
        Ok(Self { path, blocks: Blocks::new(object, size, tag, start) })
    }

    /// The object.
    pub fn object(&self) -> &Object {
        &self.blocks.object
    }

    /// How long it is.
    pub fn length(&self) -> u64 {
        self.blocks.size
    }

    /// The tag of what is read.
    pub fn tag(&self) -> &Tag {
        &self.blocks.tag
    }

    /// Fills `out` from `at`.
    ///
    /// # Errors
    /// Where it cannot be read, or is another object by now.
    pub fn read(&self, out: &mut [u8], at: u64) -> Result<()> {
        let length = out.len() as u64;
        if length == 0 {
            return Ok(());
        }
        if at.checked_add(length).is_none_or(|end| end > self.length()) {
            let why = format!("ends before byte {at} and the {length} bytes from there");
            return Err(Error::new(Kind::Host(io::ErrorKind::UnexpectedEof), &self.path, "", why));
        }
        if length >= LONG_READ {
            return self.blocks.object.get(out, at, self.length(), self.tag());
        }
        self.blocks.read(out, at)
    }
}

impl Storage for ObjectFile {
    fn path(&self) -> &Path {
        &self.path
    }

    fn size(&self) -> io::Result<u64> {
        Ok(self.length())
    }

    fn read_at(&self, out: &mut [u8], at: HostOffset) -> io::Result<()> {
        Ok(self.read(out, at.get())?)
    }

    fn is_far(&self) -> bool {
        true
    }

    fn will_read(&self, at: HostOffset, length: u64) {
        let end = at.get().saturating_add(length).min(self.length());
        if at.get() < end && in_memory(length) as u64 == length {
            self.blocks.want(at.get() / BLOCK, end.div_ceil(BLOCK));
        }
    }
}

impl Drop for ObjectFile {
    fn drop(&mut self) {
        self.blocks.close();
    }
}
