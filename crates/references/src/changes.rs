//! Changes: which images become what, looked up by the names under which others know them.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};

use calve_disk::Format;

use crate::error::{Error, Result};

/// A version 1 image that becomes another format, under its own name or another one.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Change {
    /// Where it is; absolute.
    pub old: PathBuf,
    /// Where what it becomes is; absolute, and the same as `old` where the name stays.
    pub new: PathBuf,
    /// What it becomes: qcow2 or raw.
    pub format: Format,
}

/// All changes that are made together.
#[derive(Clone, Default, Debug)]
pub struct Changes {
    all: Vec<Change>,
    by_name: BTreeMap<PathBuf, usize>,
    /// By the file of the host, where links are followed.
    by_file: Option<BTreeMap<(u64, u64), usize>>,
}

impl Changes {
    /// None yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// None yet; a name that leads to the file of an image, over links of either kind, will be
    /// taken for one of its names. The host is asked whenever a name is looked up.
    pub fn following_links() -> Self {
        Self { by_file: Some(BTreeMap::new()), ..Self::default() }
    }

    /// Adds one. Both its paths are kept as [`normalised`].
    ///
    /// # Errors
    /// [`Error::Refused`] where a path is not absolute, where the image has a change already,
    /// where it would become version 1, and where it takes the name of an image that has a change
    /// too: what names that one would then be taken for something that was changed.
    pub fn add(&mut self, change: Change) -> Result<()> {
        let Change { old, new, format } = change;
        if format == Format::Qcow1 {
            return Err(refused(&old, "cannot become version 1", "name qcow2 or raw"));
        }
        let change = Change { old: absolute(&old)?, new: absolute(&new)?, format };
        if self.by_name.contains_key(&change.old) {
            return Err(refused(&change.old, "is changed twice", "name each image once"));
        }
        let others = || self.all.iter().filter(|other| other.new != other.old);
        let is_taken = self.of(&change.new).is_some()
            || change.new != change.old && self.all.iter().any(|other| other.new == change.new)
            || others().any(|other| other.new == change.old);
        if is_taken {
            let why = "would be the name of two images, one after the other";
            return Err(refused(&change.new, why, "choose new names that no image bears"));
        }
        if let (Some(files), Some(file)) = (&mut self.by_file, file(&change.old)) {
            files.insert(file, self.all.len());
        }
        self.by_name.insert(change.old.clone(), self.all.len());
        self.all.push(change);
        Ok(())
    }

    /// Adds a further name of an image that has a change: the one that a link leads from, or the
    /// one that it leads to.
    ///
    /// # Errors
    /// [`Error::Refused`] where a path is not absolute, where `old` has no change, and where the
    /// name belongs to another one.
    pub fn also_called(&mut self, name: &Path, old: &Path) -> Result<()> {
        let (name, old) = (absolute(name)?, absolute(old)?);
        let Some(index) = self.by_name.get(&old).copied() else {
            return Err(refused(&old, "has no change", "add its change first"));
        };
        match self.by_name.insert(name.clone(), index) {
            Some(other) if other != index => {
                self.by_name.insert(name.clone(), other);
                Err(refused(&name, "is the name of another image", "name each image once"))
            }
            _ => Ok(()),
        }
    }

    /// The change of the image of that name, where it has one. Relative paths name none.
    pub fn of(&self, name: &Path) -> Option<&Change> {
        let named = self.by_name.get(&normalised(name)?);
        let found = named.or_else(|| self.by_file.as_ref()?.get(&file(name)?));
        found.and_then(|index| self.all.get(*index))
    }

    /// All of them, in the order in which they were added.
    pub fn iter(&self) -> impl Iterator<Item = &Change> {
        self.all.iter()
    }

    /// All names under which they are looked up.
    pub(crate) fn names(&self) -> impl Iterator<Item = &Path> {
        self.by_name.keys().map(PathBuf::as_path)
    }
}

impl Change {
    /// Whether the image gets another name.
    pub fn moves(&self) -> bool {
        self.old != self.new
    }
}

