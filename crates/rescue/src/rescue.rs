//! The rescue from end to end: lay out, sweep, scrape, try again, label.

use std::ffi::OsString;
use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use calve_disk::units::{GuestOffset, GuestRange, in_memory};
use calve_disk::{
    CheckOptions, Disk, Error as DiskError, Extent, Found, HostErrors, Lost, Payload, Rule,
    Scratch, Weight, folder_of, give_name,
};

use crate::error::{Error, Result};
use crate::labels::{self, Label, Labelled, Suspects, Totals};
use crate::map::{MapFile, Status};
use crate::missing::{Cause, Missing};
use crate::target::{TargetFormat, Work, working_name};

/// How a disk is to be rescued.
pub struct Options {
    /// The file to make. It bears this name when all of the disk was tried.
    pub target: PathBuf,
    /// The map of the rescue: made with the target, and read when a rescue goes on.
    pub map: PathBuf,
    /// The target's format.
    pub format: TargetFormat,
    /// How often sectors that could not be read are tried again, in alternating directions.
    pub retries: u32,
    /// Guest ranges that the caller knows to be suspect.
    pub suspect: Vec<GuestRange>,
}

/// Whom to tell of what, and when to stop.
pub struct Control<'a> {
    /// Becomes true when the run is to stop.
    pub stop: &'a AtomicBool,
    /// Told how far the run is, often.
    pub progress: &'a dyn Fn(Progress),
    /// Told at the end of every byte of the disk, in order.
    pub label: &'a mut dyn FnMut(Labelled),
}

/// How far a rescue is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Progress {
    /// What is being done.
    pub phase: Phase,
    /// Guest bytes done.
    pub done: u64,
    /// Guest bytes to do.
    pub total: u64,
}

/// What takes time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Phase {
    /// Reading all that can be read quickly.
    Sweeping,
    /// Reading sector by sector what failed.
    Scraping,
    /// Trying lost sectors again.
    Retrying,
}

/// What a rescue did.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Summary {
    /// The disk's size in bytes.
    pub virtual_size: u64,
    /// What its bytes are.
    pub totals: Totals,
    /// Whether an earlier run was gone on with.
    pub is_resumed: bool,
}

/// Guest bytes of one batch.
const BATCH: u64 = 1 << 20;

/// Extents of one batch.
const BATCH_EXTENTS: usize = 4096;

/// How often the map is saved.
const SAVED_EVERY: Duration = Duration::from_secs(5);

/// Rescues the disk that `open` opens, which is opened anew for each try so that nothing of an
/// earlier one is remembered.
///
/// # Errors
/// [`Error::Stopped`] where `control` says so: another run with the same map goes on then. What
/// the source lacks is no error but a label.
pub fn rescue(
    open: &dyn Fn() -> calve_disk::Result<Disk>,
    options: &Options,
    control: &mut Control,
) -> Result<Summary> {
    let mut disk = open()?;
    disk.require_keys()?;
    let mut run = Run::begin(&disk, options)?;
    let swept = run.sweep(&disk, control).and_then(|()| run.scrape(&disk, control));
    run.save_after(swept)?;
    for number in 0..options.retries {
        if !run.missing.ranges().any(|(_, cause)| cause.may_pass()) {
            break;
        }
        disk = open()?;
        let tried = run.retry(&disk, number.is_multiple_of(2), control);
        run.save_after(tried)?;
    }
    let suspects = suspects(&disk, options, control)?;
    let totals = run.finish(&disk, &suspects, control)?;
    Ok(Summary { virtual_size: disk.virtual_size(), totals, is_resumed: run.is_resumed })
}

/// Guest ranges that the tables make suspect.
fn suspects(disk: &Disk, options: &Options, control: &Control) -> Result<Suspects> {
    let mut suspects = Suspects::default();
    options.suspect.iter().for_each(|range| suspects.add(*range));
    let check = CheckOptions {
        is_deep: false,
        threads: std::num::NonZeroUsize::MIN,
        stop: control.stop,
        progress: &|_, _| {},
    };
    for layer in 0..disk.layers().len() {
        disk.check(layer, &check, &mut |finding| {
            let is_suspect = finding.rule.weight() == Weight::Suspect;
            if let Some(range) = finding.guest.filter(|_| is_suspect) {
                suspects.add(range);
                if let Some(other) = finding.other {
                    suspects.add(GuestRange::new(other, range.length));
                }
            }
        })?;
    }
    suspects.tidy();
    Ok(suspects)
}

