//! What can be changed while a run goes on.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// What can be changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Settings {
    /// Whether no family begins.
    pub is_paused: bool,
    /// Families at once.
    pub jobs: usize,
    /// Families at once on any one file system.
    pub per_device: usize,
    /// The most bytes a second that all conversions together write. One that has begun keeps its
    /// share; an upgrade writes tables only and is not slowed.
    pub rate: Option<u64>,
}

/// Settings that several threads look at and wait for.
#[derive(Debug)]
pub struct Dials {
    settings: Mutex<Settings>,
    changed: Condvar,
}

/// How long nobody waits without a look at whether to stop.
const STEP: Duration = Duration::from_millis(100);

impl Dials {
    /// Dials with these settings.
    pub fn new(settings: Settings) -> Self {
        Self { settings: Mutex::new(settings), changed: Condvar::new() }
    }

    /// What they say now.
    pub fn now(&self) -> Settings {
        *self.lock()
    }

    /// Changes them, for whatever begins afterwards.
    pub fn change(&self, change: impl FnOnce(&mut Settings)) {
        change(&mut self.lock());
        self.changed.notify_all();
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
