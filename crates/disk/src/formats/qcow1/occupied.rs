//! Which host bytes are taken by the header and by tables, so that no cluster can be there.

use std::ops::Range;

use super::Qcow1Image;
use super::header::HEADER_SIZE;
use super::tables::L1_PAGE;
use crate::error::Result;

/// The host bytes of the header, the L1 table and the L2 tables.
#[derive(Debug)]
pub(super) struct Occupied {
    header_and_l1: [Range<u64>; 2],
    /// Where L2 tables begin, sorted.
    tables: Vec<u64>,
    /// How long each of them is.
    table_bytes: u64,
}

/// L2 tables that are remembered; a disk with more of them (2 TiB, fully allocated, in QEMU's
/// geometry) is only guarded against clusters on the header, the L1 table and these.
const MAX_TABLES: usize = 1 << 20;

impl Occupied {
    pub(super) fn gather(image: &Qcow1Image) -> Result<Self> {
        let header = &image.header;
        let mut tables = Vec::new();
        let mut index = 0;
        while index < header.l1_entries && tables.len() < MAX_TABLES {
            let count = L1_PAGE.min(header.l1_entries - index);
            let page = image.tables.l1(image.l1_entry_at(index).get(), count)?;
            if page.is_empty() {
                break;
            }
            tables.extend(page.iter().copied().filter(|at| {
                *at < image.tables.pages.file_size && image.table_objection(*at).is_none()
            }));
            index += count;
        }
        let header_and_l1 = [0..HEADER_SIZE, header.l1_range()];
        Ok(Self::of(header_and_l1, tables, header.l2_entries() * 8))
    }

    fn of(header_and_l1: [Range<u64>; 2], mut tables: Vec<u64>, table_bytes: u64) -> Self {
        tables.sort_unstable();
        tables.dedup();
        tables.shrink_to_fit();
        Self { header_and_l1, tables, table_bytes }
    }

    /// Where L2 tables begin, sorted, as far as they are remembered.
    pub(super) fn tables(&self) -> &[u64] {
        &self.tables
    }

    /// Whether any of the host bytes from `start` up to `end` are taken.
    pub(super) fn meets(&self, start: u64, end: u64) -> bool {
        let meets = |range: &Range<u64>| range.start.max(start) < range.end.min(end);
        let behind = self.tables.partition_point(|at| at.saturating_add(self.table_bytes) <= start);
        self.header_and_l1.iter().any(meets)
            || self.tables.get(behind).is_some_and(|at| at.max(&start) < &end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_met_at_their_edges() {
        let occupied = Occupied::of([0..48, 48..64], vec![12288, 4096, 4096, 6144], 4096);
        assert_eq!(occupied.tables, [4096, 6144, 12288]);
        for (start, end) in [(0, 1), (63, 64), (10239, 12000), (4096, 4097), (100, 4097)] {
            assert!(occupied.meets(start, end), "{start} to {end}");
        }
        for (start, end) in [(64, 4096), (10240, 12288), (16384, u64::MAX), (4100, 4100)] {
            assert!(!occupied.meets(start, end), "{start} to {end}");
        }
        let empty = Occupied::of([0..48, 9..9], Vec::new(), 4096);
        assert!(!empty.meets(48, 99));
    }
}
