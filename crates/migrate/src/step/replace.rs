//! Images whose place a new file takes, and images that are put aside.

use std::fs::{File, FileTimes};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use calve_convert::{
    Base, Cache, Control, Copying, Options, Placement, Qcow2Options, Salvage, TargetFormat,
};
use calve_disk::units::ClusterSize;
use calve_disk::{Disk, OpenOptions, take_over_attributes, with_end};
use calve_plan::Strategy;
use calve_upgrade::Verify;

use super::{Of, Site, same_as_planned};
use crate::error::{Error, Result};
use crate::journal::ImageRecord;
use crate::names;
use crate::stores::Stores;

/// The cluster size that QEMU gives new images.
const CLUSTER_BITS: u8 = 16;

/// The smallest run of zeros that is left out.
const SPARSE: u64 = 4096;

/// How often a rescue tries again what could not be read.
const RETRIES: u32 = 1;

/// Makes the file that is to take the image's place, verified, and like the image in all that the
/// file system keeps of it.
pub(crate) fn make(site: &Site<'_>, of: Of<'_>, record: &mut ImageRecord) -> Result<()> {
    let staged = names::staged(&record.path);
    let failed = |error| Error::host("taking over attributes", &staged, error);
    let times = times(&record.path).map_err(failed)?;
    match record.strategy {
        Strategy::Reflink => reflink(site, of, &staged)?,
        Strategy::Rescue => record.missing = rescue(site, of, &staged)?,
        _ => record.digest = convert(site, of, &staged)?,
    }
    let (new, original) = (File::open(&staged), File::open(&record.path));
    let new = new.map_err(failed)?;
    original.and_then(|original| take_over_attributes(&new, &original)).map_err(failed)?;
    // Nothing depends on them but the tools of its owner: where the host does not let them be said,
    // they stay unsaid.
    let _ = new.set_times(times);
    record.new = Some(names::look_at(&staged)?);
    Ok(())
}

/// When the file was read and written last, before it is read here.
fn times(path: &Path) -> std::io::Result<FileTimes> {
    let metadata = std::fs::metadata(path)?;
    Ok(FileTimes::new().set_accessed(metadata.accessed()?).set_modified(metadata.modified()?))
}

fn cluster_size() -> ClusterSize {
    ClusterSize::from_bits(CLUSTER_BITS).unwrap_or(ClusterSize::SECTOR)
}

pub(super) fn convert(site: &Site<'_>, of: Of<'_>, staged: &Path) -> Result<Option<String>> {
    let path = &of.image.path.0;
    let disk = Disk::open(path, &of.open_options(site)?)?;
    let is_thin = of.image.strategy == Strategy::Convert;
    let base = if is_thin { base(site, of, &disk)? } else { None };
    let options = Options {
        format: TargetFormat::Qcow2(Qcow2Options {
            cluster_size: cluster_size(),
            compress: of.image.packed,
            base,
        }),
        sparse_size: SPARSE,
        placement: Placement::New,
        cache: Cache::Writeback,
        salvage: Salvage::Refuse,
        copying: Copying::Auto,
        verify: true,
        threads: site.threads,
        pace: Arc::clone(site.pace),
    };
    let control = Control { stop: site.stop, progress: &|_| {} };
    Ok(calve_convert::convert(vec![disk], staged, &options, &control)?.blake3)
}

/// What the new image records of its base, if it has one: the name that the image has for it, or
/// where the plan says that it is.
fn base(site: &Site<'_>, of: Of<'_>, disk: &Disk) -> Result<Option<Base>> {
    let Some((path, format)) = of.bases()?.into_iter().next() else { return Ok(None) };
    let recorded = disk.top().facts().backing.as_ref().map(|backing| backing.name.clone());
    let name = of.other_base_name().or(recorded).unwrap_or_default();
    let (bases, base_formats) = of.bases()?.into_iter().skip(1).unzip();
    let open = OpenOptions {
        format: Some(format),
        with_bases: true,
        bases,
        base_formats,
        elsewhere: site.stores.elsewhere(),
        ..OpenOptions::default()
    };
    let format = of.image.base_format.clone().unwrap_or_else(|| format.name().to_owned());
    Ok(Some(Base { name, format, disk: Disk::open(&path, &open)?, layer: Some(1) }))
}

fn reflink(site: &Site<'_>, of: Of<'_>, staged: &Path) -> Result<()> {
    let options = calve_upgrade::Options {
        backing_format: of.image.base_format.clone(),
        backing_name: of.other_base_name(),
        holds: false,
        verify: Verify::Full,
        time: None,
    };
    let source = Disk::open(&of.image.path.0, &OpenOptions::default())?;
    calve_upgrade::reflink_to(&source, staged, &options, site.stop)?;
    Ok(())
}

