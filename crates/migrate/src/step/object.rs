//! Objects whose place a new one takes. A bucket has no names to be changed: the new object is made beside
//! the image, and its store copies it into the image's place in one step, when the original was
//! copied aside.

use std::path::Path;
use std::sync::atomic::AtomicBool;

use calve_convert::Control;
use calve_disk::{Disk, Format, HostFile, OpenOptions};
use calve_plan::Strategy;
use calve_store::{Condition, Upload, hold_the_same, pieces};

use super::{Of, Site, replace, same_as_planned, upgrade};
use crate::error::{Error, Result};
use crate::journal::{ImageRecord, Stamped};
use crate::names;
use crate::stores::{Stores, stamp, stamp_of};

/// What the new file is called in a folder of its own.
const RESULT: &str = "result";

/// Makes the object that is to take the image's place: converted here, sent, and read again from
/// its store.
pub(super) fn make(site: &Site<'_>, of: Of<'_>, record: &mut ImageRecord) -> Result<()> {
    let (path, staged) = (&record.path, names::staged(&record.path));
    site.stores.settle(&[&staged])?;
    let folder = tempfile::Builder::new().prefix("calve-").tempdir();
    let folder = folder.map_err(|it| Error::host("making a temporary folder for it", path, it))?;
    let result = folder.path().join(RESULT);
    let digest = replace::convert(site, of, &result)?;
    let file = std::fs::File::open(&result).map_err(|it| Error::host("opening", &result, it))?;
    let size = file.metadata().map_err(|it| Error::host("looking at", &result, it))?.len();
    let object = site.stores.object(&staged)?;
    let upload = Upload::begin(&object, Some(&site.stores.head(path)?))?;
    let file = HostFile::new(file, result);
    upload.put(&pieces::all_new(size), &file, None, site.stop, &|_| {})?;
    let tag = upload.complete(&Condition::IsNew, size)?;
    record.new = Some(Stamped { inode: tag.number(), size, modified: 0 });
    if digest.is_some() && digest_of(site, of, &staged)? != digest {
        return Err(Error::Mismatch { path: staged });
    }
    record.digest = digest;
    Ok(())
}

/// BLAKE3 of the disk of the new object, whose bases are as they were.
fn digest_of(site: &Site<'_>, of: Of<'_>, staged: &Path) -> Result<Option<String>> {
    let mut options = OpenOptions { format: Some(Format::Qcow2), ..of.open_options(site)? };
    options.with_bases = of.image.strategy == Strategy::Convert;
    if !options.with_bases {
        (options.bases, options.base_formats) = (Vec::new(), Vec::new());
    }
    let disk = Disk::open(staged, &options)?;
    let size = disk.top().facts().virtual_size;
    let control = Control { stop: site.stop, progress: &|_| {} };
    Ok(Some(calve_convert::digest(&disk, size, site.threads, &control)?.to_hex().to_string()))
}

/// Removes what was made for an image whose place it did not take, or did take.
pub(super) fn discard(stores: &Stores, record: &ImageRecord) -> Result<()> {
    let staged = names::staged(&record.path);
    stores.settle(&[&staged])?;
    Ok(stores.object(&staged)?.remove()?)
}

