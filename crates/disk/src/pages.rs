//! Pages: tables read on demand in pieces, and kept within a bound.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::error::{Error, Result};
use crate::limits;
use crate::storage::Storage;
use crate::units::{HostOffset, in_memory};

/// Bytes of a word: every table of every format here is made of 64-bit numbers.
const WORD: u64 = 8;

/// The tables of one file.
pub(crate) struct Pages {
    pub(crate) storage: Box<dyn Storage>,
    /// The file's length in bytes when it was opened.
    pub(crate) file_size: u64,
    cache: Mutex<Cache>,
}

#[derive(Default)]
struct Cache {
    pages: HashMap<u64, (Arc<[u64]>, u64)>,
    bytes: usize,
    clock: u64,
}

impl Pages {
    pub(crate) fn new(storage: Box<dyn Storage>, file_size: u64) -> Self {
        Self { storage, file_size, cache: Mutex::default() }
    }

    /// `count` words from host offset `at`, as far as the file has them. `doing` says what they
    /// are, `decode` makes a number of eight bytes.
    ///
    /// A page is kept by its place alone: whoever asks for one place twice asks for as many words
    /// both times.
    pub(crate) fn get(
        &self,
        at: u64,
        count: u64,
        doing: &'static str,
        decode: impl Fn([u8; 8]) -> u64,
    ) -> Result<Arc<[u64]>> {
        if let Some(page) = self.lock().get(at) {
            return Ok(page);
        }
        let present = count.min(self.file_size.saturating_sub(at) / WORD);
        let mut bytes = vec![0; in_memory(present * WORD)];
        let place = HostOffset::new(at);
        self.storage
            .read_at(&mut bytes, place)
            .map_err(|source| Error::io(doing, &*self.storage, place, source))?;
        let page: Arc<[u64]> = bytes.as_chunks().0.iter().map(|bytes| decode(*bytes)).collect();
        self.lock().put(at, &page);
        Ok(page)
    }

    fn lock(&self) -> MutexGuard<'_, Cache> {
        // A panic elsewhere cannot leave the cache half changed in a way that matters.
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Cache {
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
