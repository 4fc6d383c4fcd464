//! Xen's tapdisk kept the data of entry number i of an L2 table 4096 * (i + 1) bytes behind the
//! table, and reserved room for all of it: what a table said can be told without it.

use calve_disk::units::{GuestRange, HostOffset};
use calve_disk::{Error, Result, Storage};

use crate::bytes::{big, read_up_to};
use crate::header::put;
use crate::l1::joined;
use crate::layout::Layout;
use crate::patched::{Patched, Patches};
use crate::sectors::{Sectors, require_scannable};
use crate::shape::{Entry, Shape, is_table_place, words};
use crate::step::{Confidence, Evidence, Rebuilt, Step, Subject};

/// Where the extended header says in which units room is allocated: 512 where whole tables are.
const ALLOCATION_AT: u64 = 56;
const WHOLE_TABLES: u64 = 512;
/// The geometry that has the implied layout.
const SHAPE: Shape = Shape { cluster_bits: 12, l2_bits: 9 };
/// How far behind its table the data begins.
const DATA: u64 = 4096;

/// Rebuilds the entries of damaged L2 tables of an image of Xen's tapdisk.
///
/// An entry is set where it is 0 or nothing that can be, where the place it would have lies in
/// the file, and where nothing else claims that place. A table of zeros whose place for data is
/// free in part only stays as it is.
///
/// # Errors
/// [`Error::Unsupported`] where the image is not of that kind or has a backing file, since then
/// an entry of 0 has a meaning of its own; else as [`crate::l1()`].
pub fn xen(source: &Patched) -> Result<Rebuilt> {
    let layout = Layout::of(source)?;
    let allocation = big(&read_up_to(source, ALLOCATION_AT, 4)?, 0, 4);
    let is_implied = layout.is_xen && layout.shape == SHAPE && allocation == WHOLE_TABLES;
    if !is_implied || layout.has_backing {
        let what = "it is no image of Xen's tapdisk that reserves room for whole tables";
        return Err(Error::Unsupported { path: source.path().to_owned(), what: what.into() });
    }
    require_scannable(source)?;
    let l1 = layout.l1(source)?;
    let claimed = claims(source, &layout, &l1)?;
    let (mut patches, mut steps, mut suspect) = (Patches::default(), Vec::new(), Vec::new());
    for (slot, table) in (0u64..).zip(&l1) {
        if !is_table_place(*table, source.length()) {
            continue;
        }
        let Some(mended) = mend(source, &claimed, *table, slot)? else { continue };
        put(source, &mut patches, *table, &mended.bytes)?;
        let guest = GuestRange::at(slot * SHAPE.coverage(), SHAPE.coverage());
        steps.push(Step {
            subject: Subject::L2Entries,
            at: HostOffset::new(*table),
            value: mended.guest.len() as u64,
            guest: Some(guest.clipped(GuestRange::at(0, layout.size))),
            confidence: if mended.agreeing > 0 { Confidence::Likely } else { Confidence::Guess },
            evidence: Evidence::ImpliedLayout { agreeing: mended.agreeing },
        });
        let whole = GuestRange::at(0, layout.size);
        suspect.extend(mended.guest.iter().map(|range| range.clipped(whole)));
    }
    let suspect = joined(suspect.into_iter());
    Ok(Rebuilt { source: source.with(&patches)?, steps, suspect, unplaced: Vec::new() })
}

/// The sectors that tables and good entries claim.
fn claims(source: &Patched, layout: &Layout, l1: &[u64]) -> Result<Sectors> {
    let size = source.length();
    let mut claimed = Sectors::new(size);
    claimed.set_bytes(0, 64);
    if layout.l1_at < size {
        claimed.set_bytes(layout.l1_at, layout.l1_entries * 8);
    }
    for table in l1.iter().filter(|table| is_table_place(**table, size)) {
        claimed.set_bytes(*table, SHAPE.table_length());
        for word in words(&read_up_to(source, *table, SHAPE.table_length())?) {
            if let Some((at, length)) = SHAPE.claim(word, size) {
                claimed.set_bytes(at, length);
            }
        }
    }
    Ok(claimed)
}

/// A table with its entries set.
struct Mended {
    bytes: Vec<u8>,
    /// What each entry covers that was set.
    guest: Vec<GuestRange>,
    agreeing: u64,
}

fn mend(source: &Patched, claimed: &Sectors, table: u64, slot: u64) -> Result<Option<Mended>> {
    let size = source.length();
    let mut bytes = read_up_to(source, table, SHAPE.table_length())?;
    let implied = |index: u64| table + DATA + index * SHAPE.cluster();
    let mut agreeing = 0;
    let mut lost = Vec::new();
    for (index, word) in (0u64..).zip(words(&bytes)) {
        match SHAPE.entry(word, size) {
            Entry::Empty | Entry::Bad => lost.push(index),
            Entry::Plain(at) => agreeing += u64::from(at == implied(index)),
            Entry::Packed { .. } => {}
        }
    }
    let fits = |index: &u64| {
        let at = implied(*index);
        at + SHAPE.cluster() <= size && !claimed.has_bytes(at, SHAPE.cluster())
    };
    let is_whole = lost.len() as u64 == SHAPE.entries();
    // A table that stock QEMU made has no room behind it: then somebody else's is there.
    let is_taken =
        lost.iter().any(|index| implied(*index) + SHAPE.cluster() <= size && !fits(index));
    if (is_whole && is_taken) || (!is_whole && agreeing == 0) {
        return Ok(None);
    }
    let mut guest = Vec::new();
    for index in lost.into_iter().filter(fits) {
        let entry = bytes.as_chunks_mut::<8>().0.get_mut(usize::try_from(index).unwrap_or(0));
        if let Some(entry) = entry {
            *entry = implied(index).to_be_bytes();
            let start = slot * SHAPE.coverage() + index * SHAPE.cluster();
            guest.push(GuestRange::at(start, SHAPE.cluster()));
        }
    }
    Ok((!guest.is_empty()).then_some(Mended { bytes, guest, agreeing }))
}