struct Run<'a> {
    options: &'a Options,
    work: Work,
    working: PathBuf,
    /// Whether the file bears its final name already.
    is_named: bool,
    is_resumed: bool,
    size: u64,
    /// Up to where everything was tried at least once.
    frontier: GuestOffset,
    missing: Missing,
    scratch: Scratch,
    data: Vec<u8>,
    saved: Instant,
}

impl<'a> Run<'a> {
    fn begin(disk: &Disk, options: &'a Options) -> Result<Self> {
        let size = disk.virtual_size();
        let working = working_name(&options.target);
        let (is_named, is_begun) = (is_there(&options.target), is_there(&working));
        let refuse = |path: &Path, why: &str| {
            Err(Error::Target { path: path.to_owned(), why: why.to_owned() })
        };
        let earlier = read_map(&options.map, size)?;
        if is_named && is_begun {
            return refuse(&working, "is there beside a finished target; one of them has to go");
        }
        let (frontier, missing) = match &earlier {
            Some(map) => state_of(map),
            None if is_named => return refuse(&options.target, "exists already, and has no map"),
            None if is_begun => return refuse(&working, "exists already, and has no map"),
            None => (GuestOffset::default(), Missing::default()),
        };
        let is_untouched = frontier == GuestOffset::default();
        let work = if is_named || (is_begun && !is_untouched) {
            let path = if is_named { &options.target } else { &working };
            Work::open(path, options.format, disk)?
        } else if earlier.is_some() && !is_untouched {
            return refuse(&options.map, "is the map of a rescue, and its target is gone");
        } else {
            let mut map = MapFile::default();
            map.push(0..size, Status::Untried);
            write_map(&options.map, &map, earlier.is_none())?;
            let work = Work::create(&working, options.format, disk, earlier.is_some())?;
            work.sync()?;
            work
        };
        Ok(Self {
            options,
            work,
            working,
            is_named,
            is_resumed: earlier.is_some(),
            size,
            frontier,
            missing,
            scratch: Scratch::default(),
            data: Vec::new(),
            saved: Instant::now(),
        })
    }

    /// Reads everything that was never tried, in long reads; what fails is left for later.
    fn sweep(&mut self, disk: &Disk, control: &Control) -> Result<()> {
        let rest = GuestRange::between(self.frontier, GuestOffset::new(self.size));
        let mut batch: Vec<Extent> = Vec::new();
        let mut extents = disk.extents(rest).peekable();
        while let Some(extent) = extents.next() {
            let extent = extent?;
            let mut left = extent;
            while !left.range.is_empty() {
                let length = left.range.length.min(BATCH);
                let is_read = matches!(left.payload, Payload::Stored(_));
                let length = if is_read { length } else { left.range.length };
                let now = left.clipped(GuestRange::new(left.range.start, length));
                left = left.clipped(GuestRange::between(now.range.end(), left.range.end()));
                batch.push(now);
                let span = now.range.end() - batch[0].range.start;
                let is_last = left.range.is_empty() && extents.peek().is_none();
                if span >= BATCH || batch.len() >= BATCH_EXTENTS || is_last {
                    self.take(disk, &batch, HostErrors::LoseAtOnce)?;
                    self.frontier = now.range.end();
                    batch.clear();
                    self.pause(Phase::Sweeping, self.frontier.get(), self.size, control)?;
                }
            }
        }
        self.frontier = GuestOffset::new(self.size);
        Ok(())
    }

    /// Reads sector by sector what failed as a whole.
    fn scrape(&mut self, disk: &Disk, control: &Control) -> Result<()> {
        let failed =
            |(range, cause): (GuestRange, Cause)| (cause == Cause::Failed).then_some(range);
        let ranges: Vec<GuestRange> = self.missing.ranges().filter_map(failed).collect();
        self.read_ranges(disk, ranges, Phase::Scraping, control)
    }