/// Puts what the new object holds in the image's place, and keeps a copy of the original.
pub(super) fn take_place(site: &Site<'_>, record: &mut ImageRecord) -> Result<()> {
    let (stores, path) = (site.stores, &record.path);
    let staged = names::staged(path);
    let new = record.new.ok_or_else(|| Error::changed(&staged, "was never finished"))?;
    stores.settle(&[path, replace::kept_of(record)?])?;
    let found = stores.look_at(path)?;
    if found.inode != record.old.inode {
        if !is_ours(stores, record, found, site.stop)? {
            same_as_planned(stores, record)?;
        }
        record.new = Some(found);
        return Ok(());
    }
    let result = stores.open(&staged)?;
    if stamp_of(&result) != new {
        return Err(Error::changed(&staged, "is not as it was made"));
    }
    let original = stores.open(path)?;
    if stamp_of(&original) != found {
        return Err(Error::changed(path, "was replaced meanwhile: scan it again"));
    }
    let kept = replace::kept_of(record)?;
    let head = stores.head(path)?;
    match stores.look(kept)? {
        // A run that was killed may have made it.
        Some(_) if hold_the_same(&stores.open(kept)?, &original, site.stop)? => {}
        Some(_) => return Err(Error::refused(kept, "exists already: move it away first")),
        None => {
            let object = stores.object(kept)?;
            object.become_copy(&original, &head, &Condition::IsNew, site.stop)?;
        }
    }
    let object = stores.object(path)?;
    let condition = Condition::Is(original.tag().clone());
    let tag = object.become_copy(&result, &head, &condition, site.stop)?;
    record.new = Some(Stamped { inode: tag.number(), ..new });
    Ok(())
}

/// Whether what has the image's place is what was made for it.
fn is_ours(
    stores: &Stores,
    record: &ImageRecord,
    found: Stamped,
    stop: &AtomicBool,
) -> Result<bool> {
    if record.new.is_some_and(|new| new.inode == found.inode) {
        return Ok(true);
    }
    // Its tag may be another one than that of the object that it was copied from.
    let staged = names::staged(&record.path);
    Ok(stores.look(&staged)?.is_some()
        && hold_the_same(&stores.open(&staged)?, &stores.open(&record.path)?, stop)?)
}

/// Puts the original in its place again, wherever that was left.
pub(super) fn give_place_back(
    stores: &Stores,
    record: &mut ImageRecord,
    force: bool,
) -> Result<()> {
    let never = AtomicBool::new(false);
    let (path, kept) = (&record.path, replace::kept_of(record)?);
    stores.settle(&[path, kept])?;
    // What is decided of this object is done to it, and to none that somebody puts there meanwhile.
    let head = stores.object(path)?.head()?;
    let found = head.as_ref().map(stamp);
    let is_kept = stores.look(kept)?.is_some();
    if found.is_some_and(|found| found.inode == record.old.inode) {
        if is_kept && hold_the_same(&stores.open(kept)?, &stores.open(path)?, &never)? {
            stores.object(kept)?.remove()?;
        }
        record.new = None;
        return discard(stores, record);
    }
    if is_kept {
        if !upgrade::is_version1(stores, kept, record.old.size)? {
            let why = "is not the original any more: nothing can be put back";
            return Err(Error::refused(kept, why));
        }
        let original = stores.open(kept)?;
        let is_back = match found {
            None => false,
            Some(_) => hold_the_same(&original, &stores.open(path)?, &never)?,
        };
        if !is_back {
            if let Some(found) = found.filter(|_| !force)
                && !is_ours(stores, record, found, &never)?
            {
                return Err(Error::changed(path, "was replaced since: --force loses that"));
            }
            let object = stores.object(path)?;
            let condition = head.map_or(Condition::IsNew, |head| Condition::Is(head.tag));
            object.become_copy(&original, &stores.head(kept)?, &condition, &never)?;
        }
        stores.object(kept)?.remove()?;
    } else if found.is_none() || !upgrade::is_old(stores, record)? {
        return Err(Error::refused(kept, "is not there: nothing can be put back"));
    }
    record.new = Some(stores.look_at(path)?);
    discard(stores, record)
}

/// Removes the original, and returns how many bytes that frees.
pub(super) fn release(stores: &Stores, record: &ImageRecord) -> Result<u64> {
    let kept = replace::kept_of(record)?;
    match stores.look(kept)? {
        Some(found) if found.size == record.old.size => {
            stores.object(kept)?.remove()?;
            Ok(found.size)
        }
        Some(_) => Err(Error::changed(kept, "is another object than the original")),
        None => Ok(0),
    }
}
