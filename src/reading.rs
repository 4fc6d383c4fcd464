//! Databases that are read while others may write to them.

use std::path::{Path, PathBuf};

use calve_fleet::Written;

use crate::exit::Failure;

/// A catalogue or journal as it was before it was opened for reading.
pub(crate) struct Unmixed {
    path: PathBuf,
    before: Written,
}

impl Unmixed {
    /// As it is now.
    pub(crate) fn of(path: &Path) -> Result<Self, Failure> {
        let before = Written::of(path)
            .map_err(|error| Failure::from(calve_disk::Error::host("looking at", path, error)))?;
        Ok(Self { path: path.to_owned(), before })
    }

    /// Fails where somebody wrote to it meanwhile, so that what was read may be half of before and
    /// half of afterwards.
    pub(crate) fn assert(&self) -> Result<(), Failure> {
        let mixed = self.before.may_be_mixed(&self.path);
        let failed = |error| calve_disk::Error::host("looking at", &self.path, error);
        match mixed.map_err(failed)? {
            false => Ok(()),
            true => Err(calve_disk::Error::Changed { path: self.path.clone() }.into()),
        }
    }
}
