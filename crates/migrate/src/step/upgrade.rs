//! Images that become qcow2 where they lie: a file in one sector, an object as a whole.

use std::path::Path;
use std::sync::atomic::AtomicBool;

use calve_disk::Storage;
use calve_disk::open::{Likeness, likeness, open_for_reading};
use calve_disk::units::HostOffset;
use calve_disk::{Error as DiskError, HostFile};
use calve_upgrade::{Options, Recovered, State, Time, Verify};

use super::opened::{Opened, state_of};
use super::{Of, Site, set_time, time_of};
use crate::error::{Error, Result};
use crate::journal::ImageRecord;
use crate::stores::{Stores, is_object};

fn options(site: &Site<'_>, of: Of<'_>, time: Time) -> Options {
    Options {
        backing_format: of.image.base_format.clone(),
        backing_name: of.other_base_name(),
        // What is kept for days has to be there after those days, whatever a guest writes.
        holds: matches!(site.kept, calve_plan::Kept::Days(_)),
        // What stays of an object its store copies by itself: to read all of it twice would be to fetch it.
        verify: if is_object(&of.image.path.0) { Verify::Tables } else { Verify::Full },
        time: Some(time),
    }
}

/// Looks at what would keep the image from being upgraded.
pub(crate) fn survey(site: &Site<'_>, of: Of<'_>, record: &ImageRecord) -> Result<()> {
    let path = &of.image.path.0;
    if state_of(site.stores, path)?.is_some() {
        let why = "has an undo record of an earlier upgrade: calve upgrade --recover settles it";
        return Err(Error::refused(path, why));
    }
    let time = time_of(&record.old);
    let options = Options { verify: Verify::Tables, ..options(site, of, time) };
    Opened::for_reading(site.stores, path)?.image.plan(&options, site.stop)?;
    Ok(())
}

/// Upgrades the image, or goes on with an upgrade that was interrupted.
pub(crate) fn carry_out(site: &Site<'_>, of: Of<'_>, record: &mut ImageRecord) -> Result<()> {
    let (stores, path) = (site.stores, &record.path);
    let mut state = state_of(stores, path)?;
    // One that was killed before it had set the file's time looks as if it was written to since.
    if matches!(state, Some(State::Interrupted | State::Written)) {
        let opened = Opened::for_upgrade(stores, path)?;
        let is_finished = opened.image.recover()? == Recovered::Finished;
        opened.publish(site.stop)?;
        if is_finished {
            set_time(path, time_of(&record.old))?;
        }
        state = state_of(stores, path)?;
    }
    if state.is_none() {
        if stores.look_at(path)?.inode != record.old.inode {
            return Err(Error::changed(path, "is another file than when the plan was made"));
        }
        let opened = Opened::for_upgrade(stores, path)?;
        if opened.seen().is_some_and(|seen| seen.inode != record.old.inode) {
            let why = "is another object than when the plan was made: scan it again";
            return Err(Error::changed(path, why));
        }
        opened.image.upgrade(&options(site, of, time_of(&record.old)), site.stop)?;
        opened.publish(site.stop)?;
    }
    record.new = Some(stores.look_at(path)?);
    if is_object(path) { read_again(site, path) } else { Ok(()) }
}

/// Reads the tables of an object that the store put together, by its undo record: they have to be those
/// that were meant, and all that they say has to hold.
fn read_again(site: &Site<'_>, path: &Path) -> Result<()> {
    let opened = Opened::for_upgrade(site.stores, path)?;
    match opened.image.recover() {
        Ok(Recovered::Finished) => Ok(()),
        Ok(_) => Err(Error::changed(path, "is not what it was made to be: somebody replaced it")),
        Err(error) => {
            // It says how the object goes back.
            opened.publish(site.stop)?;
            Err(error.into())
        }
    }
}

/// Makes the image version 1 again.
pub(crate) fn back(stores: &Stores, record: &mut ImageRecord, force: bool) -> Result<()> {
    let path: &Path = &record.path.clone();
    let never = AtomicBool::new(false);
    match state_of(stores, path)? {
        // It may have been taken back by a run that was killed before it could say so.
        None if record.state == crate::ImageState::Switched && !is_old(stores, record)? => {
            return Err(Error::refused(path, "has no undo record any more"));
        }
        None if record.state == crate::ImageState::Switched => {}
        None => {
            // Whatever is there is not to be taken for what this run has put back.
            record.new = record.new.filter(|_| !is_object(path));
            return Ok(());
        }
        Some(State::Interrupted) => {
            let opened = Opened::for_upgrade(stores, path)?;
            opened.image.recover()?;
            opened.publish(&never)?;
        }
        Some(State::Upgraded | State::Written) => {
            if is_object(path) && !force && is_another(stores, record)? {
                return Err(Error::changed(path, "was replaced since: --force loses that"));
            }
            let opened = Opened::for_upgrade(stores, path)?;
            opened.image.undo(force)?;
            opened.publish(&never)?;
        }
    }
    // An object has another tag now, by which the next run knows it.
    record.new = if is_object(path) { stores.look(path)? } else { record.new };
    set_time(path, time_of(&record.old))
}

/// Whether the object has another tag than what was made. One that was killed before it could write
/// the tag down knows none.
fn is_another(stores: &Stores, record: &ImageRecord) -> Result<bool> {
    let found = stores.look_at(&record.path)?;
    Ok(record.new.is_some_and(|new| new.inode != found.inode))
}

/// Whether the image is the version 1 file that it was, or an object of its length.
pub(super) fn is_old(stores: &Stores, record: &ImageRecord) -> Result<bool> {
    let path = &record.path;
    let is_object = is_object(path);
    let found = stores.look_at(path)?;
    if found.inode != record.old.inode && !is_object {
        return Ok(false);
    }
    is_version1(stores, path, record.old.size)
}

/// Whether a file or an object of this length is version 1.
pub(super) fn is_version1(stores: &Stores, path: &Path, size: u64) -> Result<bool> {
    if stores.look_at(path)?.size != size {
        return Ok(false);
    }
    let storage: Box<dyn Storage> = match is_object(path) {
        true => Box::new(stores.open(path)?),
        false => {
            let file = open_for_reading(path).map_err(|it| Error::host("reading", path, it))?;
            Box::new(HostFile::new(file, path.to_owned()))
        }
    };
    let mut start = [0; 8];
    let at = HostOffset::new(0);
    let read = storage.read_at(&mut start, at);
    read.map_err(|source| DiskError::io("reading", &*storage, at, source))?;
    Ok(likeness(&start) == Likeness::Qcow(1))
}

/// Whether there is an undo record.
pub(crate) fn has_way_back(stores: &Stores, record: &ImageRecord) -> Result<bool> {
    Ok(state_of(stores, &record.path)?.is_some())
}

/// Gives up the way back.
pub(crate) fn release(stores: &Stores, record: &mut ImageRecord) -> Result<u64> {
    let path: &Path = &record.path;
    if state_of(stores, path)?.is_none() {
        return Ok(0);
    }
    let time = if is_object(path) { None } else { Some(calve_upgrade::written(path)?) };
    let opened = Opened::for_upgrade(stores, path)?;
    let freed = opened.image.release()?;
    opened.publish(&AtomicBool::new(false))?;
    match time {
        Some(time) => calve_upgrade::set_written(path, time)?,
        // What became free is told in its tables, and so it has another tag.
        None => record.new = stores.look(path)?,
    }
    Ok(freed)
}
