//! Pages: tables read on demand in pieces, and kept within a bound.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::disk::HostErrors;
use crate::error::{Error, Result};
use crate::limits;
use crate::storage::Storage;
use crate::units::{HostOffset, SECTOR, in_memory};

/// Bytes of a word: every table of every format here is made of 64-bit numbers.
const WORD: u64 = 8;

/// What takes the place of a word that the host could not read. No table of any format can hold
/// it with a meaning, and a table that holds it all the same is made to hold its neighbour, which
/// has none either.
pub(crate) const UNREADABLE: u64 = u64::MAX >> 1;

/// The tables of one file.
pub(crate) struct Pages {
    pub(crate) storage: Box<dyn Storage>,
    /// The file's length in bytes when it was opened.
    pub(crate) file_size: u64,
    /// What to do where the host cannot read.
    host_errors: HostErrors,
    cache: Mutex<Cache>,
}

struct Cache {
    /// The most bytes to keep.
    limit: usize,
    pages: HashMap<u64, (Arc<[u64]>, u64)>,
    bytes: usize,
    clock: u64,
}

impl Pages {
    pub(crate) fn new(storage: Box<dyn Storage>, file_size: u64) -> Self {
        let cache = Cache { limit: limits::TABLE_CACHE, pages: HashMap::new(), bytes: 0, clock: 0 };
        Self { storage, file_size, host_errors: HostErrors::Fail, cache: Mutex::new(cache) }
    }

    /// Does so where the host cannot read: words that are lost are [`UNREADABLE`].
    pub(crate) fn on_host_errors(mut self, host_errors: HostErrors) -> Self {
        self.host_errors = host_errors;
        self
    }

    /// Whether the page at this place is kept.
    pub(crate) fn has(&self, at: u64) -> bool {
        self.lock().pages.contains_key(&at)
    }

    /// Keeps no more than so many bytes from now on.
    pub(crate) fn limit(&self, bytes: usize) {
        self.lock().limit = bytes;
    }

    /// `count` words from host offset `at`, as far as the file has them. `doing` says what they
    /// are, `decode` makes a number of eight bytes.
    ///
    /// A page is kept by its place, and read anew where another length is asked for: tables that
    /// are damaged may be in one place.
    pub(crate) fn get(
        &self,
        at: u64,
        count: u64,
        doing: &'static str,
        decode: impl Fn([u8; 8]) -> u64,
    ) -> Result<Arc<[u64]>> {
        let present = count.min(self.file_size.saturating_sub(at) / WORD);
        if let Some(page) = self.lock().get(at).filter(|page| page.len() as u64 == present) {
            return Ok(page);
        }
        let words = self.words(at, present, doing)?;
        let decoded = |word: &Option<[u8; 8]>| match word.map(&decode) {
            None => UNREADABLE,
            Some(UNREADABLE) => UNREADABLE - 1,
            Some(number) => number,
        };
        let page: Arc<[u64]> = words.iter().map(decoded).collect();
        self.lock().put(at, &page);
        Ok(page)
    }

    /// `count` words from host offset `at`, which the file has, as they are in it; `None` where
    /// the host cannot read them and that is no error.
    pub(crate) fn words(
        &self,
        at: u64,
        count: u64,
        doing: &'static str,
    ) -> Result<Vec<Option<[u8; 8]>>> {
        let mut bytes = vec![0; in_memory(count * WORD)];
        let place = HostOffset::new(at);
        match self.storage.read_at(&mut bytes, place) {
            Ok(()) => Ok(bytes.as_chunks().0.iter().map(|word| Some(*word)).collect()),
            Err(source) if self.host_errors == HostErrors::Fail => {
                Err(Error::io(doing, &*self.storage, place, source))
            }
            Err(_) => Ok(self.words_by_sector(at, count)),
        }
    }

    fn words_by_sector(&self, at: u64, count: u64) -> Vec<Option<[u8; 8]>> {
        let mut words = Vec::new();
        let mut start = at;
        let end = at + count * WORD;
        // A word may lie across two sectors: each is read by itself where its neighbours are not.
        while start < end {
            let sector_end = (start / SECTOR + 1) * SECTOR;
            let whole = (sector_end.min(end).saturating_sub(start) / WORD).max(1);
            let mut bytes = vec![0; in_memory(whole * WORD)];
            let is_read = self.storage.read_at(&mut bytes, HostOffset::new(start)).is_ok();
            words.extend(bytes.as_chunks().0.iter().map(|word| is_read.then_some(*word)));
            start += whole * WORD;
        }
        words
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
        while self.bytes > self.limit && self.pages.len() > 1 {
            self.forget();
        }
    }

    /// Forgets the half that was not asked for the longest: many at once, so that looking for
    /// them costs little for each.
    fn forget(&mut self) {
        let mut clocks: Vec<u64> = self.pages.values().map(|(_, used)| *used).collect();
        let middle = clocks.len() / 2;
        let (_, oldest_kept, _) = clocks.select_nth_unstable(middle);
        let oldest_kept = *oldest_kept;
        self.pages.retain(|_, (_, used)| *used >= oldest_kept);
        self.bytes = self.pages.values().map(|(page, _)| size_of_val(&**page)).sum();
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::path::Path;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    /// Sevens, and how often they were read.
    #[derive(Default)]
    struct Sevens(Arc<AtomicUsize>);

    impl Storage for Sevens {
        fn path(&self) -> &Path {
            Path::new("sevens")
        }

        fn size(&self) -> io::Result<u64> {
            Ok(64 << 10)
        }

        fn read_at(&self, out: &mut [u8], _at: HostOffset) -> io::Result<()> {
            out.fill(7);
            self.0.fetch_add(1, Ordering::Relaxed);
            Ok(())
        }
    }

    #[test]
    fn what_was_asked_for_last_is_kept_within_the_limit() {
        let reads = Arc::new(AtomicUsize::new(0));
        let pages = Pages::new(Box::new(Sevens(Arc::clone(&reads))), 64 << 10);
        pages.limit(16 << 10);
        let get = |number: u64| {
            let page = pages.get(number * 1024, 128, "testing", u64::from_be_bytes).unwrap();
            assert_eq!((page.len(), page[0]), (128, 0x0707_0707_0707_0707));
            reads.load(Ordering::Relaxed)
        };
        for number in 0..64 {
            get(number);
            assert!(pages.lock().bytes <= 16 << 10);
        }
        assert_eq!(get(63), 64, "read again though it was kept");
        assert_eq!(get(0), 65, "kept longer than the limit allows");
        // A page that alone is over the limit is handed out all the same.
        pages.limit(100);
        assert_eq!(get(5), 66);
        assert_eq!(pages.lock().bytes, 1024);
    }
}