/// The file of the host that a name leads to: its device and number.
fn file(name: &Path) -> Option<(u64, u64)> {
    name.metadata().ok().map(|file| (file.dev(), file.ino()))
}

/// An absolute path without `.`, `..` and doubled slashes, as its text says and without asking
/// the host; `None` where it is not absolute.
pub fn normalised(path: &Path) -> Option<PathBuf> {
    if !path.is_absolute() {
        return None;
    }
    let mut tidy = PathBuf::from("/");
    for component in path.components() {
        match component {
            Component::ParentDir => {
                tidy.pop();
            }
            Component::Normal(name) => tidy.push(name),
            Component::CurDir | Component::RootDir | Component::Prefix(_) => {}
        }
    }
    Some(tidy)
}

fn absolute(path: &Path) -> Result<PathBuf> {
    normalised(path)
        .ok_or_else(|| refused(path, "is no absolute path", "name images from the root on"))
}

fn refused(path: &Path, why: &str, next: &'static str) -> Error {
    Error::Refused { path: path.to_owned(), why: why.into(), next }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(old: &str, new: &str) -> Change {
        Change { old: old.into(), new: new.into(), format: Format::Qcow2 }
    }

    #[test]
    fn images_are_found_by_any_spelling_and_by_their_other_names() {
        let mut changes = Changes::new();
        changes.add(change("/a//b/./x.qcow", "/a/b/x.qcow2")).unwrap();
        let found = changes.of(Path::new("/a/c/../b/x.qcow")).expect("it has a change");
        assert_eq!(found, &change("/a/b/x.qcow", "/a/b/x.qcow2"));
        assert_eq!(changes.of(Path::new("a/b/x.qcow")), None);
        assert_eq!(changes.of(Path::new("/a/b/x.qcow2")), None);
        changes.also_called(Path::new("/link"), Path::new("/a/b/x.qcow")).unwrap();
        assert!(changes.of(Path::new("/link")).is_some());
        assert_eq!(normalised(Path::new("/../..//x/")), Some("/x".into()));
    }

    #[test]
    fn links_are_followed_where_that_is_asked_for() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        std::fs::create_dir(root.join("real")).unwrap();
        std::fs::write(root.join("real/x.qcow"), b"x").unwrap();
        std::os::unix::fs::symlink("real", root.join("link")).unwrap();
        std::fs::hard_link(root.join("real/x.qcow"), root.join("y.qcow")).unwrap();
        let old = root.join("real/x.qcow");
        let change = Change { new: old.clone(), old, format: Format::Qcow2 };
        for (mut changes, follows) in [(Changes::new(), false), (Changes::following_links(), true)]
        {
            changes.add(change.clone()).unwrap();
            for name in ["link/x.qcow", "y.qcow"] {
                assert_eq!(changes.of(&root.join(name)), follows.then_some(&change), "{name}");
            }
            assert_eq!(changes.of(&root.join("link/y.qcow")), None);
        }
    }

    #[test]
    fn a_name_stands_for_one_image_before_and_after() {
        let mut changes = Changes::new();
        changes.add(change("/a", "/b")).unwrap();
        changes.add(change("/same", "/same")).unwrap();
        for (old, new) in [("/a", "/c"), ("/b", "/c"), ("/c", "/a"), ("/c", "/b"), ("/c", "/same")]
        {
            assert!(changes.add(change(old, new)).is_err(), "{old} {new}");
        }
        assert!(changes.add(change("relative", "/c")).is_err());
        let one = Change { format: Format::Qcow1, ..change("/c", "/d") };
        assert!(changes.add(one).is_err());
        assert!(changes.also_called(Path::new("/same"), Path::new("/a")).is_err());
        assert!(changes.also_called(Path::new("/x"), Path::new("/c")).is_err());
        assert_eq!(changes.of(Path::new("/same")), Some(&change("/same", "/same")));
        assert_eq!(changes.iter().count(), 2);
    }
}
