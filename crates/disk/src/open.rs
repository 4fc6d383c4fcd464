//! Opening: which file, in which format, with which bases, under which lock.

mod base;
mod elsewhere;
mod file;
mod lock;
mod named;
mod probe;

use std::collections::HashSet;
use std::fmt;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::codec::aes::Passphrase;
use crate::disk::{Disk, HostErrors, Layer};
use crate::error::{Error, Result};
use crate::finding::{Finding, Rule};
use crate::formats::Format;
use crate::formats::qcow1::Qcow1Image;
use crate::formats::qcow2::Qcow2Image;
use crate::formats::raw::RawImage;
use crate::image::{Facts, Image};
use crate::limits;
use crate::pending::folder_of;
use crate::status::Status;
use crate::storage::{HostFile, Storage};

pub use base::{escaped, shown};
pub use elsewhere::{Elsewhere, Place};
pub use file::open_for_reading;
pub use lock::{expect_lingering_locks, is_in_use, lock_for_reading, lock_for_writing};
pub use named::OpenedFile;
pub use probe::{Likeness, likeness};

/// How a disk is to be opened.
#[derive(Clone, Debug, Default)]
pub struct OpenOptions {
    /// The format of the top image; probed where none is given.
    pub format: Option<Format>,
    /// Whether the images behind the top one are opened too.
    pub with_bases: bool,
    /// Files to take as bases instead of what the images name: the first for the top image's
    /// base, the second for that one's base, and so on.
    pub bases: Vec<PathBuf>,
    /// Formats of the bases, in the same order; the last one given counts for all further ones.
    pub base_formats: Vec<Format>,
    /// Folders in which bases may lie, beside the top image's own.
    pub base_roots: Vec<PathBuf>,
    /// Passphrases of the encrypted layers from the top; a single one counts for all.
    pub passphrases: Vec<Passphrase>,
    /// The external data file of a qcow2 image that has one.
    pub data_file: Option<PathBuf>,
    /// Whether to open without locking, so that a file in use is read all the same.
    pub force_share: bool,
    /// What to do where the host cannot read tables of version 1 images.
    pub host_errors: HostErrors,
    /// What the top image is read through: its bytes as they would be if something were otherwise.
    pub through: Option<Through>,
    /// Whether to give the page cache of what was read back at once.
    pub drop_cache: bool,
    /// Files that are open already, which are taken instead of being opened by the caller's
    /// names for them: a process that may open nothing more reads through these.
    pub opened: Vec<OpenedFile>,
    /// Where images may be beside the host's files. What an image records leads there only from
    /// there.
    pub elsewhere: Elsewhere,
}

/// Makes of a file's bytes what is to be read in their place.
#[derive(Clone)]
pub struct Through(Arc<MakeStorage>);

type MakeStorage = dyn Fn(Box<dyn Storage>) -> Result<Box<dyn Storage>> + Send + Sync;

impl Through {
    /// What `make` makes of the file.
    pub fn new(
        make: impl Fn(Box<dyn Storage>) -> Result<Box<dyn Storage>> + Send + Sync + 'static,
    ) -> Self {
        Self(Arc::new(make))
    }
}

impl fmt::Debug for Through {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Through")
    }
}

/// Who decided in which format an image is read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FormatOrigin {
    /// The caller.
    Named,
    /// The overlay that refers to it.
    Recorded,
    /// Its own first bytes.
    Probed,
}

/// Which file a path led to, whatever it is called.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct FileIdentity {
    device: u64,
    inode: u64,
}

impl FileIdentity {
    /// The identity of an open file. Two names of one block device are one file.
    pub fn of(file: &File) -> std::io::Result<Self> {
        let status = Status::of(file)?;
        if status.kind.is_block_device() {
            return Ok(Self { device: u64::MAX, inode: status.device });
        }
        let (device, inode) = status.place;
        Ok(Self { device, inode })
    }
}

/// What a file looked like when it was opened.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Stamp {
    identity: FileIdentity,
    size: u64,
    modified: (i64, i64),
}

impl Stamp {
    fn of(file: &File, path: &Path) -> Result<Self> {
        let taken = || {
            let Status { size, modified, .. } = Status::of(file)?;
            Ok(Self { identity: FileIdentity::of(file)?, size, modified })
        };
        taken().map_err(|source: std::io::Error| Error::host("looking at the file", path, source))
    }

