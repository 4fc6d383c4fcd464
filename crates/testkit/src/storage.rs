//! Storage in memory: plain, failing, and remembering what was done to it.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use calve_disk::units::HostOffset;
use calve_disk::{HostMove, Storage, StorageMut};

/// Bytes in memory. Clones share them.
#[derive(Clone)]
pub struct Memory {
    bytes: Arc<Mutex<Vec<u8>>>,
    path: PathBuf,
}

impl Memory {
    /// These bytes, under the name `memory`.
    pub fn new(bytes: Vec<u8>) -> Self {
        Self { bytes: Arc::new(Mutex::new(bytes)), path: PathBuf::from("memory") }
    }

    /// What it holds now.
    pub fn content(&self) -> Vec<u8> {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<u8>> {
        self.bytes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn place(at: HostOffset) -> io::Result<usize> {
    usize::try_from(at.get()).map_err(|_| io::ErrorKind::FileTooLarge.into())
}

impl Storage for Memory {
    fn path(&self) -> &Path {
        &self.path
    }

    fn size(&self) -> io::Result<u64> {
        Ok(self.lock().len() as u64)
    }

    fn read_at(&self, out: &mut [u8], at: HostOffset) -> io::Result<()> {
        if out.is_empty() {
            return Ok(());
        }
        let bytes = self.lock();
        let rest = bytes.get(place(at)?..).and_then(|rest| rest.get(..out.len()));
        out.copy_from_slice(rest.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }
}

impl StorageMut for Memory {
    fn write_at(&self, new: &[u8], at: HostOffset) -> io::Result<()> {
        let (start, mut bytes) = (place(at)?, self.lock());
        if bytes.len() < start + new.len() {
            bytes.resize(start + new.len(), 0);
        }
        bytes[start..start + new.len()].copy_from_slice(new);
        Ok(())
    }

    fn set_size(&self, size: u64) -> io::Result<()> {
        self.lock().resize(place(HostOffset::new(size))?, 0);
        Ok(())
    }

    fn write_zeros(&self, at: HostOffset, length: u64) -> io::Result<()> {
        self.write_at(&vec![0; place(HostOffset::new(length))?], at)
    }

    fn allocate(&self, at: HostOffset, length: u64) -> io::Result<()> {
        let end = place(at + length)?;
        let mut bytes = self.lock();
        if bytes.len() < end {
            bytes.resize(end, 0);
        }
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }

    /// As a host that shares blocks and copies between any two files.
    fn take_from(
        &self,
        source: &dyn Storage,
        from: HostOffset,
        at: HostOffset,
        length: u64,
        _way: HostMove,
    ) -> bool {
        let Ok(length) = usize::try_from(length) else { return false };
        let mut bytes = vec![0; length];
        source.read_at(&mut bytes, from).is_ok() && self.write_at(&bytes, at).is_ok()
    }
}

/// Storage of which one access fails, counted over all clones.
#[derive(Clone)]
pub struct Faulty<S> {
    inner: S,
    left: Arc<AtomicU64>,
}

impl<S> Faulty<S> {
    /// Fails the access number `failing`, counted from 0, and only that one.
    pub fn new(inner: S, failing: u64) -> Self {
        Self { inner, left: Arc::new(AtomicU64::new(failing)) }
    }

    /// Whether the access that fails was reached.
    pub fn has_failed(&self) -> bool {
        self.left.load(Ordering::SeqCst) == u64::MAX
    }

    /// Counts an access to something beside the storage, which may be the one that fails.
    pub fn step(&self) -> io::Result<()> {
        let step = |left: u64| Some(if left == u64::MAX { left } else { left.wrapping_sub(1) });
        match self.left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, step) {
            Ok(0) => Err(io::Error::other("a fault of the test")),
            _ => Ok(()),
        }
    }
}

impl<S: Storage> Storage for Faulty<S> {
    fn path(&self) -> &Path {
        self.inner.path()
    }

    fn size(&self) -> io::Result<u64> {
        self.step()?;
        self.inner.size()
    }

    fn read_at(&self, out: &mut [u8], at: HostOffset) -> io::Result<()> {
        self.step()?;
        self.inner.read_at(out, at)
    }
}

impl<S: StorageMut> StorageMut for Faulty<S> {
    fn write_at(&self, bytes: &[u8], at: HostOffset) -> io::Result<()> {
        self.step()?;
        self.inner.write_at(bytes, at)
    }

    fn set_size(&self, size: u64) -> io::Result<()> {
        self.step()?;
        self.inner.set_size(size)
    }

    fn write_zeros(&self, at: HostOffset, length: u64) -> io::Result<()> {
        self.step()?;
        self.inner.write_zeros(at, length)
    }

    fn allocate(&self, at: HostOffset, length: u64) -> io::Result<()> {
        self.step()?;
        self.inner.allocate(at, length)
    }

    fn sync(&self) -> io::Result<()> {
        self.step()?;
        self.inner.sync()
    }

    /// The one that fails leaves something else behind.
    fn take_from(
        &self,
        source: &dyn Storage,
        from: HostOffset,
        at: HostOffset,
        length: u64,
        way: HostMove,
    ) -> bool {
        if self.step().is_ok() {
            return self.inner.take_from(source, from, at, length, way);
        }
        let rubbish = vec![0xEE; usize::try_from(length).unwrap_or_default()];
        // Whether even that fails shows in nothing.
        let _ = self.inner.write_at(&rubbish, at);
        false
    }
}

/// One access to storage.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Access {
    /// Bytes were read.
    Read {
        /// From where.
        at: u64,
        /// How many.
        length: u64,
    },
    /// Bytes were written.
    Write {
        /// To where.
        at: u64,
        /// Which.
        bytes: Vec<u8>,
    },
    /// Bytes were taken from another storage.
    Taken {
        /// From where in that.
        from: u64,
        /// To where.
        at: u64,
        /// How many.
        length: u64,
    },
    /// The size was set.
    SetSize(u64),
    /// Everything before is on the medium.
    Sync,
    /// A note beside the storage was written, or taken away, and is on the medium.
    Noted(Option<Vec<u8>>),
}

/// What was done to storage, in order; clones share it.
#[derive(Clone, Default)]
pub struct Recorder(Arc<Mutex<Vec<Access>>>);

impl Recorder {
    /// All accesses so far.
    pub fn accesses(&self) -> Vec<Access> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How many bytes were read so far.
    pub fn bytes_read(&self) -> u64 {
        let of =
            |access: &Access| if let Access::Read { length, .. } = access { *length } else { 0 };
        self.accesses().iter().map(of).sum()
    }

    /// Adds what was done to something beside the storage.
    pub fn push(&self, access: Access) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(access);
    }
}

/// Storage that tells a [`Recorder`] of everything that is done to it.
#[derive(Clone)]
pub struct Recording<S> {
    inner: S,
    recorder: Recorder,
    is_far: bool,
}

impl<S> Recording<S> {
    /// Storage, and who is told.
    pub fn new(inner: S, recorder: &Recorder) -> Self {
        Self { inner, recorder: recorder.clone(), is_far: false }
    }

