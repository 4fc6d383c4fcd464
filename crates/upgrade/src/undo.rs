//! What an undo record allows: to tell what state an image is in, to take its upgrade back, to
//! settle one that was interrupted, and to give the way back up.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use calve_disk::formats::qcow1::Qcow1Image;
use calve_disk::formats::qcow2::Qcow2Image;
use calve_disk::open::shown;
use calve_disk::units::{ClusterSize, HostOffset, in_memory};
use calve_disk::{Error as DiskError, Image, Storage, StorageMut};
use calve_inplace::{Journal, note, size_of, sync};

use crate::counters::WINDOW;
use crate::error::{Error, Result};
use crate::record::{New, Record};
use crate::upgrade::take_back;
use crate::verify::{self, Old};
use crate::view::View;
use crate::{survey, times};

/// What state an image with an undo record is in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum State {
    /// It is the old image, perhaps with something behind it: an upgrade was interrupted, or its
    /// undo was.
    Interrupted,
    /// It is the new image, as the upgrade left it.
    Upgraded,
    /// It is the new image, and something has written to it since, or to its tables.
    Written,
}

/// What became of an image that was to be recovered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Recovered {
    /// It is the old image again, to the bit.
    RolledBack,
    /// It is the old image, and was written to after the upgrade was interrupted. What the
    /// upgrade put into it stays as a leak.
    Kept,
    /// It is the new image, verified. The undo record stays.
    Finished,
    /// It is the new image, and was written to since. The undo record stays.
    InUse,
}

/// The state of an image, from its first sector, its length and its time alone.
pub(crate) fn state(storage: &dyn Storage, journal: &dyn Journal) -> Result<Option<State>> {
    let Some(record) = Record::read(journal)? else { return Ok(None) };
    if begins_with(storage, &record.old_start)? {
        return Ok(Some(State::Interrupted));
    }
    let is_new = match &record.new {
        Some(new) => {
            begins_with(storage, &new.start)?
                && size_of(storage)? == new.length
                && times::written(storage)? == new.time
        }
        None => false,
    };
    Ok(Some(if is_new { State::Upgraded } else { State::Written }))
}

/// Makes the image what it was. Refuses where that would lose what was written since; `force`
/// allows it where only the time says that something was: bytes of the disk that were written in
/// place stay then.
pub(crate) fn undo(
    storage: &Arc<dyn StorageMut>,
    journal: &dyn Journal,
    force: bool,
) -> Result<()> {
    let record = required(storage, journal)?;
    if !begins_with(&**storage, &record.old_start)? {
        let refused = |why: &str, next| Error::Refused {
            path: storage.path().to_owned(),
            why: why.into(),
            next,
        };
        if !is_untouched(storage, &record)? {
            return Err(refused(
                "was written to since it was upgraded: what the upgrade appended is not as it was made",
                "keep it as it is, or convert it to what is wanted; --release removes the record",
            ));
        }
        let time = record.new.as_ref().and_then(|new| new.time);
        if !force && times::written(&**storage)? != time {
            return Err(refused(
                "has another time than when it was upgraded: something may have written to it",
                "where nothing did, or where what it wrote in place may stay, add --force",
            ));
        }
    } else if !has_old_tables(storage, &record)? {
        return Err(Error::Refused {
            path: storage.path().to_owned(),
            why: "is version 1 and was written to since its upgrade was interrupted".into(),
            next: "--recover settles it",
        });
    }
    take_back(storage, journal, &record)
}

/// Settles an upgrade, or an undo, that was interrupted.
pub(crate) fn recover(storage: &Arc<dyn StorageMut>, journal: &dyn Journal) -> Result<Recovered> {
    let record = required(storage, journal)?;
    if begins_with(&**storage, &record.old_start)? {
        if size_of(&**storage)? < record.old_length {
            return Err(DiskError::Changed { path: storage.path().to_owned() }.into());
        }
        if !has_old_tables(storage, &record)? {
            // Behind the old end there may be clusters of somebody else's by now.
            note::remove(journal)?;
            return Ok(Recovered::Kept);
        }
        take_back(storage, journal, &record)?;
        return Ok(Recovered::RolledBack);
    }
    if !is_untouched(storage, &record)? {
        return Ok(Recovered::InUse);
    }
    let old = Old {
        start: &record.old_start,
        length: record.old_length,
        tables: &record.old_tables,
        contents: None,
        holds: record.holds,
    };
    match verify::run(storage, &old, &AtomicBool::new(false)) {
        // Its time stays: whether something wrote to the disk in place, nothing else would tell.
        Ok(()) => Ok(Recovered::Finished),
        Err(failure @ Error::Mismatch { .. }) => {
            take_back(storage, journal, &record)?;
            Err(failure)
        }
        Err(failure) => Err(failure),
    }
}

