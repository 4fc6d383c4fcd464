//! L1 and L2 tables, read on demand.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::dialect::L1Order;
use super::entry;
use crate::error::Result;
use crate::pages::Pages;
use crate::units::{HostOffset, in_memory};

/// Entries of the L1 table that are read at once.
pub(super) const L1_PAGE: u64 = 4096;

/// Reads tables of one file.
///
/// A page of the L1 table and an L2 table at the same place break a rule before they are read,
/// so the place alone tells them apart.
pub(super) struct Tables {
    pub(super) pages: Pages,
    pub(super) l1_order: L1Order,
    /// The L1 entry up to which the host was told which tables come next.
    told: AtomicU64,
}

/// L2 tables that the host is told of before they are wanted: they lie far apart, and a disk that
/// turns is slow to find them one by one.
const AHEAD: u64 = 32;

impl Tables {
    pub(super) fn new(pages: Pages, l1_order: L1Order) -> Self {
        Self { pages, l1_order, told: AtomicU64::new(0) }
    }

    /// Tells the host which tables come after the one of L1 entry `index`, which is at `at`:
    /// `next` are the L1 entries behind it. Not for each table, and not while tables are kept.
    pub(super) fn look_ahead(&self, index: u64, at: u64, next: &[u64], entries: u64) {
        let told = self.told.load(Ordering::Relaxed);
        let is_known = index < told && told <= index + AHEAD;
        if is_known || self.pages.has(at) {
            return;
        }
        self.told.store(index + AHEAD, Ordering::Relaxed);
        let places = next.iter().take(in_memory(AHEAD)).filter(|at| entry::is_offset(**at));
        for at in places.filter(|at| **at < self.pages.file_size) {
            self.pages.storage.will_read(HostOffset::new(*at), entries * 8);
        }
    }

    /// The entries of an L2 table as far as the file has them.
    pub(super) fn l2(&self, at: u64, entries: u64) -> Result<Arc<[u64]>> {
        self.pages.get(at, entries, "reading an L2 table", u64::from_be_bytes)
    }

    /// `entries` entries of the L1 table from host offset `at`, as far as the file has them.
    pub(super) fn l1(&self, at: u64, entries: u64) -> Result<Arc<[u64]>> {
        self.pages.get(at, entries, "reading the L1 table", |bytes| self.l1_order.decode(bytes))
    }
}
