//! Comparing two disks byte by byte, where either of them stores anything.

use std::num::NonZeroUsize;
use std::ops::Range;
use std::sync::atomic::Ordering;
use std::sync::{Mutex, MutexGuard, PoisonError};

use calve_disk::units::{GuestOffset, GuestRange, SECTOR, in_memory};
use calve_disk::{Disk, Encoding, Error as DiskError, Extent, Layer, Payload, Scratch};

use crate::batches::BATCH;
use crate::error::Error;
use crate::options::{Control, Phase, Progress};
use crate::source::{Source, Walk};

/// How two disks are compared.
#[derive(Clone, Copy, Debug)]
pub struct CompareOptions {
    /// Whether sizes and what is stored at all must be the same too.
    pub strict: bool,
    /// Worker threads.
    pub threads: NonZeroUsize,
}

/// What comparing two disks found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Comparison {
    /// The guest reads the same from both; what one has behind the other's end is zeros.
    Identical,
    /// The sizes differ, and the comparison is strict.
    SizesDiffer,
    /// Bytes differ, first in the sector at this place.
    BytesDiffer {
        /// Where that sector begins.
        at: GuestOffset,
    },
    /// Only one of them stores anything at this place, and the comparison is strict.
    AllocationDiffers {
        /// The first such place.
        at: GuestOffset,
    },
}

/// Why two disks could not be compared to the end.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CompareError {
    /// Where their bytes are could not be told.
    #[error(transparent)]
    Map(DiskError),
    /// Their bytes could not be read.
    #[error(transparent)]
    Read(DiskError),
    /// The run was asked to stop.
    #[error("stopped")]
    Stopped,
}

/// Compares two disks. Bytes that are lost make it fail where they are reached. What both have
/// from the same place of the same file is not read.
pub fn compare(
    first: Disk,
    second: Disk,
    options: CompareOptions,
    control: &Control,
) -> Result<Comparison, CompareError> {
    if options.strict && first.virtual_size() != second.virtual_size() {
        return Ok(Comparison::SizesDiffer);
    }
    let sources = [Source::new(vec![first]), Source::new(vec![second])];
    let total = sources.iter().map(Source::size).max().unwrap_or_default();
    let pairs = Pairs {
        sides: sources.each_ref().map(Source::walk),
        reached: 0,
        total,
        strict: options.strict,
        same_file: same_files(sources.each_ref().map(|source| source.disk(0))),
    };
    let run = Run {
        disks: sources.each_ref().map(|source| source.disk(0)),
        pairs: Mutex::new(pairs),
        ended: Mutex::new(None),
        control,
        total,
    };
    // Files that hold little keep one thread busy.
    let held = sources.iter().flat_map(|source| source.disk(0).layers());
    let held: u64 = held.map(|layer| layer.image.facts().file_size).sum();
    let useful = usize::try_from(held / BATCH).unwrap_or(usize::MAX).max(1);
    std::thread::scope(|scope| {
        for _ in 1..options.threads.get().min(useful) {
            scope.spawn(|| run.work());
        }
        run.work();
    });
    match run.ended.into_inner().unwrap_or_else(PoisonError::into_inner) {
        Some(End { how, .. }) => how,
        None => {
            for source in &sources {
                source.disk(0).unchanged().map_err(CompareError::Read)?;
            }
            Ok(Comparison::Identical)
        }
    }
}

/// How a comparison ended before the end of the disks.
struct End {
    at: u64,
    how: Result<Comparison, CompareError>,
}

struct Run<'a> {
    disks: [&'a Disk; 2],
    pairs: Mutex<Pairs<'a>>,
    /// The end that lies first on the disks: workers reach theirs in any order.
    ended: Mutex<Option<End>>,
    control: &'a Control<'a>,
    total: u64,
}

impl<'a> Run<'a> {
    fn work(&self) {
        let mut worker = Worker::default();
        loop {
            if self.control.stop.load(Ordering::Relaxed) {
                return self.end(End { at: 0, how: Err(CompareError::Stopped) });
            }
            let pulled = {
                let mut pairs = self.pairs();
                if self.is_over_before(pairs.reached) {
                    return;
                }
                pairs.pull()
            };
            let pair = match pulled {
                Ok(Some(pair)) => pair,
                Ok(None) => return,
                Err(end) => return self.end(end),
            };
            if let Some(end) = worker.compare(self.disks, &pair) {
                return self.end(end);
            }
            let done = pair.range.end().get();
            let progress = Progress { phase: Phase::Comparing, done, total: self.total };
            (self.control.progress)(progress);
        }
    }

