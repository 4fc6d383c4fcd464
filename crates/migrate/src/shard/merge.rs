//! The reports of all shards as one: whether they belong together, and whether any is missing.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use calve_disk::open::shown;
use calve_plan::{MOST_SHARDS, Plan, shards};

use super::report::{Head, Line, Outcome, Status, Total, VERSION};
use crate::error::{Cause, Error, Result};

/// The longest line that is read.
const MAX_LINE: u64 = 1 << 20;

/// All reports as one.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Merged {
    /// BLAKE3 of the plan's file.
    pub plan_digest: String,
    /// How many shards there are.
    pub shards: u64,
    /// Shards without a report, by number.
    pub missing: Vec<u64>,
    /// Shards that are not finished, with what their worker said last; nothing where it began, and was
    /// not heard of since.
    pub unfinished: Vec<(u64, Option<String>)>,
    /// Families that failed.
    pub failed: Vec<Failed>,
    /// Families that are half way, with what keeps them there where that is known.
    pub open: Vec<Failed>,
    /// Families that stay half way until what keeps them there is removed.
    pub stuck: Vec<Failed>,
    /// All of it in numbers.
    pub total: Total,
}

impl Merged {
    /// Whether each family is migrated, failed, or stays half way.
    pub fn is_whole(&self) -> bool {
        self.missing.is_empty() && self.unfinished.is_empty()
    }

    /// Whether a result did not read as its source.
    pub fn has_mismatch(&self) -> bool {
        let mut all = self.failed.iter().chain(&self.open).chain(&self.stuck);
        all.any(|failed| failed.cause == Cause::Mismatch.word())
    }
}

/// A family that failed, or is half way.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Failed {
    /// In which shard.
    pub shard: u64,
    /// Its number in the plan.
    pub family: u64,
    /// What the failure is about.
    pub cause: String,
    /// One line.
    pub problem: String,
}

/// The reports in a folder, in order.
///
/// # Errors
/// [`Error::Refused`] where there is none; [`Error::Disk`].
pub fn reports_in(folder: &Path) -> Result<Vec<PathBuf>> {
    let failed = |error| Error::host("reading the folder", folder, error);
    let mut reports = BTreeSet::new();
    for entry in std::fs::read_dir(folder).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        let name = path.file_name().and_then(|name| name.to_str());
        if name.is_some_and(|name| name.starts_with("shard-") && name.ends_with(".report")) {
            reports.insert(path);
        }
    }
    match reports.is_empty() {
        true => Err(Error::refused(folder, "holds no report of a shard")),
        false => Ok(reports.into_iter().collect()),
    }
}

/// Makes one of the reports at `paths`. With the plan and the digest of its file each shard has to
/// have exactly the families that the plan gives it.
///
/// # Errors
/// [`Error::Refused`] where they are not of one plan and one number of shards, where a shard is
/// there twice, a family in two of them, or in another than it should be, and where a file is no
/// report or was cut; [`Error::Disk`].
pub fn merge(paths: &[PathBuf], plan: Option<(&Plan, &str)>) -> Result<Merged> {
    let mut first: Option<Head> = None;
    let mut seen: BTreeMap<u64, &Path> = BTreeMap::new();
    let mut owners: HashMap<u64, u64> = HashMap::new();
    let mut expected = None;
    let mut merged = Merged {
        plan_digest: String::new(),
        shards: 0,
        missing: Vec::new(),
        unfinished: Vec::new(),
        failed: Vec::new(),
        open: Vec::new(),
        stuck: Vec::new(),
        total: Total::default(),
    };
    for path in paths {
        let report = read(path)?;
        let head = &report.head;
        let expected = match &first {
            Some(first) => {
                belongs(path, head, first)?;
                &expected
            }
            None => {
                expected = plan.map(|plan| families(path, head, plan)).transpose()?;
                first = Some(head.clone());
                &expected
            }
        };
        if let Some(other) = seen.insert(head.shard, path) {
            let why = format!("is of shard {}, and so is {}", head.shard, shown(other));
            return Err(Error::refused(path, why));
        }
        if head.status != Status::Begun {
            if let Some(expected) = expected {
                let of = |shard| expected.get(usize::try_from(shard).unwrap_or(usize::MAX));
                if of(head.shard) != Some(&report.families) {
                    let why = "does not have the families that the plan gives to its shard";
                    return Err(Error::refused(path, why));
                }
            }
            for family in &report.families {
                if let Some(other) = owners.insert(*family, head.shard) {
                    let why = format!("has family {family}, and so has shard {other}");
                    return Err(Error::refused(path, why));
                }
            }
        }
        match (head.status, &head.why) {
            (Status::Finished, _) => {}
            (Status::Unfinished, why) => {
                let why = why.as_deref().unwrap_or("families are left");
                merged.unfinished.push((head.shard, Some(why.to_owned())));
            }
            (Status::Begun, _) => merged.unfinished.push((head.shard, None)),
        }
        merged.failed.extend(report.failed);
        merged.open.extend(report.open);
        merged.stuck.extend(report.stuck);
        merged.total.add(&report.total);
    }
    let Some(first) = first else {
        return Err(Error::refused(Path::new("."), "no report was named"));
    };
    (merged.plan_digest, merged.shards) = (first.plan_digest, first.shards);
    merged.missing = (0..first.shards).filter(|shard| !seen.contains_key(shard)).collect();
    merged.unfinished.sort_unstable();
    for families in [&mut merged.failed, &mut merged.open, &mut merged.stuck] {
        families.sort_unstable_by_key(|failed| (failed.shard, failed.family));
    }
    Ok(merged)
}