    /// Seconds since 1970.
    pub(crate) fn modified(&self) -> i64 {
        self.modified.0
    }

    pub(crate) fn still_holds(&self, path: &Path, storage: &dyn Storage) -> Result<()> {
        match storage.as_file() {
            Some(file) if Self::of(file, path)? != *self => {
                Err(Error::Changed { path: path.to_owned() })
            }
            _ => Ok(()),
        }
    }
}

impl Layer {
    /// Which file it is, if it is a file.
    pub fn identity(&self) -> Option<FileIdentity> {
        self.stamp.map(|stamp| stamp.identity)
    }
}

impl Disk {
    /// Opens the image at `path` and, where `options` ask for it, what lies behind it.
    ///
    /// A base is looked up from its overlay's folder, must be a regular file, and must lie in
    /// the top image's folder or below, or in one of `base_roots`; names that are no file names
    /// are refused. Every file is opened for reading only and locked against writers as QEMU
    /// does it, unless `force_share` is set.
    pub fn open(path: &Path, options: &OpenOptions) -> Result<Disk> {
        let mut chain = Opening { options, layers: Vec::new(), seen: HashSet::new(), keys_used: 0 };
        let asked = options.format.map(|format| (format, FormatOrigin::Named));
        match options.elsewhere.open(path) {
            Some(storage) => chain.add_elsewhere(storage?, path.to_owned(), asked)?,
            None => {
                let open = options.open_named(path);
                let file = open.map_err(|source| Error::host("opening", path, source))?;
                chain.add(file, path.to_owned(), asked, true)?;
            }
        }
        while options.with_bases && chain.add_base()? {}
        chain.finish()
    }
}

/// A chain while it is being opened.
struct Opening<'a> {
    options: &'a OpenOptions,
    layers: Vec<Layer>,
    seen: HashSet<FileIdentity>,
    keys_used: usize,
}

