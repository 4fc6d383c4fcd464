//! One image: how it is prepared, switched to, taken back, and finished.
//!
//! Each of these can be done again after a crash anywhere in it: what is on the medium tells how far
//! it came. Preparing changes no image, and switching is one step of the file system, or an upgrade,
//! which is one sector.

mod digest;
mod object;
mod opened;
mod rebase;
mod replace;
mod upgrade;

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use calve_convert::Pace;
use calve_disk::{Format, OpenOptions};
use calve_plan::{Family, Image, Kept, Strategy};
use calve_upgrade::Time;

use crate::error::{Error, Result};
use crate::journal::{ImageRecord, ImageState, Stamped, now};
use crate::names;
use crate::stores::{Stores, is_object};

/// What all images of a run have in common.
pub(crate) struct Site<'a> {
    pub(crate) run: i64,
    pub(crate) kept: &'a Kept,
    /// Of images that are objects.
    pub(crate) stores: &'a Stores,
    pub(crate) stop: &'a AtomicBool,
    /// Whether disks that are upgraded are digested too.
    pub(crate) digests: bool,
    /// Threads for one image.
    pub(crate) threads: NonZeroUsize,
    /// What all conversions together may write.
    pub(crate) pace: &'a Arc<Pace>,
}

/// An image, and the family that it is of.
#[derive(Clone, Copy)]
pub(crate) struct Of<'a> {
    pub(crate) image: &'a Image,
    pub(crate) family: &'a Family,
}

fn undescribed(path: &Path) -> Error {
    Error::refused(path, "is a base that the plan does not describe")
}

impl<'a> Of<'a> {
    /// The name that is recorded of the base, where that is another one than before.
    fn other_base_name(self) -> Option<Vec<u8>> {
        let base = self.image.base.as_ref().filter(|_| self.image.base_moved)?;
        Some(base.0.as_os_str().as_encoded_bytes().to_owned())
    }

    /// The files behind the image, the nearest first, with their formats as they are before the
    /// family is migrated.
    fn bases(self) -> Result<Vec<(PathBuf, Format)>> {
        let mut bases = Vec::new();
        let mut above = self.image;
        for base in self.layers()? {
            let format = match base.format.as_deref() {
                None => Some(Format::Raw),
                Some(name) => Format::from_name(name),
            };
            // By the name under which it was found.
            let (Some(path), Some(format)) = (&above.base, format) else {
                return Err(undescribed(&base.path.0));
            };
            bases.push((path.0.clone(), format));
            above = base;
        }
        Ok(bases)
    }

    /// How the image is opened before the family is migrated, with the bases that the plan knows,
    /// wherever they are.
    fn open_options(self, site: &Site<'_>) -> Result<OpenOptions> {
        let (bases, base_formats) = self.bases()?.into_iter().unzip();
        Ok(OpenOptions {
            format: Some(Format::Qcow1),
            with_bases: true,
            bases,
            base_formats,
            elsewhere: site.stores.elsewhere(),
            ..OpenOptions::default()
        })
    }

    /// The images behind the image, the nearest first.
    fn layers(self) -> Result<Vec<&'a Image>> {
        let mut layers: Vec<&Image> = Vec::new();
        let mut above = self.image;
        while let Some(path) = &above.base {
            let order = above.base_order;
            let base = self.family.images.iter().find(|image| Some(image.order) == order);
            // A plan that was edited may have lost it, or have a circle.
            let base = base.filter(|_| layers.len() < self.family.images.len());
            let base = base.ok_or_else(|| undescribed(&path.0))?;
            layers.push(base);
            above = base;
        }
        Ok(layers)
    }
}

/// Nanoseconds in a second.
const SECOND: i64 = 1_000_000_000;

/// When a file was written last.
fn time_of(stamp: &Stamped) -> Time {
    Time {
        seconds: stamp.modified.div_euclid(SECOND),
        nanoseconds: stamp.modified.rem_euclid(SECOND),
    }
}

/// Says when a file was written last. An object is written when it is written.
fn set_time(path: &Path, time: Time) -> Result<()> {
    match is_object(path) {
        true => Ok(()),
        false => Ok(calve_upgrade::set_written(path, time)?),
    }
}

/// What is known of an image before anything is done with it; `known` is what an earlier attempt left.
pub(crate) fn begin(site: &Site<'_>, image: &Image, known: &[ImageRecord]) -> ImageRecord {
    let planned = Stamped {
        inode: image.stamp.inode,
        size: image.stamp.size,
        modified: image.stamp.modified,
    };
    // What was taken back holds what it did, and an object has another tag afterwards; so has one
    // that was begun again since, and came no further.
    let is_it = |it: &&ImageRecord| it.place == image.order && it.path == image.path.0;
    let known = known.iter().find(is_it).filter(|_| is_object(&image.path.0));
    let back = known.and_then(|it| match it.state {
        ImageState::Undone => it.new.or(Some(it.old)),
        ImageState::Prepared => Some(it.old),
        _ => None,
    });
    let names_kept = image.strategy.replaces() || image.strategy == Strategy::Quarantine;
    let kept = names_kept.then(|| names::kept(&image.path.0, site.kept, (site.run, image)));
    ImageRecord {
        family: image.family,
        place: image.order,
        path: image.path.0.clone(),
        strategy: image.strategy,
        state: ImageState::Prepared,
        old: back.unwrap_or(planned),
        new: None,
        kept,
        digest: None,
        header: None,
        missing: 0,
        began: now(),
        ended: None,
    }
}

