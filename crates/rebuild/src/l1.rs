//! The L1 table, rebuilt by finding the L2 tables that nothing leads to.

mod find;
mod order;
mod sights;

use std::collections::BTreeMap;

use calve_disk::Result;
use calve_disk::units::{GuestOffset, GuestRange, HostOffset};

use crate::header::{put, step};
use crate::layout::Layout;
use crate::patched::{Patched, Patches};
use crate::shape::HEADER_SIZE;
use crate::step::{Confidence, Evidence, Rebuilt, Step, Subject};
use find::{Found, Slot};

/// The alignment of an L1 table that moves behind the end of the file, which is that of Xen's.
const MOVED_TO: u64 = 4096;

/// A table's L1 entry and what speaks for it.
#[derive(Clone, Copy, Debug)]
struct Placed {
    table: u64,
    confidence: Confidence,
    evidence: Evidence,
}

/// Rebuilds the L1 table of `source`, whose header can be read: good entries stay, and L2 tables
/// that no good entry leads to get those that are free.
///
/// What a table's clusters say of themselves comes first, then the order of the file. Of an
/// encrypted image only the order is known.
///
/// A table that cannot stand where the header says moves behind the end of the file, which then
/// is longer: bytes that were missing behind the old end read as zeros up to the new one.
///
/// # Errors
/// [`calve_disk::Error::Refused`] where the file is longer than [`crate::LONGEST_SCANNED`] or the
/// table too long for patches; else as opening fails, and where the host fails.
pub fn l1(source: &Patched) -> Result<Rebuilt> {
    let layout = Layout::of(source)?;
    let found = find::tables(source, &layout)?;
    let first = match found.slots.get(0) {
        Some(Slot::Good(at)) => Some(at),
        _ => None,
    };
    let belongs = sights::look_behind(source, &layout, &found.lost, first)?;
    let mut placed: BTreeMap<u64, Placed> = BTreeMap::new();
    let mut rest = Vec::new();
    for (number, table) in found.lost.iter().enumerate() {
        match belongs.get(&number) {
            Some((slot, confidence, evidence)) if is_free(&found, *slot) => {
                let (confidence, evidence) = (*confidence, *evidence);
                placed.insert(*slot, Placed { table: *table, confidence, evidence });
            }
            _ => rest.push(*table),
        }
    }
    let left = order::place(&found, &rest, &mut placed);
    let mut patches = Patches::default();
    let mut steps = Vec::new();
    let at = write(source, &layout, &found, &placed, &mut patches, &mut steps)?;
    for (slot, placed) in &placed {
        steps.push(entry_step(&layout, at, *slot, placed));
    }
    let guessed = placed.iter().filter(|(_, placed)| placed.confidence < Confidence::Strong);
    let mut suspect: Vec<u64> = guessed.map(|(slot, _)| *slot).chain(left.doubtful).collect();
    suspect.sort_unstable();
    suspect.dedup();
    Ok(Rebuilt {
        source: source.with(&patches)?,
        suspect: joined(suspect.iter().map(|slot| guest_of(&layout, *slot))),
        steps,
        unplaced: sights::offsets(left.tables),
    })
}

fn is_free(found: &Found, slot: u64) -> bool {
    matches!(found.slots.get(slot), Some(Slot::Empty | Slot::Bad))
}

/// Writes the new entries, to a new place where the old one cannot hold them, and says where the
/// table is.
fn write(
    source: &Patched,
    layout: &Layout,
    found: &Found,
    placed: &BTreeMap<u64, Placed>,
    patches: &mut Patches,
    steps: &mut Vec<Step>,
) -> Result<u64> {
    let meets = |table: &u64| {
        *table < layout.l1_end() && layout.l1_at < table + layout.shape.table_length()
    };
    let has_no_room = layout.l1_at < HEADER_SIZE
        || layout.l1_end() > source.length()
        || placed.values().any(|placed| meets(&placed.table));
    if !has_no_room || placed.is_empty() {
        for (slot, placed) in placed {
            put(source, patches, layout.l1_at + slot * 8, &placed.table.to_be_bytes())?;
        }
        return Ok(layout.l1_at);
    }
    let at = source.length().next_multiple_of(MOVED_TO);
    let mut bytes = vec![0; found.slots.len() * 8];
    for (slot, entry) in (0u64..).zip(bytes.as_chunks_mut::<8>().0) {
        let good = match found.slots.get(slot) {
            Some(Slot::Good(table)) => table,
            Some(Slot::Empty | Slot::Bad) | None => 0,
        };
        *entry = placed.get(&slot).map_or(good, |placed| placed.table).to_be_bytes();
    }
    put(source, patches, at, &bytes)?;
    put(source, patches, 40, &at.to_be_bytes())?;
    steps.push(step(Subject::L1Place, 40, at, Confidence::Likely, Evidence::NoRoom));
    Ok(at)
}

fn entry_step(layout: &Layout, l1_at: u64, slot: u64, placed: &Placed) -> Step {
    Step {
        subject: Subject::L1Entry,
        at: HostOffset::new(l1_at + slot * 8),
        value: placed.table,
        guest: Some(guest_of(layout, slot)),
        confidence: placed.confidence,
        evidence: placed.evidence,
    }
}

/// The guest bytes that an L1 entry stands for.
fn guest_of(layout: &Layout, slot: u64) -> GuestRange {
    let coverage = layout.shape.coverage();
    GuestRange::at(slot * coverage, coverage).clipped(GuestRange::at(0, layout.size))
}

/// Ranges in order, neighbours made one.
pub(crate) fn joined(ranges: impl Iterator<Item = GuestRange>) -> Vec<GuestRange> {
    let mut joined: Vec<GuestRange> = Vec::new();
    for range in ranges.filter(|range| !range.is_empty()) {
        match joined.last_mut() {
            Some(last) if last.end() == range.start => last.length += range.length,
            _ => joined.push(GuestRange { start: GuestOffset::new(range.start.get()), ..range }),
        }
    }
    joined
}
