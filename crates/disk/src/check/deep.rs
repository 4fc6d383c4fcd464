//! Reading payloads: whether packed clusters unpack, whether the host can read the others, and
//! whether they hold what they should.

use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use super::{CheckOptions, Checked};
use crate::codec::{Filled, Unpacker};
use crate::disk::{Disk, Found, HostErrors, Scratch};
use crate::error::{Error, Result};
use crate::extent::{Codec, Encoding, Extent, ExtentList, Payload, Stored};
use crate::finding::{Finding, Rule};
use crate::formats::Format;
use crate::units::{ClusterSize, GuestOffset, GuestRange, SECTOR, in_memory};

/// Guest bytes of one batch, where no cluster is longer.
const BATCH: u64 = 1 << 20;

/// Plain bytes that are looked into where nobody asked for all: forgotten flags are no accident
/// of one cluster.
const SAMPLE: u64 = 256 << 10;

/// Steps of the walk, each of a table at most, in which such bytes are looked for: a few MiB of
/// tables can say that a large disk is the same nothing all over.
const SAMPLE_STEPS: u64 = 1024;

pub(super) fn run(
    disk: &Disk,
    layer: usize,
    options: &CheckOptions,
    checked: &mut Checked,
    report: &mut (dyn FnMut(Finding) + Send),
) -> Result<()> {
    let facts = disk.layers()[layer].image.facts();
    if facts.format != Format::Qcow1 && !options.is_deep {
        return Ok(());
    }
    let source = Source {
        disk,
        layer,
        walked: GuestOffset::default(),
        end: GuestOffset::new(facts.virtual_size),
        extents: ExtentList::default(),
        used: 0,
        turn: 0,
        cluster: facts.cluster_size,
        left: if options.is_deep { u64::MAX } else { SAMPLE },
        steps: if options.is_deep { u64::MAX } else { SAMPLE_STEPS },
        takes_packed: options.is_deep,
    };
    let run = Run {
        disk,
        layer,
        options,
        source: Mutex::new(source),
        told: Mutex::new(Told { turn: 0, report, failure: None }),
        next: Condvar::new(),
        failed: AtomicBool::new(false),
        counts: [AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(0)],
        total: facts.file_size,
    };
    let threads = if options.is_deep { options.threads } else { NonZeroUsize::MIN };
    std::thread::scope(|scope| {
        for _ in 1..threads.get() {
            // One thread fewer is no failure.
            let _ = std::thread::Builder::new().spawn_scoped(scope, || run.work());
        }
        run.work();
    });
    checked.unpacked = run.counts[0].load(Ordering::Relaxed);
    checked.probed = run.counts[1].load(Ordering::Relaxed);
    checked.is_stopped = options.stop.load(Ordering::Relaxed);
    let told = run.told.into_inner().unwrap_or_else(PoisonError::into_inner);
    told.failure.map_or(Ok(()), Err)
}

/// The stored extents of one layer, batch by batch.
struct Source<'a> {
    disk: &'a Disk,
    layer: usize,
    walked: GuestOffset,
    end: GuestOffset,
    extents: ExtentList,
    used: usize,
    turn: u64,
    cluster: Option<ClusterSize>,
    /// Guest bytes that are still to be looked into.
    left: u64,
    /// Steps of the walk that are still to be made.
    steps: u64,
    takes_packed: bool,
}

