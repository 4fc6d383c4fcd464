//! All tables of an image, one after the other, for whoever has to know whether they are what
//! they were.

use super::Qcow1Image;
use super::tables::L1_PAGE;
use crate::error::Result;
use crate::units::HostOffset;

/// Entries of one table, or of one piece of the L1 table, in the machine's own order.
#[derive(Clone, Copy, Debug)]
pub struct VisitedTable<'a> {
    /// Whether these are entries of an L2 table.
    pub is_l2: bool,
    /// Where the first one stands.
    pub at: HostOffset,
    /// The entries, as far as the file has them.
    pub entries: &'a [u64],
}

impl Qcow1Image {
    /// Tells `visit` of the L1 table, piece by piece, and behind each piece of the L2 tables that
    /// it names. An entry that can be no table's place is passed over: the map tells of it.
    pub fn visit_tables(&self, visit: &mut dyn FnMut(VisitedTable<'_>)) -> Result<()> {
        let (header, tables) = (&self.header, &self.tables);
        let mut index = 0;
        while index < header.l1_entries {
            let count = L1_PAGE.min(header.l1_entries - index);
            let at = self.l1_entry_at(index);
            let page = tables.l1(at.get(), count)?;
            visit(VisitedTable { is_l2: false, at, entries: &page });
            for (number, table) in page.iter().enumerate().filter(|(_, at)| **at != 0) {
                if self.table_objection(*table).is_some() {
                    continue;
                }
                let next = &page[number + 1..];
                tables.look_ahead(index + number as u64, *table, next, header.l2_entries());
                let entries = tables.l2(*table, header.l2_entries())?;
                visit(VisitedTable { is_l2: true, at: HostOffset::new(*table), entries: &entries });
            }
            if (page.len() as u64) < count {
                break;
            }
            index += count;
        }
        Ok(())
    }
}
