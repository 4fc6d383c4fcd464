//! Which family is next, so that no device has more to do than it should.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use calve_plan::{Family, Strategy};

use crate::dials::Settings;

/// Families that wait, and what those that were begun keep busy.
pub(crate) struct Queue<'a> {
    state: Mutex<State<'a>>,
}

struct State<'a> {
    waiting: VecDeque<&'a Family>,
    /// Families that were begun and are not over.
    active: usize,
    /// How many of them are on each file system.
    busy: BTreeMap<u64, usize>,
}

/// What a worker is told.
pub(crate) enum Next<'a> {
    /// To migrate this family.
    Family(&'a Family),
    /// To ask again.
    Wait,
    /// That there is nothing more.
    Nothing,
}

/// The file systems that a family is on.
fn devices(family: &Family) -> BTreeSet<u64> {
    let images = family.images.iter().filter(|image| image.strategy != Strategy::Leave);
    images.map(|image| image.stamp.device).collect()
}

impl<'a> Queue<'a> {
    pub(crate) fn of(families: impl Iterator<Item = &'a Family>) -> Self {
        let state = State { waiting: families.collect(), active: 0, busy: BTreeMap::new() };
        Self { state: Mutex::new(state) }
    }

    /// The first family that may begin under these settings.
    pub(crate) fn next(&self, settings: &Settings) -> Next<'a> {
        let mut state = self.lock();
        if state.waiting.is_empty() {
            return Next::Nothing;
        }
        if settings.is_paused || state.active >= settings.jobs {
            return Next::Wait;
        }
        let is_free = |family: &&Family| {
            let busy = |device: &u64| state.busy.get(device).copied().unwrap_or_default();
            devices(family).iter().all(|device| busy(device) < settings.per_device)
        };
        let Some(place) = state.waiting.iter().position(is_free) else { return Next::Wait };
        let Some(family) = state.waiting.remove(place) else { return Next::Wait };
        state.active += 1;
        for device in devices(family) {
            *state.busy.entry(device).or_default() += 1;
        }
        Next::Family(family)
    }

    /// Puts back a family that may not begin after all.
    pub(crate) fn put_back(&self, family: &'a Family) {
        self.over(family);
        self.lock().waiting.push_front(family);
    }

    /// Says that a family is over.
    pub(crate) fn over(&self, family: &Family) {
        let mut state = self.lock();
        state.active -= 1;
        for device in devices(family) {
            if let Some(busy) = state.busy.get_mut(&device) {
                *busy -= 1;
            }
        }
    }

    /// Takes out all that wait, and returns how many those are.
    pub(crate) fn clear(&self) -> usize {
        std::mem::take(&mut self.lock().waiting).len()
    }

    fn lock(&self) -> MutexGuard<'_, State<'a>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
