//! Rescuing a version 1 image from a medium with bad sectors: every byte labelled once, right where
//! it is there, missing where it cannot be had, and the same when a run that stopped is gone on
//! with. What is rebuilt of any bytes is in `rebuilt.rs`.

mod rebuilt;

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use calve_disk::formats::qcow1::Qcow1Image;
use calve_disk::units::{ClusterSize, GuestOffset};
use calve_disk::{Disk, Error as DiskError, HostErrors, OpenOptions};
use calve_rescue::{
    Control, Error, Label, Labelled, MapFile, Marked, Options, Status, Summary, TargetFormat,
    Totals, rescue,
};
use calve_testkit::{Memory, Random, read_around};

use crate::disks::{self, Content};
use crate::folder;
use crate::input::{Input, READ_UP_TO};

pub(super) fn run(data: &[u8]) {
    let Some(input) = Input::of(data) else { return };
    rebuilt::run(&input);
    let Ok(disk) = disks::version_1(&input) else { return };
    if disk.virtual_size() > READ_UP_TO {
        return;
    }
    let bad = bad_sectors(input.image.len() as u64, &mut input.random(30));
    let map = map_of(&bad, input.image.len() as u64);
    let open = || {
        let storage = Box::new(Marked::new(Box::new(Memory::new(input.image.to_vec())), &map));
        let image = Qcow1Image::open_with(storage, input.key().as_ref(), HostErrors::Lose)?;
        Ok(disks::over_base(Box::new(image), input.base()))
    };
    let random = &mut input.random(31);
    let at_once = Run::new(random);
    let (done, labels) = at_once.go(&open, u64::MAX);
    let summary = match done {
        Ok(summary) => summary,
        Err(error) => return assert_refused(&error, &disk, &bad),
    };
    assert!(!summary.is_resumed, "gone on with, and never begun");
    let each = label_of_each_byte(&labels);
    let found = at_once.content(disk.virtual_size());
    compare(&found, &each, &Expected::of(&input, &disk, &bad));
    assert_eq!(summary.totals, totals_of(&labels));
    assert_mapped(&at_once.map(), &each);
    go_on(&open, &at_once, (&each, &found));
    stop_and_go_on(&open, &at_once.alike(), random, (&each, &found));
}

/// Sectors of a file that cannot be read: none in one file of four, else a few runs of a few.
fn bad_sectors(length: u64, random: &mut Random) -> Vec<Range<u64>> {
    let sectors = length.div_ceil(512);
    let mut first = if random.once_in(30) { 0 } else { 1 };
    let mut bad = Vec::new();
    for _ in 0..random.below(4) {
        if first >= sectors {
            break;
        }
        // Tables are near the front.
        let bits = 1 + random.below(u64::from(u64::BITS - (sectors - first).leading_zeros()));
        let start = first + random.below((sectors - first).min(1 << bits));
        let end = sectors.min(start + 1 + random.below(4) * random.below(4));
        bad.push(start * 512..end * 512);
        first = end + 1;
    }
    bad
}

/// The map of a copy that lacks these bytes, by way of its text.
fn map_of(bad: &[Range<u64>], length: u64) -> MapFile {
    let mut map = MapFile::default();
    let mut reached = 0;
    for range in bad {
        map.push(reached..range.start, Status::Finished);
        map.push(range.clone(), Status::Bad);
        reached = range.end;
    }
    map.push(reached..length.max(reached), Status::Finished);
    let read = MapFile::parse(&map.text()).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(read.regions, map.regions, "read as another map");
    map
}

/// Asserts that there is a reason for no rescue at all.
fn assert_refused(error: &Error, disk: &Disk, bad: &[Range<u64>]) {
    disks::assert_one_line(&error.to_string());
    let is_explained = match error {
        Error::Disk(DiskError::Key { .. }) => disk.require_keys().is_err(),
        Error::Disk(DiskError::Io { .. }) => bad.first().is_some_and(|first| first.start == 0),
        _ => false,
    };
    assert!(is_explained, "not rescued: {error}");
}

/// A folder with a target and its map.
struct Run {
    folder: tempfile::TempDir,
    format: TargetFormat,
    retries: u32,
}

impl Run {
    fn new(random: &mut Random) -> Self {
        let format = match random.below(3) {
            0 => TargetFormat::Qcow2(ClusterSize::SECTOR),
            1 => TargetFormat::Qcow2(ClusterSize::from_bits(12).expect("in range")),
            _ => TargetFormat::Raw,
        };
        let retries = if random.once_in(3) { 2 } else { 0 };
        Self { folder: folder::new(), format, retries }
    }

    /// The same, in another folder.
    fn alike(&self) -> Self {
        Self { folder: folder::new(), ..*self }
    }

    fn path(&self, name: &str) -> PathBuf {
        Path::join(self.folder.path(), name)
    }

    /// Rescues to the end, or until so many steps were made.
    fn go(
        &self,
        open: &dyn Fn() -> calve_disk::Result<Disk>,
        most_steps: u64,
    ) -> (calve_rescue::Result<Summary>, Vec<Labelled>) {
        let options = Options {
            target: self.path("new"),
            map: self.path("map"),
            format: self.format,
            retries: self.retries,
            suspect: Vec::new(),
        };
        let (stop, steps) = (AtomicBool::new(false), AtomicU64::new(0));
        let progress = |_| {
            if steps.fetch_add(1, Ordering::Relaxed) + 1 >= most_steps {
                stop.store(true, Ordering::Relaxed);
            }
        };
        let mut labels = Vec::new();
        let label = &mut |labelled| labels.push(labelled);
        let done = rescue(open, &options, &mut Control { stop: &stop, progress: &progress, label });
        (done, labels)
    }