/// Fails where a report is not of the same plan, in as many shards, as the first one.
fn belongs(path: &Path, head: &Head, first: &Head) -> Result<()> {
    let why = if head.plan_digest != first.plan_digest {
        "is of another plan than the first"
    } else if head.shards != first.shards || head.by != first.by {
        "is of another number of shards than the first, or they were shared otherwise"
    } else {
        return Ok(());
    };
    Err(Error::refused(path, why))
}

/// The families that the plan gives to each shard.
fn families(path: &Path, head: &Head, (plan, digest): (&Plan, &str)) -> Result<Vec<BTreeSet<u64>>> {
    if head.plan_digest != digest {
        return Err(Error::refused(path, "is of another plan, or of this one before a change"));
    }
    let count = usize::try_from(head.shards).unwrap_or(usize::MAX);
    let number = |place: usize| plan.families.get(place).map(|family| family.number);
    let shards = shards(plan, count, head.by).into_iter();
    Ok(shards.map(|places| places.into_iter().filter_map(number).collect()).collect())
}

/// What a report says.
struct Report {
    head: Head,
    families: BTreeSet<u64>,
    failed: Vec<Failed>,
    open: Vec<Failed>,
    stuck: Vec<Failed>,
    total: Total,
}

/// Reads a report, and asserts that it is whole.
fn read(path: &Path) -> Result<Report> {
    let failed = |error| Error::host("opening", path, error);
    // One that nobody writes to would be waited for.
    if !path.metadata().map_err(failed)?.is_file() {
        return Err(Error::refused(path, "is no regular file, and so no report"));
    }
    let file = File::open(path).map_err(failed)?;
    let mut lines = Lines { path, line: 0, from: BufReader::new(file) };
    let Some(Line::Shard(head)) = lines.next()? else {
        return Err(lines.wrong("is not the first line of a report"));
    };
    if head.version != VERSION {
        return Err(lines.wrong("is of a version that this program does not know"));
    }
    if !(1..=MOST_SHARDS).contains(&head.shards) || head.shard >= head.shards {
        return Err(lines.wrong("has no such shard"));
    }
    let mut report = Report {
        head,
        families: BTreeSet::new(),
        failed: Vec::new(),
        open: Vec::new(),
        stuck: Vec::new(),
        total: Total::default(),
    };
    // The family whose images follow, and how many of them.
    let mut open = (0, 0);
    loop {
        match lines.next()? {
            Some(Line::Family(family)) if open.1 == 0 => {
                if !report.families.insert(family.family) {
                    return Err(lines.wrong("this family stands above already"));
                }
                report.total.count(family.outcome);
                open = (family.family, family.images);
                let list = match family.outcome {
                    Outcome::Failed => Some(&mut report.failed),
                    Outcome::Open => Some(&mut report.open),
                    Outcome::Stuck => Some(&mut report.stuck),
                    Outcome::Done | Outcome::Left => None,
                };
                if let Some(list) = list {
                    list.push(Failed {
                        shard: report.head.shard,
                        family: family.family,
                        cause: family.cause.unwrap_or_default(),
                        problem: family.problem.unwrap_or_default(),
                    });
                }
            }
            Some(Line::Image(image)) if open.1 > 0 && image.family == open.0 => {
                report.total.count_image(&image);
                open.1 -= 1;
            }
            Some(Line::Total(total)) if open.1 == 0 && total == report.total => {
                let is_finished = report.head.status == Status::Finished;
                if lines.next()?.is_some() || (is_finished && total.left > 0) {
                    return Err(lines.wrong("says other than what stands above"));
                }
                return Ok(report);
            }
            Some(_) => return Err(lines.wrong("does not fit to what stands above")),
            None => return Err(lines.wrong("the report was cut: its total is missing")),
        }
    }
}

struct Lines<'a> {
    path: &'a Path,
    line: usize,
    from: BufReader<File>,
}

impl Lines<'_> {
    fn next(&mut self) -> Result<Option<Line>> {
        let mut bytes = Vec::new();
        let read = Read::take(&mut self.from, MAX_LINE).read_until(b'\n', &mut bytes);
        self.line += 1;
        match read.map_err(|error| Error::host("reading", self.path, error))? {
            0 => Ok(None),
            _ => match serde_json::from_slice(&bytes) {
                Ok(line) => Ok(Some(line)),
                Err(error) => Err(self.wrong(&error.to_string())),
            },
        }
    }

    fn wrong(&self, what: &str) -> Error {
        Error::refused(self.path, format!("line {}: {what}", self.line.max(1)))
    }
}