/// Fails where the image is not the file that the plan was made of.
pub(crate) fn same_as_planned(stores: &Stores, record: &ImageRecord) -> Result<()> {
    let found = stores.look_at(&record.path)?;
    let is_object = is_object(&record.path);
    let is_later = found.modified != record.old.modified && !is_object;
    let why = if found.inode != record.old.inode && is_object {
        "is another object than when the plan was made: scan it again"
    } else if found.inode != record.old.inode {
        "is another file than when the plan was made"
    } else if found.size != record.old.size || is_later {
        "was written to since the plan was made"
    } else {
        return Ok(());
    };
    Err(Error::changed(&record.path, why))
}

/// Fails where something bears a name that will be needed.
pub(crate) fn is_free(stores: &Stores, record: &ImageRecord) -> Result<()> {
    if !(record.strategy.replaces() || record.strategy == Strategy::Quarantine) {
        return Ok(());
    }
    for name in [Some(names::staged(&record.path)), record.kept.clone()].into_iter().flatten() {
        if stores.look(&name)?.is_some() {
            return Err(Error::refused(&name, "exists already: move it away first"));
        }
    }
    Ok(())
}

/// Removes what was prepared for an image that was not switched.
pub(crate) fn discard(stores: &Stores, record: &ImageRecord) -> Result<()> {
    match record.strategy.replaces() {
        false => Ok(()),
        true if is_object(&record.path) => object::discard(stores, record),
        true => replace::discard(record),
    }
}

/// Removes what is left beside an image that took its place: of an object, what that was copied from.
pub(crate) fn tidy(stores: &Stores, record: &ImageRecord) -> Result<()> {
    if is_object(&record.path) { discard(stores, record) } else { Ok(()) }
}

/// Makes what has to be there before anything is switched, and looks at what would keep it from
/// being done.
pub(crate) fn prepare(site: &Site<'_>, of: Of<'_>, record: &mut ImageRecord) -> Result<()> {
    digest::take(site, of, record)?;
    match record.strategy {
        Strategy::Upgrade => upgrade::survey(site, of, record),
        strategy if strategy.replaces() && is_object(&record.path) => {
            object::make(site, of, record)
        }
        strategy if strategy.replaces() => replace::make(site, of, record),
        Strategy::Rebase => rebase::plan(site, of, record),
        _ => Ok(()),
    }
}

/// Fails where a disk that was digested before its family was switched reads otherwise now.
pub(crate) fn compare(site: &Site<'_>, of: Of<'_>, record: &ImageRecord) -> Result<()> {
    digest::compare(site, of, record)
}

/// Does what makes the image a migrated one. Where it is one already, that is seen.
pub(crate) fn switch(site: &Site<'_>, of: Of<'_>, record: &mut ImageRecord) -> Result<()> {
    match record.strategy {
        Strategy::Upgrade => upgrade::carry_out(site, of, record)?,
        Strategy::Rebase => rebase::carry_out(site, record)?,
        Strategy::Quarantine => replace::put_aside(site.stores, record)?,
        strategy if strategy.replaces() && is_object(&record.path) => {
            object::take_place(site, record)?;
        }
        strategy if strategy.replaces() => replace::take_place(site.stores, record)?,
        _ => {}
    }
    (record.state, record.ended) = (ImageState::Switched, Some(now()));
    Ok(())
}

/// Makes the image what it was, wherever it was left; `force` also where something was written to
/// it since.
pub(crate) fn back(stores: &Stores, record: &mut ImageRecord, force: bool) -> Result<()> {
    match record.strategy {
        Strategy::Upgrade => upgrade::back(stores, record, force)?,
        Strategy::Rebase => rebase::back(stores, record)?,
        Strategy::Quarantine => replace::put_back(record)?,
        strategy if strategy.replaces() && is_object(&record.path) => {
            object::give_place_back(stores, record, force)?;
        }
        strategy if strategy.replaces() => replace::give_place_back(record, force)?,
        _ => {}
    }
    record.state = ImageState::Undone;
    Ok(())
}

/// Whether its original is damaged, so that nothing that is made of it holds all that it may.
pub(crate) fn is_of_damaged(record: &ImageRecord) -> bool {
    matches!(record.strategy, Strategy::Rescue | Strategy::Quarantine)
}

/// Whether there is anything to give up of a way back: the original, or the undo record; `None` of
/// what leaves neither.
pub(crate) fn has_way_back(stores: &Stores, record: &ImageRecord) -> Result<Option<bool>> {
    Ok(match record.strategy {
        Strategy::Upgrade => Some(upgrade::has_way_back(stores, record)?),
        strategy if strategy.replaces() => Some(stores.look(replace::kept_of(record)?)?.is_some()),
        _ => None,
    })
}

/// Gives up the way back of a migrated image, and returns how many bytes that frees.
pub(crate) fn release(stores: &Stores, record: &mut ImageRecord) -> Result<u64> {
    let freed = match record.strategy {
        Strategy::Upgrade => upgrade::release(stores, record)?,
        strategy if strategy.replaces() && is_object(&record.path) => {
            object::release(stores, record)?
        }
        strategy if strategy.replaces() => replace::release(record)?,
        _ => 0,
    };
    record.state = ImageState::Released;
    Ok(freed)
}
