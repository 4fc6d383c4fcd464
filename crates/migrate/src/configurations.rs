//! Configurations that name migrated images: found, told of as a patch, or changed with the
//! families whose images they name.
//!
//! Families are migrated side by side, and one file may name images of several. So what a file has
//! to be is always made from what it was before all of them, and from which of them are migrated;
//! then any one of them can be taken back.

mod followed;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::Mutex;

use calve_disk::Format;
use calve_disk::open::shown;
use calve_plan::{Image, Plan};
use calve_references::{Change, Changes, Note, Rewritten, Storages, kind_of, limits, rewrite};

use crate::error::{Error, Result};
use crate::journal::{FamilyState, Journal};
pub(crate) use followed::{Following, back, can_go_back, follow};

/// Notes about configurations that are kept; a person reads them.
const MAX_NOTES: usize = 1000;

/// What Proxmox VE calls the file of its storages.
const STORAGES: &str = "storage.cfg";

/// Configurations that name images of a plan.
#[derive(Debug, Default)]
pub struct Configurations {
    /// Each that names an image of a family.
    files: BTreeSet<Arc<Path>>,
    /// Those that name images of a family, by its number, in order.
    by_family: BTreeMap<u64, Vec<Arc<Path>>>,
    /// The storages of Proxmox VE: the file's bytes.
    storages: Vec<u8>,
    notes: Vec<Noted>,
    further_notes: usize,
    looked_at: u64,
}

/// Something in a configuration that stays as it is and is for a person to judge.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Noted {
    /// The configuration.
    pub path: PathBuf,
    /// What and where.
    pub note: Note,
}

/// What is left to be changed by hand, or by `patch`.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Patches {
    /// What `patch -p1 -d /` takes.
    pub bytes: Vec<u8>,
    /// How many files it changes.
    pub files: u64,
}

impl Configurations {
    /// Reads the files named, and those in the folders named, and finds those that name an image
    /// that the plan migrates. Links in folders are not followed.
    ///
    /// # Errors
    /// [`Error::References`] where a configuration cannot be understood, [`Error::Disk`] where one
    /// cannot be read, [`Error::Refused`] where there are two files of storages, or one of `roots` is
    /// neither a regular file nor a folder.
    pub fn find(roots: &[PathBuf], plan: &Plan) -> Result<Self> {
        let mut paths = BTreeSet::new();
        for root in roots {
            let real = root.canonicalize().map_err(|error| Error::host("opening", root, error))?;
            let kind = real.metadata().map_err(|error| Error::host("opening", root, error))?;
            if !(kind.is_file() || kind.is_dir()) {
                return Err(Error::refused(root, "is neither a regular file nor a folder"));
            }
            walk(&real, &mut paths)?;
        }
        let mut found = Self::default();
        let mut is_storages = paths.iter().filter(|path| path.ends_with(STORAGES));
        if let Some(path) = is_storages.next() {
            found.storages = read(path)?.unwrap_or_default();
            if let Some(other) = is_storages.next() {
                let why = format!("is the second file of storages, after {}", shown(path));
                return Err(Error::refused(other, why));
            }
        }
        let images = plan.families.iter().flat_map(|family| &family.images);
        let images: Vec<&Image> = images.filter(|image| image.strategy.changes_format()).collect();
        let changes = changes(images.iter().map(|image| &*image.path.0))?;
        let families = changes.iter().zip(&images);
        let families: BTreeMap<&Path, u64> =
            families.map(|(change, image)| (&*change.old, image.family)).collect();
        let storages = Storages::parse(&found.storages);
        for path in paths {
            let Some(bytes) = read(&path)? else { continue };
            let Some(rewritten) = rewritten(&path, &bytes, &changes, &storages)? else { continue };
            found.looked_at += 1;
            found.note(&path, rewritten.notes);
            let of = |edit: &calve_references::Edit| families.get(&*edit.image).copied();
            let named: BTreeSet<u64> = rewritten.edits.iter().filter_map(of).collect();
            if !named.is_empty() {
                let path: Arc<Path> = path.into();
                for family in named {
                    found.by_family.entry(family).or_default().push(Arc::clone(&path));
                }
                found.files.insert(path);
            }
        }
        Ok(found)
    }

