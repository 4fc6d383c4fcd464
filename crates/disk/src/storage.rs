//! Storage: the bytes of one file, wherever they are kept.
//!
//! Reading and writing are two traits because almost everything here only reads, and a type that
//! cannot write is the best promise that the source stays as it is.

use std::fs::File;
use std::io::{self, IoSlice};
use std::num::NonZeroU64;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use reflink_copy::ReflinkBlockBuilder;
use rustix::fs::{Advice, FallocateFlags, SeekFrom};
use rustix::io::Errno;

use crate::status::Status;
use crate::units::{HostOffset, in_memory};

/// Bytes that can be read at any place.
pub trait Storage: Send + Sync {
    /// The name by which errors speak of it.
    fn path(&self) -> &Path;

    /// How many bytes there are.
    fn size(&self) -> io::Result<u64>;

    /// Fills all of `out` from `at`, or fails; nothing in between.
    fn read_at(&self, out: &mut [u8], at: HostOffset) -> io::Result<()>;

    /// What lies at `at`, and how far the same goes: data or a hole.
    ///
    /// Storage that cannot tell answers that everything is data. `at` lies before the end.
    fn region(&self, at: HostOffset) -> io::Result<Region> {
        let length = self.size()?.saturating_sub(at.get());
        Ok(Region { length, is_hole: false })
    }

    /// A word that these bytes will be read soon, so that the host may fetch them already.
    fn will_read(&self, _at: HostOffset, _length: u64) {}

    /// Whether to ask takes much longer than the bytes do, so that what lies close together is better
    /// read by one question and copied to its place.
    fn is_far(&self) -> bool {
        false
    }

    /// The file itself, where there is one: the kernel may then copy.
    fn as_file(&self) -> Option<&File> {
        None
    }
}

/// A stretch of storage that is all data or all hole.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Region {
    /// How many bytes.
    pub length: u64,
    /// Whether nothing is stored here, so that it reads as zeros.
    pub is_hole: bool,
}

/// Bytes that can be written at any place, by several threads at once.
pub trait StorageMut: Storage {
    /// Writes all of `bytes` at `at`, or fails. Writing behind the end makes the storage longer.
    fn write_at(&self, bytes: &[u8], at: HostOffset) -> io::Result<()>;

    /// Writes all parts, one behind the other, or fails.
    fn write_all_at(&self, parts: &[&[u8]], mut at: HostOffset) -> io::Result<()> {
        for part in parts {
            self.write_at(part, at)?;
            at = at + part.len() as u64;
        }
        Ok(())
    }

    /// Makes it exactly `size` bytes long; new bytes read as zeros.
    fn set_size(&self, size: u64) -> io::Result<()>;

    /// Makes `length` bytes from `at` read as zeros, without keeping room where that is possible.
    fn write_zeros(&self, at: HostOffset, length: u64) -> io::Result<()>;

    /// Keeps room for `length` bytes from `at`, which then read as zeros where nothing was
    /// written yet.
    fn allocate(&self, at: HostOffset, length: u64) -> io::Result<()>;

    /// Returns when all that was written is on the medium.
    fn sync(&self) -> io::Result<()>;

    /// Asks the host to move `length` bytes from `from` of `source` to `at`, and says whether it
    /// did. Where it did not, anything may stand there: the bytes have to be read and written.
    fn take_from(
        &self,
        _source: &dyn Storage,
        _from: HostOffset,
        _at: HostOffset,
        _length: u64,
        _way: HostMove,
    ) -> bool {
        false
    }
}

/// What is written is read too, by a reader that has it beside whoever writes.
impl Storage for Arc<dyn StorageMut> {
    fn path(&self) -> &Path {
        (**self).path()
    }

    fn size(&self) -> io::Result<u64> {
        (**self).size()
    }

    fn read_at(&self, out: &mut [u8], at: HostOffset) -> io::Result<()> {
        (**self).read_at(out, at)
    }

    fn region(&self, at: HostOffset) -> io::Result<Region> {
        (**self).region(at)
    }

    fn will_read(&self, at: HostOffset, length: u64) {
        (**self).will_read(at, length);
    }

    fn is_far(&self) -> bool {
        (**self).is_far()
    }

    fn as_file(&self) -> Option<&File> {
        (**self).as_file()
    }
}

/// How a host moves bytes from one file to another without handing them out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum HostMove {
    /// Both files then share the blocks, until one is written to. Whole blocks only.
    Clone,
    /// The bytes are copied.
    Copy,
}

