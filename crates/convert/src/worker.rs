//! Worker: reads one batch, decides the fate of each of its clusters, and writes it.

mod kept;
mod voids;

use std::ops::Range;

use calve_disk::codec::Deflater;
use calve_disk::units::{GuestOffset, GuestRange, HostOffset, SECTOR, in_memory};
use calve_disk::{Codec, Disk, Error as DiskError, Extent, Found, HostErrors, Payload, Scratch};

use crate::batches::{Batch, Content, Stretch};
use crate::buffer::Buffer;
use crate::digest;
use crate::error::Result;
use crate::losses::Refusal;
use crate::moves::Move;
use crate::options::{Filled, Loss, Salvage};
use crate::pieces::{self, Fate, Piece, Together, Write};
use crate::run::{Plan, Run};
use crate::spans;
use crate::zeros::{data_runs, is_zero};
use kept::Kept;

/// One thread's buffers and decoders.
pub(crate) struct Worker<'r, 'a> {
    run: &'r Run<'a>,
    scratch: Scratch,
    deflater: Deflater,
    data: Buffer,
    behind: Vec<u8>,
    kept: Kept,
    packed: Vec<u8>,
}

impl<'r, 'a> Worker<'r, 'a> {
    pub(crate) fn new(run: &'r Run<'a>) -> Self {
        Self {
            run,
            scratch: Scratch::default(),
            deflater: Deflater::new(),
            data: Buffer::default(),
            behind: Vec::new(),
            kept: Kept::default(),
            packed: Vec::new(),
        }
    }

    /// Moves one batch and says how many stored guest bytes that were; `None` where the run is
    /// over because another worker failed.
    pub(crate) fn batch(&mut self, batch: Batch) -> Result<Option<u64>> {
        match batch.content {
            Content::Void(void) => self.void(batch.turn, batch.range, void),
            Content::Stretches(stretches) => self.stretches(batch.turn, batch.range, &stretches),
        }
    }

    fn stretches(
        &mut self,
        turn: u64,
        range: GuestRange,
        stretches: &[Stretch],
    ) -> Result<Option<u64>> {
        let moves = self.run.mover.moves(stretches);
        let moved: Vec<Range<usize>> = moves.iter().map(Move::part).collect();
        let blank = self.blank(stretches);
        let losses = self.read(stretches, &self.unread(&moved, &blank))?;
        let mut leaves = Vec::new();
        if self.run.plan.digest {
            leaves.push(digest::leaf(&self.data, range.start.get(), self.run.source.size()));
        }
        let mut pieces = self.fates(range, stretches, &losses, &moved, &blank)?;
        if self.run.plan.compress {
            self.pack(&mut pieces);
        }
        let mut writes = Vec::new();
        let placed = self.run.placed.enter(turn, |state| {
            state.note(losses, leaves);
            pieces::place(state, range.start, &pieces, &mut writes)?;
            Ok::<_, DiskError>(state.target.take_tables())
        });
        let Some(tables) = placed else { return Ok(None) };
        let tables = tables?;
        self.write_zero_pieces(range, &pieces)?;
        self.write(&writes, &moves, &moved)?;
        self.run.write_tables(tables)?;
        Ok(Some(stored_bytes(stretches)))
    }

    /// The bytes of the batch that are known to be zeros, and that nobody has to look at: where
    /// zeros are left out anyway.
    fn blank(&self, stretches: &[Stretch]) -> Vec<Range<usize>> {
        let mut blank: Vec<Range<usize>> = Vec::new();
        // A base that is no layer of the source is compared byte by byte.
        if self.run.plan.sparse == 0 || self.run.base.is_some_and(|(_, layer)| layer.is_none()) {
            return blank;
        }
        let mut at = 0;
        for extent in stretches.iter().flat_map(|stretch| &stretch.extents) {
            let end = at + in_memory(extent.range.length);
            match blank.last_mut() {
                _ if !extent.payload.is_zero() => {}
                Some(last) if last.end == at => last.end = end,
                _ => blank.push(at..end),
            }
            at = end;
        }
        // Of a unit that begins or ends elsewhere the other bytes decide.
        let unit = self.run.plan.unit();
        let whole = |span: &Range<usize>| {
            let end = if span.end == at { at } else { span.end / unit * unit };
            span.start.next_multiple_of(unit)..end
        };
        blank.iter().map(whole).filter(|span| !span.is_empty()).collect()
    }

