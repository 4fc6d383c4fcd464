//! Finding L2 tables by what they look like.

use calve_disk::Result;
use calve_disk::units::{SECTOR, in_memory};

use crate::bytes::read_up_to;
use crate::layout::Layout;
use crate::patched::Patched;
use crate::sectors::{Scanned, Sectors, scan};
use crate::shape::{Entry, HEADER_SIZE, Shape, is_table_place, words};

/// Tables that are remembered at most.
const MOST_TABLES: usize = 1 << 20;

/// What may be an L2 table.
#[derive(Clone, Copy, Debug)]
pub(super) struct Candidate {
    pub(super) at: u64,
    /// Entries with something in them.
    entries: u64,
    /// Whether what it first leads to begins right behind it, as writers allocate.
    is_followed: bool,
}

/// What an L1 table has, and what the file has beside it.
pub(super) struct Found {
    /// For each L1 entry whether it is to be trusted, free, or has to be replaced.
    pub(super) slots: Slots,
    /// Tables that nothing leads to, in the order of the file.
    pub(super) lost: Vec<u64>,
}

/// One L1 entry.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Slot {
    /// Leads to what looks like a table.
    Good(u64),
    /// 0: nothing was ever written there, or the entry was lost.
    Empty,
    /// Leads to nothing that can be a table.
    Bad,
}

/// L1 entries in the room of the table itself: a small file can claim a long one.
pub(super) struct Slots(Vec<u64>);

/// What stands for [`Slot::Bad`]; no table is there.
const BAD: u64 = u64::MAX;

impl Slots {
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn get(&self, number: u64) -> Option<Slot> {
        self.0.get(in_memory(number)).map(|entry| Self::slot(*entry))
    }

    /// All of them with their numbers.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u64, Slot)> {
        (0..).zip(self.0.iter().map(|entry| Self::slot(*entry)))
    }

    fn slot(entry: u64) -> Slot {
        match entry {
            0 => Slot::Empty,
            BAD => Slot::Bad,
            table => Slot::Good(table),
        }
    }
}

struct Search<'a> {
    source: &'a Patched,
    shape: Shape,
    size: u64,
    /// Sectors that what is trusted claims.
    claimed: Sectors,
}

pub(super) fn tables(source: &Patched, layout: &Layout) -> Result<Found> {
    let mut search = Search {
        source,
        shape: layout.shape,
        size: source.length(),
        claimed: Sectors::new(source.length()),
    };
    let scanned = scan(source, layout.shape)?;
    search.claimed.set_bytes(0, HEADER_SIZE);
    if layout.l1_at >= HEADER_SIZE && layout.l1_at < search.size {
        // A neighbour may share the last sector, but nobody the first ones.
        let whole = layout.l1_end().min(search.size) / SECTOR * SECTOR;
        search.claimed.set_bytes(layout.l1_at, whole.saturating_sub(layout.l1_at));
    }
    let mut entries = layout.l1(source)?;
    for entry in &mut entries {
        *entry = match search.slot(layout, *entry)? {
            Slot::Good(table) => table,
            Slot::Empty => 0,
            Slot::Bad => BAD,
        };
    }
    let mut candidates = search.candidates(&scanned)?;
    candidates.sort_by_key(|found| (!found.is_followed, u64::MAX - found.entries, found.at));
    let mut lost = Vec::new();
    for candidate in candidates {
        if search.accepts(candidate.at)? {
            lost.push(candidate.at);
        }
    }
    lost.sort_unstable();
    Ok(Found { slots: Slots(entries), lost })
}

