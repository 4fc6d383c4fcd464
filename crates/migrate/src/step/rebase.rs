//! qcow2 overlays that have to record another format, or another name, of their base.

use std::sync::atomic::AtomicBool;

use calve_disk::Format;
use calve_references::{Child, HeaderChange};

use super::opened::Opened;
use super::{Of, Site, set_time, time_of};
use crate::error::{Error, Result};
use crate::journal::ImageRecord;
use crate::stores::{Stores, is_object};

/// Plans the change of the header, which the journal keeps for the way back.
pub(crate) fn plan(site: &Site<'_>, of: Of<'_>, record: &mut ImageRecord) -> Result<()> {
    let child = Opened::for_header(site.stores, &record.path)?.image;
    let name = match of.other_base_name() {
        Some(name) => name,
        None => child.backing()?.name,
    };
    let format = of.image.base_format.as_deref().and_then(Format::from_name);
    let format = format
        .ok_or_else(|| Error::refused(&record.path, "has no base of a known format in the plan"))?;
    record.header = child.plan(&name, format)?;
    Ok(())
}

pub(crate) fn carry_out(site: &Site<'_>, record: &mut ImageRecord) -> Result<()> {
    change(site.stores, record, site.stop, Child::write)?;
    record.new = Some(site.stores.look_at(&record.path)?);
    Ok(())
}

pub(crate) fn back(stores: &Stores, record: &mut ImageRecord) -> Result<()> {
    change(stores, record, &AtomicBool::new(false), Child::undo)?;
    if is_object(&record.path) && record.header.is_some() {
        record.new = stores.look(&record.path)?;
    }
    Ok(())
}

fn change(
    stores: &Stores,
    record: &ImageRecord,
    stop: &AtomicBool,
    act: impl FnOnce(&Child, &HeaderChange) -> calve_references::Result<bool>,
) -> Result<()> {
    let Some(header) = &record.header else { return Ok(()) };
    let opened = Opened::for_header(stores, &record.path)?;
    act(&opened.image, header)?;
    opened.publish(stop)?;
    // Its disk is what it was, and so is the time at which that was written.
    set_time(&record.path, time_of(&record.old))
}
