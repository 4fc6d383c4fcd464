//! The walk over all table entries, one after the other, in the order of the disk.

use super::Qcow1Image;
use super::entry::{self, Entry};
use super::header::HEADER_SIZE;
use super::tables::L1_PAGE;
use crate::error::Result;
use crate::finding::Rule;
use crate::units::{GuestRange, HostOffset, in_memory};

/// What the walk comes by.
#[derive(Clone, Copy, Debug)]
pub(super) enum Met {
    /// The file ends before this part of the L1 table.
    L1Cut,
    /// An L1 entry that leads to an L2 table, of which the file may have a part.
    Table { at: u64 },
    /// An L1 entry that leads to a table whose entries were met already.
    SharedTable { at: u64 },
    /// An L1 entry that leads nowhere, and the rule that it breaks.
    NoTable(Rule),
    /// The file ends before this part of an L2 table.
    L2Cut,
    /// An L2 entry that is not 0.
    Cluster(Entry),
    /// An L2 entry that is not 0 and stands for bytes behind the end of the disk.
    Behind,
}

/// Tells `tell` of everything, with the place of the entry and the guest bytes concerned, which
/// do not reach behind the end of the disk.
///
/// Of a table that several L1 entries share, the entries are told once: it would otherwise take a
/// small file to keep the walk busy for as long as it likes.
pub(super) fn run(
    image: &Qcow1Image,
    tell: &mut impl FnMut(Met, HostOffset, GuestRange) -> Result<()>,
) -> Result<()> {
    let header = &image.header;
    if header.l1_at < HEADER_SIZE {
        return Ok(());
    }
    let mut seen = Seen::new(image)?;
    let coverage = header.l1_coverage_bits();
    let disk = GuestRange::at(0, header.size);
    let mut index = 0;
    while index < header.l1_entries {
        let count = L1_PAGE.min(header.l1_entries - index);
        let page = image.tables.l1(image.l1_entry_at(index).get(), count)?;
        for (number, at) in (index..).zip(page.iter()).filter(|(_, at)| **at != 0) {
            let covered = GuestRange::at(number << coverage, 1 << coverage).clipped(disk);
            let entry_at = image.l1_entry_at(number);
            if let Some(rule) = image.table_objection(*at) {
                tell(Met::NoTable(rule), entry_at, covered)?;
            } else if seen.is_new(*at) {
                tell(Met::Table { at: *at }, entry_at, covered)?;
                let next = &page[in_memory(number - index + 1)..];
                image.tables.look_ahead(number, *at, next, header.l2_entries());
                table(image, *at, covered, tell)?;
            } else {
                tell(Met::SharedTable { at: *at }, entry_at, covered)?;
            }
        }
        let missing = index + page.len() as u64;
        if (page.len() as u64) < count {
            let start = missing << coverage;
            let guest = GuestRange::at(start, header.size.saturating_sub(start));
            return tell(Met::L1Cut, image.l1_entry_at(missing), guest);
        }
        index += count;
    }
    Ok(())
}

fn table(
    image: &Qcow1Image,
    at: u64,
    covered: GuestRange,
    tell: &mut impl FnMut(Met, HostOffset, GuestRange) -> Result<()>,
) -> Result<()> {
    let bits = image.header.cluster_size.bits();
    let clusters = image.header.cluster_size.count(covered.length);
    let entries = image.tables.l2(at, image.header.l2_entries())?;
    let start = covered.start.get();
    for (number, raw) in (0..).zip(entries.iter()).filter(|(_, raw)| **raw != 0) {
        let entry_at = HostOffset::new(at + number * 8);
        let guest = GuestRange::at(start + (number << bits), 1 << bits).clipped(covered);
        if number < clusters {
            tell(Met::Cluster(entry::decode(*raw, bits)), entry_at, guest)?;
        } else {
            tell(Met::Behind, entry_at, guest)?;
        }
    }
    let present = entries.len() as u64;
    if present < clusters {
        let from = crate::units::GuestOffset::new(start + (present << bits));
        let lost = GuestRange::between(from, covered.end());
        tell(Met::L2Cut, HostOffset::new(at + present * 8), lost)?;
    }
    Ok(())
}

/// Which tables were met, of those whose places are remembered.
struct Seen<'a> {
    tables: &'a [u64],
    is_seen: Vec<bool>,
}

impl<'a> Seen<'a> {
    fn new(image: &'a Qcow1Image) -> Result<Self> {
        let tables = image.occupied()?.tables();
        Ok(Self { tables, is_seen: vec![false; tables.len()] })
    }

    fn is_new(&mut self, at: u64) -> bool {
        match self.tables.binary_search(&at) {
            Ok(number) => !std::mem::replace(&mut self.is_seen[number], true),
            // Behind the end of the file, or one of too many: nothing is remembered of it.
            Err(_) => true,
        }
    }
}
