//! An image that is opened to be changed where it is: a file under a lock, or an object as it would
//! be, which the store puts together in the end.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use calve_inplace::{NoJournal, UNDO_RECORD};
use calve_references::Child;
use calve_store::{Draft, ObjectFile, ObjectJournal};
use calve_upgrade::{InPlace, State};

use crate::error::{Error, Result};
use crate::journal::Stamped;
use crate::stores::{Stores, is_object, stamp_of};

/// An image, and what makes what was written to it last.
pub(super) struct Opened<T> {
    pub(super) image: T,
    drafted: Option<Drafted>,
}

struct Drafted {
    draft: Arc<Draft>,
    seen: Stamped,
    journal: Option<ObjectJournal>,
}

impl Opened<InPlace> {
    /// Opens an image for an upgrade, or to take one back.
    pub(super) fn for_upgrade(stores: &Stores, path: &Path) -> Result<Self> {
        match is_object(path) {
            true => {
                // What a killed run asked for last is not to come about behind this one's back.
                stores.settle(&[path])?;
                Self::object(stores, path)
            }
            false => Ok(Self { image: InPlace::open(path)?, drafted: None }),
        }
    }

    /// Opens an image to look at it.
    pub(super) fn for_reading(stores: &Stores, path: &Path) -> Result<Self> {
        match is_object(path) {
            true => Self::object(stores, path),
            false => Ok(Self { image: InPlace::open_for_reading(path)?, drafted: None }),
        }
    }

    fn object(stores: &Stores, path: &Path) -> Result<Self> {
        let object = stores.object(path)?;
        let journal = ObjectJournal::of(&object, UNDO_RECORD);
        let file = ObjectFile::open(object)?;
        let seen = stamp_of(&file);
        let draft = Arc::new(Draft::over(file)?);
        let image = InPlace::new(Arc::clone(&draft) as Arc<_>, Box::new(journal.clone()));
        Ok(Self { image, drafted: Some(Drafted { draft, seen, journal: Some(journal) }) })
    }
}

impl Opened<Child> {
    /// Opens an overlay whose header is to change.
    pub(super) fn for_header(stores: &Stores, path: &Path) -> Result<Self> {
        if !is_object(path) {
            return Ok(Self { image: Child::open(path)?, drafted: None });
        }
        stores.settle(&[path])?;
        let object = stores.object(path)?;
        let record = object.with_suffix(UNDO_RECORD.suffix);
        if record.head()?.is_some() {
            let why = format!("can still be what it was before its upgrade: {}", record.name());
            return Err(Error::refused(path, why));
        }
        let file = ObjectFile::open(object)?;
        let seen = stamp_of(&file);
        let draft = Arc::new(Draft::over(file)?);
        // The object is the old one or the new one, and nothing between: no note is needed.
        let places = vec![path.to_owned()];
        let image = Child::new(Arc::clone(&draft) as Arc<_>, Box::new(NoJournal), places);
        Ok(Self { image, drafted: Some(Drafted { draft, seen, journal: None }) })
    }
}

impl<T> Opened<T> {
    /// What was found of an object when it was opened.
    pub(super) fn seen(&self) -> Option<Stamped> {
        self.drafted.as_ref().map(|drafted| drafted.seen)
    }

    /// Has what was written be there for others: of a file it is already.
    pub(super) fn publish(&self, stop: &AtomicBool) -> Result<()> {
        match &self.drafted {
            None => Ok(()),
            Some(Drafted { draft, journal, .. }) => {
                Ok(draft.publish(None, journal.as_ref(), stop)?)
            }
        }
    }
}

/// What state the image at `path` is in, where there is an undo record beside it.
pub(super) fn state_of(stores: &Stores, path: &Path) -> Result<Option<State>> {
    match is_object(path) {
        true => Ok(Opened::for_reading(stores, path)?.image.state()?),
        false => Ok(calve_upgrade::state_of(path)?),
    }
}
