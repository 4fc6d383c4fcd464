//! Digests of disks that are upgraded: as their guests see them, through all that they lie on, before
//! their family is switched and when all of it is.

use calve_convert::Control;
use calve_disk::{Disk, Format, OpenOptions};
use calve_plan::Strategy;

use super::{Of, Site};
use crate::error::{Error, Result};
use crate::journal::ImageRecord;
use crate::stores::is_object;

/// Notes the digest of the disk as it is now, where that is wanted and can be had.
pub(super) fn take(site: &Site<'_>, of: Of<'_>, record: &mut ImageRecord) -> Result<()> {
    let Some(size) = wanted(site, of)? else { return Ok(()) };
    record.digest = Some(digest(site, of, &of.open_options(site)?, size)?);
    Ok(())
}

/// Fails where the disk is another one than before.
pub(super) fn compare(site: &Site<'_>, of: Of<'_>, record: &ImageRecord) -> Result<()> {
    let Some(before) = &record.digest else { return Ok(()) };
    let Some(size) = wanted(site, of)? else { return Ok(()) };
    let mut options = of.open_options(site)?;
    options.format = Some(Format::Qcow2);
    if of.image.strategy == Strategy::Flatten {
        (options.bases, options.base_formats) = (Vec::new(), Vec::new());
    }
    for (format, layer) in options.base_formats.iter_mut().zip(of.layers()?) {
        if layer.strategy.changes_format() {
            *format = Format::Qcow2;
        }
    }
    let after = digest(site, of, &options, size)?;
    match after == *before {
        true => Ok(()),
        false => Err(Error::Mismatch { path: record.path.clone() }),
    }
}

/// Bytes of the disk, where it is to be digested. New files are digested as they are made, and what
/// is encrypted cannot be read.
fn wanted(site: &Site<'_>, of: Of<'_>) -> Result<Option<u64>> {
    let is_upgraded = matches!(of.image.strategy, Strategy::Upgrade | Strategy::Reflink);
    // An object that took another's place is a copy of what was read.
    let is_copy = of.image.strategy.replaces() && is_object(&of.image.path.0);
    if !site.digests || !(is_upgraded || is_copy) || of.image.encrypted {
        return Ok(None);
    }
    let is_secret = of.layers()?.iter().any(|layer| layer.encrypted);
    Ok(of.image.virtual_size.filter(|_| !is_secret))
}

/// BLAKE3 of the disk of this size.
fn digest(site: &Site<'_>, of: Of<'_>, options: &OpenOptions, size: u64) -> Result<String> {
    let disk = Disk::open(&of.image.path.0, options)?;
    let control = Control { stop: site.stop, progress: &|_| {} };
    Ok(calve_convert::digest(&disk, size, site.threads, &control)?.to_hex().to_string())
}