impl Opening<'_> {
    fn add(
        &mut self,
        file: File,
        path: PathBuf,
        format: Option<(Format, FormatOrigin)>,
        may_be_device: bool,
    ) -> Result<()> {
        require_seekable(&file, &path, may_be_device)?;
        if !self.options.force_share {
            lock::lock_for_reading(&file, &path)?;
        }
        let stamp = Stamp::of(&file, &path)?;
        let is_new = self.seen.insert(stamp.identity);
        self.refuse_cycle(is_new, &path)?;
        let storage = self.storage(file, path.clone());
        self.add_storage(storage, path, format, Some(stamp))
    }

    /// Adds what is no file. It is known by its name alone.
    fn add_elsewhere(
        &mut self,
        storage: Box<dyn Storage>,
        path: PathBuf,
        format: Option<(Format, FormatOrigin)>,
    ) -> Result<()> {
        let is_new = self.layers.iter().all(|layer| layer.stamp.is_some() || layer.path != path);
        self.refuse_cycle(is_new, &path)?;
        self.add_storage(storage, path, format, None)
    }

    fn add_storage(
        &mut self,
        mut storage: Box<dyn Storage>,
        path: PathBuf,
        format: Option<(Format, FormatOrigin)>,
        stamp: Option<Stamp>,
    ) -> Result<()> {
        if let (true, Some(Through(make))) = (self.layers.is_empty(), &self.options.through) {
            storage = make(storage)?;
        }
        let (format, format_origin) = match format {
            Some(named) => named,
            None => (probe::format_of(&*storage)?, FormatOrigin::Probed),
        };
        let image = self.open_image(format, storage)?;
        self.layers.push(Layer { path, image, format_origin, stamp });
        Ok(())
    }

    fn open_image(&mut self, format: Format, storage: Box<dyn Storage>) -> Result<Box<dyn Image>> {
        match format {
            Format::Raw => Ok(Box::new(RawImage::open(storage)?)),
            Format::Qcow2 => {
                let data_file = self.data_file()?;
                let image = Qcow2Image::open(storage, data_file, self.passphrase())?;
                self.count_key(&image);
                Ok(Box::new(image))
            }
            Format::Qcow1 => {
                let image =
                    Qcow1Image::open_with(storage, self.passphrase(), self.options.host_errors)?;
                self.count_key(&image);
                Ok(Box::new(image))
            }
        }
    }

    /// The passphrase of the next layer that is encrypted.
    fn passphrase(&self) -> Option<&Passphrase> {
        let passphrases = &self.options.passphrases;
        match passphrases.len() {
            1 => passphrases.first(),
            _ => passphrases.get(self.keys_used),
        }
    }

    fn count_key(&mut self, image: &dyn Image) {
        self.keys_used += usize::from(image.facts().is_encrypted);
    }

    fn data_file(&self) -> Result<Option<Box<dyn Storage>>> {
        // Only the top image's can be named.
        let named = self.options.data_file.as_ref().filter(|_| self.layers.is_empty());
        let Some(path) = named else { return Ok(None) };
        if let Some(storage) = self.options.elsewhere.open(path) {
            return storage.map(Some);
        }
        let open = self.options.open_named(path);
        let file = open.map_err(|source| Error::host("opening", path, source))?;
        require_seekable(&file, path, true)?;
        if !self.options.force_share {
            lock::lock_for_reading(&file, path)?;
        }
        Ok(Some(self.storage(file, path.clone())))
    }

    fn storage(&self, file: File, path: PathBuf) -> Box<dyn Storage> {
        let file = HostFile::new(file, path).reading_once();
        Box::new(if self.options.drop_cache { file.dropping_cache() } else { file })
    }

    fn refuse_cycle(&self, is_new: bool, path: &Path) -> Result<()> {
        if is_new {
            return Ok(());
        }
        let overlay = self.layers.last().map_or(path, |layer| &layer.path).to_owned();
        let why = format!(
            "its backing file {} is already part of the chain: the chain never ends",
            shown(path)
        );
        Err(Error::Base { overlay, why })
    }

    /// Opens the last layer's base, if it has one.
    fn add_base(&mut self) -> Result<bool> {
        let depth = self.layers.len();
        let Some(overlay) = self.layers.last() else { return Ok(false) };
        let facts = overlay.image.facts();
        let override_path = self.options.bases.get(depth - 1).cloned();
        if override_path.is_none() {
            refuse_unreadable_name(&overlay.path, facts)?;
        }
        let Some(reference) = facts.backing.clone() else {
            return match override_path {
                // A name that cannot be read is a base all the same.
                Some(path) if has_lost_name(facts) => self.add_named(path, None).map(|()| true),
                Some(_) => Err(Error::Base {
                    overlay: overlay.path.clone(),
                    why: "it has no backing file, so that none can be given in its place".into(),
                }),
                None => Ok(false),
            };
        };
        if depth >= limits::MAX_CHAIN {
            let why = format!("the backing chain is longer than {} images", limits::MAX_CHAIN);
            return Err(Error::Base { overlay: overlay.path.clone(), why });
        }
        match override_path {
            Some(path) => self.add_named(path, reference.format.as_deref())?,
            None => {
                let recorded = reference.format.as_deref();
                let format = self.base_format(depth, recorded, &overlay.path)?;
                self.add_recorded(&reference.name, format)?;
            }
        }
        Ok(true)
    }

    /// Opens the base that the last layer names: beside that, and so elsewhere only where that is.
    fn add_recorded(&mut self, name: &[u8], format: Option<(Format, FormatOrigin)>) -> Result<()> {
        let Some(overlay) = self.layers.last() else { return Ok(()) };
        let top = &self.layers[0].path;
        let roots = &self.options.base_roots;
        let elsewhere = &self.options.elsewhere;
        if overlay.stamp.is_none() {
            let allowed: Vec<&Path> =
                std::iter::once(folder_of(top)).chain(roots.iter().map(|root| &**root)).collect();
            let failed = |error| base_error(&overlay.path, name, error);
            if let Some(path) = elsewhere.base(&overlay.path, name, &allowed) {
                let path = path?;
                if let Some(storage) = elsewhere.open(&path) {
                    return self.add_elsewhere(storage.map_err(failed)?, path, format);
                }
            }
        }
        let search = base::Search { top, overlay: &overlay.path, roots };
        let (file, path) = search.open(name)?;
        self.add(file, path, format, false)
    }

    /// Opens a base that the caller names, who may name what he likes.
    fn add_named(&mut self, path: PathBuf, recorded: Option<&str>) -> Result<()> {
        let format = self.base_format(self.layers.len(), recorded, &path)?;
        let overlay = || self.layers.last().map(|layer| layer.path.clone()).unwrap_or_default();
        if let Some(storage) = self.options.elsewhere.open(&path) {
            return self.add_elsewhere(storage?, path, format);
        }
        let file = open_for_reading(&path).map_err(|source| Error::Base {
            overlay: overlay(),
            why: format!("the base given for it, {}, cannot be opened: {source}", shown(&path)),
        })?;
        self.add(file, path, format, true)
    }

    fn base_format(
        &self,
        depth: usize,
        recorded: Option<&str>,
        overlay: &Path,
    ) -> Result<Option<(Format, FormatOrigin)>> {
        let pinned = &self.options.base_formats;
        if let Some(format) = pinned.get(depth - 1).or_else(|| pinned.last()) {
            return Ok(Some((*format, FormatOrigin::Named)));
        }
        let Some(recorded) = recorded else { return Ok(None) };
        match Format::from_name(recorded) {
            Some(format) => Ok(Some((format, FormatOrigin::Recorded))),
            None => Err(Error::Base {
                overlay: overlay.to_owned(),
                why: format!(
                    "its backing file is recorded to be in the format {}, which is not supported",
                    escaped(recorded.as_bytes())
                ),
            }),
        }
    }

    fn finish(self) -> Result<Disk> {
        let disk = Disk::of_layers(self.layers).opened(&self.options.elsewhere);
        let surplus = self.options.passphrases.len() > self.keys_used.max(1);
        let useless = self.keys_used == 0 && !self.options.passphrases.is_empty();
        if surplus || useless {
            let why = match self.keys_used {
                0 => "a passphrase was given, but the image is not encrypted".to_owned(),
                used => format!(
                    "{} passphrases were given, but {used} layers are encrypted",
                    self.options.passphrases.len()
                ),
            };
            return Err(Error::Key { path: disk.path().to_owned(), why });
        }
        Ok(disk)
    }
}