impl Search<'_> {
    /// Judges an L1 entry, and takes what a good one leads to as claimed.
    fn slot(&mut self, layout: &Layout, entry: u64) -> Result<Slot> {
        if entry == 0 {
            return Ok(Slot::Empty);
        }
        let length = self.shape.table_length();
        let meets_l1 = entry < layout.l1_end() && layout.l1_at < entry.saturating_add(length);
        if !is_table_place(entry, self.size) || meets_l1 {
            return Ok(Slot::Bad);
        }
        // Two entries with one table: one of them is wrong, and the first is as good as any.
        if self.claimed.has(entry / SECTOR) {
            return Ok(Slot::Bad);
        }
        let table = read_up_to(self.source, entry, length)?;
        let (mut used, mut bad) = (0, 0);
        for word in words(&table).filter(|word| *word != 0) {
            used += 1;
            bad += u64::from(self.shape.entry(word, self.size) == Entry::Bad);
        }
        if bad * 2 > used {
            return Ok(Slot::Bad);
        }
        self.claim(entry, &table);
        Ok(Slot::Good(entry))
    }

    fn claim(&mut self, at: u64, table: &[u8]) {
        self.claimed.set_bytes(at, self.shape.table_length());
        for (at, length) in words(table).filter_map(|word| self.shape.claim(word, self.size)) {
            self.claimed.set_bytes(at, length);
        }
    }

    /// What looks like tables among what nobody claims, in the order of the file.
    fn candidates(&self, scanned: &Scanned) -> Result<Vec<Candidate>> {
        let mut found = Vec::new();
        let (mut sector, last) = (0, self.size.div_ceil(SECTOR));
        while sector < last && found.len() < MOST_TABLES {
            if !scanned.entries.has(sector) || self.claimed.has(sector) {
                sector += 1;
                continue;
            }
            match self.table_around(scanned, sector)? {
                Some(candidate) => {
                    let end = (candidate.at + self.shape.table_length()) / SECTOR;
                    found.push(candidate);
                    sector = end.max(sector + 1);
                }
                None => sector += 1,
            }
        }
        Ok(found)
    }

    /// The table whose first used entry is in this sector.
    fn table_around(&self, scanned: &Scanned, sector: u64) -> Result<Option<Candidate>> {
        let (length, cluster) = (self.shape.table_length(), self.shape.cluster());
        let at = sector * SECTOR;
        let needed = length / SECTOR;
        let can_be = |it: &u64| {
            (it + 1) * SECTOR <= self.size && !scanned.others.has(*it) && !self.claimed.has(*it)
        };
        let before =
            (1..sector).rev().take_while(can_be).take(in_memory(needed - 1)).count() as u64;
        let behind = (sector..sector + needed).take_while(can_be).count() as u64;
        if before + behind < needed {
            return Ok(None);
        }
        // The first and the last place at which a table can begin that has this sector.
        let places = (sector - before) * SECTOR..=(sector + behind - needed) * SECTOR;
        // What a table first leads to was put right behind it. It may be in any of its sectors.
        let lowest = self.lowest_claim(at, length)?;
        let room = length.next_multiple_of(cluster);
        let followed =
            [room, length, 4096].map(|room| lowest.and_then(|low| low.checked_sub(room)));
        for start in followed.into_iter().flatten() {
            if places.contains(&start) && start.is_multiple_of(SECTOR) {
                return self.candidate(start, true).map(Some);
            }
        }
        let start = at / cluster * cluster;
        let start = if places.contains(&start) { start } else { *places.end() };
        self.candidate(start, false).map(Some)
    }

    fn lowest_claim(&self, at: u64, length: u64) -> Result<Option<u64>> {
        let bytes = read_up_to(self.source, at, length)?;
        let claims = words(&bytes).filter_map(|word| self.shape.claim(word, self.size));
        Ok(claims.map(|(at, _)| at).filter(|lowest| *lowest > at).min())
    }

    fn candidate(&self, at: u64, is_followed: bool) -> Result<Candidate> {
        let bytes = read_up_to(self.source, at, self.shape.table_length())?;
        let entries = words(&bytes).filter(|word| *word != 0).count() as u64;
        Ok(Candidate { at, entries, is_followed })
    }

    /// Takes a candidate, unless what is trusted already claims it or what it leads to.
    fn accepts(&mut self, at: u64) -> Result<bool> {
        let length = self.shape.table_length();
        if self.claimed.has_bytes(at, length) {
            return Ok(false);
        }
        let table = read_up_to(self.source, at, length)?;
        let (mut claims, mut taken) = (0, 0);
        for (place, bytes) in words(&table).filter_map(|word| self.shape.claim(word, self.size)) {
            claims += 1;
            let is_packed = bytes < self.shape.cluster();
            // Packed neighbours share sectors.
            let is_taken = !is_packed && self.claimed.has_bytes(place, bytes);
            let meets_itself = place < at + length && at < place + bytes;
            taken += u64::from(is_taken || meets_itself);
        }
        if taken * 10 > claims {
            return Ok(false);
        }
        self.claim(at, &table);
        Ok(true)
    }
}
