//! Images that become qcow2 where they lie.

use std::path::Path;

use calve_upgrade::{InPlace, Options, Recovered, State, Time, Verify};

use super::{Of, Site, time_of};
use crate::error::{Error, Result};
use crate::journal::ImageRecord;
use crate::names;

fn options(site: &Site<'_>, of: Of<'_>, time: Time) -> Options {
    Options {
        backing_format: of.image.base_format.clone(),
        backing_name: of.other_base_name(),
        // What is kept for days has to be there after those days, whatever a guest writes.
        holds: matches!(site.kept, calve_plan::Kept::Days(_)),
        verify: Verify::Full,
        time: Some(time),
    }
}

/// Looks at what would keep the image from being upgraded.
pub(crate) fn survey(site: &Site<'_>, of: Of<'_>) -> Result<()> {
    let path = &of.image.path.0;
    if calve_upgrade::state_of(path)?.is_some() {
        let why = "has an undo record of an earlier upgrade: calve upgrade --recover settles it";
        return Err(Error::refused(path, why));
    }
    let time = calve_upgrade::written(path)?;
    let options = Options { verify: Verify::Tables, ..options(site, of, time) };
    InPlace::open_for_reading(path)?.plan(&options, site.stop)?;
    Ok(())
}

/// Upgrades the image, or goes on with an upgrade that was interrupted.
pub(crate) fn carry_out(site: &Site<'_>, of: Of<'_>, record: &mut ImageRecord) -> Result<()> {
    let path = &record.path;
    let mut state = calve_upgrade::state_of(path)?;
    // One that was killed before it had set the file's time looks as if it was written to since.
    if matches!(state, Some(State::Interrupted | State::Written)) {
        if InPlace::open(path)?.recover()? == Recovered::Finished {
            calve_upgrade::set_written(path, time_of(&record.old))?;
        }
        state = calve_upgrade::state_of(path)?;
    }
    if state.is_none() {
        if names::look_at(path)?.inode != record.old.inode {
            return Err(Error::changed(path, "is another file than when the plan was made"));
        }
        InPlace::open(path)?.upgrade(&options(site, of, time_of(&record.old)), site.stop)?;
    }
    record.new = Some(names::look_at(path)?);
    Ok(())
}

/// Makes the image version 1 again.
pub(crate) fn back(record: &ImageRecord, force: bool) -> Result<()> {
    let path: &Path = &record.path;
    match calve_upgrade::state_of(path)? {
        None if record.state == crate::ImageState::Switched => {
            return Err(Error::refused(path, "has no undo record any more"));
        }
        None => return Ok(()),
        Some(State::Interrupted) => {
            InPlace::open(path)?.recover()?;
        }
        Some(State::Upgraded | State::Written) => InPlace::open(path)?.undo(force)?,
    }
    Ok(calve_upgrade::set_written(path, time_of(&record.old))?)
}

/// Gives up the way back.
pub(crate) fn release(record: &ImageRecord) -> Result<u64> {
    let path: &Path = &record.path;
    if calve_upgrade::state_of(path)?.is_none() {
        return Ok(0);
    }
    let time = calve_upgrade::written(path)?;
    let freed = InPlace::open(path)?.release()?;
    calve_upgrade::set_written(path, time)?;
    Ok(freed)
}
