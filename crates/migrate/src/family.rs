//! One family: prepared, switched, finished; or all of it taken back.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use calve_plan::{Family, Image, Kept, Strategy};

use crate::configurations::{self, Configurations};
use crate::error::{Error, Result};
use crate::event::{Event, Outcome};
use crate::hook::Hooks;
use crate::journal::{FamilyState, ImageRecord, ImageState, Journal, MOST_ATTEMPTS};
use crate::step::{self, Of, Site};
use crate::stores::Stores;

/// What is needed to migrate families.
pub(crate) struct Families<'a> {
    pub(crate) journal: &'a Mutex<Journal>,
    pub(crate) hooks: &'a Hooks,
    /// Of images that are objects.
    pub(crate) stores: &'a Stores,
    /// Those that are changed with the families.
    pub(crate) configurations: Option<&'a Configurations>,
    /// Held by whoever changes configurations: several families may be named in one.
    pub(crate) turn: &'a Mutex<()>,
    pub(crate) tell: &'a (dyn Fn(&Event<'_>) + Sync),
    /// Changes of configurations so far.
    pub(crate) followed: AtomicU64,
}

impl Families<'_> {
    fn journal(&self) -> MutexGuard<'_, Journal> {
        self.journal.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a family is migrated, or was left half way: its new files are made, and may have the
    /// places of its images.
    pub(crate) fn is_begun(&self, run: i64, family: &Family) -> Result<bool> {
        let known = self.journal().family(run, family.number)?;
        let is_begun = |state| matches!(state, FamilyState::Done | FamilyState::Switching);
        Ok(known.is_some_and(|known| is_begun(known.state)))
    }

    /// Migrates a family, or goes on with it where it was left. A failure that is not the
    /// journal's is noted there, and the family is as it was, or half way.
    pub(crate) fn migrate(&self, site: &Site<'_>, family: &Family) -> Result<Outcome> {
        let known = self.journal().family(site.run, family.number)?;
        let done = match known.map(|known| known.state) {
            // It may have been migrated when nobody asked for that.
            Some(FamilyState::Done) => match self.follow(site.run, family.number) {
                Ok(()) => return Ok(Outcome::Known),
                Err(error @ Error::Journal { .. }) => Err(error),
                Err(error) => Err(Error::Unfollowed(Box::new(error))),
            },
            Some(FamilyState::Switching) => {
                let mut records = self.journal().images(site.run, family.number)?;
                match records.iter().any(|record| record.state == ImageState::Undone) {
                    // It was being taken back.
                    true => self
                        .back(site.run, &mut records, false)
                        .map_err(unreturned)
                        .and_then(|_| self.anew(site, family)),
                    false => self.switched(site, family, records),
                }
            }
            Some(FamilyState::Preparing) => {
                let records = self.journal().images(site.run, family.number)?;
                let discarded =
                    records.iter().try_for_each(|record| step::discard(self.stores, record));
                discarded.map_err(unreturned).and_then(|()| self.anew(site, family))
            }
            Some(FamilyState::Failed | FamilyState::Undone) | None => self.anew(site, family),
        };
        match done {
            Ok(missing) => {
                self.journal().forget_attempts(site.run, family.number)?;
                Ok(Outcome::Done { missing })
            }
            Err(error @ Error::Journal { .. }) => Err(error),
            Err(error) => self.failed(site, family, &error),
        }
    }

    /// Notes a failure, and how often a family was left half way by it.
    fn failed(&self, site: &Site<'_>, family: &Family, error: &Error) -> Result<Outcome> {
        let (cause, mut problem) = (error.cause(), error.to_string());
        let is_open =
            matches!(error, Error::HalfWay { .. } | Error::Unreturned(_) | Error::Unreleased(_));
        let (journal, number) = (self.journal(), family.number);
        let mut is_stuck = false;
        // Whoever asked for the end did not see what comes of it.
        if is_open && !site.stop.load(Ordering::Relaxed) {
            let attempts = journal.count_attempt(site.run, number, cause)?;
            is_stuck = attempts >= MOST_ATTEMPTS;
            if is_stuck {
                problem.push_str(&format!("; tried {attempts} times, and it came no further"));
            }
        }
        if !is_open {
            journal.forget_attempts(site.run, number)?;
        }
        if !matches!(error, Error::Unfollowed(_)) {
            let known = journal.family(site.run, number)?.filter(|_| is_open);
            let state = known.map_or(FamilyState::Failed, |known| known.state);
            journal.set_family(site.run, number, state, Some((cause, &*problem)))?;
        }
        Ok(Outcome::Failed { cause, problem, is_open, is_stuck })
    }

    fn anew(&self, site: &Site<'_>, family: &Family) -> Result<u64> {
        let known = self.journal().images(site.run, family.number)?;
        let images = family.images.iter().filter(|image| image.strategy != Strategy::Leave);
        let mut records: Vec<ImageRecord> =
            images.map(|image| step::begin(site, image, &known)).collect();
        for record in &records {
            step::same_as_planned(self.stores, record)?;
            step::is_free(self.stores, record)?;
        }
        {
            // Known before it is made: what a crash leaves behind is found again.
            let journal = self.journal();
            journal.set_family(site.run, family.number, FamilyState::Preparing, None)?;
            for record in &records {
                journal.set_image(site.run, record)?;
            }
        }
        if let Err(failure) = self.prepared(site, family, &mut records) {
            let discarded = records
                .iter()
                .map(|it| step::discard(self.stores, it))
                .collect::<Result<Vec<()>>>();
            return Err(half_way(failure, discarded.err()));
        }
        let journal = self.journal();
        for record in &records {
            journal.set_image(site.run, record)?;
        }
        journal.set_family(site.run, family.number, FamilyState::Switching, None)?;
        drop(journal);
        self.switched(site, family, records)
    }

    fn prepared(
        &self,
        site: &Site<'_>,
        family: &Family,
        records: &mut [ImageRecord],
    ) -> Result<()> {
        for record in records.iter() {
            self.hooks.before(site, of(family, record)?.image, self.tell)?;
        }
        for record in records.iter_mut() {
            stopped(site)?;
            step::prepare(site, of(family, record)?, record)?;
        }
        Ok(())
    }

    /// Switches all images, and returns how many bytes are missing; or takes all of them back.
    fn switched(
        &self,
        site: &Site<'_>,
        family: &Family,
        mut records: Vec<ImageRecord>,
    ) -> Result<u64> {
        if let Err(failure) = self.switch(site, family, &mut records) {
            if matches!(failure, Error::Journal { .. }) {
                return Err(failure);
            }
            // There is no way back any more: the next run goes on.
            if records.iter().any(|record| record.state == ImageState::Released) {
                return Err(Error::Unreleased(Box::new(failure)));
            }
            let back = self.back(site.run, &mut records, false);
            return Err(half_way(failure, back.err()));
        }
        for record in &records {
            step::tidy(self.stores, record).map_err(|it| Error::Unreleased(Box::new(it)))?;
        }
        if *site.kept == Kept::None {
            // What is damaged has no equal: that is given up only when somebody asks for it.
            let whole = |record: &&mut ImageRecord| !step::is_of_damaged(record);
            // Known before it is done: where one is given up, none of the family goes back.
            for record in records.iter_mut().filter(whole) {
                record.state = ImageState::Released;
                self.journal().set_image(site.run, record)?;
            }
            for record in records.iter_mut().filter(whole) {
                step::release(self.stores, record)
                    .map_err(|error| Error::Unreleased(Box::new(error)))?;
                self.journal().set_image(site.run, record)?;
            }
        }
        self.journal().set_family(site.run, family.number, FamilyState::Done, None)?;
        Ok(records.iter().map(|record| record.missing).sum())
    }

    fn switch(&self, site: &Site<'_>, family: &Family, records: &mut [ImageRecord]) -> Result<()> {
        for record in records.iter_mut() {
            if matches!(record.state, ImageState::Switched | ImageState::Released) {
                continue;
            }
            stopped(site)?;
            step::switch(site, of(family, record)?, record)?;
            self.journal().set_image(site.run, record)?;
        }
        for record in records.iter() {
            stopped(site)?;
            step::compare(site, of(family, record)?, record)?;
        }
        self.follow(site.run, family.number)?;
        for record in records.iter() {
            self.hooks.after(site, of(family, record)?.image, self.tell)?;
        }
        Ok(())
    }

    /// Changes the configurations that name its images.
    fn follow(&self, run: i64, family: u64) -> Result<()> {
        let Some(configurations) = self.configurations else { return Ok(()) };
        let turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let followed = configurations::follow(configurations, self.journal, run, family)?;
        drop(turn);
        for path in &followed {
            self.followed.fetch_add(1, Ordering::Relaxed);
            (self.tell)(&Event::Followed { family, path });
        }
        Ok(())
    }

    /// Takes back all images of a family, overlays first, and what follows them. Returns the
    /// configurations that stay, which happens with `force` only.
    pub(crate) fn back(
        &self,
        run: i64,
        records: &mut [ImageRecord],
        force: bool,
    ) -> Result<Vec<PathBuf>> {
        let Some(family) = records.first().map(|record| record.family) else {
            return Ok(Vec::new());
        };
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        if !force {
            configurations::can_go_back(self.journal, run, family)?;
        }
        for record in records.iter_mut().rev() {
            if record.state != ImageState::Undone {
                step::back(self.stores, record, force)?;
                self.journal().set_image(run, record)?;
            }
        }
        configurations::back(self.journal, run, family)
    }
}

/// A family that an earlier run has left stays so.
fn unreturned(error: Error) -> Error {
    match error {
        error @ Error::Journal { .. } => error,
        error => Error::Unreturned(Box::new(error)),
    }
}

/// A failure, and what failed when it was to be taken back.
fn half_way(failure: Error, second: Option<Error>) -> Error {
    match second {
        None => failure,
        Some(second) => Error::HalfWay { failure: Box::new(failure), second: Box::new(second) },
    }
}

fn stopped(site: &Site<'_>) -> Result<()> {
    match site.stop.load(Ordering::Relaxed) {
        true => Err(Error::Stopped),
        false => Ok(()),
    }
}

/// The image of a record.
fn of<'a>(family: &'a Family, record: &ImageRecord) -> Result<Of<'a>> {
    let is_it = |image: &&Image| image.order == record.place && image.path.0 == record.path;
    let image = family.images.iter().find(is_it);
    let image = image.ok_or_else(|| Error::changed(&record.path, "is not in the plan any more"))?;
    Ok(Of { image, family })
}
