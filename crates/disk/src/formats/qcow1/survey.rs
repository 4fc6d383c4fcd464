//! The walk over every table: counts, and what is odd.

use super::Qcow1Image;
use super::entry::{self, Entry};
use super::header::HEADER_SIZE;
use super::tables::L1_PAGE;
use crate::error::Result;
use crate::finding::{Finding, Rule};
use crate::image::{Image, Survey};
use crate::units::{GuestRange, HostOffset};

/// Pieces of the file that are remembered with their owners. Pieces that touch are one, so that
/// this is reached only by a badly scattered disk; 32 MiB at most.
const MAX_PIECES: usize = 1 << 20;

/// Runs the walk.
pub(super) fn run(image: &Qcow1Image, report: &mut dyn FnMut(Finding)) -> Result<Survey> {
    let total = image.header.cluster_size.count(image.header.size);
    let counts = Survey { total, ..Survey::default() };
    let mut walk = Walk { image, counts, pieces: Pieces::default(), report };
    walk.findings_so_far();
    walk.tables()?;
    walk.host_ranges();
    Ok(walk.counts)
}

struct Walk<'a> {
    image: &'a Qcow1Image,
    counts: Survey,
    pieces: Pieces,
    report: &'a mut dyn FnMut(Finding),
}

/// Host ranges that something refers to.
#[derive(Default)]
struct Pieces {
    ranges: Vec<Piece>,
    are_too_many: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Piece {
    start: u64,
    end: u64,
    guest: u64,
    is_table: bool,
}

impl Pieces {
    fn add(&mut self, piece: Piece) {
        if let Some(last) = self.ranges.last_mut()
            && last.end == piece.start
            && last.is_table == piece.is_table
            && last.guest + (last.end - last.start) == piece.guest
        {
            last.end = piece.end;
        } else if self.ranges.len() < MAX_PIECES {
            self.ranges.push(piece);
        } else {
            self.are_too_many = true;
        }
    }
}

impl Walk<'_> {
    fn findings_so_far(&mut self) {
        for finding in &self.image.facts.findings {
            (self.report)(*finding);
        }
    }

    fn tables(&mut self) -> Result<()> {
        let header = &self.image.header;
        if header.l1_at < HEADER_SIZE {
            self.counts.lost = self.counts.total;
            return Ok(());
        }
        self.keep(0, HEADER_SIZE, 0, true);
        let l1 = header.l1_range();
        self.keep(l1.start, l1.end, 0, true);
        let coverage = header.l1_coverage_bits();
        let mut index = 0;
        while index < header.l1_entries {
            let count = L1_PAGE.min(header.l1_entries - index);
            let page = self.image.tables.l1(self.image.l1_entry_at(index).get(), count)?;
            for (number, at) in (index..).zip(page.iter()) {
                if *at != 0 {
                    self.table(*at, number, number << coverage)?;
                }
            }
            let missing = index + page.len() as u64;
            if (page.len() as u64) < count {
                let guest = GuestRange::at(
                    missing << coverage,
                    header.size.saturating_sub(missing << coverage),
                );
                self.find(Rule::L1Cut, self.image.l1_entry_at(missing), guest);
                self.counts.lost += header.cluster_size.count(guest.length);
                break;
            }
            index += count;
        }
        Ok(())
    }

    fn table(&mut self, at: u64, index: u64, guest: u64) -> Result<()> {
        let header = &self.image.header;
        let covered = GuestRange::at(guest, 1 << header.l1_coverage_bits())
            .clipped(GuestRange::at(0, header.size));
        let clusters = header.cluster_size.count(covered.length);
        let entry_at = self.image.l1_entry_at(index);
        if let Some(rule) = self.image.table_objection(at) {
            self.find(rule, entry_at, covered);
            self.counts.lost += clusters;
            return Ok(());
        }
        self.keep(at, at + header.l2_entries() * 8, guest, true);
        let entries = self.image.tables.l2(at, header.l2_entries())?;
        let bits = header.cluster_size.bits();
        for (number, raw) in (0..clusters).zip(entries.iter()) {
            let entry_at = HostOffset::new(at + number * 8);
            self.cluster(entry::decode(*raw, bits), entry_at, guest + (number << bits))?;
        }
        let present = entries.len() as u64;
        if present < clusters {
            let from = guest + (present << bits);
            let lost = GuestRange::between(crate::units::GuestOffset::new(from), covered.end());
            self.find(Rule::L2Cut, HostOffset::new(at + present * 8), lost);
            self.counts.lost += clusters - present;
        }
        Ok(())
    }

