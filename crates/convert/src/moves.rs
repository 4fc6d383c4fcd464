//! Moves: long plain runs that the host takes from one file to the other by itself.
//!
//! Where a file system lets files share blocks, a run of whole blocks costs a change of its maps
//! and no data. Short runs cost more that way than their bytes do, and are read and written.

use std::ops::Range;

use calve_disk::units::{GuestRange, in_memory};
use calve_disk::{Encoding, Error as DiskError, Extent, HostMove, Payload, Storage};

use crate::batches::{BATCH, Stretch};
use crate::error::Result;
use crate::options::{Copying, Options, Salvage, TargetFormat};
use crate::output::{self, Output};
use crate::source::Source;

/// The shortest run, in bytes, that the host is asked to move.
pub(crate) const SHORTEST: u64 = 64 << 10;

/// Who knows which runs the host can move.
#[derive(Default)]
pub(crate) struct Mover {
    /// For each of the source's disks, for each of its layers: how its plain bytes can be moved.
    ways: Vec<Vec<Option<Way>>>,
}

#[derive(Clone, Copy)]
struct Way {
    by: HostMove,
    /// Both offsets are multiples of this many bytes.
    block: u64,
}

/// A run of a batch that the host is to move.
#[derive(Clone, Copy)]
pub(crate) struct Move {
    /// Where in the batch it begins.
    start: usize,
    /// Of which of the source's disks.
    source: usize,
    /// Where its bytes are.
    extent: Extent,
    pub(crate) by: HostMove,
}

impl Mover {
    /// Finds out what the host can do for this run. `cluster` is the target's, in bytes.
    ///
    /// # Errors
    /// Where sharing blocks was demanded, and none can be shared.
    pub(crate) fn new(
        source: &Source,
        output: &Output,
        options: &Options,
        cluster: u64,
    ) -> Result<Self> {
        let refused = |what: &str| {
            let path = output.target().to_owned();
            Err(DiskError::Unsupported { path, what: what.to_owned() }.into())
        };
        if !needs_no_bytes(options) {
            return match options.copying {
                Copying::Clone => refused(
                    "its bytes have to be looked at, so it can share no blocks with the source",
                ),
                _ => Ok(Self::default()),
            };
        }
        let block = output.block_size();
        // Where a batch, and in qcow2 a cluster, begins, a block begins.
        let fits = BATCH.is_multiple_of(block)
            && (cluster.is_multiple_of(block) || matches!(options.format, TargetFormat::Raw));
        let way = |storage: &dyn Storage| {
            if fits && output.shares_blocks_with(storage, block) {
                return Some(Way { by: HostMove::Clone, block });
            }
            // Nothing is lost by not looking for zeros where zeros are stored too.
            let copies = match options.copying {
                Copying::Auto => storage.as_file().is_some_and(output::is_remote),
                Copying::Kernel => storage.as_file().is_some(),
                Copying::Clone | Copying::Read => false,
            };
            (copies && options.sparse_size == 0).then_some(Way { by: HostMove::Copy, block: 1 })
        };
        let ways: Vec<Vec<_>> = source
            .disks()
            .map(|disk| disk.layers().iter().map(|layer| way(layer.image.data_storage())).collect())
            .collect();
        let is_clone = |way: &Option<Way>| way.is_some_and(|way| way.by == HostMove::Clone);
        if options.copying == Copying::Clone && !ways.iter().flatten().any(is_clone) {
            return refused("its file system cannot let it share blocks with the source");
        }
        Ok(Self { ways })
    }

    /// A mover that moves all that is long enough by `by`, in blocks of this many bytes.
    #[cfg(test)]
    pub(crate) fn of_everything(layers: usize, by: HostMove, block: u64) -> Self {
        Self { ways: vec![vec![Some(Way { by, block }); layers]] }
    }

    /// The runs of a batch that the host is to move, in order. The batch's place in the result is
    /// a multiple of every block size.
    pub(crate) fn moves(&self, stretches: &[Stretch]) -> Vec<Move> {
        let mut moves = Vec::new();
        let mut at = 0;
        for stretch in stretches {
            let Some(ways) = self.ways.get(stretch.part) else { return moves };
            for extent in &stretch.extents {
                moves.extend(run_of(stretch.part, extent, at, ways));
                at += extent.range.length;
            }
        }
        moves
    }
}

/// The part of an extent that can be moved, where it is worth it. `at` is its place in the batch.
fn run_of(source: usize, extent: &Extent, at: u64, ways: &[Option<Way>]) -> Option<Move> {
    let Payload::Stored(stored) = extent.payload else { return None };
    let Way { by, block } = ways[stored.layer]?;
    if stored.encoding != Encoding::Plain || at % block != stored.at.get() % block {
        return None;
    }
    let start = at.next_multiple_of(block);
    let end = (at + extent.range.length) / block * block;
    if end < start + SHORTEST {
        return None;
    }
    let range = GuestRange::new(extent.range.start + (start - at), end - start);
    Some(Move { start: in_memory(start), source, extent: extent.clipped(range), by })
}

impl Move {
    /// The bytes of the batch that are moved.
    pub(crate) fn part(&self) -> Range<usize> {
        self.start..self.start + in_memory(self.extent.range.length)
    }

    /// What of the move lies in `part`; `None` where they do not meet.
    pub(crate) fn clipped(&self, part: &Range<usize>) -> Option<Self> {
        let mine = self.part();
        let (start, end) = (mine.start.max(part.start), mine.end.min(part.end));
        if start >= end {
            return None;
        }
        let skipped = (start - mine.start) as u64;
        let range = GuestRange::new(self.extent.range.start + skipped, (end - start) as u64);
        Some(Self { start, extent: self.extent.clipped(range), ..*self })
    }

    /// Whether `next` begins where this ends in the same file, and is moved in the same way.
    pub(crate) fn goes_on_in(&self, next: &Self) -> bool {
        let (Payload::Stored(mine), Payload::Stored(its)) =
            (self.extent.payload, next.extent.payload)
        else {
            return false;
        };
        (self.source, self.by, mine.layer) == (next.source, next.by, its.layer)
            && mine.at + mine.length == its.at
    }

    /// Which of the source's disks the bytes are of, and where they are.
    pub(crate) fn from(&self) -> (usize, Extent) {
        (self.source, self.extent)
    }
}

/// Whether a plain run may go from file to file without a look at its bytes.
fn needs_no_bytes(options: &Options) -> bool {
    let is_plain = match &options.format {
        TargetFormat::Raw => true,
        // Only where the base is a layer of the source do the tables alone tell what is left to it.
        TargetFormat::Qcow2(qcow2) => {
            !qcow2.compress && qcow2.base.as_ref().is_none_or(|base| base.layer.is_some())
        }
    };
    // What cannot be read is found only by reading.
    is_plain && options.copying != Copying::Read && options.salvage == Salvage::Refuse
}
