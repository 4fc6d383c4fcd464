//! Looking at one open file.

use std::fs::File;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use calve_disk::open::{Likeness, is_in_use, likeness};
use calve_disk::{HostFile, Status};
use serde::{Deserialize, Serialize};

use crate::class::Class;
use crate::image::{self, Around};
use crate::limits;
use crate::members;
use crate::sighting::{Look, Seen, shortened};
use crate::spool::Spool;
use crate::start::{Positioned, fill};

/// What is asked about a file.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Ask {
    /// The last part of its name, which a class may contradict.
    pub name: Vec<u8>,
    /// Whether the undo record of an upgrade lies beside it.
    pub has_undo_record: bool,
    /// Whether all tables are walked.
    pub is_deep: bool,
    /// Whether archives are looked into.
    pub with_archives: bool,
}

/// Looks at a file: reads its first sector, of an image what its header leads to, and of an
/// archive as much as it takes to find the images in it. Where all tables are to be walked, they
/// are; images that are packed are unpacked into `spool` for that, one at a time.
///
/// Memory is bounded, and so is what is unpacked; see [`crate::limits`]. Nothing is locked.
pub fn look(file: &File, ask: &Ask, spool: &mut Spool) -> Look {
    look_within(file, ask, spool, limits::UNPACKED)
}

/// The same, where `unpacked` bytes come out of an archive at most, instead of
/// [`limits::UNPACKED`], and [`limits::UNPACKED_FOR_EACH`] for each of its own.
pub fn look_within(file: &File, ask: &Ask, spool: &mut Spool, unpacked: u64) -> Look {
    match started(file, ask, spool, unpacked) {
        Ok(look) => look,
        Err(error) => Look::unreadable(&error.to_string()),
    }
}

fn started(file: &File, ask: &Ask, spool: &mut Spool, unpacked: u64) -> std::io::Result<Look> {
    let before = Status::of(file)?;
    let size = before.size;
    let mut start = [0; limits::START];
    let (filled, read) = fill(&mut Positioned::new(file, size), &mut start);
    read?;
    let start = &start[..filled];
    let likeness = likeness(start);
    if matches!(likeness, Likeness::Qcow(_) | Likeness::QcowCut) {
        let around = Around {
            is_deep: ask.is_deep,
            is_in_use: is_in_use(file),
            has_undo_record: ask.has_undo_record,
            is_cut: false,
        };
        let path = Path::new(std::ffi::OsStr::from_bytes(&ask.name)).to_owned();
        let storage = Box::new(HostFile::new(file.try_clone()?, path));
        let mut seen = image::seen(storage, likeness, &ask.name, Some(size), around);
        note_change(file, &before, &mut seen)?;
        return Ok(Look { file: seen, members: Vec::new(), is_shallow: false });
    }
    let kind = members::Kind::of(start);
    let mut seen = other(likeness, kind, ask, size);
    let (Some(kind), true) = (kind, ask.with_archives) else {
        return Ok(Look { file: seen, members: Vec::new(), is_shallow: false });
    };
    let (name, is_deep) = (&*ask.name, ask.is_deep);
    let archive = members::Archive { file, size, kind, name, is_deep, unpacked };
    let found = members::look_into(archive, spool);
    seen.problem = found.problem.map(|problem| shortened(&problem));
    if ask.is_deep {
        // What was missing may have come since.
        note_change(file, &before, &mut seen)?;
    }
    Ok(Look { file: seen, members: found.members, is_shallow: found.is_shallow })
}

/// Tells that a file is not any more what it was before.
fn note_change(file: &File, before: &Status, seen: &mut Seen) -> std::io::Result<()> {
    let after = Status::of(file)?;
    if (after.size, after.modified) != (before.size, before.modified) && seen.problem.is_none() {
        seen.problem = Some("changed while it was read: scan it again".into());
    }
    Ok(())
}

/// A file that is no QCOW image.
pub(crate) fn other(likeness: Likeness, kind: Option<members::Kind>, ask: &Ask, size: u64) -> Seen {
    let mut seen = Seen::nothing(Class::Other.under_name(&ask.name), Some(size));
    seen.resembles = match (kind, likeness) {
        (Some(kind), _) => Some(kind.words().to_owned()),
        (None, Likeness::Other(name)) => name.split(':').next().map(str::to_owned),
        _ => None,
    };
    seen
}
