//! The run: workers pull batches, move their bytes, and place them in turn.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use calve_disk::units::HostOffset;
use calve_disk::{Disk, Error as DiskError, StorageMut, TableWrite, Target};

use crate::batches::Batches;
use crate::crew;
use crate::digest::{Leaf, Tree};
use crate::error::{Error, Result};
use crate::losses::Losses;
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
    pub(crate) pace: Pace,
    pub(crate) batches: Mutex<Batches<'a>>,
    pub(crate) placed: Turnstile<InTurn>,
    pub(crate) done: AtomicU64,
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
        crew::run(self.options.threads, || self.placed.close(), || self.work())
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

    /// Writes guest bytes, keeping to the pace.
    pub(crate) fn write(&self, bytes: &[u8], at: HostOffset) -> Result<()> {
        self.pace.wait_for(bytes.len(), self.control.stop);
        let written = self.file.write_at(bytes, at);
        Ok(written.map_err(|source| DiskError::io("writing", self.file, at, source))?)
    }

    /// Makes what is there read as zeros.
    pub(crate) fn write_zeros(&self, at: HostOffset, length: u64) -> Result<()> {
        let written = self.file.write_zeros(at, length);
        Ok(written.map_err(|source| DiskError::io("writing zeros", self.file, at, source))?)
    }

    /// Writes tables that became complete.
    pub(crate) fn write_tables(&self, tables: Vec<TableWrite>) -> Result<()> {
        tables.into_iter().try_for_each(|table| self.write(&table.bytes, table.at))
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroUsize;
    use std::sync::atomic::AtomicBool;

    use calve_disk::formats::raw::{RawImage, RawTarget};
    use calve_disk::{Layer, Storage};
    use calve_testkit::{Faulty, Memory, Random};

    use super::*;
    use crate::options::{Cache, Placement, Salvage, TargetFormat};

    fn options() -> Options {
        Options {
            format: TargetFormat::Raw,
            sparse_size: 4096,
            placement: Placement::New,
            cache: Cache::Unsafe,
            salvage: Salvage::Refuse,
            verify: false,
            threads: NonZeroUsize::new(3).unwrap(),
            rate_limit: None,
        }
    }

    /// Copies `bytes` to storage whose access number `failing` fails.
    fn copied(bytes: &[u8], failing: u64) -> (Result<()>, Vec<u8>, bool) {
        let image = RawImage::open(Box::new(Memory::new(bytes.to_vec()))).unwrap();
        let source = Source::new(vec![Disk::of_layers(vec![Layer::detached(Box::new(image))])]);
        let memory = Memory::new(Vec::new());
        let file = Faulty::new(memory.clone(), failing);
        let (options, stop) = (options(), AtomicBool::new(false));
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
            file: &file,
            control: &Control { stop: &stop, progress: &|_| {} },
            pace: Pace::new(None),
            batches: Mutex::new(Batches::of(&source, 1 << 62)),
            placed: Turnstile::new(InTurn {
                target: Box::new(RawTarget::new(source.size())),
                losses: Losses::default(),
                tree: Tree::default(),
                stored: 0,
            }),
            done: AtomicU64::new(0),
            total: source.size(),
        };
        let done = run.run();
        assert_eq!(file.path(), memory.path());
        (done, memory.content(), file.has_failed())
    }

    #[test]
    fn every_write_that_fails_ends_the_run_with_its_error() {
        let mut bytes = Random::new(3).content(9 << 20);
        // Holes between, so that there are many writes.
        for start in (0..bytes.len() - 8192).step_by(1 << 20) {
            bytes[start..start + 8192].fill(0);
        }
        for failing in 0.. {
            let (done, content, has_failed) = copied(&bytes, failing);
            assert_eq!(done.is_err(), has_failed, "access {failing}");
            if !has_failed {
                assert!(failing > 5, "too few writes to prove anything");
                assert!(bytes.starts_with(&content), "access {failing}");
                assert!(bytes[content.len()..].iter().all(|byte| *byte == 0));
                return;
            }
            let Err(error) = done else { unreachable!() };
            assert!(error.to_string().contains("a fault of the test"), "{error}");
        }
    }
}
