//! L1 and L2 tables, read on demand in pieces and kept within a bound.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use super::dialect::L1Order;
use crate::error::{Error, Result};
use crate::limits;
use crate::storage::Storage;
use crate::units::{HostOffset, in_memory};

/// Entries of the L1 table that are read at once.
pub(super) const L1_PAGE: u64 = 4096;

/// Reads tables of one file.
pub(super) struct Tables {
    pub(super) storage: Box<dyn Storage>,
    pub(super) file_size: u64,
    pub(super) l1_order: L1Order,
    cache: Mutex<Cache>,
}

#[derive(Default)]
struct Cache {
    pages: HashMap<u64, (Arc<[u64]>, u64)>,
    bytes: usize,
    clock: u64,
}

impl Tables {
    pub(super) fn new(storage: Box<dyn Storage>, file_size: u64, l1_order: L1Order) -> Self {
        Self { storage, file_size, l1_order, cache: Mutex::default() }
    }

    /// The entries of an L2 table as far as the file has them.
    pub(super) fn l2(&self, at: u64, entries: u64) -> Result<Arc<[u64]>> {
        self.page(at, entries, "reading an L2 table", u64::from_be_bytes)
    }

    /// `entries` entries of the L1 table from host offset `at`, as far as the file has them.
    pub(super) fn l1(&self, at: u64, entries: u64) -> Result<Arc<[u64]>> {
        self.page(at, entries, "reading the L1 table", |bytes| self.l1_order.decode(bytes))
    }

    fn page(
        &self,
        at: u64,
        entries: u64,
        doing: &'static str,
        decode: impl Fn([u8; 8]) -> u64,
    ) -> Result<Arc<[u64]>> {
        if let Some(page) = self.lock().get(at) {
            return Ok(page);
        }
        let present = entries.min(self.file_size.saturating_sub(at) / 8);
        let mut bytes = vec![0; in_memory(present * 8)];
        let place = HostOffset::new(at);
        self.storage
            .read_at(&mut bytes, place)
            .map_err(|source| Error::io(doing, &*self.storage, place, source))?;
        let page: Arc<[u64]> = bytes.as_chunks().0.iter().map(|bytes| decode(*bytes)).collect();
        self.lock().put(at, &page);
        Ok(page)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Cache> {
        // A panic elsewhere cannot leave the cache half changed in a way that matters.
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Cache {
    /// An L1 page and an L2 table at the same place break a rule before they are read, so the
    /// place alone tells them apart.
    fn get(&mut self, at: u64) -> Option<Arc<[u64]>> {
        self.clock += 1;
        let (page, used) = self.pages.get_mut(&at)?;
        *used = self.clock;
        Some(Arc::clone(page))
    }

    fn put(&mut self, at: u64, page: &Arc<[u64]>) {
        self.clock += 1;
        self.bytes += size_of_val(&**page);
        if let Some((old, _)) = self.pages.insert(at, (Arc::clone(page), self.clock)) {
            self.bytes -= size_of_val(&*old);
        }
        while self.bytes > limits::TABLE_CACHE {
            let oldest = self.pages.iter().min_by_key(|(_, (_, used))| *used).map(|(at, _)| *at);
            let Some(oldest) = oldest else { break };
            if let Some((page, _)) = self.pages.remove(&oldest) {
                self.bytes -= size_of_val(&*page);
            }
        }
    }
}
