//! What a run came to, in numbers and groups; its images are told one after the other.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use calve_fleet::Counted;
use calve_migrate::{Cause, FamilyRecord, FamilyState, ImageRecord, Journal, RunRecord};
use calve_plan::{Family, Image, Strategy};

use crate::certificate::{Certificate, Reason, Remaining};
use crate::error::Result;
use crate::gathered::{FailedFamily, Gathered};
use crate::known;
use crate::look::Found;
use crate::next::{Commands, Next};
use crate::row::{Outcome, Row, WayBack};
use crate::sources::Sources;
use crate::text;

/// How many there are, and their bytes.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Sum {
    /// How many.
    pub count: u64,
    /// Bytes of all of them.
    pub bytes: u64,
}

impl Sum {
    fn add(&mut self, bytes: u64) {
        self.count += 1;
        self.bytes = self.bytes.saturating_add(bytes);
    }
}

/// Families that failed for one cause: [`Report::failed_families`] tells of them.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Failed {
    /// The cause's word.
    pub cause: String,
    /// What to do next.
    pub next: Next,
    /// How many families.
    pub count: u64,
    /// The first of them, in the order of the plan.
    pub first: FailedFamily,
}

/// What lies there so that the run can be taken back.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Originals {
    /// Originals, and images that were put aside, with their lengths.
    pub files: Sum,
    /// Images that know the way back themselves, with the record beside them.
    pub undo: u64,
    /// Images of which the way back was given up.
    pub released: u64,
    /// The first and the last moment until which they are kept, in seconds since 1970, where days
    /// were said.
    pub until: Option<(i64, i64)>,
}

/// Bytes of what is migrated.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Space {
    /// Lengths of the files before.
    pub before: u64,
    /// Lengths of what is at their places now.
    pub now: u64,
    /// What the host spends on these.
    pub spent: u64,
}

/// What a run came to. Made once; [`Report::rows`] reads the images anew each time.
pub struct Report<'a> {
    /// When it was made, in seconds since 1970.
    pub made: i64,
    /// The version of this program.
    pub version: &'a str,
    /// What all catalogued files are, each class and format.
    pub inventory: Vec<Counted>,
    /// Images by what came of them.
    pub outcomes: BTreeMap<Outcome, Sum>,
    /// Images of the run by format: before, and now.
    pub formats: BTreeMap<String, [Sum; 2]>,
    /// Bytes before and now.
    pub space: Space,
    /// Bytes of rescued disks that are missing.
    pub missing: u64,
    /// Families that failed, by cause.
    pub failed: Vec<Failed>,
    /// Version 1 images that the plan leaves, by reason: [`Report::left_images`] tells of them.
    pub left: BTreeMap<String, Sum>,
    /// What lies there so that the run can be taken back.
    pub originals: Originals,
    /// Whether it can be said that no version 1 image remains.
    pub certificate: Certificate,
    sources: &'a Sources,
    gathered: Gathered,
}

impl<'a> Report<'a> {
    /// Looks at all paths and counts.
    ///
    /// # Errors
    /// What reading the catalogue and the journal says. A path that cannot be read is no error, but
    /// stands in the certificate.
    pub fn new(sources: &'a Sources, version: &'a str, made: i64) -> Result<Self> {
        let gathered = Gathered::new()?;
        let mut left = BTreeMap::new();
        let looked =
            known::gather(sources, &gathered, |family| add_left(family, &mut left, &gathered))?;
        let certificate = Certificate::of(sources, &gathered, looked)?;
        let mut report = Self {
            made,
            version,
            inventory: sources.catalogue.inventory()?,
            outcomes: BTreeMap::new(),
            formats: BTreeMap::new(),
            space: Space::default(),
            missing: 0,
            failed: Vec::new(),
            left,
            originals: Originals::default(),
            certificate,
            sources,
            gathered,
        };
        report.count()?;
        Ok(report)
    }

    pub(crate) fn sources(&self) -> &Sources {
        self.sources
    }

    /// The run, if there was one.
    pub fn run(&self) -> Option<&RunRecord> {
        self.sources.run.as_ref()
    }

    /// The plan's file, and why what it says is not known, where it is not.
    pub fn plan(&self) -> (Option<&Path>, Option<&str>) {
        let of_run = self.run().map(|run| &*run.plan);
        let path = self.sources.plan.as_ref().map(|file| &*file.path).or(of_run);
        (path, self.sources.plan_problem.as_deref())
    }

    /// The catalogue's file.
    pub fn catalogue(&self) -> &Path {
        self.sources.catalogue.path()
    }

