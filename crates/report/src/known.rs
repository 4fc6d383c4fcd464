//! All paths at which a version 1 image is known to be, or to have been, and what is there now.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use calve_fleet::Row;
use calve_migrate::{FamilyState, ImageRecord, ImageState, Journal};
use calve_plan::Strategy;

use crate::certificate::{Reason, Remaining};
use crate::error::{Error, Result};
use crate::look::{Found, Looked, look};
use crate::sources::Sources;

/// Who knows of a path. Of several, the last of this list has the say.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum By {
    /// The catalogue: it was there once.
    Gone,
    /// The plan.
    Plan,
    /// The catalogue: it was there when it was scanned last.
    Catalogue,
    /// A run, as the place of an image.
    Image(i64),
    /// A run, as an original that it keeps.
    Original(i64),
}

/// What is known of a path.
#[derive(Clone, Debug)]
pub(crate) struct Known {
    pub(crate) by: By,
    /// Whether nothing has to be there.
    pub(crate) may_be_missing: bool,
    pub(crate) looked: Looked,
}

/// All paths, in order, and what speaks against a certificate whatever is at them.
#[derive(Debug, Default)]
pub(crate) struct Paths {
    pub(crate) all: BTreeMap<PathBuf, Known>,
    pub(crate) remaining: Vec<Remaining>,
}

impl Paths {
    /// Looks at all that the catalogue, the plan and all runs know.
    pub(crate) fn of(sources: &Sources) -> Result<Self> {
        let mut paths = Self::default();
        sources.catalogue.suspects(|row| {
            paths.add_row(&row);
            Ok::<(), Error>(())
        })?;
        if let Some(file) = &sources.plan {
            let images = file.plan.families.iter().flat_map(|family| &family.images);
            for image in images.filter(|it| it.is_version1() || it.strategy != Strategy::Leave) {
                paths.add(&image.path.0, By::Plan, false);
            }
        }
        if let Some(journal) = &sources.journal {
            for run in journal.runs()?.into_iter().filter(|run| run.undone.is_none()) {
                paths.add_run(journal, run.number)?;
            }
        }
        Ok(paths)
    }

    fn add(&mut self, path: &Path, by: By, may_be_missing: bool) {
        match self.all.get_mut(path) {
            None => {
                let known = Known { by, may_be_missing, looked: look(path) };
                self.all.insert(path.to_owned(), known);
            }
            Some(known) if by > known.by => {
                (known.by, known.may_be_missing) = (by, may_be_missing);
            }
            Some(_) => {}
        }
    }

    fn add_row(&mut self, row: &Row) {
        let is_gone = row.gone.is_some();
        let remaining = |reason| Remaining {
            path: row.path.clone(),
            member: row.member.clone(),
            reason,
            run: None,
        };
        match (&row.member, row.is_version1()) {
            // What an archive holds is found out by scans only.
            (Some(_), true) if !is_gone => self.remaining.push(remaining(Reason::InArchive)),
            (Some(_), true) => {}
            (_, false) => self.remaining.push(remaining(Reason::NotLookedInto)),
            (None, true) => {
                let by = if is_gone { By::Gone } else { By::Catalogue };
                self.add(&row.path, by, is_gone);
            }
        }
    }

    fn add_run(&mut self, journal: &Journal, run: i64) -> Result<()> {
        for family in journal.families(run)? {
            let is_unfinished =
                matches!(family.state, FamilyState::Preparing | FamilyState::Switching);
            for record in journal.images(run, family.number)? {
                if is_unfinished {
                    let (path, reason) = (record.path.clone(), Reason::Unfinished);
                    self.remaining.push(Remaining { path, member: None, reason, run: Some(run) });
                }
                self.add_record(&record, run);
            }
        }
        Ok(())
    }

    fn add_record(&mut self, record: &ImageRecord, run: i64) {
        let is_over = matches!(record.state, ImageState::Switched | ImageState::Released);
        let is_aside = record.strategy == Strategy::Quarantine;
        self.add(&record.path, By::Image(run), is_aside && is_over);
        let Some(kept) = &record.kept else { return };
        // An image that was put aside is never removed.
        if record.state == ImageState::Switched || (is_aside && is_over) {
            self.add(kept, By::Original(run), false);
        }
    }

    /// What is at a path now, if it is one that is known.
    pub(crate) fn at(&self, path: &Path) -> Option<&Looked> {
        self.all.get(path).map(|known| &known.looked)
    }

    /// All that speaks against a certificate, by reason and path.
    pub(crate) fn remaining(&self) -> Vec<Remaining> {
        let found = self.all.iter().filter_map(|(path, known)| {
            let reason = known.reason()?;
            let run = match known.by {
                By::Image(run) | By::Original(run) => Some(run),
                _ => None,
            };
            Some(Remaining { path: path.clone(), member: None, reason, run })
        });
        let mut all: Vec<Remaining> = found.chain(self.remaining.iter().cloned()).collect();
        all.sort();
        all.dedup();
        all
    }
}

impl Known {
    /// Why it cannot be said that no version 1 image is there.
    fn reason(&self) -> Option<Reason> {
        match &self.looked.found {
            Found::Version1 if matches!(self.by, By::Original(_)) => Some(Reason::Original),
            Found::Version1 if self.looked.is_in_use => Some(Reason::InUse),
            Found::Version1 => Some(Reason::Version1),
            Found::Qcow2 | Found::Other => None,
            Found::Missing => (!self.may_be_missing).then_some(Reason::Missing),
            Found::NoFile => Some(Reason::NoFile),
            Found::Unreadable(_) => Some(Reason::Unreadable),
        }
    }
}