    /// The guest bytes of the target.
    fn content(&self, size: u64) -> Vec<u8> {
        let disk = Disk::open(&self.path("new"), &OpenOptions::default());
        let disk = disk.unwrap_or_else(|error| panic!("the target does not open: {error}"));
        let mut bytes = vec![0; disks::small(size)];
        let read = disk.read_at(&mut bytes, GuestOffset::new(0));
        read.unwrap_or_else(|error| panic!("the target: {error}"));
        bytes
    }

    fn map(&self) -> MapFile {
        let text = std::fs::read_to_string(self.path("map")).expect("a map");
        MapFile::parse(&text).unwrap_or_else(|error| panic!("{error}"))
    }
}

fn label_of_each_byte(labels: &[Labelled]) -> Vec<Label> {
    let mut each = Vec::new();
    for labelled in labels {
        assert_eq!(labelled.range.start.get(), each.len() as u64, "a gap or an overlap");
        assert!(!labelled.range.is_empty(), "a label of nothing");
        each.resize(each.len() + disks::small(labelled.range.length), labelled.label);
    }
    each
}

fn totals_of(labels: &[Labelled]) -> Totals {
    let of = |label| {
        let alike = labels.iter().filter(|labelled| labelled.label == label);
        alike.map(|labelled| labelled.range.length).sum()
    };
    Totals {
        good: of(Label::Good),
        zero: of(Label::Zero),
        base: of(Label::Base),
        missing: of(Label::Missing),
        suspect: of(Label::Suspect),
    }
}

/// What the slow reader finds.
struct Expected {
    /// What the bad sectors leave.
    content: Content,
    /// The same over a base that is all lost: what is lost here and not there is the base's.
    stored: Content,
    /// How many bytes the base has.
    base: u64,
}

impl Expected {
    fn of(input: &Input<'_>, disk: &Disk, bad: &[Range<u64>]) -> Self {
        let facts = disk.top().facts();
        let passphrase = facts.is_encrypted.then(|| input.passphrase().unwrap_or_default());
        let read = |base: &Content| read_around(input.image, passphrase.as_deref(), base, bad);
        let lost = vec![None; disks::small(facts.virtual_size)];
        let names_base = facts.backing.is_some() || calve_disk::open::has_lost_name(facts);
        let base: Content = match input.base() {
            Some(base) => base.into_iter().map(Some).collect(),
            None if names_base => lost.clone(),
            None => Vec::new(),
        };
        Self { content: read(&base), stored: read(&lost), base: base.len() as u64 }
    }

    /// The label of a byte, as far as nothing is suspect.
    fn label(&self, at: usize) -> Label {
        match (self.content[at], self.stored[at]) {
            (None, _) => Label::Missing,
            (Some(_), Some(_)) => Label::Good,
            (Some(_), None) if (at as u64) < self.base => Label::Base,
            (Some(_), None) => Label::Zero,
        }
    }
}

fn compare(found: &[u8], labels: &[Label], expected: &Expected) {
    assert_eq!((found.len(), labels.len()), (expected.content.len(), expected.content.len()));
    for (at, (byte, label)) in found.iter().zip(labels).enumerate() {
        let right = expected.label(at);
        let is_right = *label == right || (*label == Label::Suspect && right != Label::Missing);
        assert!(is_right, "byte {at:#x} is labelled {label:?} and is {right:?}");
        let content = expected.content[at].unwrap_or(0);
        assert_eq!(*byte, content, "byte {at:#x}, which is {label:?}");
    }
}

/// Asserts that a map says what the labels say.
fn assert_mapped(map: &MapFile, labels: &[Label]) {
    let mut reached = 0;
    for region in &map.regions {
        assert_eq!(region.range.start, reached, "a gap or an overlap in the map");
        reached = region.range.end;
        let range = disks::small(region.range.start)..disks::small(region.range.end);
        for label in &labels[range] {
            let status = match label {
                Label::Good | Label::Zero | Label::Base => Status::Finished,
                Label::Suspect => Status::Suspect,
                Label::Missing => Status::Bad,
            };
            assert_eq!(region.status, status, "what is {label:?}, in the map");
        }
    }
    assert_eq!(reached, labels.len() as u64, "the end of the map");
}

/// Another run of what is finished changes nothing.
fn go_on(open: &dyn Fn() -> calve_disk::Result<Disk>, run: &Run, before: (&[Label], &[u8])) {
    let (done, labels) = run.go(open, u64::MAX);
    let summary = done.unwrap_or_else(|error| panic!("once more: {error}"));
    assert!(summary.is_resumed, "begun anew");
    assert_alike(run, &labels, before);
}

/// A run that is stopped after a few steps, again and again, ends as one that is not.
fn stop_and_go_on(
    open: &dyn Fn() -> calve_disk::Result<Disk>,
    run: &Run,
    random: &mut Random,
    at_once: (&[Label], &[u8]),
) {
    let mut steps = 1 + random.below(3);
    loop {
        match run.go(open, steps) {
            (Ok(_), labels) => return assert_alike(run, &labels, at_once),
            (Err(Error::Stopped), _) => {}
            (Err(error), _) => panic!("going on: {error}"),
        }
        assert!(!run.path("new").exists(), "named before it was whole");
        steps += 1;
    }
}

fn assert_alike(run: &Run, labels: &[Labelled], (each, content): (&[Label], &[u8])) {
    let now = label_of_each_byte(labels);
    let differs = now.iter().zip(each).position(|(now, before)| now != before);
    if let Some(at) = differs {
        panic!("byte {at:#x} is {:?} now and was {:?}", now[at], each[at]);
    }
    assert_eq!(now.len(), each.len());
    assert!(run.content(each.len() as u64) == content, "another content");
    assert_mapped(&run.map(), each);
}
