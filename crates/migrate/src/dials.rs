//! What can be changed while a run goes on.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use calve_convert::Pace;

/// What can be changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Settings {
    /// Whether no family begins.
    pub is_paused: bool,
    /// Families at once.
    pub jobs: usize,
    /// Families at once on any one file system.
    pub per_device: usize,
    /// The most bytes a second that all conversions together write, those that have begun too;
    /// neither `None` nor 0 is a limit. An upgrade writes tables only and is not slowed.
    pub rate: Option<u64>,
}

/// Settings that several threads look at and wait for.
#[derive(Debug)]
pub struct Dials {
    settings: Mutex<Settings>,
    /// What keeps conversions to the rate.
    pace: Arc<Pace>,
    changed: Condvar,
}

/// How long nobody waits without a look at whether to stop.
const STEP: Duration = Duration::from_millis(100);

impl Dials {
    /// Dials with these settings.
    pub fn new(settings: Settings) -> Self {
        let pace = Arc::new(Pace::new(settings.rate));
        Self { settings: Mutex::new(settings), pace, changed: Condvar::new() }
    }

    /// What they say now.
    pub fn now(&self) -> Settings {
        *self.lock()
    }

    /// Changes them: for families that begin afterwards, and the rate for all.
    pub fn change(&self, change: impl FnOnce(&mut Settings)) {
        let mut settings = self.lock();
        change(&mut settings);
        self.pace.set(settings.rate);
        drop(settings);
        self.changed.notify_all();
    }

    /// What keeps conversions to the rate, whenever they began.
    pub(crate) fn pace(&self) -> &Arc<Pace> {
        &self.pace
    }

    /// Waits until something was changed, or a moment.
    pub(crate) fn wait(&self) {
        let waited = self.changed.wait_timeout(self.lock(), STEP);
        drop(waited.unwrap_or_else(PoisonError::into_inner));
    }

    /// Tells whoever waits that something is other than it was.
    pub(crate) fn wake(&self) {
        self.changed.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, Settings> {
        self.settings.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_that_is_changed_is_that_of_conversions_that_have_begun() {
        let dials = Dials::new(Settings { is_paused: false, jobs: 4, per_device: 4, rate: None });
        // What a family has that began before.
        let pace = Arc::clone(dials.pace());
        for rate in [Some(1 << 20), Some(4096), None, Some(1)] {
            dials.change(|settings| settings.rate = rate);
            assert_eq!(pace.rate(), rate);
        }
    }
}
