//! Mending the entries of one round, and taking that back.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use calve_disk::formats::qcow1::Qcow1Image;
use calve_disk::units::{HostOffset, in_memory};
use calve_disk::{Error as DiskError, Image, Storage, StorageMut};
use calve_inplace::{Journal, free_room, note, set_size, size_of, sync};

use crate::Settled;
use crate::error::{Error, Result};
use crate::find::Round;
use crate::record::{Record, Run};

/// Mends the entries of a round. Whatever fails, they are what they were.
pub(crate) fn run(
    storage: &Arc<dyn StorageMut>,
    journal: &dyn Journal,
    round: &Round,
    stop: &AtomicBool,
) -> Result<()> {
    require_room(&**storage, round)?;
    let record = Record::of(round);
    if let Err(failure) = note::put(journal, &record) {
        // It may be there all the same. The image was not touched, so that it means nothing.
        let _ = journal.remove();
        return Err(failure.into());
    }
    let done = copy(storage, round, stop).and_then(|()| {
        record.runs.iter().try_for_each(|run| write(storage, &run.new, run.at))?;
        Ok(sync(&**storage)?)
    });
    match done {
        Ok(()) => Ok(note::remove(journal)?),
        Err(failure) => match take_back(storage, journal, &record) {
            Ok(()) => Err(failure),
            Err(second) => Err(Error::HalfWay {
                path: storage.path().to_owned(),
                failure: Box::new(failure),
                second: Box::new(second),
            }),
        },
    }
}

/// Settles a round that was interrupted, if there is a record of one.
pub(crate) fn settle(
    storage: &Arc<dyn StorageMut>,
    journal: &dyn Journal,
) -> Result<Option<Settled>> {
    let Some(record) = Record::read(journal)? else { return Ok(None) };
    let (mut are_all_new, mut are_all_ours) = (true, true);
    for run in &record.runs {
        let now = entries_now(storage, run)?;
        for ((now, old), new) in entries(&now).zip(entries(&run.old)).zip(entries(&run.new)) {
            are_all_new &= now == new;
            are_all_ours &= now == new || now == old;
        }
    }
    let settled = match (are_all_new, are_all_ours) {
        // Entries are written when all copies are on the medium.
        (true, _) => Settled::Finished,
        (false, true) => {
            take_back(storage, journal, &record)?;
            return Ok(Some(Settled::TakenBack));
        }
        (false, false) => Settled::Kept,
    };
    sync(&**storage)?;
    note::remove(journal)?;
    Ok(Some(settled))
}

/// Makes the entries what they were, and the file as long as it was.
fn take_back(storage: &Arc<dyn StorageMut>, journal: &dyn Journal, record: &Record) -> Result<()> {
    for run in &record.runs {
        if entries_now(storage, run)? != run.old {
            write(storage, &run.old, run.at)?;
        }
    }
    sync(&**storage)?;
    cut(storage, record.length)?;
    Ok(note::remove(journal)?)
}

/// Makes the file as long as it was, unless something is behind that end by now: after a crash
/// somebody may have put it there.
fn cut(storage: &Arc<dyn StorageMut>, length: u64) -> Result<()> {
    let size = size_of(&**storage)?;
    if size <= length {
        return Ok(());
    }
    let image = Qcow1Image::open(Box::new(Arc::clone(storage)), None)?;
    let mut is_used = false;
    image.claims(&mut |claim| {
        is_used |= (length..size).contains(&claim.at.get());
        Ok(())
    })?;
    if !is_used {
        set_size(&**storage, length)?;
    }
    Ok(())
}

/// Copies what is to have a copy of its own, and has it on the medium.
fn copy(storage: &Arc<dyn StorageMut>, round: &Round, stop: &AtomicBool) -> Result<()> {
    let mut cluster = vec![0; in_memory(round.cluster.bytes())];
    let mut is_any = false;
    for (from, to) in round.edits.iter().filter_map(|edit| edit.copy) {
        if stop.load(Ordering::Relaxed) {
            return Err(Error::Stopped);
        }
        // The last one may be shorter, as far as the disk goes.
        let present = in_memory(round.cluster.bytes().min(round.length - from.get()));
        storage
            .read_at(&mut cluster[..present], from)
            .map_err(|source| DiskError::io("reading a cluster", &**storage, from, source))?;
        cluster[present..].fill(0);
        write(storage, &cluster, to.get())?;
        is_any = true;
    }
    if is_any {
        sync(&**storage)?;
    }
    Ok(())
}

fn entries_now(storage: &Arc<dyn StorageMut>, run: &Run) -> Result<Vec<u8>> {
    let (mut now, at) = (vec![0; run.old.len()], HostOffset::new(run.at));
    storage
        .read_at(&mut now, at)
        .map_err(|source| DiskError::io("reading table entries", &**storage, at, source))?;
    Ok(now)
}

fn entries(bytes: &[u8]) -> impl Iterator<Item = &[u8; 8]> {
    bytes.as_chunks().0.iter()
}

fn write(storage: &Arc<dyn StorageMut>, bytes: &[u8], at: u64) -> Result<()> {
    let at = HostOffset::new(at);
    Ok(storage
        .write_at(bytes, at)
        .map_err(|source| DiskError::io("mending", &**storage, at, source))?)
}

/// Refuses copies that would not fit on the file system, before anything is written.
fn require_room(storage: &dyn Storage, round: &Round) -> Result<()> {
    let needed = round.new_length - round.length;
    match free_room(storage) {
        Some(free) if free < needed => {
            Err(Error::NoSpace { path: storage.path().to_owned(), needed, free })
        }
        _ => Ok(()),
    }
}
