//! qcow2 overlays that have to record another format, or another name, of their base.

use calve_disk::Format;
use calve_references::{Child, HeaderChange};

use super::Of;
use crate::error::{Error, Result};
use crate::journal::ImageRecord;
use crate::names;

/// Plans the change of the header, which the journal keeps for the way back.
pub(crate) fn plan(of: Of<'_>, record: &mut ImageRecord) -> Result<()> {
    let child = Child::open(&record.path)?;
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

pub(crate) fn carry_out(record: &mut ImageRecord) -> Result<()> {
    change(record, Child::write)?;
    record.new = Some(names::look_at(&record.path)?);
    Ok(())
}

pub(crate) fn back(record: &ImageRecord) -> Result<()> {
    change(record, Child::undo)
}

fn change(
    record: &ImageRecord,
    act: impl FnOnce(&Child, &HeaderChange) -> calve_references::Result<bool>,
) -> Result<()> {
    let Some(header) = &record.header else { return Ok(()) };
    act(&Child::open(&record.path)?, header)?;
    // Its disk is what it was, and so is the time at which that was written.
    Ok(calve_upgrade::set_written(&record.path, super::time_of(&record.old))?)
}
