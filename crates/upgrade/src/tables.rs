//! What is put behind the old end: moved clusters, then the new tables, written from front to
//! back.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use calve_disk::formats::qcow2::AdoptedImage;
use calve_disk::units::{HostOffset, in_memory};
use calve_disk::{Error as DiskError, StorageMut, Stored};

use crate::counters::{Counters, WINDOW};
use crate::error::{Error, Result};
use crate::fates;
use crate::survey::{self, Surveyed};

/// Bytes that are written at once.
const PORTION: usize = 1 << 20;

/// Writes everything behind the old end, and returns its digest. Nothing of it is part of any
/// image yet.
pub(crate) fn append(
    surveyed: &mut Surveyed,
    storage: &Arc<dyn StorageMut>,
    holds: bool,
    stop: &AtomicBool,
) -> Result<String> {
    let mut out = Appending {
        storage,
        at: surveyed.layout.start(),
        buffer: Vec::with_capacity(PORTION),
        hasher: blake3::Hasher::new(),
        stop,
    };
    move_clusters(surveyed, &mut out)?;
    let l1 = l2_tables(surveyed, &mut out)?;
    out.push_padded(&l1, surveyed)?;
    refcount_blocks(surveyed, &mut out, holds)?;
    let table = refcount_table(surveyed);
    out.push_padded(&table, surveyed)?;
    out.flush()?;
    debug_assert_eq!(out.at.get(), surveyed.layout.file_size(), "the tables are as planned");
    Ok(out.hasher.finalize().to_hex().to_string())
}

/// Bytes on their way to the end of the file.
struct Appending<'a> {
    storage: &'a Arc<dyn StorageMut>,
    at: HostOffset,
    buffer: Vec<u8>,
    hasher: blake3::Hasher,
    stop: &'a AtomicBool,
}

impl Appending<'_> {
    fn push(&mut self, bytes: &[u8]) -> Result<()> {
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() >= PORTION { self.flush() } else { Ok(()) }
    }

    /// Adds bytes and zeros behind them up to the end of a cluster.
    fn push_padded(&mut self, bytes: &[u8], surveyed: &Surveyed) -> Result<()> {
        let whole = surveyed.image.cluster_size().ceil(bytes.len() as u64);
        self.push(bytes)?;
        let padding = in_memory(whole) - bytes.len();
        self.push(&vec![0; padding])
    }

    fn flush(&mut self) -> Result<()> {
        if self.stop.load(Ordering::Relaxed) {
            return Err(Error::Stopped);
        }
        if self.buffer.is_empty() {
            return Ok(());
        }
        self.hasher.update(&self.buffer);
        self.storage
            .write_at(&self.buffer, self.at)
            .map_err(|source| DiskError::io("writing a table", &**self.storage, self.at, source))?;
        self.at = self.at + self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }
}

/// The cluster as the new tables name it: where it is, or where it is moved to.
struct Place {
    /// The guest cluster's number.
    guest: u64,
    old: Stored,
    new: Stored,
}

/// Tells `each` of the places of all clusters, in the order of the disk.
fn places(surveyed: &Surveyed, each: &mut dyn FnMut(Place) -> Result<()>) -> Result<()> {
    let size = surveyed.image.cluster_size();
    let mut moved = 0;
    fates::walk(&surveyed.old, size, &mut |_| Ok(()), &mut |run| {
        let all_move = fates::unfit(&run.stored, size).is_some();
        let mut shared = surveyed.shared.of(run.first, run.count).iter().peekable();
        for number in 0..run.count {
            let (guest, old) = (run.first + number, run.cluster(number, size));
            let moves = shared.next_if(|cluster| **cluster == guest).is_some() || all_move;
            let mut new = old;
            if moves {
                new.at = surveyed.layout.moved_at(moved);
                moved += 1;
            }
            each(Place { guest, old, new })?;
        }
        Ok(())
    })
}

fn move_clusters(surveyed: &Surveyed, out: &mut Appending<'_>) -> Result<()> {
    if surveyed.layout.moved == 0 {
        return Ok(());
    }
    let mut bytes = vec![0; in_memory(surveyed.image.cluster_size().bytes())];
    places(surveyed, &mut |place| {
        if place.old.at == place.new.at {
            return Ok(());
        }
        bytes.fill(0);
        let payload = &mut bytes[..in_memory(place.old.length)];
        let storage = surveyed.old.top().storage();
        storage
            .read_at(payload, place.old.at)
            .map_err(|source| DiskError::io("reading a cluster", storage, place.old.at, source))?;
        out.push(&bytes)
    })
}

/// Writes the L2 tables and returns the L1 table.
fn l2_tables(surveyed: &Surveyed, out: &mut Appending<'_>) -> Result<Vec<u8>> {
    let (image, layout) = (&surveyed.image, &surveyed.layout);
    let cluster = in_memory(image.cluster_size().bytes());
    let in_table = image.l2_span() >> image.cluster_size().bits();
    let mut l1 = vec![0; in_memory(image.l1_entries() * 8)];
    let (mut table, mut open, mut done) = (vec![0; cluster], None, 0);
    places(surveyed, &mut |place| {
        let index = place.guest / in_table;
        if open != Some(index) {
            if open.is_some() {
                out.push(&table)?;
                table.fill(0);
            }
            let entry = AdoptedImage::l1_entry(layout.l2_at(done));
            l1[in_memory(index) * 8..][..8].copy_from_slice(&entry.to_be_bytes());
            (open, done) = (Some(index), done + 1);
        }
        let entry = image.l2_entry(&place.new).to_be_bytes();
        table[in_memory(place.guest % in_table) * 8..][..8].copy_from_slice(&entry);
        Ok(())
    })?;
    if open.is_some() {
        out.push(&table)?;
    }
    Ok(l1)
}

fn refcount_blocks(surveyed: &mut Surveyed, out: &mut Appending<'_>, holds: bool) -> Result<()> {
    let in_block = surveyed.image.clusters_in_block();
    let (base, end) = (surveyed.layout.base, surveyed.layout.end());
    let mut window = surveyed.last_window.take();
    let mut bytes = vec![0; in_memory(in_block * 2)];
    for block in surveyed.layout.blocks.clone() {
        let first = block * in_block;
        let start = first / WINDOW * WINDOW;
        if first < base && window.as_ref().is_none_or(|window| window.first() != start) {
            // The one before goes first: two at once would be twice the memory.
            drop(window.take());
            let clusters = start..base.min(start + WINDOW);
            window = Some(survey::count_again(surveyed, clusters, out.storage.path())?);
        }
        for (cluster, count) in (first..).zip(bytes.as_chunks_mut().0) {
            *count = count_of(cluster, base, end, holds, window.as_ref()).to_be_bytes();
        }
        out.push(&bytes)?;
    }
    Ok(())
}

fn count_of(cluster: u64, base: u64, end: u64, holds: bool, window: Option<&Counters>) -> u16 {
    match window {
        Some(window) if cluster < base => window.of(cluster).max(u16::from(holds)),
        _ => u16::from(cluster < end),
    }
}

fn refcount_table(surveyed: &Surveyed) -> Vec<u8> {
    let layout = &surveyed.layout;
    let last = layout.blocks.last().copied().unwrap_or_default();
    let mut table = vec![0; in_memory((last + 1) * 8)];
    for (number, block) in (0..).zip(&layout.blocks) {
        let entry = layout.block_at(number).get().to_be_bytes();
        table[in_memory(*block) * 8..][..8].copy_from_slice(&entry);
    }
    table
}
