//! The run: workers pull batches, move their bytes, and place them in turn.

use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use calve_disk::units::{HostOffset, in_memory};
use calve_disk::{
    Disk, Error as DiskError, Extent, HostMove, Payload, StorageMut, TableWrite, Target,
};

use crate::batches::{BATCH, Batches};
use crate::crew;
use crate::digest::{Leaf, Tree};
use crate::error::{Error, Result};
use crate::losses::Losses;
use crate::moves::Mover;
use crate::options::{Control, Loss, Options, Phase, Progress};
use crate::pace::Pace;
use crate::source::Source;
use crate::turnstile::Turnstile;
use crate::worker::Worker;

/// Everything the workers share.
pub(crate) struct Run<'a> {
    pub(crate) source: &'a Source,
    /// What lies behind a thin overlay, with the layer of the source that it is.
    pub(crate) base: Option<(&'a Disk, Option<usize>)>,
    pub(crate) options: &'a Options,
    pub(crate) plan: Plan,
    pub(crate) file: &'a dyn StorageMut,
    pub(crate) control: &'a Control<'a>,
    pub(crate) pace: &'a Pace,
    pub(crate) mover: Mover,
    pub(crate) batches: Mutex<Batches<'a>>,
    pub(crate) placed: Turnstile<InTurn>,
    pub(crate) done: AtomicU64,
    /// Bytes that share their blocks with the source.
    pub(crate) cloned: AtomicU64,
    /// Guest bytes that the source stores.
    pub(crate) total: u64,
}

/// How the target wants its bytes, as far as workers need to know.
#[derive(Clone, Copy)]
pub(crate) struct Plan {
    /// Whether the target is raw: every byte has its place whether it is stored or not.
    pub(crate) is_raw: bool,
    /// Bytes of a cluster of the target, 512 for raw.
    pub(crate) cluster: usize,
    /// Whether clusters are packed.
    pub(crate) compress: bool,
    /// Whether what the source has packed by deflate, in clusters of the same size, is stored
    /// unopened.
    pub(crate) keeps: bool,
    /// Bytes of zeros that are worth leaving out, 0 for none.
    pub(crate) sparse: usize,
    /// Whether what is not written reads as zeros.
    pub(crate) reads_zeros: bool,
    /// Whether the digest is taken.
    pub(crate) digest: bool,
}

impl Plan {
    /// What is stored or left out as one, in bytes: raw has no clusters of its own, and there it
    /// is what is worth leaving out.
    pub(crate) fn unit(&self) -> usize {
        if self.is_raw { self.sparse.max(self.cluster) } else { self.cluster }
    }
}

/// What is done turn by turn.
pub(crate) struct InTurn {
    pub(crate) target: Box<dyn Target>,
    pub(crate) losses: Losses,
    pub(crate) tree: Tree,
    pub(crate) stored: u64,
}

impl InTurn {
    pub(crate) fn note(&mut self, losses: Vec<Loss>, leaves: Vec<Leaf>) {
        losses.into_iter().for_each(|loss| self.losses.add(loss));
        leaves.into_iter().for_each(|leaf| self.tree.push(leaf));
    }
}

