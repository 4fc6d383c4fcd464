//! What came of a shard, as a file: a JSON object a line, each with its `kind`.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;

use calve_disk::PendingFile;
use calve_plan::{PathText, Plan, Strategy, Weight};
use serde::{Deserialize, Serialize};

use super::Shard;
use crate::error::{Cause, Error, Result};
use crate::journal::{FamilyRecord, FamilyState, Journal, MOST_ATTEMPTS};

/// The version of the shape of reports.
pub(super) const VERSION: u32 = 1;

/// A line of a report.
#[derive(Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub(super) enum Line {
    Shard(Head),
    Family(Family),
    Image(Image),
    Total(Total),
}

/// The first line: which shard it is, and how far.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Head {
    /// The version of the shape of reports: 1.
    pub version: u32,
    /// The plan's file.
    pub plan: PathText,
    /// BLAKE3 of that file.
    pub plan_digest: String,
    /// Which shard it is, from 0.
    pub shard: u64,
    /// How many there are.
    pub shards: u64,
    /// What is as much for each.
    pub by: Weight,
    /// The run in the shard's journal.
    pub run: i64,
    /// When this worker began, in seconds since 1970.
    pub began: i64,
    /// How far it is.
    pub status: Status,
    /// Why its worker went no further, where it did not.
    pub why: Option<String>,
}

/// How far a shard is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Status {
    /// A worker has begun, and it was not heard of since.
    Begun,
    /// Its worker has ended, and families are left.
    Unfinished,
    /// Each family is migrated, failed, or stays half way.
    Finished,
}

/// A family.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) struct Family {
    pub(super) family: u64,
    pub(super) outcome: Outcome,
    /// How many of its images follow.
    pub(super) images: u64,
    pub(super) cause: Option<String>,
    pub(super) problem: Option<String>,
}

/// How a family is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Outcome {
    /// It is migrated.
    Done,
    /// It is as it was, for a reason.
    Failed,
    /// It was begun, and the next run goes on with it.
    Open,
    /// It is half way, and another try would come no further before its cause is removed.
    Stuck,
    /// It is as it was.
    Left,
}

/// An image of a family that is migrated.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) struct Image {
    pub(super) family: u64,
    pub(super) order: u64,
    pub(super) path: PathText,
    pub(super) strategy: Strategy,
    /// Its length as it was, and is.
    pub(super) size: u64,
    pub(super) new_size: Option<u64>,
    /// BLAKE3 of the disk, of one that was converted.
    pub(super) digest: Option<String>,
    pub(super) missing: u64,
}

/// All of a shard in numbers.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Total {
    /// Families.
    pub families: u64,
    /// Those that are migrated.
    pub done: u64,
    /// Those that failed.
    pub failed: u64,
    /// Those that stay half way.
    pub stuck: u64,
    /// Those that are none of these.
    pub left: u64,
    /// Images of families that are migrated.
    pub images: u64,
    /// Bytes that those had.
    pub bytes: u64,
    /// Bytes of rescued disks that are missing.
    pub missing: u64,
}

impl Total {
    pub(super) fn add(&mut self, other: &Self) {
        for (one, other) in [
            (&mut self.families, other.families),
            (&mut self.done, other.done),
            (&mut self.failed, other.failed),
            (&mut self.stuck, other.stuck),
            (&mut self.left, other.left),
            (&mut self.images, other.images),
            (&mut self.bytes, other.bytes),
            (&mut self.missing, other.missing),
        ] {
            *one = one.saturating_add(other);
        }
    }

    pub(super) fn count(&mut self, outcome: Outcome) {
        self.families += 1;
        *match outcome {
            Outcome::Done => &mut self.done,
            Outcome::Failed => &mut self.failed,
            Outcome::Stuck => &mut self.stuck,
            Outcome::Open | Outcome::Left => &mut self.left,
        } += 1;
    }

    pub(super) fn count_image(&mut self, image: &Image) {
        self.images += 1;
        self.bytes = self.bytes.saturating_add(image.size);
        self.missing = self.missing.saturating_add(image.missing);
    }
}

