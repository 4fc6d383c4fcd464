//! All paths at which a version 1 image is known to be, or to have been, and what is there now.

use calve_fleet::Row;
use calve_migrate::{FamilyState, ImageRecord, ImageState, Journal};
use calve_plan::{Family, Image, Strategy};

use crate::certificate::{Reason, Remaining};
use crate::error::{Error, Result};
use crate::gathered::Gathered;
use crate::look::{Found, Looked, look};
use crate::sources::Sources;

/// Who knows of a path. Of several, the last of this list has the say.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum By {
    /// The catalogue: it was there once.
    Gone,
    /// A run, as an original that it does not keep any more.
    Former(i64),
    /// The plan, which leaves it, or changes no more than what it lies on.
    Left,
    /// The plan, as version 1 that is to be migrated.
    Plan,
    /// The catalogue: it was there when it was scanned last.
    Catalogue,
    /// A run, as the place of an image.
    Image(i64),
    /// A run, as an original that it keeps.
    Original(i64),
    /// Somebody who said that what was there was removed.
    Removed,
}

impl By {
    /// Its place in the list, and its run, by which it is ordered.
    pub(crate) fn numbers(self) -> (i64, i64) {
        match self {
            Self::Gone => (0, 0),
            Self::Former(run) => (1, run),
            Self::Left => (2, 0),
            Self::Plan => (3, 0),
            Self::Catalogue => (4, 0),
            Self::Image(run) => (5, run),
            Self::Original(run) => (6, run),
            Self::Removed => (7, 0),
        }
    }

    pub(crate) fn of(place: i64, run: i64) -> Option<Self> {
        let all = [
            Self::Gone,
            Self::Former(run),
            Self::Left,
            Self::Plan,
            Self::Catalogue,
            Self::Image(run),
            Self::Original(run),
            Self::Removed,
        ];
        all.into_iter().find(|by| by.numbers() == (place, run))
    }
}

/// What is known of a path.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Known {
    pub(crate) by: By,
    /// Whether nothing has to be there.
    pub(crate) may_be_missing: bool,
}

/// How many paths were looked at.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Counts {
    pub(crate) looked: u64,
    /// Those that another process holds, and that are no version 1.
    pub(crate) in_use: u64,
}

/// Looks at all paths that the catalogue, the plan and all runs know, and takes down what is there
/// and what of it speaks against a certificate.
/// Each family of the plan is told of on the way, which is long to read.
pub(crate) fn gather(
    sources: &Sources,
    into: &Gathered,
    mut tell: impl FnMut(&Family) -> Result<()>,
) -> Result<Counts> {
    sources.catalogue.suspects(|row| add_row(into, &row))?;
    if let Some(plan) = &sources.plan {
        plan.families(|family| {
            let images = family.images.iter();
            let is_known = |it: &&Image| it.is_version1() || it.strategy != Strategy::Leave;
            for image in images.filter(is_known) {
                let is_left = !image.is_version1() || image.strategy == Strategy::Leave;
                let by = if is_left { By::Left } else { By::Plan };
                into.put_known(&image.path.0, by, false)?;
            }
            tell(family)
        })?;
    }
    if let Some(journal) = &sources.journal {
        for run in journal.runs()? {
            add_run(into, journal, (run.number, run.undone.is_some()))?;
        }
    }
    sources.catalogue.removed(|path| into.put_known(&path, By::Removed, true))?;
    let mut counts = Counts::default();
    into.each_known(|path, known| {
        let looked = match calve_scan::is_object(path) {
            true => (sources.objects)(path),
            false => look(path),
        };
        counts.looked += 1;
        counts.in_use += u64::from(looked.is_in_use && looked.found != Found::Version1);
        into.put_looked(path, &looked)?;
        match known.reason(&looked) {
            Some(reason) => into.put_remaining(&Remaining {
                reason,
                path: path.to_owned(),
                member: None,
                run: known.run(),
            }),
            None => Ok(()),
        }
    })?;
    Ok(counts)
}

fn add_row(into: &Gathered, row: &Row) -> Result<()> {
    let is_gone = row.gone.is_some();
    let remaining = |reason| {
        let (path, member) = (row.path.clone(), row.member.clone());
        into.put_remaining(&Remaining { reason, path, member, run: None })
    };
    match (&row.member, row.is_version1()) {
        // Of a member the archive may be there without it: that somebody took it out is seen.
        _ if is_gone => into.put_known(&row.path, By::Gone, false),
        (_, false) => remaining(Reason::NotLookedInto),
        // What an archive holds is found out by scans only.
        (Some(_), true) => remaining(Reason::InArchive),
        (None, true) => into.put_known(&row.path, By::Catalogue, false),
    }
}

fn add_run(into: &Gathered, journal: &Journal, (run, is_undone): (i64, bool)) -> Result<()> {
    journal.each_family(run, |family| {
        if is_undone {
            for record in journal.images(run, family.number)? {
                // It is version 1 again, whatever a scan has met there meanwhile.
                into.put_known(&record.path, By::Image(run), false)?;
                // A scan may have met its original while it was kept.
                if let Some(kept) = &record.kept {
                    into.put_known(kept, By::Former(run), true)?;
                }
            }
            return Ok(());
        }
        let is_unfinished = matches!(family.state, FamilyState::Preparing | FamilyState::Switching);
        for record in journal.images(run, family.number)? {
            if is_unfinished {
                let (path, reason) = (record.path.clone(), Reason::Unfinished);
                into.put_remaining(&Remaining { reason, path, member: None, run: Some(run) })?;
            }
            add_record(into, &record, run)?;
        }
        Ok::<(), Error>(())
    })
}

fn add_record(into: &Gathered, record: &ImageRecord, run: i64) -> Result<()> {
    let is_over = matches!(record.state, ImageState::Switched | ImageState::Released);
    let is_aside = record.strategy == Strategy::Quarantine;
    into.put_known(&record.path, By::Image(run), is_aside && is_over)?;
    let Some(kept) = &record.kept else { return Ok(()) };
    match record.state == ImageState::Switched {
        true => into.put_known(kept, By::Original(run), false),
        false => into.put_known(kept, By::Former(run), true),
    }
}

impl Known {
    fn run(&self) -> Option<i64> {
        match self.by {
            By::Image(run) | By::Original(run) | By::Former(run) => Some(run),
            By::Gone | By::Left | By::Plan | By::Catalogue | By::Removed => None,
        }
    }

    /// Why it cannot be said that no version 1 image is there.
    fn reason(&self, looked: &Looked) -> Option<Reason> {
        match &looked.found {
            Found::Version1 if matches!(self.by, By::Original(_)) => Some(Reason::Original),
            Found::Version1 if looked.is_in_use => Some(Reason::InUse),
            Found::Version1 => Some(Reason::Version1),
            Found::Qcow2 | Found::Other => {
                matches!(self.by, By::Plan | By::Catalogue).then_some(Reason::Changed)
            }
            Found::Missing => (!self.may_be_missing).then_some(Reason::Missing),
            Found::NoFile => (self.by != By::Removed).then_some(Reason::NoFile),
            Found::Unreadable(_) => Some(Reason::Unreadable),
        }
    }
}