    /// Tells of all images of the plan, or where that is not known, of all that the run has begun
    /// with: family by family, bases first. An error of `tell` ends it.
    ///
    /// # Errors
    /// That, and what the journal and the plan say.
    pub fn rows(&self, mut tell: impl FnMut(&Row<'_>) -> Result<()>) -> Result<()> {
        match (&self.sources.plan, self.journal()) {
            (Some(plan), _) => plan.families(|family| self.planned(family, &mut tell)).map(drop),
            (None, Some((journal, run))) => journal.each_family(run.number, |family| {
                for record in journal.images(run.number, family.number)? {
                    let path = record.path.clone();
                    self.row((None, Some(record)), Some(&family), &path, &mut tell)?;
                }
                Ok(())
            }),
            (None, None) => Ok(()),
        }
    }

    fn journal(&self) -> Option<(&Journal, &RunRecord)> {
        self.sources.journal.as_ref().zip(self.run())
    }

    /// Tells of the images of a family of the plan.
    fn planned(
        &self,
        planned: &Family,
        tell: &mut impl FnMut(&Row<'_>) -> Result<()>,
    ) -> Result<()> {
        let (family, mut records) = match self.journal() {
            Some((journal, run)) => match journal.family(run.number, planned.number)? {
                Some(family) => (Some(family), journal.images(run.number, planned.number)?),
                None => (None, Vec::new()),
            },
            None => (None, Vec::new()),
        };
        for image in &planned.images {
            let place = records.iter().position(|record| record.place == image.order);
            let record = place.map(|place| records.swap_remove(place));
            self.row((Some(image), record), family.as_ref(), &image.path.0, tell)?;
        }
        Ok(())
    }

    fn row(
        &self,
        (planned, record): (Option<&Image>, Option<ImageRecord>),
        family: Option<&FamilyRecord>,
        path: &Path,
        tell: &mut impl FnMut(&Row<'_>) -> Result<()>,
    ) -> Result<()> {
        let now = self.gathered.at(path)?;
        let kept = self.run().map(|run| &run.kept);
        tell(&Row { planned, record, family, now: now.as_ref(), kept })
    }

    /// Tells what speaks against the certificate for one reason, by path. An error of `tell` ends
    /// it.
    ///
    /// # Errors
    /// That, and what keeping it says.
    pub fn remaining(
        &self,
        reason: Reason,
        tell: impl FnMut(&Remaining) -> Result<()>,
    ) -> Result<()> {
        self.gathered.each_remaining(reason, tell)
    }

    /// Tells of the families that failed for one cause, in the order of the plan. An error of
    /// `tell` ends it.
    ///
    /// # Errors
    /// That, and what keeping it says.
    pub fn failed_families(
        &self,
        cause: &str,
        tell: impl FnMut(&FailedFamily) -> Result<()>,
    ) -> Result<()> {
        self.gathered.each_failed(cause, tell)
    }

    /// Tells of the images that the plan leaves for one reason, in its order. An error of `tell`
    /// ends it.
    ///
    /// # Errors
    /// That, and what keeping it says.
    pub fn left_images(&self, reason: &str, tell: impl FnMut(&Path) -> Result<()>) -> Result<()> {
        self.gathered.each_left(reason, tell)
    }

    fn count(&mut self) -> Result<()> {
        let mut counts = Counts::default();
        self.rows(|row| counts.add(row, &self.gathered))?;
        counts.put_failed(&self.gathered)?;
        let commands = self.commands();
        self.failed = counts
            .failed
            .into_iter()
            .map(|(word, failed)| {
                let cause = Cause::ALL.into_iter().find(|cause| cause.word() == word);
                let FailedCount { count, first, are_clones } = failed;
                let next = commands.after(cause, &first.path, are_clones);
                Failed { next, cause: word, count, first }
            })
            .collect();
        self.outcomes = counts.outcomes;
        self.formats = counts.formats;
        self.space = counts.space;
        self.missing = counts.missing;
        self.originals = counts.originals;
        Ok(())
    }

    fn commands(&self) -> Commands {
        let roots: BTreeSet<&Path> = self
            .certificate
            .rests_on
            .iter()
            .flat_map(|it| it.roots.iter().map(|it| &**it))
            .collect();
        Commands::of(self.sources, roots, self.run().map_or(0, |run| run.number))
    }

    /// What to do about what speaks against the certificate for one reason, and the first place.
    ///
    /// # Errors
    /// What keeping it says.
    pub fn next(&self, reason: Reason) -> Result<(Next, PathBuf)> {
        let (path, run) = self.gathered.first_remaining(reason)?.unwrap_or_default();
        Ok((self.commands().about(reason, &path, run), path))
    }
}

/// Counts version 1 images that the plan leaves, and takes them down, by the reason without the
/// names of the family's images: what is the matter with many families is one reason.
fn add_left(family: &Family, all: &mut BTreeMap<String, Sum>, gathered: &Gathered) -> Result<()> {
    if family.is_migrated() {
        return Ok(());
    }
    let mut names: Vec<String> =
        family.images.iter().map(|image| text::name(&image.path.0)).collect();
    // A name that begins like another one comes after it.
    names.sort_by_key(|name| std::cmp::Reverse(name.len()));
    for image in family.images.iter().filter(|image| image.is_version1()) {
        let mut reason = image.reason.clone();
        for name in names.iter().filter(|name| !name.is_empty()) {
            reason = reason.replace(&**name, "an image");
        }
        let sum = all.entry(reason.clone()).or_default();
        gathered.put_left(&reason, sum.count, &image.path.0)?;
        sum.add(image.stamp.size);
    }
    Ok(())
}

/// What is counted row by row.
#[derive(Default)]
struct Counts {
    outcomes: BTreeMap<Outcome, Sum>,
    formats: BTreeMap<String, [Sum; 2]>,
    space: Space,
    missing: u64,
    /// Families that failed, by cause.
    failed: BTreeMap<String, FailedCount>,
    /// The family that failed last, its cause, and whether a clone of it was wanted: its topmost
    /// image may be still to come.
    last: Option<(String, FailedFamily, bool)>,
    originals: Originals,
}

/// Families that failed for one cause.
struct FailedCount {
    count: u64,
    first: FailedFamily,
    /// Whether the plan wants clones of images of any of them.
    are_clones: bool,
}

impl Counts {
    fn add(&mut self, row: &Row<'_>, gathered: &Gathered) -> Result<()> {
        let outcome = row.outcome();
        self.outcomes.entry(outcome).or_default().add(row.size_before());
        let before = self.formats.entry(row.format_before().to_owned()).or_default();
        before[0].add(row.size_before());
        match row.now.filter(|now| !matches!(now.found, Found::Unreadable(_) | Found::Missing)) {
            Some(now) => {
                self.formats.entry(now.found.word().to_owned()).or_default()[1].add(now.size);
            }
            // Nobody has a reason to look at what the plan leaves and is not version 1.
            None if outcome == Outcome::Unchanged => {
                let same = self.formats.entry(row.format_before().to_owned()).or_default();
                same[1].add(row.size_before());
            }
            None => {
                let word = row.found().map_or("missing", Found::word);
                self.formats.entry(word.to_owned()).or_default()[1].add(0);
            }
        }
        match outcome {
            Outcome::Migrated => self.add_migrated(row, gathered),
            Outcome::Failed => self.add_failed(row, gathered),
            _ => Ok(()),
        }
    }

    fn add_migrated(&mut self, row: &Row<'_>, gathered: &Gathered) -> Result<()> {
        let now = row.now.map_or((0, 0), |now| (now.size, now.spent));
        self.space.before = self.space.before.saturating_add(row.size_before());
        self.space.now = self.space.now.saturating_add(now.0);
        self.space.spent = self.space.spent.saturating_add(now.1);
        self.missing = self.missing.saturating_add(row.missing());
        match row.way_back() {
            WayBack::Original(path) => {
                let size = gathered.at(path)?.map_or(0, |looked| looked.size);
                self.originals.files.add(size);
            }
            WayBack::Undo => self.originals.undo += 1,
            WayBack::Released => self.originals.released += 1,
            WayBack::None => {}
        }
        if let Some(until) = row.kept_until() {
            let (first, last) = self.originals.until.unwrap_or((until, until));
            self.originals.until = Some((first.min(until), last.max(until)));
        }
        Ok(())
    }

    /// Counts a family once; its last image is the topmost.
    fn add_failed(&mut self, row: &Row<'_>, gathered: &Gathered) -> Result<()> {
        let Some(family) = row.family.filter(|it| it.state == FamilyState::Failed) else {
            return Ok(());
        };
        let path = row.path().to_owned();
        let is_clone = row.strategy() == Strategy::Reflink;
        if let Some((_, last, wants_clone)) = &mut self.last
            && last.number == family.number
        {
            last.path = path;
            *wants_clone |= is_clone;
            return Ok(());
        }
        self.put_failed(gathered)?;
        let cause = family.cause.clone().unwrap_or_else(|| "unknown".into());
        let problem = family.problem.clone().unwrap_or_default();
        let family = FailedFamily { number: family.number, path, problem };
        self.last = Some((cause, family, is_clone));
        Ok(())
    }

    /// Takes down the family that failed last.
    fn put_failed(&mut self, gathered: &Gathered) -> Result<()> {
        let Some((cause, family, is_clone)) = self.last.take() else { return Ok(()) };
        let place = self.failed.get(&cause).map_or(0, |failed| failed.count);
        gathered.put_failed(&cause, place, &family)?;
        let of_cause = FailedCount { count: 0, first: family, are_clones: false };
        let failed = self.failed.entry(cause).or_insert(of_cause);
        failed.count += 1;
        failed.are_clones |= is_clone;
        Ok(())
    }
}
