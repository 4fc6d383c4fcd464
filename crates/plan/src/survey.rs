//! What an upgrade of one image would append, and why it cannot be.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use calve_disk::Error as DiskError;
use calve_upgrade::{Error as UpgradeError, InPlace, Options};

/// What a look at an image's tables tells.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Surveyed {
    /// It can be upgraded.
    Fits(Tables),
    /// Bytes are missing, or its tables are broken.
    Damaged(String),
    /// It is whole, and cannot be upgraded where it lies.
    Unfit(String),
    /// Somebody uses it, or it cannot be read.
    Unreadable(String),
}

/// What an upgrade would append.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Tables {
    /// Bytes.
    pub appended: u64,
    /// Whether clusters are packed.
    pub is_packed: bool,
}

/// Looks at images.
pub trait Surveyor: Sync {
    /// Looks at the tables of a version 1 image that is to be upgraded like this.
    fn survey(&self, path: &Path, options: &Options) -> Surveyed;

    /// Whether it is to stop.
    fn is_stopped(&self) -> bool;
}

/// Reads the tables themselves, in this process. Files are opened for reading only.
#[derive(Debug)]
pub struct Reading<'a> {
    /// Becomes true when it is to stop.
    pub stop: &'a AtomicBool,
}

impl Surveyor for Reading<'_> {
    fn survey(&self, path: &Path, options: &Options) -> Surveyed {
        Surveyed::of(InPlace::open_for_reading(path).and_then(|it| it.plan(options, self.stop)))
    }

    fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }
}

impl Surveyed {
    /// What the plan of an upgrade tells, or why there is none.
    pub fn of(plan: calve_upgrade::Result<calve_upgrade::Plan>) -> Self {
        match plan {
            Ok(plan) => {
                Self::Fits(Tables { appended: plan.appended(), is_packed: plan.packed > 0 })
            }
            Err(error) => judge(&error),
        }
    }
}

/// What an error says of the image.
fn judge(error: &UpgradeError) -> Surveyed {
    let text = error.to_string();
    match error {
        UpgradeError::Disk(DiskError::Broken { .. }) => Surveyed::Damaged(text),
        UpgradeError::Refused { .. } | UpgradeError::Disk(DiskError::Unsupported { .. }) => {
            Surveyed::Unfit(text)
        }
        _ => Surveyed::Unreadable(text),
    }
}
