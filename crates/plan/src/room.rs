//! The room that a file takes which is yet to be made: at most so many bytes of its file system.
//!
//! What is certain is what the converter lays out, so it is asked to lay the file out; and what file
//! systems add. Most leave holes where nothing is written. XFS gives a write behind a hole more
//! than was asked for, so that there, and wherever it is not known, all of the file counts.

use std::path::Path;

use calve_disk::formats::qcow2::{Qcow2Target, Qcow2TargetOptions};
use calve_disk::units::{ClusterSize, GuestOffset, GuestRange};
use calve_disk::{Disk, Encoding, Extent, Form, OpenOptions, Payload, Result, Rule, Target};

use crate::volume;

/// The cluster size of new files.
const CLUSTER_BITS: u8 = 16;

/// Bytes of a block of most file systems, and the smallest run of zeros that is left out.
const BLOCK: u64 = 4096;

/// Blocks of which a file system makes a copy when one is written that a clone shares: XFS, with the
/// hint that it has by itself.
const COPIED_AT_ONCE: u64 = 32;

/// A new file says where its blocks are in entries of up to 16 bytes, in blocks that may be half
/// empty, and each of its blocks may have one: one in so many bytes.
const OF_PLACES: u64 = 128;

/// Blocks that any file may have beside its bytes: attributes that it takes over, places of blocks.
const OF_FILE: u64 = 2;

/// Bytes of a line of a rescue's map, at most.
const MAP_LINE: u64 = 48;

/// A qcow2 file that is to be made.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(crate) struct NewFile {
    /// Its length in bytes.
    pub(crate) length: u64,
    /// Bytes of it in blocks of which any is written.
    pub(crate) written: u64,
    /// Parts of the disk that may turn out to be lost.
    pub(crate) doubtful: u64,
}

/// What a new file is made of.
pub(crate) struct Source<'a> {
    /// The image.
    pub(crate) path: &'a Path,
    /// How it is opened: with its bases, where the new file has what they hold.
    pub(crate) open: OpenOptions,
    /// Bytes of the disk of the base that the new file lies on, if it does.
    pub(crate) base_size: Option<u64>,
    /// Bytes of its own disk, as far as that is known.
    pub(crate) virtual_size: Option<u64>,
}

fn cluster_size() -> ClusterSize {
    ClusterSize::from_bits(CLUSTER_BITS).unwrap_or(ClusterSize::SECTOR)
}

impl NewFile {
    /// The file that would be made of a source. Where its tables cannot be read, one that holds all of
    /// the disk. `is_stopped` ends the walk.
    pub(crate) fn of(source: &Source<'_>, is_stopped: &dyn Fn() -> bool) -> Self {
        Self::laid_out(source, is_stopped)
            .unwrap_or_else(|_| Self::full(source.virtual_size.unwrap_or(u64::MAX / 2)))
    }

    fn laid_out(source: &Source<'_>, is_stopped: &dyn Fn() -> bool) -> Result<Self> {
        let disk = Disk::open(source.path, &source.open)?;
        let size = cluster_size();
        let options = Qcow2TargetOptions {
            virtual_size: disk.virtual_size(),
            cluster_size: size,
            backing: None,
        };
        let mut target = Qcow2Target::new(source.path, &options)?;
        let (mut file, mut pieces) = (Self::default(), Vec::new());
        let end = disk.range().end();
        let (mut placed, mut filled) = (GuestOffset::default(), 0);
        for extent in disk.extents(disk.range()) {
            let extent = extent?;
            if is_stopped() {
                break;
            }
            file.doubtful += u64::from(is_doubtful(&extent));
            if !may_be_stored(&extent) {
                continue;
            }
            let (first, last) = (extent.range.start.get(), extent.range.end().get());
            let (whole, ceiling) = (size.floor(first), size.ceil(last));
            let range = GuestRange::between(
                placed.max(GuestOffset::new(whole)),
                GuestOffset::new(ceiling.min(end.get())),
            );
            // Over a base the rest of a cluster is what that holds.
            let (from, to) = match source.base_size {
                Some(_) => (whole, ceiling),
                None => (first / BLOCK * BLOCK, last.next_multiple_of(BLOCK)),
            };
            file.written += to.saturating_sub(from.max(filled));
            filled = filled.max(to);
            if range.is_empty() {
                continue;
            }
            placed = range.end();
            pieces.clear();
            target.place(range, Form::Plain, &mut pieces)?;
            file.add_tables(target.take_tables().iter().map(|table| table.bytes.len()));
        }
        let finish = target.finish()?;
        let tables = finish.tables.iter().chain(&finish.header);
        file.add_tables(tables.map(|table| table.bytes.len()));
        file.length = finish.file_size;
        // What lies behind the end of the base is told to be zeros, in tables of its own.
        if let Some(base) = source.base_size {
            let span = size.bytes() * (size.bytes() / 8);
            let tables = disk.virtual_size().saturating_sub(base).div_ceil(span) + 1;
            file.length = file.length.saturating_add(tables * size.bytes());
            file.written = file.written.saturating_add(tables * size.bytes());
        }
        Ok(file)
    }

