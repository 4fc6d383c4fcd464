//! One candidate for a base, judged.

use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use calve_disk::open::FileIdentity;
use calve_disk::units::{GuestOffset, GuestRange, SECTOR, in_memory};
use calve_disk::{
    BackingReference, Disk, Error, HostErrors, OpenOptions, Payload, Result, Scratch, Specific,
};

use super::{Candidate, Reason, Search};
use crate::guest::look;

/// What the overlay stores, a sector here and there: its place and its bytes.
pub(super) type Sample = Vec<(GuestOffset, [u8; 512])>;

/// Extents of an overlay that are looked at; in longer ones every further sector is left out.
const EXTENTS_LOOKED_AT: usize = 1 << 18;
/// Sectors of one extent that are compared.
const SECTORS_OF_AN_EXTENT: u64 = 64;
/// Points of a candidate all of whose sectors are alike.
const ALL_SAME: i64 = 1000;
/// Fewer sectors than this weigh less.
const ENOUGH_SECTORS: u64 = 16;

/// Sectors that the top layer stores and that say something: not one byte all over.
pub(super) fn sample(overlay: &Disk, most: usize) -> Result<Sample> {
    let (mut sample, mut scratch) = (Sample::new(), Scratch::default());
    let stored = overlay.extents(overlay.range()).take(EXTENTS_LOOKED_AT);
    let extents = stored.filter(|extent| match extent {
        Ok(extent) => matches!(extent.payload, Payload::Stored(stored) if stored.layer == 0),
        Err(_) => true,
    });
    // Spread over the disk: what one program wrote anew says little.
    let extents = extents.collect::<Result<Vec<_>>>()?;
    let step = (extents.len() / most.max(1)).max(1);
    for extent in extents.iter().step_by(step) {
        let length = extent.range.length.min(SECTORS_OF_AN_EXTENT * SECTOR) / SECTOR * SECTOR;
        let part = extent.clipped(GuestRange::new(extent.range.start, length));
        let mut bytes = vec![0; in_memory(length)];
        let read = overlay.read(&[part], HostErrors::Lose, &mut scratch, &mut bytes, &mut |_| {});
        // Without a key, what is encrypted cannot be compared.
        if matches!(read, Err(Error::Key { .. })) {
            continue;
        }
        read?;
        for (at, sector) in (part.range.start.get()..).step_by(512).zip(bytes.as_chunks().0) {
            if sample.len() < most && !is_constant(sector) {
                sample.push((GuestOffset::new(at), *sector));
            }
        }
    }
    Ok(sample)
}

fn is_constant(sector: &[u8; 512]) -> bool {
    sector.iter().all(|byte| *byte == sector[0])
}

/// Opens a candidate, with what lies behind it in its folder or without, and judges it.
pub(super) fn judge(
    overlay: &Disk,
    own: &[FileIdentity],
    sample: &Sample,
    path: &Path,
    search: &Search,
) -> Option<Candidate> {
    let mut options =
        OpenOptions { with_bases: true, force_share: search.force_share, ..OpenOptions::default() };
    let disk = Disk::open(path, &options).or_else(|_| {
        options.with_bases = false;
        Disk::open(path, &options)
    });
    let disk = disk.ok()?;
    // An overlay of the overlay is no base of it.
    let is_own =
        disk.layers().iter().filter_map(|layer| layer.identity()).any(|it| own.contains(&it));
    if is_own {
        return None;
    }
    let mut candidate = Candidate {
        path: path.to_owned(),
        format: disk.layers()[0].image.facts().format,
        score: 0,
        reasons: Vec::new(),
        alike: Vec::new(),
    };
    candidate.compare_sectors(sample, &disk);
    candidate.compare_facts(overlay, &disk);
    candidate.join(overlay, &disk);
    Some(candidate)
}

impl Candidate {
    fn add(&mut self, score: i64, reason: Reason) {
        self.score += score;
        self.reasons.push(reason);
    }

    fn compare_sectors(&mut self, sample: &Sample, disk: &Disk) {
        for (at, sector) in sample {
            let mut other = [0; 512];
            let is_there = at.get() + SECTOR <= disk.virtual_size();
            let is_read = is_there && disk.read_at(&mut other, *at).is_ok();
            self.alike.push(is_read && other == *sector);
        }
        let of = self.alike.len() as u64;
        let same = self.alike.iter().filter(|is_alike| **is_alike).count() as u64;
        if of == 0 {
            return;
        }
        let share = ALL_SAME * i64::try_from(same).unwrap_or(0) / i64::try_from(of).unwrap_or(1);
        let weight = i64::try_from(of.min(ENOUGH_SECTORS)).unwrap_or(0);
        let share = share * weight / i64::try_from(ENOUGH_SECTORS).unwrap_or(1);
        self.add(share, Reason::SameSectors { same, of });
    }

    fn compare_facts(&mut self, overlay: &Disk, disk: &Disk) {
        let facts = overlay.top().facts();
        let is_same = facts.virtual_size == disk.virtual_size();
        self.add(if is_same { 100 } else { -100 }, Reason::Size { is_same });
        let recorded = match &facts.specific {
            Specific::Qcow1(qcow1) => i64::from(qcow1.mtime),
            Specific::Raw | Specific::Qcow2(_) => 0,
        };
        if let Some(modified) = disk.layers()[0].modified().filter(|_| recorded != 0) {
            let is_same = modified == recorded;
            self.add(if is_same { 200 } else { 0 }, Reason::Modified { is_same });
        }
        if facts.backing.as_ref().is_some_and(|backing| has_name(backing, &self.path)) {
            self.add(150, Reason::Name);
        }
    }

    /// Looks at the first sectors of what both make together.
    fn join(&mut self, overlay: &Disk, disk: &Disk) {
        for at in [0, SECTOR, 2 * SECTOR] {
            let mut sector = [0; 512];
            let place = GuestOffset::new(at);
            let is_inside = at + SECTOR <= disk.virtual_size().min(overlay.virtual_size());
            if !is_inside {
                break;
            }
            let is_read = overlay.read_at(&mut sector, place).is_ok()
                || disk.read_at(&mut sector, place).is_ok();
            if is_read && look(&sector).is_some() {
                self.add(50, Reason::Joined);
                return;
            }
        }
    }
}

/// Whether the recorded path ends with this file's name.
fn has_name(backing: &BackingReference, path: &Path) -> bool {
    let last = backing.name.rsplit(|byte| matches!(*byte, b'/' | b'\\')).next();
    last.is_some() && last == path.file_name().map(OsStrExt::as_bytes)
}
