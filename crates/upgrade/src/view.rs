//! A view of an image as it is or as it was: the old image is the new one with its old first
//! sector and its old length.

use std::io;
use std::path::Path;
use std::sync::Arc;

use calve_disk::units::HostOffset;
use calve_disk::{Storage, StorageMut};

/// The storage under upgrade, read as if it began with other bytes and were shorter.
pub(crate) struct View {
    storage: Arc<dyn StorageMut>,
    start: Vec<u8>,
    size: u64,
}

impl View {
    /// Everything as it is, up to `size`.
    pub(crate) fn plain(storage: &Arc<dyn StorageMut>, size: u64) -> Box<dyn Storage> {
        Self::with_start(storage, Vec::new(), size)
    }

    /// The first `size` bytes, the very first of which are `start`.
    pub(crate) fn with_start(
        storage: &Arc<dyn StorageMut>,
        start: Vec<u8>,
        size: u64,
    ) -> Box<dyn Storage> {
        Box::new(Self { storage: Arc::clone(storage), start, size })
    }
}

impl Storage for View {
    fn path(&self) -> &Path {
        self.storage.path()
    }

    fn size(&self) -> io::Result<u64> {
        Ok(self.size)
    }

    fn read_at(&self, out: &mut [u8], at: HostOffset) -> io::Result<()> {
        // As a file has it: nothing can be read anywhere.
        if out.is_empty() {
            return Ok(());
        }
        let end = at.checked_add(out.len() as u64);
        if end.is_none_or(|end| end.get() > self.size) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.storage.read_at(out, at)?;
        let skip = usize::try_from(at.get()).unwrap_or(usize::MAX);
        if let Some(start) = self.start.get(skip..) {
            let count = start.len().min(out.len());
            out[..count].copy_from_slice(&start[..count]);
        }
        Ok(())
    }

    fn will_read(&self, at: HostOffset, length: u64) {
        self.storage.will_read(at, length);
    }

    fn is_far(&self) -> bool {
        self.storage.is_far()
    }
}
