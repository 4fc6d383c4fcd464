//! Images that are objects: how they are opened, and what their store says of them.

use std::path::Path;

use calve_disk::open::Elsewhere;
use calve_store::{Head, Object, ObjectFile};

use crate::error::{Error, Result};
use crate::journal::Stamped;
use crate::names;

/// Opens objects by their names.
#[derive(Clone, Debug)]
pub struct Stores {
    object: fn(&Path) -> calve_store::Result<Object>,
    elsewhere: Elsewhere,
}

impl Stores {
    /// Objects are those that `object` finds, and images are opened by way of `elsewhere`.
    pub fn new(object: fn(&Path) -> calve_store::Result<Object>, elsewhere: Elsewhere) -> Self {
        Self { object, elsewhere }
    }

    /// How images are opened that lie on objects.
    pub(crate) fn elsewhere(&self) -> Elsewhere {
        self.elsewhere.clone()
    }

    /// The object that is meant by `path`, which has to be one's name.
    pub(crate) fn object(&self, path: &Path) -> Result<Object> {
        Ok((self.object)(path)?)
    }

    /// An object that has to be there, opened.
    pub(crate) fn open(&self, path: &Path) -> Result<ObjectFile> {
        Ok(ObjectFile::open(self.object(path)?)?)
    }

    /// What is known of the file or the object at `path`; `None` where there is none.
    pub(crate) fn look(&self, path: &Path) -> Result<Option<Stamped>> {
        match is_object(path) {
            true => Ok(self.object(path)?.head()?.as_ref().map(stamp)),
            false => names::look(path),
        }
    }

    /// The same of one that has to be there.
    pub(crate) fn look_at(&self, path: &Path) -> Result<Stamped> {
        self.look(path)?.ok_or_else(|| Error::changed(path, "is gone"))
    }

    /// Gives up uploads of these objects that a killed run began: none comes to its end any more.
    pub(crate) fn settle(&self, paths: &[&Path]) -> Result<()> {
        for path in paths {
            self.object(path)?.give_up_uploads()?;
        }
        Ok(())
    }

    /// The head of an object that has to be there.
    pub(crate) fn head(&self, path: &Path) -> Result<Head> {
        self.object(path)?.head()?.ok_or_else(|| Error::changed(path, "is gone"))
    }
}

/// Whether a path is the name of an object.
pub(crate) fn is_object(path: &Path) -> bool {
    calve_store::ObjectName::is_meant_by(path)
}

/// An object is known by its tag, and has no time of its own.
pub(crate) fn stamp(head: &Head) -> Stamped {
    Stamped { inode: head.tag.number(), size: head.size, modified: 0 }
}

/// What is known of an object that was opened.
pub(crate) fn stamp_of(file: &ObjectFile) -> Stamped {
    Stamped { inode: file.tag().number(), size: file.length(), modified: 0 }
}
