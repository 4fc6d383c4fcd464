//! Target: a file with a place for every guest byte before the first one is read.

use std::ffi::OsString;
use std::fs::File;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use calve_disk::formats::qcow2::{Qcow2Image, Qcow2Target, Qcow2TargetOptions};
use calve_disk::open::lock_for_writing;
use calve_disk::units::{ClusterSize, GuestOffset, GuestRange, HostOffset, SECTOR, in_memory};
use calve_disk::{
    Disk, Encoding, Error as DiskError, Extent, ExtentList, Form, HostFile, Image, Payload, Rule,
    Storage, StorageMut, Stored, TableWrite, Target,
};

use crate::error::{Error, Result};

/// In which format a disk is rescued.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TargetFormat {
    /// Guest bytes and nothing else.
    Raw,
    /// QCOW version 3, of this cluster size.
    Qcow2(ClusterSize),
}

/// The name that a target bears until all of it was tried.
pub fn working_name(target: &Path) -> PathBuf {
    let mut name = target.file_name().map(OsString::from).unwrap_or_default();
    name.push(".rescue");
    target.with_file_name(name)
}

/// The file that is filled.
pub(crate) struct Work {
    file: HostFile,
    /// Where guest bytes are in it; a raw file needs none.
    tables: Option<Qcow2Image>,
}

/// A lost range of a disk up to this length keeps room in a qcow2 target, in case that another
/// try at its table brings its bytes. A longer one is zeros there for good.
const KEPT_FOR_LATER: u64 = 1 << 30;

/// Bytes of zeros that are left out of a raw file.
const BLOCK: usize = 4096;

impl Work {
    /// Lays out a new file for all that `disk` stores. `may_replace` says whether one that is
    /// there, of a run that was ended while it did this, goes away.
    pub(crate) fn create(
        path: &Path,
        format: TargetFormat,
        disk: &Disk,
        may_replace: bool,
    ) -> Result<Self> {
        let failed = |source| DiskError::host("creating the target", path, source);
        let mut options = File::options();
        options.read(true).write(true).mode(mode_like(disk));
        match may_replace {
            true => options.create(true).truncate(true),
            false => options.create_new(true),
        };
        let file = options.open(path).map_err(failed)?;
        lock_for_writing(&file, path)?;
        let file = HostFile::new(file, path.to_owned());
        let TargetFormat::Qcow2(cluster_size) = format else {
            let size = disk.virtual_size();
            file.set_size(size)
                .map_err(|source| DiskError::host("setting the file's size", path, source))?;
            return Ok(Self { file, tables: None });
        };
        lay_out(&file, cluster_size, disk)?;
        Self::with_tables(file, path)
    }

    /// Opens the file of an earlier run.
    pub(crate) fn open(path: &Path, format: TargetFormat, disk: &Disk) -> Result<Self> {
        let failed = |source| DiskError::host("opening the target", path, source);
        let mut options = File::options();
        let file = options.read(true).write(true).open(path).map_err(failed)?;
        lock_for_writing(&file, path)?;
        let file = HostFile::new(file, path.to_owned());
        let work = match format {
            TargetFormat::Raw => Self { file, tables: None },
            TargetFormat::Qcow2(_) => Self::with_tables(file, path)?,
        };
        let (size, expected) = match &work.tables {
            None => (work.file.size().map_err(failed)?, disk.virtual_size()),
            Some(image) => {
                (image.facts().virtual_size, disk.virtual_size().next_multiple_of(SECTOR))
            }
        };
        if size != expected {
            return Err(Error::Target {
                path: path.to_owned(),
                why: format!("has a disk of {size} bytes, and the source's has {expected}"),
            });
        }
        Ok(work)
    }

    fn with_tables(file: HostFile, path: &Path) -> Result<Self> {
        let reopened = File::open(path)
            .map_err(|source| DiskError::host("opening the target", path, source))?;
        let storage = HostFile::new(reopened, path.to_owned());
        let tables = Qcow2Image::open(Box::new(storage), None, None)?;
        Ok(Self { file, tables: Some(tables) })
    }