    /// Tries lost sectors again, from the end of the disk or from its start.
    fn retry(&mut self, disk: &Disk, is_backward: bool, control: &Control) -> Result<()> {
        let may_pass = |(range, cause): (GuestRange, Cause)| cause.may_pass().then_some(range);
        let mut ranges: Vec<GuestRange> = self.missing.ranges().filter_map(may_pass).collect();
        if is_backward {
            ranges.reverse();
        }
        self.read_ranges(disk, ranges, Phase::Retrying, control)
    }

    fn read_ranges(
        &mut self,
        disk: &Disk,
        ranges: Vec<GuestRange>,
        phase: Phase,
        control: &Control,
    ) -> Result<()> {
        let total = ranges.iter().map(|range| range.length).sum();
        let mut done = 0;
        for range in ranges {
            let mut start = range.start;
            while start < range.end() {
                let part = GuestRange::new(start, BATCH.min(range.end() - start));
                let extents = disk.extents(part).collect::<calve_disk::Result<Vec<_>>>()?;
                self.take(disk, &extents, HostErrors::Lose)?;
                start = part.end();
                done += part.length;
                self.pause(phase, done, total, control)?;
            }
        }
        Ok(())
    }

    /// Reads extents that follow one another, writes what is there and notes what is not.
    fn take(&mut self, disk: &Disk, extents: &[Extent], host_errors: HostErrors) -> Result<()> {
        let is_stored = |extent: &&Extent| matches!(extent.payload, Payload::Stored(_));
        let stored: Vec<Extent> = extents.iter().filter(is_stored).copied().collect();
        let mut lost_now: Vec<(GuestRange, Lost)> = Vec::new();
        if let (Some(first), Some(last)) = (stored.first(), stored.last()) {
            let start = first.range.start;
            let length = in_memory(last.range.end() - start);
            self.data.clear();
            self.data.resize(length, 0);
            let Self { scratch, data, .. } = self;
            disk.read(&stored, host_errors, scratch, data, &mut |found| {
                if let Found::Lost(Extent { range, payload: Payload::Lost(lost) }) = found {
                    lost_now.push((range, lost));
                }
            })?;
            for extent in &stored {
                let from = in_memory(extent.range.start - start);
                let bytes = &self.data[from..][..in_memory(extent.range.length)];
                self.work.fill(extent.range.start, bytes)?;
            }
        }
        for extent in extents {
            match extent.payload {
                // Whether it is read sooner or later, nothing stands in its place.
                Payload::Lost(lost) if lost.rule == Rule::Unreadable => {
                    self.missing.insert(extent.range, Cause::Lost(lost));
                }
                _ => self.missing.remove(extent.range),
            }
        }
        for (range, lost) in lost_now {
            self.missing.insert(range, Cause::of(lost, host_errors));
        }
        Ok(())
    }

    /// Tells how far it is, saves the map from time to time, and ends the run where that is asked
    /// for.
    fn pause(&mut self, phase: Phase, done: u64, total: u64, control: &Control) -> Result<()> {
        (control.progress)(Progress { phase, done, total });
        if control.stop.load(Ordering::Relaxed) {
            return Err(Error::Stopped);
        }
        if self.saved.elapsed() >= SAVED_EVERY {
            self.save()?;
        }
        Ok(())
    }

    /// Saves what is known, whatever ended the passes.
    fn save_after(&mut self, done: Result<()>) -> Result<()> {
        let saved = self.save();
        done.and(saved)
    }

    /// The map says nothing that is not on the medium.
    fn save(&mut self) -> Result<()> {
        self.work.sync()?;
        let mut map = MapFile { comments: self.comments(), regions: Vec::new() };
        let mut reached = 0;
        for (range, cause) in self.missing.ranges() {
            let status = if cause == Cause::Failed { Status::Failed } else { Status::Bad };
            map.push(reached..range.start.get(), Status::Finished);
            map.push(range.start.get()..range.end().get(), status);
            reached = range.end().get();
        }
        map.push(reached..self.frontier.get(), Status::Finished);
        map.push(self.frontier.get().max(reached)..self.size, Status::Untried);
        write_map(&self.options.map, &map, false)?;
        self.saved = Instant::now();
        Ok(())
    }

