//! What a run came to, in numbers and groups; its images are told one after the other.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use calve_fleet::Counted;
use calve_migrate::{Cause, FamilyRecord, FamilyState, RunRecord};
use calve_plan::Plan;

use crate::certificate::{Certificate, Reason};
use crate::error::Result;
use crate::known::Paths;
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

/// Families that failed for one cause.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Failed {
    /// The cause's word.
    pub cause: String,
    /// What to do next.
    pub next: Next,
    /// Each family: its number, its topmost image, and what went wrong.
    pub families: Vec<(u64, PathBuf, String)>,
}

/// Version 1 images that the plan leaves for one reason.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Left {
    /// How many, and their bytes.
    pub sum: Sum,
    /// Where they are.
    pub paths: Vec<PathBuf>,
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
    /// Version 1 images that the plan leaves, by reason.
    pub left: BTreeMap<String, Left>,
    /// What lies there so that the run can be taken back.
    pub originals: Originals,
    /// Whether it can be said that no version 1 image remains.
    pub certificate: Certificate,
    sources: &'a Sources,
    families: BTreeMap<u64, FamilyRecord>,
    paths: Paths,
}

impl<'a> Report<'a> {
    /// Looks at all paths and counts.
    ///
    /// # Errors
    /// What reading the catalogue and the journal says. A path that cannot be read is no error, but
    /// stands in the certificate.
    pub fn new(sources: &'a Sources, version: &'a str, made: i64) -> Result<Self> {
        let paths = Paths::of(sources)?;
        let certificate = Certificate::of(sources, &paths)?;
        let families = match (&sources.journal, &sources.run) {
            (Some(journal), Some(run)) => journal.families(run.number)?,
            _ => Vec::new(),
        };
        let mut report = Self {
            made,
            version,
            inventory: sources.catalogue.inventory()?,
            outcomes: BTreeMap::new(),
            formats: BTreeMap::new(),
            space: Space::default(),
            missing: 0,
            failed: Vec::new(),
            left: BTreeMap::new(),
            originals: Originals::default(),
            certificate,
            sources,
            families: families.into_iter().map(|family| (family.number, family)).collect(),
            paths,
        };
        report.count()?;
        Ok(report)
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
    /// That, and what the journal says.
    pub fn rows(&self, mut tell: impl FnMut(&Row<'_>) -> Result<()>) -> Result<()> {
        let Some(plan) = self.sources.plan.as_ref().map(|file| &file.plan) else {
            for number in self.families.keys() {
                self.family(None, *number, &mut tell)?;
            }
            return Ok(());
        };
        for place in 0..plan.families.len() {
            let number = plan.families[place].number;
            self.family(Some((plan, place)), number, &mut tell)?;
        }
        Ok(())
    }

    fn family(
        &self,
        planned: Option<(&Plan, usize)>,
        number: u64,
        tell: &mut impl FnMut(&Row<'_>) -> Result<()>,
    ) -> Result<()> {
        let family = self.families.get(&number);
        let records = match (family, &self.sources.journal, self.run()) {
            (Some(_), Some(journal), Some(run)) => journal.images(run.number, number)?,
            _ => Vec::new(),
        };
        let kept = self.run().map(|run| &run.kept);
        let row = |planned, record: Option<calve_migrate::ImageRecord>, path: &Path| Row {
            planned,
            record,
            family,
            now: self.paths.at(path),
            kept,
        };
        match planned.map(|(plan, place)| &plan.families[place]) {
            None => records.into_iter().try_for_each(|record| {
                let path = record.path.clone();
                tell(&row(None, Some(record), &path))
            }),
            Some(family) => family.images.iter().try_for_each(|image| {
                let record = records.iter().find(|record| record.place == image.order).cloned();
                tell(&row(Some(image), record, &image.path.0))
            }),
        }
    }

    fn count(&mut self) -> Result<()> {
        let mut counts = Counts::default();
        self.rows(|row| {
            counts.add(row, &self.paths);
            Ok(())
        })?;
        let commands = self.commands();
        self.failed = counts
            .failed
            .into_iter()
            .map(|(word, families)| {
                let cause = Cause::ALL.into_iter().find(|cause| cause.word() == word);
                let first = families.first().map(|(_, path, _)| &**path).unwrap_or(Path::new(""));
                Failed { next: commands.after(cause, first), cause: word, families }
            })
            .collect();
        self.outcomes = counts.outcomes;
        self.formats = counts.formats;
        self.space = counts.space;
        self.missing = counts.missing;
        self.left = left(self.sources);
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

    /// What to do about what speaks against the certificate.
    pub fn next(&self, reason: Reason) -> Next {
        let first = self.certificate.remaining.iter().find(|it| it.reason == reason);
        let path = first.map_or(Path::new(""), |first| &first.path);
        self.commands().about(reason, path, first.and_then(|first| first.run))
    }
}

/// Version 1 images that the plan leaves, by the reason without the names of the family's images:
/// what is the matter with many families is one reason.
fn left(sources: &Sources) -> BTreeMap<String, Left> {
    let mut all: BTreeMap<String, Left> = BTreeMap::new();
    let families = sources.plan.iter().flat_map(|file| &file.plan.families);
    for family in families.filter(|family| !family.is_migrated()) {
        let mut names: Vec<String> =
            family.images.iter().map(|image| text::name(&image.path.0)).collect();
        // A name that begins like another one comes after it.
        names.sort_by_key(|name| std::cmp::Reverse(name.len()));
        for image in family.images.iter().filter(|image| image.is_version1()) {
            let mut reason = image.reason.clone();
            for name in names.iter().filter(|name| !name.is_empty()) {
                reason = reason.replace(&**name, "an image");
            }
            let left = all.entry(reason).or_default();
            left.sum.add(image.stamp.size);
            left.paths.push(image.path.0.clone());
        }
    }
    all
}

/// What is counted row by row.
#[derive(Default)]
struct Counts {
    outcomes: BTreeMap<Outcome, Sum>,
    formats: BTreeMap<String, [Sum; 2]>,
    space: Space,
    missing: u64,
    failed: BTreeMap<String, Vec<(u64, PathBuf, String)>>,
    originals: Originals,
}

impl Counts {
    fn add(&mut self, row: &Row<'_>, paths: &Paths) {
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
            Outcome::Migrated => self.add_migrated(row, paths),
            Outcome::Failed => self.add_failed(row),
            _ => {}
        }
    }

    fn add_migrated(&mut self, row: &Row<'_>, paths: &Paths) {
        let now = row.now.map_or((0, 0), |now| (now.size, now.spent));
        self.space.before = self.space.before.saturating_add(row.size_before());
        self.space.now = self.space.now.saturating_add(now.0);
        self.space.spent = self.space.spent.saturating_add(now.1);
        self.missing = self.missing.saturating_add(row.missing());
        match row.way_back() {
            WayBack::Original(path) => {
                let size = paths.at(path).map_or(0, |looked| looked.size);
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
    }

    /// Counts a family once; its last image is the topmost.
    fn add_failed(&mut self, row: &Row<'_>) {
        let Some(family) = row.family.filter(|it| it.state == FamilyState::Failed) else { return };
        let cause = family.cause.clone().unwrap_or_else(|| "unknown".into());
        let families = self.failed.entry(cause).or_default();
        let path = row.path().to_owned();
        match families.last_mut().filter(|(number, _, _)| *number == family.number) {
            Some(last) => last.1 = path,
            None => {
                let problem = family.problem.clone().unwrap_or_default();
                families.push((family.number, path, problem));
            }
        }
    }
}