    /// The same of storage that says that it is far.
    pub fn far(inner: S, recorder: &Recorder) -> Self {
        Self { is_far: true, ..Self::new(inner, recorder) }
    }
}

impl<S: Storage> Storage for Recording<S> {
    fn path(&self) -> &Path {
        self.inner.path()
    }

    fn size(&self) -> io::Result<u64> {
        self.inner.size()
    }

    fn read_at(&self, out: &mut [u8], at: HostOffset) -> io::Result<()> {
        self.recorder.push(Access::Read { at: at.get(), length: out.len() as u64 });
        self.inner.read_at(out, at)
    }

    fn is_far(&self) -> bool {
        self.is_far
    }
}

impl<S: StorageMut> StorageMut for Recording<S> {
    fn write_at(&self, bytes: &[u8], at: HostOffset) -> io::Result<()> {
        self.recorder.push(Access::Write { at: at.get(), bytes: bytes.to_vec() });
        self.inner.write_at(bytes, at)
    }

    fn set_size(&self, size: u64) -> io::Result<()> {
        self.recorder.push(Access::SetSize(size));
        self.inner.set_size(size)
    }

    fn write_zeros(&self, at: HostOffset, length: u64) -> io::Result<()> {
        let zeros = vec![0; place(HostOffset::new(length))?];
        self.recorder.push(Access::Write { at: at.get(), bytes: zeros });
        self.inner.write_zeros(at, length)
    }

    fn allocate(&self, at: HostOffset, length: u64) -> io::Result<()> {
        self.inner.allocate(at, length)
    }

    fn sync(&self) -> io::Result<()> {
        self.recorder.push(Access::Sync);
        self.inner.sync()
    }

    fn take_from(
        &self,
        source: &dyn Storage,
        from: HostOffset,
        at: HostOffset,
        length: u64,
        way: HostMove,
    ) -> bool {
        self.recorder.push(Access::Taken { from: from.get(), at: at.get(), length });
        self.inner.take_from(source, from, at, length, way)
    }
}