    fn comments(&self) -> Vec<String> {
        let version = env!("CARGO_PKG_VERSION");
        vec![
            format!("Mapfile. Created by calve version {version}: guest bytes of a rescued disk"),
            "+ good, zero or base   / suspect   - missing   * failed, to be scraped".to_owned(),
        ]
    }

    /// Labels every byte, writes the last map, and gives the target its name.
    fn finish(
        &mut self,
        disk: &Disk,
        suspects: &Suspects,
        control: &mut Control,
    ) -> Result<Totals> {
        let mut map = MapFile { comments: self.comments(), regions: Vec::new() };
        let totals = labels::walk(disk, &self.missing, suspects, &mut |labelled| {
            let status = match labelled.label {
                Label::Good | Label::Zero | Label::Base => Status::Finished,
                Label::Suspect => Status::Suspect,
                Label::Missing => Status::Bad,
            };
            map.push(labelled.range.start.get()..labelled.range.end().get(), status);
            (control.label)(labelled);
        })?;
        if control.stop.load(Ordering::Relaxed) {
            return Err(Error::Stopped);
        }
        self.work.sync()?;
        write_map(&self.options.map, &map, false)?;
        if !self.is_named {
            give_name(&self.working, &self.options.target)?;
        }
        Ok(totals)
    }
}

fn is_there(path: &Path) -> bool {
    path.symlink_metadata().is_ok()
}

/// Bytes of a map file that are read: as many regions as a map may have.
const LONGEST_MAP: u64 = 256 << 20;

/// The map of an earlier run, if there is one.
fn read_map(path: &Path, size: u64) -> Result<Option<MapFile>> {
    let wrong = |why: String| Error::Map { path: path.to_owned(), why };
    match std::fs::metadata(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(DiskError::host("looking at the map", path, error).into()),
        Ok(metadata) if !metadata.is_file() => {
            return Err(wrong("is no regular file".into()));
        }
        Ok(metadata) if metadata.len() > LONGEST_MAP => {
            return Err(wrong("is longer than any map of a rescue".into()));
        }
        Ok(_) => {}
    }
    let text = std::fs::read_to_string(path)
        .map_err(|source| DiskError::host("reading the map", path, source))?;
    let map = MapFile::parse(&text).map_err(|error| wrong(error.to_string()))?;
    let (first, last) = (map.regions.first(), map.regions.last());
    let is_whole = match (first, last) {
        (Some(first), Some(last)) => first.range.start == 0 && last.range.end == size,
        _ => size == 0,
    };
    match is_whole {
        true => Ok(Some(map)),
        false => Err(wrong(format!("is not the map of a disk of {size} bytes"))),
    }
}

/// How far an earlier run was, and what it missed.
fn state_of(map: &MapFile) -> (GuestOffset, Missing) {
    let end = map.regions.last().map_or(0, |last| last.range.end);
    let untried = map.regions.iter().find(|region| region.status == Status::Untried);
    let frontier = untried.map_or(end, |region| region.range.start);
    let mut missing = Missing::default();
    for region in map.regions.iter().filter(|region| region.range.end <= frontier) {
        let range = GuestRange::at(region.range.start, region.range.end - region.range.start);
        match region.status {
            Status::Failed => missing.insert(range, Cause::Failed),
            Status::Bad => missing.insert(range, Cause::Earlier),
            Status::Untried | Status::Suspect | Status::Finished => {}
        }
    }
    (GuestOffset::new(frontier), missing)
}

/// Writes a map so that there is always a whole one.
fn write_map(path: &Path, map: &MapFile, is_new: bool) -> Result<()> {
    let failed = |source| DiskError::host("writing the map", path, source);
    if is_new && is_there(path) {
        return Err(Error::Target { path: path.to_owned(), why: "exists already".into() });
    }
    let mut name = path.file_name().map(OsString::from).unwrap_or_default();
    name.push(".new");
    let new = path.with_file_name(name);
    let mut file = File::create(&new).map_err(failed)?;
    file.write_all(map.text().as_bytes()).and_then(|()| file.sync_all()).map_err(failed)?;
    std::fs::rename(&new, path).map_err(failed)?;
    File::open(folder_of(path)).and_then(|folder| folder.sync_all()).map_err(failed)?;
    Ok(())
}