    /// What need not be read: nothing where the digest is taken of all of it.
    fn unread(&self, moved: &[Range<usize>], blank: &[Range<usize>]) -> Vec<Range<usize>> {
        if self.run.plan.digest {
            return Vec::new();
        }
        let mut unread = [moved, blank].concat();
        unread.sort_unstable_by_key(|span| span.start);
        unread
    }

    /// Reads the stretches into `data`, all but what is `unread`. What is lost there is zeros or
    /// the base's bytes.
    fn read(&mut self, stretches: &[Stretch], unread: &[Range<usize>]) -> Result<Vec<Loss>> {
        let length: u64 = stretches.iter().map(Stretch::length).sum();
        self.data.set_length(in_memory(length));
        self.kept.clear();
        let mut losses = Vec::new();
        let mut at = 0;
        for stretch in stretches {
            let end = at + in_memory(stretch.length());
            if unread.is_empty() {
                self.read_extents(at, stretch.part, &stretch.extents, &mut losses)?;
            } else {
                let (at, extents) = stretch.outside(at, unread);
                self.read_extents(at, stretch.part, &extents, &mut losses)?;
            }
            at = end;
        }
        Ok(losses)
    }

    /// Reads extents of one of the source's disks, in order, into `data`, the first to `at`.
    fn read_extents(
        &mut self,
        at: usize,
        part: usize,
        extents: &[Extent],
        losses: &mut Vec<Loss>,
    ) -> Result<()> {
        let (Some(first), Some(last)) = (extents.first(), extents.last()) else { return Ok(()) };
        let start = first.range.start;
        let length = in_memory(last.range.end() - start);
        let plan = self.run.plan;
        let salvage = self.run.options.salvage;
        let host_errors = match salvage {
            Salvage::Refuse => HostErrors::Fail,
            Salvage::FromBase | Salvage::Zeros => HostErrors::Lose,
        };
        let Self { kept, scratch, data, .. } = self;
        let out = &mut data[at..at + length];
        let mut lost = Vec::new();
        let disk = self.run.source.disk(part);
        disk.read(extents, host_errors, scratch, out, &mut |found| match found {
            Found::Lost(extent) => lost.push(extent),
            Found::Packed { range, codec: Codec::Deflate, stream } if plan.keeps => {
                let from = at + in_memory(range.start - start);
                kept.add(from..from + in_memory(range.length), plan.cluster, stream);
            }
            Found::Packed { .. } => {}
        })?;
        if salvage == Salvage::Refuse && !lost.is_empty() {
            return Err(self.refusal(part, &lost));
        }
        lost.sort_unstable_by_key(|extent| extent.range.start);
        lost.into_iter().try_for_each(|extent| self.fill_lost(part, extent, start, at, losses))
    }

    fn refusal(&self, part: usize, lost: &[Extent]) -> crate::Error {
        let mut refusal = Refusal::default();
        for extent in lost {
            if let Payload::Lost(lost) = extent.payload {
                refusal.add(self.run.source, part, extent.range, lost);
            }
        }
        match refusal.into_result(true) {
            Err(error) => error,
            Ok(()) => unreachable!("only called with something lost"),
        }
    }

    /// Puts what the layers below have in the place of lost bytes, where that is wanted, and
    /// notes each loss. `start` is the guest offset of the byte of `data` at `at`.
    fn fill_lost(
        &mut self,
        part: usize,
        extent: Extent,
        start: GuestOffset,
        at: usize,
        losses: &mut Vec<Loss>,
    ) -> Result<()> {
        let Payload::Lost(lost) = extent.payload else { return Ok(()) };
        let source = self.run.source;
        let mut note = |range: GuestRange, filled| {
            let range = source.in_result(part, range);
            if !range.is_empty() {
                losses.push(Loss { source: part, range, lost, filled });
            }
        };
        let disk = source.disk(part);
        if self.run.options.salvage != Salvage::FromBase || lost.layer + 1 >= disk.layers().len() {
            note(extent.range, Filled::Zeros);
            return Ok(());
        }
        for below in disk.extents_from(lost.layer + 1, extent.range) {
            let below = below?;
            let from = at + in_memory(below.range.start - start);
            let out = &mut self.data[from..][..in_memory(below.range.length)];
            let mut lost_too = Vec::new();
            disk.read(&[below], HostErrors::Lose, &mut self.scratch, out, &mut |found| {
                if let Found::Lost(extent) = found {
                    lost_too.push(extent.range);
                }
            })?;
            if matches!(below.payload, Payload::Hole { .. }) {
                note(below.range, Filled::Zeros);
                continue;
            }
            lost_too.sort_unstable_by_key(|range| range.start);
            let mut reached = below.range.start;
            for lost in lost_too {
                note(GuestRange::between(reached, lost.start), Filled::Base);
                note(lost, Filled::Zeros);
                reached = lost.end();
            }
            note(GuestRange::between(reached, below.range.end()), Filled::Base);
        }
        Ok(())
    }