impl Source<'_> {
    fn pull(&mut self) -> Result<Option<(u64, Vec<Extent>)>> {
        let mut batch: Vec<Extent> = Vec::new();
        let most = self.cluster.map_or(BATCH, |cluster| cluster.bytes().max(BATCH));
        let mut room = most.min(self.left);
        while room > 0 {
            let Some(extent) = self.extents.as_slice().get(self.used).copied() else {
                if self.walked >= self.end || self.steps == 0 {
                    break;
                }
                self.walk()?;
                continue;
            };
            let Payload::Stored(stored) = extent.payload else {
                self.used += 1;
                continue;
            };
            let is_packed = matches!(stored.encoding, Encoding::Packed { .. });
            let start = batch.last().map_or(extent.range.start, |last| last.range.end());
            let first = batch.first().map_or(start, |first| first.range.start);
            // One buffer holds a batch: what lies far apart is of another one.
            if extent.range.start - first > most {
                break;
            }
            if is_packed && !self.takes_packed {
                self.used += 1;
                continue;
            }
            let taken = self.fitting(extent.range, room);
            if taken == 0 {
                break;
            }
            self.used += 1;
            batch.push(
                extent.clipped(GuestRange::new(extent.range.start, taken)).in_layer(self.layer),
            );
            room -= taken;
            if taken < extent.range.length {
                self.walked = extent.range.start + taken;
                self.extents.restart(self.walked);
                self.used = 0;
            }
        }
        if batch.is_empty() {
            return Ok(None);
        }
        let taken: u64 = batch.iter().map(|extent| extent.range.length).sum();
        if self.left != u64::MAX {
            self.left -= taken.min(self.left);
        }
        self.turn += 1;
        Ok(Some((self.turn - 1, batch)))
    }

    /// How many of the bytes of `range` fit into `room`: all, or whole clusters, which are judged
    /// as a whole.
    fn fitting(&self, range: GuestRange, room: u64) -> u64 {
        if range.length <= room {
            return range.length;
        }
        let end = (range.start + room).get();
        let end = self.cluster.map_or(end, |cluster| cluster.floor(end));
        end.saturating_sub(range.start.get())
    }

    fn walk(&mut self) -> Result<()> {
        self.steps -= 1;
        self.extents.restart(self.walked);
        self.used = 0;
        let range = GuestRange::between(self.walked, self.end);
        self.disk.layers()[self.layer].image.map(range, &mut self.extents)?;
        self.walked = self.extents.next();
        Ok(())
    }
}

struct Told<'a> {
    turn: u64,
    report: &'a mut (dyn FnMut(Finding) + Send),
    failure: Option<Error>,
}

struct Run<'a> {
    disk: &'a Disk,
    layer: usize,
    options: &'a CheckOptions<'a>,
    source: Mutex<Source<'a>>,
    /// Findings are told in the order of the disk, whoever came by them.
    told: Mutex<Told<'a>>,
    next: Condvar,
    failed: AtomicBool,
    /// Packed clusters unpacked, plain ones looked into, guest bytes read.
    counts: [AtomicU64; 3],
    total: u64,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nobody leaves these half changed.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Run<'_> {
    fn work(&self) {
        let mut worker = Worker {
            run: self,
            scratch: Scratch::default(),
            data: Vec::new(),
            unpacker: Unpacker::default(),
            cluster: Vec::new(),
            findings: Vec::new(),
        };
        loop {
            if self.options.stop.load(Ordering::Relaxed) || self.failed.load(Ordering::Relaxed) {
                return;
            }
            let pulled = locked(&self.source).pull();
            let done = match pulled {
                Ok(None) => return,
                Ok(Some((turn, batch))) => {
                    let done = worker.batch(&batch);
                    let length: u64 = batch.iter().map(|extent| extent.range.length).sum();
                    let read = self.counts[2].fetch_add(length, Ordering::Relaxed) + length;
                    (self.options.progress)(read.min(self.total), self.total);
                    self.tell(turn, &mut worker.findings);
                    done
                }
                Err(error) => Err(error),
            };
            if let Err(error) = done {
                self.failed.store(true, Ordering::Relaxed);
                locked(&self.told).failure.get_or_insert(error);
                self.next.notify_all();
                return;
            }
        }
    }

    fn tell(&self, turn: u64, findings: &mut Vec<Finding>) {
        findings.sort_by_key(|finding| finding.guest.map(|guest| guest.start));
        let mut told = locked(&self.told);
        while told.turn != turn {
            told = self.next.wait(told).unwrap_or_else(PoisonError::into_inner);
        }
        findings.drain(..).for_each(|finding| (told.report)(finding));
        told.turn += 1;
        self.next.notify_all();
    }
}

struct Worker<'a, 'b> {
    run: &'a Run<'b>,
    scratch: Scratch,
    data: Vec<u8>,
    unpacker: Unpacker,
    cluster: Vec<u8>,
    findings: Vec<Finding>,
}

