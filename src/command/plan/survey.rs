//! Tables of images, for a plan: of files as they lie, of objects out of their store.

use std::path::Path;
use std::sync::Arc;

use calve_disk::Error as DiskError;
use calve_inplace::NoJournal;
use calve_plan::{Reading, Surveyed, Surveyor};
use calve_store::{Draft, Error, ObjectFile};
use calve_upgrade::{InPlace, Options};

use crate::store;

/// Looks at files and at objects.
pub(super) struct Anywhere<'a>(pub(super) Reading<'a>);

impl Surveyor for Anywhere<'_> {
    fn survey(&self, path: &Path, options: &Options) -> Surveyed {
        if !store::is_object(path) {
            return self.0.survey(path, options);
        }
        let opened = store::object(path).and_then(ObjectFile::open).and_then(Draft::over);
        let plan = opened.map_err(|error: Error| DiskError::from(error).into());
        let plan = plan.and_then(|draft| {
            // Nothing is written, so that there is no note.
            InPlace::new(Arc::new(draft), Box::new(NoJournal)).plan(options, self.0.stop)
        });
        Surveyed::of(plan)
    }

    fn is_stopped(&self) -> bool {
        self.0.is_stopped()
    }
}