    fn pairs(&self) -> MutexGuard<'_, Pairs<'a>> {
        self.pairs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether an end was found that lies before all that was not pulled yet.
    fn is_over_before(&self, reached: u64) -> bool {
        let ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        ended.as_ref().is_some_and(|end| end.at < reached)
    }

    fn end(&self, end: End) {
        let mut ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        if ended.as_ref().is_none_or(|before| end.at < before.at) {
            *ended = Some(end);
        }
    }
}

/// For each layer of the one disk, for each of the other, whether they are the same file.
fn same_files(disks: [&Disk; 2]) -> Vec<Vec<bool>> {
    let [first, second] = disks.map(Disk::layers);
    let is_same = |a: &Layer, b: &Layer| a.identity().is_some() && a.identity() == b.identity();
    first.iter().map(|a| second.iter().map(|b| is_same(a, b)).collect()).collect()
}

/// The same range of both disks.
struct Pair {
    range: GuestRange,
    /// The parts of it that have to be read, as bytes from its start.
    parts: Vec<Range<usize>>,
    /// What each disk has of those parts.
    extents: [Vec<Extent>; 2],
}

/// Walks both disks side by side. Behind the end of the shorter one is a hole.
struct Pairs<'a> {
    sides: [Walk<'a>; 2],
    reached: u64,
    total: u64,
    strict: bool,
    same_file: Vec<Vec<bool>>,
}

impl Pairs<'_> {
    /// The next range that may differ; what both read as zeros without storing anything, and what
    /// both have from the same place, is passed over.
    fn pull(&mut self) -> Result<Option<Pair>, End> {
        let mut extents = [Vec::new(), Vec::new()];
        let mut parts: Vec<Range<usize>> = Vec::new();
        let mut start = self.reached;
        while self.reached < self.total && self.reached - start < BATCH {
            let pair = self.peek()?;
            let [first, second] = pair;
            if self.strict && is_stored(&first) != is_stored(&second) {
                let at = GuestOffset::new(self.reached);
                return Err(End {
                    at: self.reached,
                    how: Ok(Comparison::AllocationDiffers { at }),
                });
            }
            let is_void = first.payload.is_zero() && second.payload.is_zero();
            let is_known = is_void || self.is_shared(&first, &second);
            let begin = self.reached - start;
            let mut length = first.range.length.min(second.range.length);
            if !is_known {
                length = length.min(BATCH - begin);
                for (list, extent) in extents.iter_mut().zip(pair) {
                    list.push(extent.clipped(GuestRange::new(extent.range.start, length)));
                }
                let part = in_memory(begin)..in_memory(begin + length);
                match parts.last_mut() {
                    Some(last) if last.end == part.start => last.end = part.end,
                    _ => parts.push(part),
                }
            }
            self.sides.iter_mut().for_each(|side| side.take(length));
            self.reached += length;
            if parts.is_empty() {
                start = self.reached;
            }
        }
        let Some(last) = parts.last() else { return Ok(None) };
        let range = GuestRange::at(start, last.end as u64);
        Ok(Some(Pair { range, parts, extents }))
    }

    /// Whether both have the same plain bytes of the same file. What is packed may be broken,
    /// which unpacking it tells.
    fn is_shared(&self, first: &Extent, second: &Extent) -> bool {
        let (Payload::Stored(a), Payload::Stored(b)) = (first.payload, second.payload) else {
            return false;
        };
        let is_plain = [a, b].iter().all(|stored| stored.encoding == Encoding::Plain);
        is_plain && a.at == b.at && self.same_file[a.layer][b.layer]
    }

    fn peek(&mut self) -> Result<[Extent; 2], End> {
        let (reached, total) = (self.reached, self.total);
        let rest = GuestRange::at(reached, total - reached);
        let mut next = |side: usize| match self.sides[side].peek() {
            Ok(Some((_, extent))) => Ok(extent),
            Ok(None) => Ok(Extent { range: rest, payload: Payload::Hole { layer: 0 } }),
            Err(Error::Disk(error)) => Err(End { at: reached, how: Err(CompareError::Map(error)) }),
            Err(_) => Err(End { at: reached, how: Err(CompareError::Stopped) }),
        };
        Ok([next(0)?, next(1)?])
    }
}

fn is_stored(extent: &Extent) -> bool {
    matches!(extent.payload, Payload::Stored(_) | Payload::Lost(_))
}

/// One thread's buffers and decoders.
#[derive(Default)]
struct Worker {
    scratch: Scratch,
    data: [Vec<u8>; 2],
}

impl Worker {
    fn compare(&mut self, disks: [&Disk; 2], pair: &Pair) -> Option<End> {
        let start = pair.range.start.get();
        let whole = pair.parts.first()?.start..pair.parts.last()?.end;
        for ((disk, extents), data) in disks.iter().zip(&pair.extents).zip(&mut self.data) {
            if data.len() < whole.end {
                // Memory that nobody touches is not there.
                *data = vec![0; whole.end];
            }
            let data = &mut data[whole.clone()];
            if let Err(error) = disk.read_whole(extents, &mut self.scratch, data) {
                return Some(End { at: start, how: Err(CompareError::Read(error)) });
            }
        }
        for part in &pair.parts {
            let [first, second] = self.data.each_ref().map(|data| &data[part.clone()]);
            if first != second {
                let same = first.iter().zip(second).take_while(|(a, b)| a == b).count();
                let at = (start + (part.start + same) as u64) / SECTOR * SECTOR;
                let how = Ok(Comparison::BytesDiffer { at: GuestOffset::new(at) });
                return Some(End { at, how });
            }
        }
        None
    }
}
