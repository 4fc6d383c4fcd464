//! Which host bytes are taken by the header and by tables, so that no cluster can be there.

use super::Qcow1Image;
use super::header::HEADER_SIZE;
use super::tables::L1_PAGE;
use crate::error::Result;

/// Sorted, disjoint host ranges.
#[derive(Debug)]
pub(super) struct Occupied {
    ranges: Vec<(u64, u64)>,
}

/// L2 tables that are remembered; a disk with more of them (2 TiB, fully allocated, in QEMU's
/// geometry) is only guarded against clusters on the header, the L1 table and these.
const MAX_TABLES: usize = 1 << 20;

impl Occupied {
    pub(super) fn gather(image: &Qcow1Image) -> Result<Self> {
        let header = &image.header;
        let mut ranges = vec![(0, HEADER_SIZE), header.l1_range()];
        let l2_bytes = header.l2_entries() * 8;
        let mut index = 0;
        while index < header.l1_entries && ranges.len() < MAX_TABLES {
            let count = L1_PAGE.min(header.l1_entries - index);
            let page = image.tables.l1(image.l1_entry_at(index).get(), count)?;
            if page.is_empty() {
                break;
            }
            let tables = page.iter().filter(|at| {
                **at < image.tables.pages.file_size && image.table_objection(**at).is_none()
            });
            ranges.extend(tables.map(|at| (*at, at + l2_bytes)));
            index += count;
        }
        Ok(Self::of(ranges))
    }

    fn of(mut ranges: Vec<(u64, u64)>) -> Self {
        ranges.retain(|(start, end)| start < end);
        ranges.sort_unstable();
        ranges.dedup_by(|next, kept| {
            let touches = next.0 <= kept.1;
            if touches {
                kept.1 = kept.1.max(next.1);
            }
            touches
        });
        ranges.shrink_to_fit();
        Self { ranges }
    }

    /// Whether any of the host bytes from `start` up to `end` are taken.
    pub(super) fn meets(&self, start: u64, end: u64) -> bool {
        let behind = self.ranges.partition_point(|range| range.1 <= start);
        self.ranges.get(behind).is_some_and(|range| range.0 < end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_that_touch_become_one_and_are_met_at_their_edges() {
        let occupied = Occupied::of(vec![(4096, 8192), (0, 48), (48, 64), (4096, 8192), (9, 9)]);
        assert_eq!(occupied.ranges, [(0, 64), (4096, 8192)]);
        assert!(occupied.meets(8191, 9000) && occupied.meets(0, 1) && occupied.meets(100, 4097));
        assert!(!occupied.meets(64, 4096) && !occupied.meets(8192, u64::MAX));
    }
}