    /// Writes guest bytes to their places. Zeros are there already.
    pub(crate) fn fill(&self, start: GuestOffset, bytes: &[u8]) -> Result<()> {
        let Some(image) = &self.tables else {
            return self.write(bytes, HostOffset::new(start.get()));
        };
        let range = GuestRange::new(start, bytes.len() as u64);
        let mut found = ExtentList::starting_at(start);
        while found.next() < range.end() {
            image.map(GuestRange::between(found.next(), range.end()), &mut found)?;
        }
        for Extent { range, payload } in found.as_slice() {
            let from = in_memory(range.start - start);
            let bytes = &bytes[from..][..in_memory(range.length)];
            match payload {
                Payload::Stored(Stored { at, encoding: Encoding::Plain, .. }) => {
                    self.write(bytes, *at)?;
                }
                // Nothing was to be there when it was laid out, and nothing is.
                _ if bytes.iter().all(|byte| *byte == 0) => {}
                _ => {
                    let why = format!(
                        "has no room for guest bytes {} to {}, whose table could not be read when \
                         it was made",
                        range.start,
                        range.end()
                    );
                    return Err(Error::Target { path: self.file.path().to_owned(), why });
                }
            }
        }
        Ok(())
    }

    fn write(&self, bytes: &[u8], at: HostOffset) -> Result<()> {
        let mut from = 0;
        while from < bytes.len() {
            let is_zero = |from: usize| {
                bytes[from..bytes.len().min(from + BLOCK)].iter().all(|byte| *byte == 0)
            };
            let mut to = from;
            while to < bytes.len() && !is_zero(to) {
                to = bytes.len().min(to + BLOCK);
            }
            if from < to {
                let place = at + from as u64;
                self.file
                    .write_at(&bytes[from..to], place)
                    .map_err(|source| DiskError::io("writing", &self.file, place, source))?;
            }
            from = to + BLOCK;
        }
        Ok(())
    }

    /// Returns when all that was written is on the medium.
    pub(crate) fn sync(&self) -> Result<()> {
        let synced = self.file.sync();
        Ok(synced.map_err(|source| DiskError::host("syncing", self.file.path(), source))?)
    }
}

/// Nobody may read the target who may not read the source.
fn mode_like(disk: &Disk) -> u32 {
    let status = disk.top().storage().as_file().and_then(|file| calve_disk::Status::of(file).ok());
    status.map_or(0o600, |status| 0o666 & (status.mode | 0o600))
}

/// Writes the tables of a qcow2 file in which all that `disk` stores has its clusters.
fn lay_out(file: &HostFile, cluster_size: ClusterSize, disk: &Disk) -> Result<()> {
    let options =
        Qcow2TargetOptions { virtual_size: disk.virtual_size(), cluster_size, backing: None };
    let mut target = Qcow2Target::new(file.path(), &options)?;
    let write = |table: &TableWrite| {
        file.write_at(&table.bytes, table.at)
            .map_err(|source| DiskError::io("writing a table", file, table.at, source))
    };
    let end = disk.range().end();
    let mut reached = GuestOffset::default();
    let mut pieces = Vec::new();
    for extent in disk.extents(disk.range()) {
        let extent = extent?;
        if !may_be_filled(&extent) {
            continue;
        }
        let start = cluster_size.floor(extent.range.start.get());
        let last = cluster_size.ceil(extent.range.end().get()).min(end.get());
        let range =
            GuestRange::between(reached.max(GuestOffset::new(start)), GuestOffset::new(last));
        if range.is_empty() {
            continue;
        }
        reached = range.end();
        pieces.clear();
        target.place(range, Form::Plain, &mut pieces)?;
        target.take_tables().iter().try_for_each(write)?;
    }
    let finish = target.finish()?;
    finish.tables.iter().try_for_each(write)?;
    file.set_size(finish.file_size)
        .map_err(|source| DiskError::host("setting the file's size", file.path(), source))?;
    finish.header.iter().try_for_each(write)?;
    Ok(())
}

/// Whether bytes of an extent may ever come to be written.
fn may_be_filled(extent: &Extent) -> bool {
    match extent.payload {
        Payload::Stored(_) => true,
        Payload::Lost(lost) => {
            lost.rule == Rule::Unreadable && extent.range.length <= KEPT_FOR_LATER
        }
        Payload::Hole { .. } | Payload::Zero { .. } | Payload::Backing => false,
    }
}
