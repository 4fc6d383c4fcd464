//! Images that become qcow2 where they lie.

use std::io::Read;
use std::path::Path;

use calve_disk::open::{Likeness, likeness, open_for_reading};
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
        // It may have been taken back by a run that was killed before it could say so.
        None if record.state == crate::ImageState::Switched && !is_old(record)? => {
            return Err(Error::refused(path, "has no undo record any more"));
        }
        None if record.state == crate::ImageState::Switched => {}
        None => return Ok(()),
        Some(State::Interrupted) => {
            InPlace::open(path)?.recover()?;
        }
        Some(State::Upgraded | State::Written) => InPlace::open(path)?.undo(force)?,
    }
    Ok(calve_upgrade::set_written(path, time_of(&record.old))?)
}

/// Whether the image is the version 1 file that it was.
fn is_old(record: &ImageRecord) -> Result<bool> {
    let found = names::look_at(&record.path)?;
    if found.inode != record.old.inode || found.size != record.old.size {
        return Ok(false);
    }
    let failed = |source| Error::host("reading", &record.path, source);
    let mut start = [0; 8];
    let mut file = open_for_reading(&record.path).map_err(failed)?;
    file.read_exact(&mut start).map_err(failed)?;
    Ok(likeness(&start) == Likeness::Qcow(1))
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