/// How a family is, by the journal.
fn outcome(journal: &Journal, run: i64, known: Option<&FamilyRecord>) -> Result<Outcome> {
    let Some(known) = known else { return Ok(Outcome::Left) };
    Ok(match known.state {
        FamilyState::Done => Outcome::Done,
        FamilyState::Failed if known.cause.as_deref() != Some(Cause::Stopped.word()) => {
            Outcome::Failed
        }
        FamilyState::Failed | FamilyState::Undone => Outcome::Left,
        FamilyState::Preparing | FamilyState::Switching => {
            match journal.attempts(run, known.number)? >= MOST_ATTEMPTS {
                true => Outcome::Stuck,
                false => Outcome::Open,
            }
        }
    })
}

/// Writes the report of a shard: a new file, which takes the place of the one before when it is
/// whole. `head` says [`Status::Begun`], and then there are no families in it; or else how far it
/// is is found out here. Returns that, and the numbers.
///
/// # Errors
/// [`Error::Disk`], [`Error::Journal`].
pub fn write(
    folder: &Path,
    head: Head,
    (plan, places): (&Plan, &[usize]),
    journal: &Journal,
) -> Result<(Status, Total)> {
    let path = Shard { index: head.shard, count: head.shards }.report(folder);
    PendingFile::remove_leftovers(&path);
    let (file, pending) = PendingFile::create(&path, true, 0o666)?;
    let mut out = Lines { path: &path, out: std::io::BufWriter::new(file) };
    let mut total = Total::default();
    let mut status = head.status;
    if status == Status::Begun {
        out.write(&Line::Shard(head))?;
    } else {
        let known = journal.families(head.run)?;
        let known: BTreeMap<u64, FamilyRecord> =
            known.into_iter().map(|family| (family.number, family)).collect();
        let run = head.run;
        let families = places.iter().filter_map(|place| plan.families.get(*place));
        status = Status::Finished;
        for family in families.clone() {
            let outcome = outcome(journal, run, known.get(&family.number))?;
            if matches!(outcome, Outcome::Open | Outcome::Left) {
                status = Status::Unfinished;
                break;
            }
        }
        let why = head.why.clone().filter(|_| status == Status::Unfinished);
        out.write(&Line::Shard(Head { status, why, ..head }))?;
        for family in families {
            let known = known.get(&family.number);
            out.family(journal, run, (family.number, known), &mut total)?;
        }
    }
    out.write(&Line::Total(total))?;
    let failed = |error| Error::host("writing", &path, error);
    out.out.flush().map_err(failed)?;
    out.out.get_ref().sync_all().map_err(failed)?;
    pending.take_name(true)?;
    Ok((status, total))
}

struct Lines<'a, W> {
    path: &'a Path,
    out: W,
}

impl<W: Write> Lines<'_, W> {
    fn write(&mut self, line: &Line) -> Result<()> {
        serde_json::to_writer(&mut self.out, line)
            .map_err(std::io::Error::from)
            .and_then(|()| self.out.write_all(b"\n"))
            .map_err(|error| Error::host("writing", self.path, error))
    }

    /// Writes a family, and where it is migrated its images.
    fn family(
        &mut self,
        journal: &Journal,
        run: i64,
        (number, known): (u64, Option<&FamilyRecord>),
        total: &mut Total,
    ) -> Result<()> {
        let outcome = outcome(journal, run, known)?;
        let records = match outcome {
            Outcome::Done => journal.images(run, number)?,
            _ => Vec::new(),
        };
        total.count(outcome);
        let failure = known.filter(|_| !matches!(outcome, Outcome::Done | Outcome::Left));
        self.write(&Line::Family(Family {
            family: number,
            outcome,
            images: u64::try_from(records.len()).unwrap_or(u64::MAX),
            cause: failure.and_then(|known| known.cause.clone()),
            problem: failure.and_then(|known| known.problem.clone()),
        }))?;
        for record in records {
            let image = Image {
                family: number,
                order: record.place,
                path: PathText(record.path),
                strategy: record.strategy,
                size: record.old.size,
                new_size: record.new.map(|new| new.size),
                digest: record.digest,
                missing: record.missing,
            };
            total.count_image(&image);
            self.write(&Line::Image(image))?;
        }
        Ok(())
    }
}

impl Head {
    /// The first line of a shard that is begun now.
    pub fn begun(agreed: &super::Agreed, shard: u64, run: &crate::RunRecord) -> Self {
        Self {
            version: VERSION,
            plan: PathText(run.plan.clone()),
            plan_digest: agreed.plan_digest.clone(),
            shard,
            shards: agreed.shards,
            by: agreed.by,
            run: run.number,
            began: crate::journal::now(),
            status: Status::Begun,
            why: None,
        }
    }
}