/// That the base which an image names could not be opened; the host's own failures stay what
/// they are.
fn base_error(overlay: &Path, name: &[u8], error: Error) -> Error {
    match error {
        Error::Io { source, .. } if source.kind() == std::io::ErrorKind::NotFound => Error::Base {
            overlay: overlay.to_owned(),
            why: format!("its backing file {} does not exist", escaped(name)),
        },
        error => error,
    }
}

/// Whether an image names a base in a way that cannot be read.
pub fn has_lost_name(facts: &Facts) -> bool {
    facts.findings.iter().any(is_about_name)
}

/// Of what was read when an image was opened only its name can be unreadable.
fn is_about_name(finding: &Finding) -> bool {
    matches!(finding.rule, Rule::BackingNamePlace | Rule::Qcow2BackingName | Rule::Unreadable)
}

/// A backing file that cannot be named is not the same as none: what it held would read as zeros.
fn refuse_unreadable_name(path: &Path, facts: &Facts) -> Result<()> {
    match facts.findings.iter().find(|finding| is_about_name(finding)) {
        Some(finding) if finding.rule == Rule::Unreadable => Err(Error::Base {
            overlay: path.to_owned(),
            why: "the host cannot read the name of its backing file".into(),
        }),
        Some(finding) => Err(Error::broken(path, *finding)),
        None => Ok(()),
    }
}

fn require_seekable(file: &File, path: &Path, may_be_device: bool) -> Result<()> {
    let status =
        Status::of(file).map_err(|source| Error::host("looking at the file", path, source))?;
    let kind = status.kind;
    if kind.is_file() || (may_be_device && kind.is_block_device()) {
        return Ok(());
    }
    let what = if kind.is_dir() {
        "a folder, not an image"
    } else if kind.is_block_device() {
        "a block device, and bases are regular files unless you name them"
    } else {
        "neither a regular file nor a block device"
    };
    Err(Error::Refused { path: path.to_owned(), why: what.into() })
}
