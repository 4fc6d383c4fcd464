//! L1 and L2 tables, read on demand.

use std::sync::Arc;

use super::dialect::L1Order;
use crate::error::Result;
use crate::pages::Pages;

/// Entries of the L1 table that are read at once.
pub(super) const L1_PAGE: u64 = 4096;

/// Reads tables of one file.
///
/// A page of the L1 table and an L2 table at the same place break a rule before they are read,
/// so the place alone tells them apart.
pub(super) struct Tables {
    pub(super) pages: Pages,
    pub(super) l1_order: L1Order,
}

impl Tables {
    /// The entries of an L2 table as far as the file has them.
    pub(super) fn l2(&self, at: u64, entries: u64) -> Result<Arc<[u64]>> {
        self.pages.get(at, entries, "reading an L2 table", u64::from_be_bytes)
    }

    /// `entries` entries of the L1 table from host offset `at`, as far as the file has them.
    pub(super) fn l1(&self, at: u64, entries: u64) -> Result<Arc<[u64]>> {
        self.pages.get(at, entries, "reading the L1 table", |bytes| self.l1_order.decode(bytes))
    }
}
