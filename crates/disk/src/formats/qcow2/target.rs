//! A qcow2 disk being written (`docs/qcow2-written.md`).
//!
//! The file only grows, in guest order: a range's clusters, then, when the walk leaves what one
//! L2 table maps, that table. So one L2 table and one refcount block are in memory, and the L1
//! table. What can be known only at the end is at the end: the L1 table, the refcount table,
//! and in cluster 0, which is kept free, the header.

pub(super) mod header;
pub(super) mod limits;
mod room;

use std::path::{Path, PathBuf};

use super::entry::{self, COPIED, ZERO};
use crate::codec;
use crate::error::{Error, Result};
use crate::extent::Codec;
use crate::target::{Finish, Form, Placed, TableWrite, Target};
use crate::units::{ClusterSize, GuestOffset, GuestRange, HostOffset, SECTOR, in_memory};
use header::{Extensions, Fields};
use room::Room;

/// How a qcow2 disk is written.
#[derive(Clone, Debug)]
pub struct Qcow2TargetOptions {
    /// The virtual size in bytes. A qcow2 disk has whole sectors: it is rounded up.
    pub virtual_size: u64,
    /// The cluster size.
    pub cluster_size: ClusterSize,
    /// What lies behind the disk, if anything.
    pub backing: Option<RecordedBacking>,
}

/// A backing file as an overlay names it.
#[derive(Clone, Debug)]
pub struct RecordedBacking {
    /// Its name: 1 to 1023 bytes, less where the clusters are small.
    pub name: Vec<u8>,
    /// Its format, as `qemu-img` calls it.
    pub format: String,
}

/// A qcow2 disk being written: version 3, 16-bit reference counts, packed by deflate.
///
/// A range that is never given is left out of the tables. After an error from
/// [`Target::place`], [`Target::zero`] or [`Target::finish`] the disk cannot be completed.
pub struct Qcow2Target {
    path: PathBuf,
    cluster_size: ClusterSize,
    asked_size: u64,
    virtual_size: u64,
    has_backing: bool,
    extensions: Extensions,
    room: Room,
    /// The L1 table as it will lie in the file.
    l1: Vec<u8>,
    /// The L2 table of the range that was given last.
    l2: Option<L2>,
    complete: Vec<TableWrite>,
    next: GuestOffset,
}

/// An L2 table that is being filled.
struct L2 {
    index: u64,
    bytes: Vec<u8>,
}

impl Qcow2Target {
    /// A disk to be written to the file that errors will call `path`.
    ///
    /// # Errors
    /// [`Error::Unsupported`] where the virtual size is too large for the cluster size, which
    /// names one that would do, and where the backing file's name or format does not fit.
    pub fn new(path: &Path, options: &Qcow2TargetOptions) -> Result<Self> {
        let unsupported = |what| Error::Unsupported { path: path.to_owned(), what };
        let cluster_size = options.cluster_size;
        let asked_size = options.virtual_size;
        let virtual_size = asked_size.checked_next_multiple_of(SECTOR).unwrap_or(u64::MAX);
        if let Some(why) = limits::virtual_size_objection(virtual_size, cluster_size) {
            return Err(unsupported(why));
        }
        let extensions =
            Extensions::new(options.backing.as_ref(), cluster_size).map_err(unsupported)?;
        let l1_length = limits::l1_entries(virtual_size, cluster_size) * 8;
        Ok(Self {
            path: path.to_owned(),
            cluster_size,
            asked_size,
            virtual_size,
            has_backing: options.backing.is_some(),
            extensions,
            room: Room::new(cluster_size, limits::max_body_clusters(virtual_size, cluster_size)),
            l1: vec![0; in_memory(l1_length)],
            l2: None,
            complete: Vec::new(),
            next: GuestOffset::new(0),
        })
    }

    fn unsupported(&self, what: String) -> Error {
        Error::Unsupported { path: self.path.clone(), what }
    }

    fn file_full(&self) -> Error {
        self.unsupported(limits::file_full(self.virtual_size, self.cluster_size))
    }

    /// Checks what the caller promised of the ranges it gives.
    fn advance(&mut self, range: GuestRange) {
        let end = range.end();
        assert!(self.next <= range.start, "ranges are given in ascending order");
        assert!(end.get() <= self.virtual_size, "ranges end with the disk");
        assert!(
            self.cluster_size.within(range.start.get()) == 0
                && (self.cluster_size.within(end.get()) == 0 || end.get() >= self.asked_size),
            "ranges are whole clusters but for the end of the disk"
        );
        self.next = GuestOffset::new(self.cluster_size.ceil(end.get()));
    }

    /// The part of `range` that its first L2 table maps.
    fn in_one_table(&self, range: GuestRange) -> GuestRange {
        let span = limits::l2_span(self.cluster_size);
        let left = span - range.start.get() % span;
        GuestRange::new(range.start, range.length.min(left))
    }