    /// Decides what becomes of each cluster, and joins neighbours of one fate.
    fn fates(
        &mut self,
        range: GuestRange,
        stretches: &[Stretch],
        losses: &[Loss],
        moved: &[Range<usize>],
        blank: &[Range<usize>],
    ) -> Result<Vec<Piece>> {
        let plan = self.run.plan;
        let from_base = match self.run.base {
            Some(base) => Some(self.same_as_base(range, stretches, losses, base)?),
            None => None,
        };
        let mut pieces: Vec<Piece> = Vec::new();
        let unit = plan.unit();
        for (number, bytes) in self.data.chunks(unit).enumerate() {
            let part = number * unit..number * unit + bytes.len();
            let reads_zero =
                || spans::covers(blank, &part) || (!spans::meets(moved, &part) && is_zero(bytes));
            let fate = if from_base.as_ref().is_some_and(|same| same[number]) {
                Fate::Absent
            } else if plan.sparse > 0 && reads_zero() {
                Fate::Zero
            } else {
                Fate::Plain
            };
            pieces::push(&mut pieces, part, fate);
        }
        Ok(pieces)
    }

    /// For each cluster of the batch whether the base has the same and it may be left to it.
    fn same_as_base(
        &mut self,
        range: GuestRange,
        stretches: &[Stretch],
        losses: &[Loss],
        (base, base_layer): (&Disk, Option<usize>),
    ) -> Result<Vec<bool>> {
        let cluster = self.run.plan.cluster;
        let mut same = vec![true; self.data.len().div_ceil(cluster)];
        let mut at = 0;
        for extent in stretches.iter().flat_map(|stretch| &stretch.extents) {
            let end = at + in_memory(extent.range.length);
            let is_above = |layer| base_layer.is_some_and(|base_layer| layer < base_layer);
            if layer_of(extent).is_some_and(is_above) {
                same[at / cluster..end.div_ceil(cluster)].fill(false);
            }
            at = end;
        }
        // What took the place of lost bytes is in no base, or not in one that can be read.
        for loss in losses {
            let [start, end] =
                [loss.range.start, loss.range.end()].map(|at| in_memory(at - range.start));
            same[start / cluster..end.div_ceil(cluster)].fill(false);
        }
        // What the result has behind the source's last byte, up to a whole sector, is zeros; a
        // longer base may have something else there.
        let size = self.run.source.size();
        if range.end().get() == size && !size.is_multiple_of(SECTOR) && base.virtual_size() > size {
            same.last_mut().into_iter().for_each(|last| *last = false);
        }
        if base_layer.is_some() || !same.contains(&true) {
            return Ok(same);
        }
        // The base is no file of the source's chain: only its bytes can tell.
        self.behind.clear();
        self.behind.resize(self.data.len(), 0);
        let extents = base.extents(range).collect::<calve_disk::Result<Vec<_>>>()?;
        let present = in_memory(extents.iter().map(|extent| extent.range.length).sum());
        base.read_whole(&extents, &mut self.scratch, &mut self.behind[..present])?;
        let clusters = self.data.chunks(cluster).zip(self.behind.chunks(cluster));
        for (same, (mine, its)) in same.iter_mut().zip(clusters) {
            *same = *same && mine == its;
        }
        Ok(same)
    }

    /// Packs each plain cluster that gets smaller by it, unless it came packed already.
    fn pack(&mut self, pieces: &mut Vec<Piece>) {
        let cluster = self.run.plan.cluster;
        self.packed.clear();
        let mut result: Vec<Piece> = Vec::new();
        let mut last = vec![0; cluster];
        for piece in pieces.drain(..) {
            if piece.fate != Fate::Plain {
                result.push(piece);
                continue;
            }
            for start in piece.part.clone().step_by(cluster) {
                let part = start..piece.part.end.min(start + cluster);
                let mut bytes = &self.data[part.clone()];
                if bytes.len() < cluster {
                    // The disk ends inside its last cluster: packed clusters are whole.
                    last.fill(0);
                    last[..bytes.len()].copy_from_slice(bytes);
                    bytes = &last;
                }
                let stream = match self.kept.stream(start / cluster) {
                    Some(stream) => Some(stream),
                    None => self.deflater.pack(bytes),
                };
                let fate = match stream {
                    Some(payload) => {
                        let start = self.packed.len();
                        self.packed.extend_from_slice(payload);
                        Fate::Packed(start..self.packed.len())
                    }
                    None => Fate::Plain,
                };
                pieces::push(&mut result, part, fate);
            }
        }
        *pieces = result;
    }