/// A file or block device of the host as storage.
#[derive(Debug)]
pub struct HostFile {
    file: File,
    path: PathBuf,
    /// The same file, opened so that writes go past the page cache.
    direct: Option<File>,
    /// Where the page cache is given back: bytes read since that was last done.
    kept: Option<AtomicU64>,
}

/// Bytes that are read before the page cache is given back. The host keeps files in pieces of
/// many pages and drops only whole ones, so small ranges would stay.
const DROPPED_AT_ONCE: u64 = 16 << 20;

/// What direct writes are multiples of, in the file as well as in memory: as much as any common
/// device and any page wants.
pub const DIRECT_BLOCK: usize = 4096;

impl HostFile {
    /// The open `file`, which errors will call `path`.
    pub fn new(file: File, path: PathBuf) -> Self {
        Self { file, path, direct: None, kept: None }
    }

    /// Writes whole blocks past the page cache through `direct`, which is the same file opened
    /// with `O_DIRECT`. Everything else still goes through the cache.
    #[must_use]
    pub fn writing_direct(mut self, direct: File) -> Self {
        self.direct = Some(direct);
        self
    }

    /// Tells the host that each byte is read about once: what others keep in the page cache then
    /// does not have to make room for it.
    #[must_use]
    pub fn reading_once(self) -> Self {
        // Only advice: whether it is taken shows in nothing.
        let _ = rustix::fs::fadvise(&self.file, 0, None, Advice::NoReuse);
        self
    }

    /// Gives back the page cache of what was read.
    #[must_use]
    pub fn dropping_cache(mut self) -> Self {
        self.kept = Some(AtomicU64::new(0));
        self
    }

    fn drop_cache(&self) {
        // Only advice: whether it is taken shows in nothing.
        let _ = rustix::fs::fadvise(&self.file, 0, None, Advice::DontNeed);
    }
}

/// What the kernel is asked to copy at once: less than it would take, so that a run can be
/// stopped between.
const LONGEST_COPY: u64 = 64 << 20;

/// What the kernel takes at once.
const MOST_PARTS: usize = 1024;

fn is_in_blocks(at: HostOffset) -> bool {
    at.get().is_multiple_of(DIRECT_BLOCK as u64)
}

fn is_whole_blocks(bytes: &[u8]) -> bool {
    !bytes.is_empty()
        && bytes.len().is_multiple_of(DIRECT_BLOCK)
        && bytes.as_ptr().align_offset(DIRECT_BLOCK) == 0
}

impl Drop for HostFile {
    fn drop(&mut self) {
        if self.kept.is_some() {
            self.drop_cache();
        }
    }
}

/// How many zeros are written at once where the file system cannot make them itself.
const ZEROS: usize = 1 << 20;

impl HostFile {
    fn write_plain_zeros(&self, mut at: HostOffset, mut length: u64) -> io::Result<()> {
        let zeros = vec![0; in_memory(length.min(ZEROS as u64))];
        while length > 0 {
            let now = length.min(zeros.len() as u64);
            self.write_at(&zeros[..in_memory(now)], at)?;
            (at, length) = (at + now, length - now);
        }
        Ok(())
    }
}

impl Storage for HostFile {
    fn path(&self) -> &Path {
        &self.path
    }

    fn size(&self) -> io::Result<u64> {
        let status = Status::of(&self.file)?;
        if status.kind.is_block_device() {
            return Ok(rustix::fs::seek(&self.file, SeekFrom::End(0))?);
        }
        Ok(status.size)
    }

    fn read_at(&self, out: &mut [u8], at: HostOffset) -> io::Result<()> {
        self.file.read_exact_at(out, at.get())?;
        if let Some(kept) = &self.kept
            && kept.fetch_add(out.len() as u64, Ordering::Relaxed) >= DROPPED_AT_ONCE
        {
            kept.store(0, Ordering::Relaxed);
            self.drop_cache();
        }
        Ok(())
    }

    fn region(&self, at: HostOffset) -> io::Result<Region> {
        let end = self.size()?;
        let rest = end.saturating_sub(at.get());
        let everything = Region { length: rest, is_hole: false };
        let data = match rustix::fs::seek(&self.file, SeekFrom::Data(at.get())) {
            Ok(data) => data,
            // No data behind this place.
            Err(Errno::NXIO) => return Ok(Region { length: rest, is_hole: true }),
            Err(Errno::INVAL | Errno::NOTSUP) => return Ok(everything),
            Err(error) => return Err(error.into()),
        };
        if data > at.get() {
            return Ok(Region { length: data.min(end) - at.get(), is_hole: true });
        }
        let hole = rustix::fs::seek(&self.file, SeekFrom::Hole(at.get()))?;
        Ok(Region { length: hole.min(end).saturating_sub(at.get()), is_hole: false })
    }