impl Worker<'_, '_> {
    fn batch(&mut self, batch: &[Extent]) -> Result<()> {
        let (Some(first), Some(last)) = (batch.first(), batch.last()) else { return Ok(()) };
        let run = self.run;
        let image = &run.disk.layers()[run.layer].image;
        let has_key = image.cipher().is_some();
        let start = first.range.start;
        self.data.resize(in_memory(last.range.end() - start), 0);
        let is_read = |extent: &&Extent| has_key || !is_encrypted(extent);
        let readable: Vec<Extent> = batch.iter().filter(is_read).copied().collect();
        if let (Some(first), Some(last)) = (readable.first(), readable.last()) {
            let from = in_memory(first.range.start - start);
            let to = in_memory(last.range.end() - start);
            let Self { scratch, data, findings, .. } = self;
            let out = &mut data[from..to];
            run.disk.read(&readable, HostErrors::Lose, scratch, out, &mut |found| {
                if let Found::Lost(Extent { range, payload: Payload::Lost(lost) }) = found {
                    findings.push(Finding::new(lost.rule).at(lost.at).guest(range));
                }
            })?;
        }
        for extent in batch {
            let Payload::Stored(stored) = extent.payload else { continue };
            match stored.encoding {
                Encoding::Packed { .. } => {
                    run.counts[0].fetch_add(1, Ordering::Relaxed);
                }
                Encoding::Encrypted => self.ciphertext(extent, &stored),
                Encoding::Plain => self.plain(extent, &stored, start),
            }
        }
        Ok(())
    }

    /// Looks for sectors that hold zeros: ciphertext never does. Without a key it is also the
    /// one to read them.
    fn ciphertext(&mut self, extent: &Extent, stored: &Stored) {
        let image = &self.run.disk.layers()[self.run.layer].image;
        let has_key = image.cipher().is_some();
        let mut bytes = vec![0; in_memory(stored.length)];
        let is_whole = image.data_storage().read_at(&mut bytes, stored.at).is_ok();
        for (number, sector) in (0..).zip(bytes.chunks_mut(in_memory(SECTOR))) {
            let at = stored.at + number * SECTOR;
            let is_read = is_whole || image.data_storage().read_at(sector, at).is_ok();
            let rule = match is_read {
                false if has_key => continue,
                false => Rule::Unreadable,
                true if sector.iter().all(|byte| *byte == 0) => Rule::NeverWritten,
                true => continue,
            };
            let length = sector.len() as u64;
            let guest = GuestRange::new(extent.range.start + number * SECTOR, length);
            match self.findings.last_mut() {
                Some(Finding { rule: last, guest: Some(range), .. })
                    if *last == rule && range.end() == guest.start =>
                {
                    range.length += length;
                }
                _ => self.findings.push(Finding::new(rule).at(at).guest(guest)),
            }
        }
    }

    /// Looks for packed streams where plain bytes should be.
    fn plain(&mut self, extent: &Extent, stored: &Stored, start: GuestOffset) {
        let facts = self.run.disk.layers()[self.run.layer].image.facts();
        let Some(cluster) = facts.cluster_size.filter(|_| facts.format == Format::Qcow1) else {
            return;
        };
        let length = in_memory(cluster.bytes());
        self.cluster.resize(length, 0);
        let from = in_memory(extent.range.start - start);
        let bytes = &self.data[from..][..in_memory(extent.range.length)];
        for (number, content) in (0..).zip(bytes.chunks_exact(length)) {
            self.run.counts[1].fetch_add(1, Ordering::Relaxed);
            if content[0] == 0 && content.iter().all(|byte| *byte == 0) {
                continue;
            }
            if let Some(Filled::Exactly { length: packed }) =
                self.unpacker.fill(Codec::Deflate, content, &mut self.cluster)
                && packed < length
            {
                let skipped = number * cluster.bytes();
                let guest = GuestRange::new(extent.range.start + skipped, cluster.bytes());
                let finding = Finding::new(Rule::PackedUnmarked).at(stored.at + skipped);
                self.findings.push(finding.guest(guest).value(packed as u64));
            }
        }
    }
}

fn is_encrypted(extent: &Extent) -> bool {
    matches!(extent.payload, Payload::Stored(Stored { encoding: Encoding::Encrypted, .. }))
}