    /// Zeros that the map does not tell of have to be in the file.
    fn write_zero_pieces(&self, range: GuestRange, pieces: &[Piece]) -> Result<()> {
        let Plan { reads_zeros, .. } = self.run.plan;
        if reads_zeros || !self.run.plan.is_raw {
            return Ok(());
        }
        for piece in pieces.iter().filter(|piece| piece.fate == Fate::Zero) {
            let at = HostOffset::new(range.start.get() + piece.part.start as u64);
            self.run.write_zeros(at, piece.part.len() as u64)?;
        }
        Ok(())
    }

    fn write(&mut self, writes: &[Write], moves: &[Move], moved: &[Range<usize>]) -> Result<()> {
        self.write_data(writes, moved)?;
        let plain = writes.iter().filter(|write| !write.is_packed);
        let steps: Vec<(Move, HostOffset)> = plain
            .flat_map(|write| {
                let inside = moves.iter().filter_map(|moved| moved.clipped(&write.from));
                inside.map(|moved| {
                    let skipped = moved.part().start - write.from.start;
                    (moved, write.at + skipped as u64)
                })
            })
            .collect();
        // What lies together in both files is one step for the host.
        let is_one = |(a, a_at): &(Move, HostOffset), (b, b_at): &(Move, HostOffset)| {
            a.goes_on_in(b) && *a_at + a.part().len() as u64 == *b_at
        };
        steps.chunk_by(is_one).try_for_each(|steps| self.carry_out(steps))
    }

    /// Writes all but what is moved and the zeros that are worth leaving out.
    fn write_data(&self, writes: &[Write], moved: &[Range<usize>]) -> Result<()> {
        let Plan { sparse, reads_zeros, .. } = self.run.plan;
        let block = if reads_zeros { sparse } else { 0 };
        let mut together = Together::new(self.run);
        for write in writes {
            if write.is_packed {
                together.add(&self.packed[write.from.clone()], write.at)?;
                continue;
            }
            for part in spans::outside(write.from.clone(), moved) {
                let at = write.at + (part.start - write.from.start) as u64;
                let bytes = &self.data[part];
                let mut result = Ok(());
                data_runs(bytes, block, |run| {
                    if result.is_ok() {
                        let at = at + run.start as u64;
                        result = together.add(&bytes[run], at);
                    }
                });
                result?;
            }
        }
        together.write()
    }

    /// Has the host move runs that lie together, or reads and writes them where it does not.
    fn carry_out(&mut self, steps: &[(Move, HostOffset)]) -> Result<()> {
        let Some((first, at)) = steps.first() else { return Ok(()) };
        let length = steps.iter().map(|(moved, _)| moved.part().len() as u64).sum();
        let (source, extent) = first.from();
        let disk = self.run.source.disk(source);
        if self.run.take(disk, &extent, length, *at, first.by) {
            return Ok(());
        }
        for (moved, at) in steps {
            let (_, extent) = moved.from();
            let part = moved.part();
            disk.read_whole(&[extent], &mut self.scratch, &mut self.data[part.clone()])?;
            // Zeros too: nobody knows what the host left there.
            self.run.write(&[&self.data[part]], *at)?;
        }
        Ok(())
    }
}

fn layer_of(extent: &Extent) -> Option<usize> {
    match extent.payload {
        Payload::Stored(stored) => Some(stored.layer),
        Payload::Zero { layer, .. } => Some(layer),
        Payload::Lost(lost) => Some(lost.layer),
        Payload::Hole { .. } | Payload::Backing => None,
    }
}

/// Guest bytes of the stretches that are stored somewhere.
fn stored_bytes(stretches: &[Stretch]) -> u64 {
    let extents = stretches.iter().flat_map(|stretch| &stretch.extents);
    extents.map(crate::prescan::stored_length).sum()
}