    fn note(&mut self, path: &Path, notes: Vec<Note>) {
        for note in notes {
            if self.notes.len() == MAX_NOTES {
                self.further_notes += 1;
            } else {
                self.notes.push(Noted { path: path.to_owned(), note });
            }
        }
    }

    /// What stays as it is in them and is for a person to judge: at most a thousand, and how many
    /// there are beside.
    pub fn notes(&self) -> (&[Noted], usize) {
        (&self.notes, self.further_notes)
    }

    /// How many configurations were read, and how many of them name an image in a way that has to
    /// change.
    pub fn counts(&self) -> (u64, u64) {
        (self.looked_at, u64::try_from(self.files.len()).unwrap_or(u64::MAX))
    }

    /// What is still to be changed for all families of a run that are migrated.
    ///
    /// # Errors
    /// As [`Configurations::find`], and [`Error::Journal`].
    pub fn patches(&self, journal: &Mutex<Journal>, run: i64) -> Result<Patches> {
        let migrated = {
            let journal = journal.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            let families = journal.families(run)?;
            let done = families.iter().filter(|family| family.state == FamilyState::Done);
            changes_of(&journal, run, done.map(|family| family.number))?
        };
        let storages = Storages::parse(&self.storages);
        let mut patches = Patches::default();
        for path in &self.files {
            let Some(old) = read(path)? else { continue };
            let new = rewritten(path, &old, &migrated, &storages)?;
            if let Some(new) = new.and_then(|new| new.bytes) {
                patches.bytes.extend(calve_references::patch(path, &old, &new));
                patches.files += 1;
            }
        }
        Ok(patches)
    }
}

/// Images that become qcow2 under the names that they have.
fn changes<'a>(images: impl Iterator<Item = &'a Path>) -> Result<Changes> {
    let mut changes = Changes::following_links();
    for image in images {
        let (old, new) = (image.to_owned(), image.to_owned());
        changes.add(Change { old, new, format: Format::Qcow2 })?;
    }
    Ok(changes)
}

/// The changes that these families of a run made.
fn changes_of(journal: &Journal, run: i64, families: impl Iterator<Item = u64>) -> Result<Changes> {
    let mut paths = Vec::new();
    for family in families {
        let images = journal.images(run, family)?.into_iter();
        let images = images.filter(|image| image.strategy.changes_format());
        paths.extend(images.map(|image| image.path));
    }
    changes(paths.iter().map(PathBuf::as_path))
}

/// All regular files at or below a path.
fn walk(path: &Path, found: &mut BTreeSet<PathBuf>) -> Result<()> {
    let failed = |error| Error::host("reading the folder", path, error);
    let kind = path.symlink_metadata().map_err(failed)?.file_type();
    if kind.is_file() {
        found.insert(path.to_owned());
    } else if kind.is_dir() {
        for entry in fs::read_dir(path).map_err(failed)? {
            walk(&entry.map_err(failed)?.path(), found)?;
        }
    }
    Ok(())
}

/// The bytes of a file that may be a configuration; nothing where it is gone, or too long for one
/// and not called like one.
fn read(path: &Path) -> Result<Option<Vec<u8>>> {
    let failed = |error| Error::host("reading", path, error);
    let file = match File::open(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        opened => opened.map_err(failed)?,
    };
    let mut bytes = Vec::new();
    let most = limits::MAX_CONFIGURATION as u64 + 1;
    file.take(most).read_to_end(&mut bytes).map_err(failed)?;
    let is_called_so = path.extension().is_some_and(|end| end == "xml" || end == "conf");
    Ok((bytes.len() <= limits::MAX_CONFIGURATION || is_called_so).then_some(bytes))
}

/// What a configuration has to be; nothing where it is none.
fn rewritten(
    path: &Path,
    bytes: &[u8],
    changes: &Changes,
    storages: &Storages,
) -> Result<Option<Rewritten>> {
    let kind = kind_of(path, bytes);
    Ok(kind.map(|kind| rewrite(kind, path, bytes, changes, storages)).transpose()?)
}
