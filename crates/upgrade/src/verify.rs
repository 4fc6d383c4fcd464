//! Verification: the file is read as qcow2 by the reader that reads every such image, and
//! compared with what the old tables say.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use calve_disk::formats::qcow1::Qcow1Image;
use calve_disk::formats::qcow2::{Qcow2Image, Reference};
use calve_disk::units::{ClusterSize, GuestOffset, GuestRange, HostOffset, in_memory};
use calve_disk::{
    Disk, Encoding, Error as DiskError, Extent, Image, Layer, Payload, Storage, StorageMut, Stored,
};

use crate::contents;
use crate::counters::{Counters, WINDOW};
use crate::error::{Error, Result};
use crate::survey;
use crate::view::View;

/// What the old image was, as far as it has to be known to compare.
pub(crate) struct Old<'a> {
    pub(crate) start: &'a [u8],
    pub(crate) length: u64,
    pub(crate) tables: &'a str,
    pub(crate) contents: Option<blake3::Hash>,
    pub(crate) holds: bool,
}

/// Compares the image as it is now with what it was. Fails with [`Error::Mismatch`] where guest
/// bytes are not where they were, and where a reference count is not what it should be.
pub(crate) fn run(storage: &Arc<dyn StorageMut>, old: &Old<'_>, stop: &AtomicBool) -> Result<()> {
    let mismatch = |why: String| Error::Mismatch { path: storage.path().to_owned(), why };
    let size = calve_inplace::size_of(&**storage)?;
    let was = Qcow1Image::open(View::with_start(storage, old.start.to_vec(), old.length), None)?;
    if survey::tables_digest(&was, storage.path())? != old.tables {
        return Err(mismatch("the old tables changed while it was upgraded".into()));
    }
    let is = Qcow2Image::open(View::plain(storage, size), None, None)?;
    check_counts(storage, &is, old)?;
    let was = Disk::of_layers(vec![Layer::detached(Box::new(was))]);
    let is = Disk::of_layers(vec![Layer::detached(Box::new(is))]);
    if let Some(at) = first_difference(&was, &is)? {
        return Err(mismatch(format!("differs from what it was at guest byte {at}")));
    }
    if let Some(before) = old.contents
        && contents::digest(&is, was.range(), &**storage, stop)? != before
    {
        return Err(mismatch("the bytes of the disk are not what they were".into()));
    }
    Ok(())
}

/// The extents of a disk, taken in pieces that someone else chooses.
struct Pieces<'a> {
    extents: calve_disk::Extents<'a>,
    current: Option<Extent>,
}

impl<'a> Pieces<'a> {
    fn of(disk: &'a Disk, range: GuestRange) -> Self {
        Self { extents: disk.extents(range), current: None }
    }

    /// What is left of the extent that was reached.
    fn peek(&mut self) -> Result<Option<Extent>> {
        if self.current.is_none() {
            self.current = self.extents.next().transpose()?;
        }
        Ok(self.current)
    }

    fn advance(&mut self, to: GuestOffset) {
        self.current = self.current.take().and_then(|extent| {
            let rest = extent.clipped(GuestRange::between(to, extent.range.end()));
            (!rest.range.is_empty()).then_some(rest)
        });
    }
}

/// The first guest byte that is not to be had from where it was, nor from a copy of it. A payload
/// may have been in the first sector, which only the old disk still has.
fn first_difference(was: &Disk, is: &Disk) -> Result<Option<GuestOffset>> {
    let range = was.range();
    if is.virtual_size() < was.virtual_size() {
        return Ok(Some(is.range().end()));
    }
    let (mut mine, mut its) = (Pieces::of(was, range), Pieces::of(is, range));
    let files = [was, is].map(|disk| disk.top().storage());
    while let Some(old) = mine.peek()? {
        let Some(new) = its.peek()? else { return Ok(Some(old.range.start)) };
        let end = old.range.end().min(new.range.end());
        let piece = GuestRange::between(old.range.start, end);
        if !is_same(&old.clipped(piece), &new.clipped(piece), files)? {
            return Ok(Some(piece.start));
        }
        mine.advance(end);
        its.advance(end);
    }
    Ok(None)
}

