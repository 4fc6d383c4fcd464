//! The upgrade itself: the order in which things reach the medium.
//!
//! The new tables go behind the end of the old image, where nothing refers to them. When they
//! are there, and the undo record is, one sector makes the file another image. Until that sector
//! is written the file is the old image with something behind it; from then on it is the new one.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use calve_disk::open::shown;
use calve_disk::units::HostOffset;
use calve_disk::{Error as DiskError, Storage, StorageMut};
use calve_inplace::{Journal, free_room, note, set_size, size_of, sync};

use crate::error::{Error, Result};
use crate::record::{New, Record};
use crate::survey::{self, Plan, Surveyed};
use crate::verify::{self, Old};
use crate::{Options, tables, times};

/// Surveys the image without changing it.
pub(crate) fn plan(
    storage: &Arc<dyn StorageMut>,
    options: &Options,
    stop: &AtomicBool,
) -> Result<Plan> {
    let surveyed = survey::run(storage, options, stop)?;
    require_room(&**storage, &surveyed.plan)?;
    Ok(surveyed.plan)
}

/// Upgrades the image.
pub(crate) fn run(
    storage: &Arc<dyn StorageMut>,
    journal: &dyn Journal,
    options: &Options,
    stop: &AtomicBool,
) -> Result<Plan> {
    if Record::read(journal)?.is_some() {
        return Err(Error::Refused {
            path: storage.path().to_owned(),
            why: format!("has an undo record already, {}", shown(journal.path())),
            next: "settle that first, with --recover, --undo or --release",
        });
    }
    let old_time = times::written(&**storage)?;
    let mut surveyed = survey::run(storage, options, stop)?;
    require_room(&**storage, &surveyed.plan)?;
    let mut record = Record::new(
        surveyed.plan.old_file_size,
        surveyed.old_start.clone(),
        surveyed.old_tables.clone(),
    );
    record.old_time = old_time;
    record.holds = options.holds;
    if let Err(failure) = note::put(journal, &record) {
        // It may be there all the same. The image was not touched, so that it means nothing.
        let _ = journal.remove();
        return Err(failure.into());
    }
    let prepared = prepare(&mut surveyed, storage, options, stop);
    let prepared = prepared.and_then(|new| {
        record.new = Some(new.clone());
        note::put(journal, &record)?;
        unchanged(storage, &surveyed, &new)?;
        Ok(new)
    });
    let new = match prepared {
        Ok(new) => new,
        Err(failure) => return Err(taken_back(storage, journal, &record, failure)),
    };
    let done = commit(storage, &new).and_then(|()| {
        let old = Old {
            start: &record.old_start,
            length: record.old_length,
            tables: &record.old_tables,
            contents: surveyed.contents,
            holds: options.holds,
        };
        verify::run(storage, &old, stop)
    });
    if let Err(failure) = done {
        return Err(taken_back(storage, journal, &record, failure));
    }
    times::set(&**storage, new.time);
    Ok(surveyed.plan)
}

/// Refuses what would not fit on the file system, before anything is written.
fn require_room(storage: &dyn Storage, plan: &Plan) -> Result<()> {
    match free_room(storage) {
        Some(free) if free < plan.appended() => {
            Err(Error::NoSpace { path: storage.path().to_owned(), needed: plan.appended(), free })
        }
        _ => Ok(()),
    }
}

/// Puts everything behind the old end, on the medium.
fn prepare(
    surveyed: &mut Surveyed,
    storage: &Arc<dyn StorageMut>,
    options: &Options,
    stop: &AtomicBool,
) -> Result<New> {
    let appended = tables::append(surveyed, storage, options.holds, stop)?;
    let layout = &surveyed.layout;
    // Also brings it to the medium. XFS gives a file that grows as much again in advance, and lets it
    // keep that for a while: nothing more is appended, and saying the length gives it back.
    set_size(&**storage, layout.file_size())?;
    Ok(New {
        length: layout.file_size(),
        start: surveyed.image.first_sector(&layout.places()),
        appended_at: layout.start().get(),
        appended,
        time: times::written(&**storage)?.map(|_| options.time.unwrap_or_else(times::now)),
    })
}

/// Whether the file still begins as it did, and ends with what was written.
fn unchanged(storage: &Arc<dyn StorageMut>, surveyed: &Surveyed, new: &New) -> Result<()> {
    let is_same = size_of(&**storage)? == new.length
        && survey::start_of(&**storage, surveyed.plan.old_file_size)? == surveyed.old_start;
    match is_same {
        true => Ok(()),
        false => Err(DiskError::Changed { path: storage.path().to_owned() }.into()),
    }
}

/// Makes it the new image: one sector.
fn commit(storage: &Arc<dyn StorageMut>, new: &New) -> Result<()> {
    write_start(&**storage, &new.start)?;
    Ok(sync(&**storage)?)
}

fn write_start(storage: &dyn StorageMut, start: &[u8]) -> Result<()> {
    let at = HostOffset::new(0);
    Ok(storage
        .write_at(start, at)
        .map_err(|source| DiskError::io("writing the header", storage, at, source))?)
}

fn taken_back(
    storage: &Arc<dyn StorageMut>,
    journal: &dyn Journal,
    record: &Record,
    failure: Error,
) -> Error {
    match take_back(storage, journal, record) {
        Ok(()) => failure,
        Err(second) => Error::HalfWay {
            path: storage.path().to_owned(),
            failure: Box::new(failure),
            second: Box::new(second),
        },
    }
}

/// Makes it the old image again, whichever it is: its first sector, then its length.
pub(crate) fn take_back(
    storage: &Arc<dyn StorageMut>,
    journal: &dyn Journal,
    record: &Record,
) -> Result<()> {
    if survey::start_of(&**storage, record.old_start.len() as u64)? != record.old_start {
        write_start(&**storage, &record.old_start)?;
        sync(&**storage)?;
    }
    cut(storage, record)?;
    times::set(&**storage, record.old_time);
    Ok(note::remove(journal)?)
}

/// Takes away what was put behind the old end.
fn cut(storage: &Arc<dyn StorageMut>, record: &Record) -> Result<()> {
    if size_of(&**storage)? > record.old_length {
        set_size(&**storage, record.old_length)?;
    }
    Ok(())
}
