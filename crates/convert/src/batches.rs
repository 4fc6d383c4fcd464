//! Batches: the work, cut into pieces that depend on nothing but the image.

use std::ops::Range;

use calve_disk::units::{GuestOffset, GuestRange, in_memory};
use calve_disk::{Extent, Lost, Payload};

use crate::error::Result;
use crate::options::Salvage;
use crate::source::{Source, Walk};
use crate::spans;

/// Guest bytes in a batch that moves any: as much as a worker holds in memory, and a multiple of
/// every cluster size there is.
pub(crate) const BATCH: u64 = 2 << 20;

/// A range of the result and what fills it.
pub(crate) struct Batch {
    /// Its number: batches are placed in this order.
    pub(crate) turn: u64,
    /// The range of the result. Only one without stored bytes is longer than [`BATCH`].
    pub(crate) range: GuestRange,
    /// What fills it.
    pub(crate) content: Content,
}

/// What fills a batch.
pub(crate) enum Content {
    /// Nothing: all of it is of one kind, and no byte has to be read.
    Void(Void),
    /// Stretches of the source, in order and without gaps.
    Stretches(Vec<Stretch>),
}

/// Why there is nothing to read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Void {
    /// No layer of the source has anything here.
    Hole,
    /// A layer of the source says zeros; `layer` is which.
    Zeros { layer: usize },
    /// What one of the source's disks has here is lost, and zeros take its place.
    Lost { part: usize, lost: Lost },
}

/// Consecutive extents of one of the source's disks.
pub(crate) struct Stretch {
    /// Which disk.
    pub(crate) part: usize,
    /// Its extents, in its own guest offsets.
    pub(crate) extents: Vec<Extent>,
}

impl Stretch {
    pub(crate) fn length(&self) -> u64 {
        self.extents.iter().map(|extent| extent.range.length).sum()
    }

    /// What is left of this stretch, which begins at byte `at` of the batch, without `spans` of
    /// the batch: where that begins, and its extents.
    pub(crate) fn outside(&self, at: usize, spans: &[Range<usize>]) -> (usize, Vec<Extent>) {
        let mut left = Vec::new();
        let (mut reached, mut begin) = (at, at);
        for extent in &self.extents {
            let whole = reached..reached + in_memory(extent.range.length);
            for part in spans::outside(whole.clone(), spans) {
                if left.is_empty() {
                    begin = part.start;
                }
                let skipped = (part.start - whole.start) as u64;
                let range = GuestRange::new(extent.range.start + skipped, part.len() as u64);
                left.push(extent.clipped(range));
            }
            reached = whole.end;
        }
        (begin, left)
    }
}

/// Cuts a source into batches.
pub(crate) struct Batches<'a> {
    walk: Walk<'a>,
    next: GuestOffset,
    turn: u64,
    longest_void: u64,
    source: &'a Source,
    salvage: Salvage,
}

impl<'a> Batches<'a> {
    /// The batches of a source. `longest_void` bounds the batches that have nothing to read.
    pub(crate) fn of(source: &'a Source, longest_void: u64, salvage: Salvage) -> Self {
        let (walk, next) = (source.walk(), GuestOffset::default());
        Self { walk, next, turn: 0, longest_void, source, salvage }
    }

    /// The next batch; `None` at the end.
    pub(crate) fn pull(&mut self) -> Result<Option<Batch>> {
        let Some((part, first)) = self.walk.peek()? else { return Ok(None) };
        let content = match self.void_of(part, &first) {
            Some(void) if first.range.length >= BATCH => self.void(void, first.range.length),
            _ => self.stretches()?,
        };
        let (length, content) = content;
        let batch = Batch { turn: self.turn, range: GuestRange::new(self.next, length), content };
        self.turn += 1;
        self.next = self.next + length;
        Ok(Some(batch))
    }

    fn void_of(&self, part: usize, extent: &Extent) -> Option<Void> {
        match extent.payload {
            Payload::Hole { .. } => Some(Void::Hole),
            Payload::Zero { layer, .. } => Some(Void::Zeros { layer }),
            Payload::Lost(lost) => {
                let has_base = lost.layer + 1 < self.source.disk(part).layers().len();
                let takes_zeros = match self.salvage {
                    Salvage::Refuse => false,
                    Salvage::FromBase => !has_base,
                    Salvage::Zeros => true,
                };
                takes_zeros.then_some(Void::Lost { part, lost })
            }
            Payload::Stored(_) | Payload::Backing => None,
        }
    }

    /// As many whole batches of nothing as come next.
    fn void(&mut self, void: Void, length: u64) -> (u64, Content) {
        let length = length.min(self.longest_void) / BATCH * BATCH;
        self.walk.take(length);
        (length, Content::Void(void))
    }

    fn stretches(&mut self) -> Result<(u64, Content)> {
        let mut stretches: Vec<Stretch> = Vec::new();
        let mut room = BATCH;
        while room > 0
            && let Some((part, extent)) = self.walk.peek()?
        {
            let wanted = GuestRange::new(extent.range.start, room);
            let extent = extent.clipped(wanted);
            self.walk.take(room);
            room -= extent.range.length;
            match stretches.last_mut() {
                Some(last) if last.part == part => last.extents.push(extent),
                _ => stretches.push(Stretch { part, extents: vec![extent] }),
            }
        }
        Ok((BATCH - room, Content::Stretches(stretches)))
    }
}