    fn cluster(&mut self, entry: Entry, entry_at: HostOffset, guest: u64) -> Result<()> {
        let cluster = self.image.header.cluster_size.bytes();
        let range = GuestRange::at(guest, cluster.min(self.image.header.size - guest));
        let lost = match entry {
            Entry::Unallocated => return Ok(()),
            Entry::Invalid => Some(Rule::ClusterEntry),
            Entry::Plain(at) => match self.image.plain_objection(at)? {
                None => self.plain(at, entry_at, range)?,
                objection => objection,
            },
            Entry::Packed { at, length } => {
                let objection = self.image.packed_objection(at, length);
                if objection.is_none() {
                    self.packed(at, length, entry_at, range);
                }
                objection
            }
        };
        self.counts.allocated += 1;
        if let Some(rule) = lost {
            self.find(rule, entry_at, range);
            self.counts.lost += 1;
        }
        Ok(())
    }

    fn packed(&mut self, at: u64, length: u64, entry_at: HostOffset, range: GuestRange) {
        self.counts.packed += 1;
        if at + length > self.image.tables.pages.file_size {
            self.find(Rule::PackedOverrun, entry_at, range);
        }
        self.keep(at, at + length, range.start.get(), false);
    }

    fn plain(&mut self, at: u64, entry_at: HostOffset, range: GuestRange) -> Result<Option<Rule>> {
        let cluster = self.image.header.cluster_size.bytes();
        self.keep(at, at + cluster, range.start.get(), false);
        if at + cluster <= self.image.tables.pages.file_size {
            return Ok(None);
        }
        // What the guest sees of a cut cluster, the map knows best.
        let mut found = crate::extent::ExtentList::starting_at(range.start);
        self.image.map(range, &mut found)?;
        let is_lost = |extent: &crate::Extent| matches!(extent.payload, crate::Payload::Lost(_));
        if found.as_slice().iter().any(is_lost) {
            return Ok(Some(Rule::ClusterCut));
        }
        self.find(Rule::LastClusterShort, entry_at, range);
        Ok(None)
    }

    /// Looks for bytes with two owners and for bytes with none.
    fn host_ranges(&mut self) {
        self.counts.too_many_pieces = self.pieces.are_too_many;
        if self.pieces.are_too_many {
            return;
        }
        let mut ranges = std::mem::take(&mut self.pieces.ranges);
        ranges.sort_unstable();
        let file_size = self.image.tables.pages.file_size;
        let mut covered = Piece { start: 0, end: 0, guest: 0, is_table: true };
        for piece in ranges {
            if piece.start > covered.end {
                self.leak(covered.end, piece.start.min(file_size));
            } else if piece.start < covered.end {
                self.overlap(&covered, &piece);
            }
            if piece.end > covered.end {
                covered = piece;
            }
        }
        self.leak(covered.end, file_size);
    }

    fn overlap(&mut self, first: &Piece, second: &Piece) {
        let rule = match (first.is_table, second.is_table) {
            (true, true) => Rule::L2Shared,
            (false, false) => Rule::ClusterShared,
            // The walk over the entries has told of it.
            _ => return,
        };
        let length = first.end.min(second.end) - second.start;
        let guest = GuestRange::at(second.guest, length);
        self.find(rule, HostOffset::new(second.start), guest);
    }

    /// Padding up to the next cluster or sector is how writers align; only more is a leak.
    fn leak(&mut self, start: u64, end: u64) {
        // What was referred to may reach behind everything.
        if start >= end {
            return;
        }
        let aligned = self.image.header.cluster_size.ceil(start);
        if aligned < end {
            self.counts.leaked_bytes += end - aligned;
            let finding = Finding::new(Rule::Leak).at(HostOffset::new(aligned));
            (self.report)(finding.value(end - aligned));
        }
    }

    fn keep(&mut self, start: u64, end: u64, guest: u64, is_table: bool) {
        self.pieces.add(Piece { start, end, guest, is_table });
    }

    fn find(&mut self, rule: Rule, at: HostOffset, guest: GuestRange) {
        let guest = guest.clipped(GuestRange::at(0, self.image.header.size));
        (self.report)(Finding::new(rule).at(at).guest(guest));
    }
}