    fn will_read(&self, at: HostOffset, length: u64) {
        // Only advice: whether it is taken shows in nothing.
        let length = NonZeroU64::new(length);
        let _ = rustix::fs::fadvise(&self.file, at.get(), length, Advice::WillNeed);
    }

    fn as_file(&self) -> Option<&File> {
        Some(&self.file)
    }
}

impl StorageMut for HostFile {
    fn write_at(&self, bytes: &[u8], at: HostOffset) -> io::Result<()> {
        let (whole, rest) = bytes.split_at(bytes.len() / DIRECT_BLOCK * DIRECT_BLOCK);
        let is_direct = is_in_blocks(at) && is_whole_blocks(whole);
        let Some(direct) = self.direct.as_ref().filter(|_| is_direct) else {
            return self.file.write_all_at(bytes, at.get());
        };
        match direct.write_all_at(whole, at.get()) {
            // A device with larger blocks than these.
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => {
                return self.file.write_all_at(bytes, at.get());
            }
            done => done?,
        }
        self.file.write_all_at(rest, at.get() + whole.len() as u64)
    }

    fn write_all_at(&self, parts: &[&[u8]], mut at: HostOffset) -> io::Result<()> {
        if let [part] = parts {
            return self.write_at(part, at);
        }
        for parts in parts.chunks(MOST_PARTS) {
            let is_direct = is_in_blocks(at) && parts.iter().all(|part| is_whole_blocks(part));
            let mut direct = self.direct.as_ref().filter(|_| is_direct);
            let mut slices: Vec<IoSlice> = parts.iter().map(|part| IoSlice::new(part)).collect();
            let mut slices = &mut slices[..];
            while !slices.is_empty() {
                match rustix::io::pwritev(direct.unwrap_or(&self.file), slices, at.get()) {
                    Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                    Ok(written) => {
                        at = at + written as u64;
                        IoSlice::advance_slices(&mut slices, written);
                    }
                    Err(Errno::INTR) => {}
                    // A device with larger blocks than these.
                    Err(Errno::INVAL) if direct.is_some() => direct = None,
                    Err(error) => return Err(error.into()),
                }
            }
        }
        Ok(())
    }

    fn set_size(&self, size: u64) -> io::Result<()> {
        self.file.set_len(size)
    }

    fn write_zeros(&self, at: HostOffset, length: u64) -> io::Result<()> {
        if length == 0 {
            return Ok(());
        }
        let punch = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        match rustix::fs::fallocate(&self.file, punch, at.get(), length) {
            Ok(()) => Ok(()),
            Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::NODEV | Errno::INVAL) => {
                self.write_plain_zeros(at, length)
            }
            Err(error) => Err(error.into()),
        }
    }

    fn allocate(&self, at: HostOffset, length: u64) -> io::Result<()> {
        if length == 0 {
            return Ok(());
        }
        match rustix::fs::fallocate(&self.file, FallocateFlags::empty(), at.get(), length) {
            Ok(()) => Ok(()),
            Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::NODEV) => {
                self.write_plain_zeros(at, length)
            }
            Err(error) => Err(error.into()),
        }
    }

    fn sync(&self) -> io::Result<()> {
        self.file.sync_all()
    }

    fn take_from(
        &self,
        source: &dyn Storage,
        from: HostOffset,
        at: HostOffset,
        length: u64,
        way: HostMove,
    ) -> bool {
        let (Some(source), Some(bytes)) = (source.as_file(), NonZeroU64::new(length)) else {
            return false;
        };
        match way {
            HostMove::Clone => ReflinkBlockBuilder::new(source, &self.file, bytes)
                .from_offset(from.get())
                .to_offset(at.get())
                .reflink_block()
                .is_ok(),
            HostMove::Copy => copy_range(source, from.get(), &self.file, at.get(), length),
        }
    }
}

fn copy_range(source: &File, mut from: u64, target: &File, mut at: u64, mut length: u64) -> bool {
    while length > 0 {
        let now = in_memory(length.min(LONGEST_COPY));
        // Both offsets move on by what was copied.
        match rustix::fs::copy_file_range(source, Some(&mut from), target, Some(&mut at), now) {
            Ok(0) | Err(_) => return false,
            Ok(copied) => length -= copied as u64,
        }
    }
    true
}