    /// The entries of `range`, which one table maps. The table before, if it is another, is
    /// complete.
    fn entries(&mut self, range: GuestRange) -> Result<&mut [u8]> {
        let span = limits::l2_span(self.cluster_size);
        let index = range.start.get() / span;
        if self.l2.as_ref().is_some_and(|l2| l2.index != index) {
            self.close_l2()?;
        }
        let table = in_memory(self.cluster_size.bytes());
        let first = in_memory((range.start.get() % span) >> self.cluster_size.bits());
        let count = in_memory(self.cluster_size.count(range.length));
        let l2 = self.l2.get_or_insert_with(|| L2 { index, bytes: vec![0; table] });
        Ok(&mut l2.bytes[first * 8..][..count * 8])
    }

    /// Gives the open L2 table, if there is one, its place in the file.
    fn close_l2(&mut self) -> Result<()> {
        let Some(L2 { index, bytes }) = self.l2.take() else { return Ok(()) };
        let run = self.room.reserve(1).ok_or_else(|| self.file_full())?;
        let at = run.first << self.cluster_size.bits();
        self.l1[in_memory(index) * 8..][..8].copy_from_slice(&(COPIED | at).to_be_bytes());
        self.complete.push(TableWrite { at: HostOffset::new(at), bytes });
        Ok(())
    }

    fn place_plain(&mut self, range: GuestRange, pieces: &mut Vec<Placed>) -> Result<()> {
        let size = self.cluster_size;
        let mut rest = range;
        while !rest.is_empty() {
            let part = self.in_one_table(rest);
            // The table of this part first: closing the one before takes a cluster.
            self.entries(part)?;
            let wanted = size.count(part.length);
            let run = self.room.reserve(wanted).ok_or_else(|| self.file_full())?;
            let part = GuestRange::new(part.start, part.length.min(run.count << size.bits()));
            let clusters = run.first..run.first + run.count;
            for (entry, cluster) in self.entries(part)?.chunks_exact_mut(8).zip(clusters) {
                entry.copy_from_slice(&(COPIED | cluster << size.bits()).to_be_bytes());
            }
            pieces.push(Placed { range: part, at: HostOffset::new(run.first << size.bits()) });
            rest = GuestRange::between(part.end(), rest.end());
        }
        Ok(())
    }

    fn place_packed(&mut self, range: GuestRange, length: u64) -> Result<Placed> {
        let size = self.cluster_size;
        assert!(size.count(range.length) == 1, "what is packed is one cluster");
        assert!((1..size.bytes()).contains(&length), "what is packed is shorter than a cluster");
        self.entries(range)?;
        let at = self.room.reserve_packed(length).ok_or_else(|| self.file_full())?;
        if at.get() >= limits::packed_end(size) {
            return Err(self.unsupported(limits::packed_too_far(size)));
        }
        let entry = entry::of_packed(at.get(), length, size);
        self.entries(range)?.copy_from_slice(&entry.to_be_bytes());
        Ok(Placed { range, at })
    }
}

impl Target for Qcow2Target {
    fn cluster_size(&self) -> ClusterSize {
        self.cluster_size
    }

    fn virtual_size(&self) -> u64 {
        self.virtual_size
    }

    /// A stream of others may look back further than readers of qcow2 are given room for, but not
    /// further than a cluster.
    fn keeps(&self, codec: Codec) -> bool {
        codec == Codec::Deflate && self.cluster_size.bytes() <= codec::WINDOW
    }

    fn place(&mut self, range: GuestRange, form: Form, pieces: &mut Vec<Placed>) -> Result<()> {
        self.advance(range);
        match form {
            Form::Plain => self.place_plain(range, pieces),
            Form::Packed { length } => {
                pieces.push(self.place_packed(range, length)?);
                Ok(())
            }
        }
    }

    /// Makes `range` read as zeros: left out where nothing lies behind the disk. Over a backing
    /// file every L2 table of the range is made at once: the longer the range, the more memory.
    fn zero(&mut self, range: GuestRange) -> Result<()> {
        self.advance(range);
        if !self.has_backing {
            return Ok(());
        }
        let mut rest = range;
        while !rest.is_empty() {
            let part = self.in_one_table(rest);
            for entry in self.entries(part)?.chunks_exact_mut(8) {
                entry.copy_from_slice(&ZERO.to_be_bytes());
            }
            rest = GuestRange::between(part.end(), rest.end());
        }
        Ok(())
    }

    fn take_tables(&mut self) -> Vec<TableWrite> {
        self.room.take_complete(&mut self.complete);
        std::mem::take(&mut self.complete)
    }

    fn finish(&mut self) -> Result<Finish> {
        self.close_l2()?;
        let mut tables = self.take_tables();
        let l1 = std::mem::take(&mut self.l1);
        let l1_entries = u32::try_from(l1.len() / 8).expect("at most 32 MiB");
        let tail = self.room.finish(l1.len() as u64);
        let header = self.extensions.header(&Fields {
            cluster_size: self.cluster_size,
            virtual_size: self.virtual_size,
            is_encrypted: false,
            l1_entries,
            l1_at: tail.l1_at,
            refcount_table_at: tail.table_at,
            refcount_table_clusters: tail.table_clusters,
        });
        let padded = |bytes| header::padded(bytes, self.cluster_size);
        tables.push(TableWrite { at: tail.l1_at, bytes: padded(l1) });
        let header = TableWrite { at: HostOffset::new(0), bytes: padded(header) };
        tables.extend(tail.tables);
        Ok(Finish { file_size: tail.file_size, tables, header: Some(header) })
    }
}