/// Gives up the way back: frees what was held for it, and removes the record. Returns how many
/// bytes of the file became free.
pub(crate) fn release(storage: &Arc<dyn StorageMut>, journal: &dyn Journal) -> Result<u64> {
    let record = required(storage, journal)?;
    if begins_with(&**storage, &record.old_start)? {
        return Err(Error::Refused {
            path: storage.path().to_owned(),
            why: "is still version 1: its upgrade was interrupted".into(),
            next: "--recover settles it",
        });
    }
    let freed = if record.holds { free_held(storage, &record)? } else { 0 };
    note::remove(journal)?;
    Ok(freed)
}

/// Takes away the counts of all clusters of the old image to which nothing refers.
///
/// Nobody else counts them either, so that whatever happens on the way, each count is right or
/// one too high, as it was.
fn free_held(storage: &Arc<dyn StorageMut>, record: &Record) -> Result<u64> {
    let size_now = size_of(&**storage)?;
    let image = Qcow2Image::open(View::plain(storage, size_now), None, None)?;
    let size = image.facts().cluster_size.unwrap_or(ClusterSize::SECTOR);
    let (held, in_block) = (size.count(record.old_length), size.bytes() / 2);
    let mut block = vec![0; in_memory(size.bytes())];
    let mut freed = 0;
    let blocks = verify::blocks_of(&image)?;
    for first in (0..held).step_by(in_memory(WINDOW)) {
        let window = first..held.min(first + WINDOW);
        let counters = verify::references(&image, size, window.clone())?;
        for (index, at) in blocks.iter().filter(|(index, _)| window.contains(&(index * in_block))) {
            verify::read_block(&**storage, *at, &mut block)?;
            let clusters = index * in_block..window.end;
            let mut is_changed = false;
            for (cluster, count) in clusters.zip(block.as_chunks_mut().0) {
                if counters.of(cluster) == 0 && *count == [0, 1] {
                    (*count, is_changed) = ([0, 0], true);
                    freed += size.bytes();
                }
            }
            if is_changed {
                storage.write_at(&block, *at).map_err(|source| {
                    DiskError::io("writing reference counts", &**storage, *at, source)
                })?;
            }
        }
    }
    sync(&**storage)?;
    Ok(freed)
}

fn required(storage: &Arc<dyn StorageMut>, journal: &dyn Journal) -> Result<Record> {
    Record::read(journal)?.ok_or_else(|| Error::Refused {
        path: storage.path().to_owned(),
        why: format!("has no undo record: there is no {}", shown(journal.path())),
        next: "look at how the name is spelled, and whether the record was moved",
    })
}

fn begins_with(storage: &dyn Storage, start: &[u8]) -> Result<bool> {
    let size = size_of(storage)?;
    Ok(size >= start.len() as u64 && survey::start_of(storage, start.len() as u64)? == start)
}

/// Whether the new image is as the upgrade left it, but for clusters that stayed where they were.
fn is_untouched(storage: &Arc<dyn StorageMut>, record: &Record) -> Result<bool> {
    let Some(new) = &record.new else { return Ok(false) };
    Ok(begins_with(&**storage, &new.start)?
        && size_of(&**storage)? == new.length
        && digest_of_appended(storage, new)? == new.appended
        && has_old_tables(storage, record)?)
}

fn has_old_tables(storage: &Arc<dyn StorageMut>, record: &Record) -> Result<bool> {
    let start = record.old_start.clone();
    let old = Qcow1Image::open(View::with_start(storage, start, record.old_length), None)?;
    match survey::tables_digest(&old, storage.path()) {
        Ok(digest) => Ok(digest == record.old_tables),
        // Tables that break a rule are not those that were there.
        Err(Error::Disk(DiskError::Broken { .. })) => Ok(false),
        Err(error) => Err(error),
    }
}

fn digest_of_appended(storage: &Arc<dyn StorageMut>, new: &New) -> Result<String> {
    const PORTION: u64 = 1 << 20;
    let mut hasher = blake3::Hasher::new();
    let (mut at, mut bytes) = (new.appended_at, Vec::new());
    while at < new.length {
        bytes.resize(in_memory(PORTION.min(new.length - at)), 0);
        let place = HostOffset::new(at);
        storage.read_at(&mut bytes, place).map_err(|source| {
            DiskError::io("reading what was appended", &**storage, place, source)
        })?;
        hasher.update(&bytes);
        at += bytes.len() as u64;
    }
    Ok(hasher.finalize().to_hex().to_string())
}