    fn add_tables(&mut self, lengths: impl Iterator<Item = usize>) {
        for length in lengths {
            self.written += u64::try_from(length).unwrap_or(u64::MAX).next_multiple_of(BLOCK);
        }
    }

    /// A file that holds all of a disk.
    fn full(virtual_size: u64) -> Self {
        // Tables are less than one in 4096; six clusters are in every file.
        let size = cluster_size().bytes();
        let tables = (virtual_size / 4096).saturating_add(6 * size);
        let length = virtual_size.saturating_add(tables).saturating_add(size);
        Self { length, written: length, doubtful: 0 }
    }

    /// Bytes that are written, where clusters are stored as they are or are packed.
    pub(crate) fn written(&self, is_packed: bool) -> u64 {
        if is_packed { self.length } else { self.written.min(self.length) }
    }

    /// Bytes that it takes up beside the file at `path`.
    pub(crate) fn takes(&self, path: &Path, is_packed: bool) -> u64 {
        let has_holes = volume::leaves_holes(path);
        with_places(self.written(is_packed || !has_holes))
    }

    /// Bytes of the map of a rescue, which is there twice while it is saved.
    pub(crate) fn map(&self) -> u64 {
        let lines = self.doubtful.saturating_mul(2).saturating_add(BLOCK / MAP_LINE);
        lines.saturating_mul(2 * MAP_LINE).next_multiple_of(BLOCK)
    }
}

/// Bytes of a file that stores so many, with what a file system keeps of it.
fn with_places(bytes: u64) -> u64 {
    let places = bytes / OF_PLACES + OF_FILE * BLOCK;
    bytes.saturating_add(places) / BLOCK * BLOCK
}

/// Bytes that an upgrade takes up which appends so many: those, and its undo record.
pub(crate) fn of_upgrade(appended: u64) -> u64 {
    with_places(appended.saturating_add(2 * BLOCK))
}

/// Bytes that a clone of a file of `size` bytes takes up when so many are appended to it: those, and what
/// is copied when its first block is written, and its last.
pub(crate) fn of_clone(size: u64, appended: u64) -> u64 {
    let at_end = u64::from(!size.is_multiple_of(BLOCK));
    let copied = (1 + at_end) * COPIED_AT_ONCE * BLOCK;
    with_places(appended.saturating_add(BLOCK)).saturating_add(copied)
}

/// Whether a new file has room for these bytes.
fn may_be_stored(extent: &Extent) -> bool {
    match extent.payload {
        Payload::Stored(_) => true,
        // A rescue keeps it: a later try may have them.
        Payload::Lost(lost) => lost.rule == Rule::Unreadable,
        Payload::Hole { .. } | Payload::Zero { .. } | Payload::Backing => false,
    }
}

/// Whether it may turn out that these bytes are lost, although the tables speak of them.
fn is_doubtful(extent: &Extent) -> bool {
    match extent.payload {
        Payload::Stored(stored) => matches!(stored.encoding, Encoding::Packed { .. }),
        Payload::Lost(_) => true,
        Payload::Hole { .. } | Payload::Zero { .. } | Payload::Backing => false,
    }
}