impl Run<'_> {
    /// Runs all workers to the end, or to the first failure.
    pub(crate) fn run(&self) -> Result<()> {
        // More threads than batches would come only to go.
        let batches = usize::try_from(self.total.div_ceil(BATCH)).unwrap_or(usize::MAX);
        let useful = NonZeroUsize::new(batches).unwrap_or(NonZeroUsize::MIN);
        let threads = self.options.threads.min(useful);
        crew::run(threads, || self.placed.close(), || self.work())
    }

    fn work(&self) -> Result<()> {
        let mut worker = Worker::new(self);
        loop {
            if self.control.stop.load(Ordering::Relaxed) {
                return Err(Error::Stopped);
            }
            let batch = self.batches.lock().unwrap_or_else(PoisonError::into_inner).pull()?;
            let Some(batch) = batch else { return Ok(()) };
            let Some(moved) = worker.batch(batch)? else {
                // Another worker failed and tells why.
                return Ok(());
            };
            let done = self.done.fetch_add(moved, Ordering::Relaxed) + moved;
            let progress = Progress { phase: Phase::Copying, done, total: self.total };
            (self.control.progress)(progress);
        }
    }

    /// Writes bytes, one part behind the other, keeping to the pace.
    pub(crate) fn write(&self, parts: &[&[u8]], at: HostOffset) -> Result<()> {
        let written = match self.pace.portion() {
            None => self.file.write_all_at(parts, at),
            Some(_) => self.write_slowly(parts, at),
        };
        Ok(written.map_err(|source| DiskError::io("writing", self.file, at, source))?)
    }

    fn write_slowly(&self, parts: &[&[u8]], mut at: HostOffset) -> std::io::Result<()> {
        for part in parts {
            let mut left = *part;
            while !left.is_empty() {
                // It may be another one each time.
                let portion = self.pace.portion().unwrap_or(usize::MAX);
                let (bytes, rest) = left.split_at(portion.min(left.len()));
                self.pace.wait_for(bytes.len(), self.control.stop);
                self.file.write_at(bytes, at)?;
                (at, left) = (at + bytes.len() as u64, rest);
            }
        }
        Ok(())
    }

    /// Has the host move `length` bytes from where a plain extent begins to `at`, keeping to the
    /// pace where it copies them, and says whether it did.
    pub(crate) fn take(
        &self,
        disk: &Disk,
        extent: &Extent,
        length: u64,
        at: HostOffset,
        by: HostMove,
    ) -> bool {
        let Payload::Stored(stored) = extent.payload else { return false };
        if by == HostMove::Copy {
            self.pace.wait_for(in_memory(length), self.control.stop);
        }
        let source = disk.layers()[stored.layer].image.data_storage();
        let is_done = self.file.take_from(source, stored.at, at, length, by);
        if is_done && by == HostMove::Clone {
            self.cloned.fetch_add(length, Ordering::Relaxed);
        }
        is_done
    }

    /// Makes what is there read as zeros.
    pub(crate) fn write_zeros(&self, at: HostOffset, length: u64) -> Result<()> {
        let written = self.file.write_zeros(at, length);
        Ok(written.map_err(|source| DiskError::io("writing zeros", self.file, at, source))?)
    }

    /// Writes tables that became complete.
    pub(crate) fn write_tables(&self, tables: Vec<TableWrite>) -> Result<()> {
        tables.into_iter().try_for_each(|table| self.write(&[&table.bytes], table.at))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::AtomicBool;

    use calve_disk::formats::qcow1::Qcow1Image;
    use calve_disk::formats::raw::{RawImage, RawTarget};
    use calve_disk::{Image, Layer};
    use calve_testkit::{Access, Builder, Faulty, Memory, Random, Recorder, Recording, read};

    use super::*;
    use crate::moves::SHORTEST;
    use crate::options::{Cache, Copying, Placement, Salvage, TargetFormat};

    /// Copies a disk to `file` as raw.
    fn copy(image: Box<dyn Image>, file: &dyn StorageMut, mover: Mover) -> Result<()> {
        let source = Source::new(vec![Disk::of_layers(vec![Layer::detached(image)])]);
        let options = Options {
            format: TargetFormat::Raw,
            sparse_size: 4096,
            placement: Placement::New,
            cache: Cache::Unsafe,
            salvage: Salvage::Refuse,
            copying: Copying::Auto,
            verify: false,
            threads: NonZeroUsize::new(3).unwrap(),
            pace: Arc::default(),
        };
        let stop = AtomicBool::new(false);
        let run = Run {
            source: &source,
            base: None,
            options: &options,
            plan: Plan {
                is_raw: true,
                cluster: 512,
                compress: false,
                keeps: false,
                sparse: 4096,
                reads_zeros: true,
                digest: false,
            },
            file,
            control: &Control { stop: &stop, progress: &|_| {} },
            pace: &options.pace,
            mover,
            batches: Mutex::new(Batches::of(&source, 1 << 62, Salvage::Refuse)),
            placed: Turnstile::new(InTurn {
                target: Box::new(RawTarget::new(source.size())),
                losses: Losses::default(),
                tree: Tree::default(),
                stored: 0,
            }),
            done: AtomicU64::new(0),
            cloned: AtomicU64::new(0),
            total: source.size(),
        };
        run.run()
    }

    /// Whether `found` is `expected`, but for zeros at its end.
    fn is_right(found: &[u8], expected: &[u8]) -> bool {
        expected.starts_with(found) && expected[found.len()..].iter().all(|byte| *byte == 0)
    }

    #[test]
    fn every_write_that_fails_ends_the_run_with_its_error() {
        let mut bytes = Random::new(3).content(9 << 20);
        // Holes between, so that there are many writes.
        for start in (0..bytes.len() - 8192).step_by(1 << 20) {
            bytes[start..start + 8192].fill(0);
        }
        for failing in 0.. {
            let memory = Memory::new(Vec::new());
            let file = Faulty::new(memory.clone(), failing);
            let image = RawImage::open(Box::new(Memory::new(bytes.clone()))).unwrap();
            let done = copy(Box::new(image), &file, Mover::default());
            assert_eq!(done.is_err(), file.has_failed(), "access {failing}");
            if !file.has_failed() {
                assert!(failing > 5, "too few writes to prove anything");
                assert!(is_right(&memory.content(), &bytes), "access {failing}");
                return;
            }
            let Err(error) = done else { unreachable!() };
            assert!(error.to_string().contains("a fault of the test"), "{error}");
        }
    }

    /// A version 1 image of 6 MiB: plain runs of any length, some of them beside the block
    /// boundaries, some of zeros.
    fn fragmented(random: &mut Random) -> Vec<u8> {
        let mut builder = Builder::new(12, 9, 6 << 20);
        let mut cluster = 0;
        while cluster < 1536 {
            builder = builder.aligned(random.one_of(&[4096, 4096, 4096, 512]));
            let end = (cluster + 1 + random.below(120)).min(1536);
            match random.below(4) {
                0 => {}
                1 => (cluster..end).for_each(|number| {
                    builder.plain(number, &[]);
                }),
                _ => (cluster..end).for_each(|number| {
                    let content = random.content(4096);
                    builder.plain(number, &content);
                }),
            }
            cluster = end;
        }
        builder.build()
    }

    #[test]
    fn long_runs_of_whole_blocks_are_moved_by_the_host_and_a_host_that_declines_costs_nothing() {
        for (seed, by) in [(1, HostMove::Clone), (2, HostMove::Clone), (3, HostMove::Copy)] {
            let image = fragmented(&mut Random::new(seed));
            let block = if by == HostMove::Clone { 4096 } else { 1 };
            let expected: Vec<u8> =
                read(&image, None, &[]).into_iter().map(Option::unwrap).collect();
            for failing in 0.. {
                let (recorder, memory) = (Recorder::default(), Memory::new(Vec::new()));
                let recording = Recording::new(memory.clone(), &recorder);
                let file = Faulty::new(recording, failing);
                let image = Qcow1Image::open(Box::new(Memory::new(image.clone())), None).unwrap();
                let done = copy(Box::new(image), &file, Mover::of_everything(1, by, block));
                if done.is_ok() {
                    let found = memory.content();
                    assert!(is_right(&found, &expected), "seed {seed}, access {failing}");
                }
                if file.has_failed() {
                    continue;
                }
                let mut taken = 0;
                for access in recorder.accesses() {
                    if let Access::Taken { from, at, length } = access {
                        let on_blocks = [from, at, length].iter().all(|n| n.is_multiple_of(block));
                        assert!(on_blocks && length >= SHORTEST, "{from} {at} {length}");
                        taken += 1;
                    }
                }
                assert!(taken > 5, "seed {seed}: the host moved {taken} runs");
                break;
            }
        }
    }
}
