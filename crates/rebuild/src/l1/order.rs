//! Where tables belong, by their order in the file: a table is made with the first write to what
//! it covers.

use std::collections::BTreeMap;

use super::Placed;
use super::find::{Found, Slot};
use crate::step::{Confidence, Evidence};

/// A table whose place is known.
#[derive(Clone, Copy, Debug)]
struct Anchor {
    table: u64,
    slot: u64,
}

/// What is left when all tables that can be have their entries.
#[derive(Default)]
pub(super) struct Left {
    /// Tables for which there is no entry.
    pub(super) tables: Vec<u64>,
    /// Entries that stay free, and that one of the tables may have had that got another.
    pub(super) doubtful: Vec<u64>,
}

/// Gives `rest`, which is in the order of the file, the free entries that its neighbours in the
/// file leave it.
pub(super) fn place(found: &Found, rest: &[u64], placed: &mut BTreeMap<u64, Placed>) -> Left {
    if rest.is_empty() {
        return Left::default();
    }
    let is_taken = |slot: u64| placed.contains_key(&slot);
    let free =
        || found.slots.iter().filter(|(slot, it)| !matches!(it, Slot::Good(_)) && !is_taken(*slot));
    // An entry that leads nowhere was one; one of zeros may never have been.
    let bad: Vec<u64> = free().filter(|(_, it)| *it == Slot::Bad).map(|(slot, _)| slot).collect();
    let free = if bad.len() >= rest.len() { bad } else { free().map(|(slot, _)| slot).collect() };
    let slots = found.slots.iter();
    let mut anchors: Vec<Anchor> = slots
        .filter_map(|(slot, state)| match state {
            Slot::Good(table) => Some(Anchor { table, slot }),
            Slot::Empty | Slot::Bad => None,
        })
        .chain(placed.iter().map(|(slot, placed)| Anchor { table: placed.table, slot: *slot }))
        .collect();
    anchors.sort_unstable_by_key(|anchor| anchor.table);
    let is_ordered = anchors.windows(2).all(|pair| pair[0].slot < pair[1].slot);
    let segments = segments(&anchors, rest, &free);
    let is_sequential = is_ordered && segments.iter().all(|it| it.tables.len() <= it.entries.len());
    if is_sequential {
        let mut left = Left::default();
        segments.iter().for_each(|it| it.place(it.is_exact(), placed, &mut left));
        return left;
    }
    // Written here and there: the order says nothing, and every place is as good as another.
    let mut left = Left::default();
    Segment { tables: rest, entries: &free }.place(false, placed, &mut left);
    left
}

/// Tables between two in the file that have a place, and the free entries between those two.
struct Segment<'a> {
    tables: &'a [u64],
    entries: &'a [u64],
}

fn segments<'a>(anchors: &[Anchor], rest: &'a [u64], free: &'a [u64]) -> Vec<Segment<'a>> {
    let (mut segments, mut left, mut from) = (Vec::new(), rest, 0);
    for end in anchors.iter().map(Some).chain([None]) {
        let count = end.map_or(left.len(), |end| left.partition_point(|at| *at < end.table));
        let (tables, others) = left.split_at(count);
        let before = end.map_or(u64::MAX, |end| end.slot);
        let low = free.partition_point(|slot| *slot < from);
        let high = free.partition_point(|slot| *slot < before).max(low);
        if !tables.is_empty() {
            segments.push(Segment { tables, entries: &free[low..high] });
        }
        (left, from) = (others, before.saturating_add(1));
    }
    segments
}

impl Segment<'_> {
    fn is_exact(&self) -> bool {
        self.tables.len() == self.entries.len()
    }

    /// Gives the tables the entries in order.
    fn place(&self, is_likely: bool, placed: &mut BTreeMap<u64, Placed>, left: &mut Left) {
        let count = |list: &[u64]| list.len() as u64;
        let evidence =
            Evidence::HostOrder { tables: count(self.tables), entries: count(self.entries) };
        let confidence = if is_likely { Confidence::Likely } else { Confidence::Guess };
        for (table, slot) in self.tables.iter().zip(self.entries) {
            placed.insert(*slot, Placed { table: *table, confidence, evidence });
        }
        let tables = self.tables.get(self.entries.len()..).unwrap_or_default();
        left.tables.extend_from_slice(tables);
        // Where there is no table there is nothing to be in doubt about.
        if !self.tables.is_empty() {
            let doubtful = self.entries.get(self.tables.len()..).unwrap_or_default();
            left.doubtful.extend_from_slice(doubtful);
        }
    }
}