/// Copies what is left, and returns how many bytes are missing. The map stays beside the image.
fn rescue(site: &Site<'_>, of: Of<'_>, staged: &Path) -> Result<u64> {
    let path = &of.image.path.0;
    let options = calve_rescue::Options {
        target: staged.to_owned(),
        map: map_of(path),
        format: calve_rescue::TargetFormat::Qcow2(cluster_size()),
        retries: RETRIES,
        suspect: Vec::new(),
    };
    // What an earlier run left is begun anew: it may be of another file.
    names::remove(&options.map)?;
    let open = OpenOptions { host_errors: calve_disk::HostErrors::Lose, ..of.open_options(site)? };
    let mut control =
        calve_rescue::Control { stop: site.stop, progress: &|_| {}, label: &mut |_| {} };
    let done = calve_rescue::rescue(&|| Disk::open(path, &open), &options, &mut control)?;
    Ok(done.totals.missing)
}

/// Where the map of a rescue is.
fn map_of(path: &Path) -> PathBuf {
    with_end(path, ".calve-map")
}

/// Removes what was made for an image whose place it did not take.
pub(crate) fn discard(record: &ImageRecord) -> Result<()> {
    let staged = names::staged(&record.path);
    calve_disk::PendingFile::remove_leftovers(&staged);
    if record.strategy == Strategy::Rescue {
        names::remove(&calve_rescue::working_name(&staged))?;
        names::remove(&map_of(&record.path))?;
    }
    names::remove(&staged)
}

/// Puts the new file in the image's place, and keeps the original under another name. Nobody else
/// may use the image meanwhile.
pub(crate) fn take_place(stores: &Stores, record: &ImageRecord) -> Result<()> {
    let (path, staged) = (&record.path, names::staged(&record.path));
    let new = record.new.ok_or_else(|| Error::changed(&staged, "was never finished"))?;
    let found = names::look_at(path)?;
    if found.inode == new.inode {
        return Ok(());
    }
    same_as_planned(stores, record)?;
    if names::look(&staged)? != Some(new) {
        return Err(Error::changed(&staged, "is not as it was made"));
    }
    let _lock = calve_inplace::open_for_writing(path)?;
    keep(record)?;
    names::rename(&staged, path)
}

/// Gives the original its other name.
fn keep(record: &ImageRecord) -> Result<()> {
    let kept = kept_of(record)?;
    match names::look(kept)? {
        Some(found) if found.inode == record.old.inode => return Ok(()),
        _ => names::link(&record.path, kept)?,
    }
    // Some file systems (sshfs) have a number for each name: nobody would know the original again.
    if names::look_at(kept)?.inode != record.old.inode {
        names::remove(kept)?;
        let why = "is on a file system that numbers names and not files, so that an original is not \
                   known again: upgrade it where it lies (--way upgrade)";
        return Err(Error::refused(&record.path, why));
    }
    Ok(())
}

pub(super) fn kept_of(record: &ImageRecord) -> Result<&Path> {
    let none = || Error::refused(&record.path, "has no name for its original");
    record.kept.as_deref().ok_or_else(none)
}

/// Puts the original in its place again, wherever that was left.
pub(crate) fn give_place_back(record: &ImageRecord, force: bool) -> Result<()> {
    let (path, kept) = (&record.path, kept_of(record)?);
    let found = names::look(path)?;
    let is_kept = names::look(kept)?.is_some_and(|kept| kept.inode == record.old.inode);
    if found.is_some_and(|found| found.inode == record.old.inode) {
        if is_kept {
            names::remove(kept)?;
        }
        return discard(record);
    }
    if !is_kept {
        return Err(Error::refused(kept, "is not there, or another file: nothing can be put back"));
    }
    if found != record.new && !force {
        return Err(Error::changed(path, "was written to since: --force loses that"));
    }
    if record.strategy == Strategy::Rescue {
        names::remove(&map_of(path))?;
    }
    let _lock = found.map(|_| calve_inplace::open_for_writing(path)).transpose()?;
    names::rename(kept, path)
}

/// Removes the original, and returns how many bytes that frees.
pub(crate) fn release(record: &ImageRecord) -> Result<u64> {
    let kept = kept_of(record)?;
    match names::look(kept)? {
        Some(found) if found.inode == record.old.inode => {
            names::remove(kept)?;
            Ok(found.size)
        }
        Some(_) => Err(Error::changed(kept, "is another file than the original")),
        None => Ok(0),
    }
}

/// Gives the image another name, under which nobody looks for it.
pub(crate) fn put_aside(stores: &Stores, record: &mut ImageRecord) -> Result<()> {
    let kept = kept_of(record)?.to_owned();
    let is_kept = names::look(&kept)?.is_some_and(|kept| kept.inode == record.old.inode);
    if names::look(&record.path)?.is_none() && is_kept {
        return Ok(());
    }
    same_as_planned(stores, record)?;
    let _lock = calve_inplace::open_for_writing(&record.path)?;
    keep(record)?;
    names::remove(&record.path)
}

/// Gives the image its name again.
pub(crate) fn put_back(record: &ImageRecord) -> Result<()> {
    let (path, kept) = (&record.path, kept_of(record)?);
    let is_kept = names::look(kept)?.is_some_and(|kept| kept.inode == record.old.inode);
    match names::look(path)? {
        Some(found) if found.inode == record.old.inode => {
            if is_kept {
                names::remove(kept)
            } else {
                Ok(())
            }
        }
        Some(_) => Err(Error::changed(path, "is another file by now")),
        None if is_kept => names::rename(kept, path),
        None => Err(Error::refused(kept, "is not there: nothing can be put back")),
    }
}