fn is_same(old: &Extent, new: &Extent, files: [&dyn Storage; 2]) -> Result<bool> {
    match (old.payload, new.payload) {
        (Payload::Stored(old), Payload::Stored(new)) => match (old.encoding, new.encoding) {
            (
                Encoding::Packed { codec, cluster, skip },
                Encoding::Packed { codec: its_codec, cluster: its_cluster, skip: its_skip },
            ) => {
                // The new entry counts whole sectors.
                let is_enough = new.length >= old.length;
                let same_place = old.at == new.at || is_copy(&old, &new, files)?;
                Ok((codec, cluster, skip) == (its_codec, its_cluster, its_skip)
                    && is_enough
                    && same_place)
            }
            (mine, its) => Ok(mine == its && (old.at == new.at || is_copy(&old, &new, files)?)),
        },
        (Payload::Hole { .. }, Payload::Hole { .. }) | (Payload::Backing, Payload::Backing) => {
            Ok(true)
        }
        _ => Ok(false),
    }
}

/// Whether the bytes in the new place are those in the old one.
fn is_copy(old: &Stored, new: &Stored, [was, is]: [&dyn Storage; 2]) -> Result<bool> {
    let read = |storage: &dyn Storage, at: HostOffset, length: u64| {
        let mut bytes = vec![0; in_memory(length)];
        storage
            .read_at(&mut bytes, at)
            .map_err(|source| DiskError::io("reading a cluster", storage, at, source))?;
        Ok::<_, Error>(bytes)
    };
    const PORTION: u64 = 1 << 20;
    let mut done = 0;
    while done < old.length {
        let length = PORTION.min(old.length - done);
        if read(was, old.at + done, length)? != read(is, new.at + done, length)? {
            return Ok(false);
        }
        done += length;
    }
    Ok(true)
}

/// Refcount blocks by the number of what they count, and where they are.
pub(crate) fn blocks_of(image: &Qcow2Image) -> Result<Vec<(u64, HostOffset)>> {
    let mut blocks = Vec::new();
    image.refcount_blocks(&mut |index, at| blocks.push((index, at)))?;
    Ok(blocks)
}

/// What an image refers to in a window of its host clusters.
pub(crate) fn references(
    image: &Qcow2Image,
    size: ClusterSize,
    clusters: std::ops::Range<u64>,
) -> Result<Counters> {
    let mut counters = Counters::new(size, clusters.start, clusters.end);
    let mut overlaps = None;
    image.references(&mut |reference| match reference {
        Reference::Table { at, length } => {
            counters.add_table(at.get() >> size.bits(), size.count(length));
        }
        Reference::Data(stored) => counters.add(&stored, &mut |_| overlaps = Some(stored.at)),
    })?;
    match overlaps {
        None => Ok(counters),
        Some(at) => Err(Error::Mismatch {
            path: image.storage().path().to_owned(),
            why: format!("two clusters are at {at}"),
        }),
    }
}

/// Compares every reference count with what the image refers to. What is held counts once more
/// than nothing refers to it.
fn check_counts(storage: &Arc<dyn StorageMut>, image: &Qcow2Image, old: &Old<'_>) -> Result<()> {
    let size = image.facts().cluster_size.unwrap_or(ClusterSize::SECTOR);
    let held = if old.holds { size.count(old.length) } else { 0 };
    let end = size.count(calve_inplace::size_of(&**storage)?);
    let in_block = size.bytes() / 2;
    let blocks = blocks_of(image)?;
    let mut block = vec![0; in_memory(size.bytes())];
    for first in (0..end).step_by(in_memory(WINDOW)) {
        let window = first..end.min(first + WINDOW);
        let counters = references(image, size, window.clone())?;
        for start in window.clone().step_by(in_memory(in_block)) {
            let number = start / in_block;
            match blocks.binary_search_by_key(&number, |(index, _)| *index) {
                Ok(found) => read_block(&**storage, blocks[found].1, &mut block)?,
                Err(_) => block.fill(0),
            }
            for (cluster, counted) in (start..window.end).zip(block.as_chunks().0) {
                let expected = counters.of(cluster).max(u16::from(cluster < held));
                if u16::from_be_bytes(*counted) != expected {
                    return Err(Error::Mismatch {
                        path: storage.path().to_owned(),
                        why: format!(
                            "the reference count of host cluster {cluster} is not {expected}"
                        ),
                    });
                }
            }
        }
    }
    Ok(())
}

pub(crate) fn read_block(storage: &dyn Storage, at: HostOffset, block: &mut [u8]) -> Result<()> {
    Ok(storage
        .read_at(block, at)
        .map_err(|source| DiskError::io("reading reference counts", storage, at, source))?)
}
