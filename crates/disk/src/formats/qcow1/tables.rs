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
    /// The L1 entry before which the host was told of all tables.
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
    /// `next` are the L1 entries behind it. Not for each table, and not while tables are kept; but
    /// well before those are over that it was told of, so that it always has some to fetch.
    pub(super) fn look_ahead(&self, index: u64, at: u64, next: &[u64], entries: u64) {
        let next = &next[..next.len().min(in_memory(AHEAD))];
        let told = self.told.load(Ordering::Relaxed);
        let is_near = index < told && told <= index + 1 + AHEAD;
        if is_near && index + AHEAD / 2 < told || self.pages.has(at) {
            return;
        }
        self.told.store(index + 1 + next.len() as u64, Ordering::Relaxed);
        let known = if is_near { told - index - 1 } else { 0 };
        let places = next.iter().skip(in_memory(known)).filter(|at| entry::is_offset(**at));
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::io;
    use std::path::Path;
    use std::sync::Mutex;

    use calve_testkit::Builder;

    use super::*;
    use crate::extent::ExtentList;
    use crate::formats::qcow1::Qcow1Image;
    use crate::image::Image;
    use crate::storage::Storage;
    use crate::units::GuestRange;

    /// Places that the host was told of and that were not read yet, and what went wrong.
    #[derive(Default)]
    struct Told {
        waiting: BTreeSet<u64>,
        most: usize,
        twice: Vec<u64>,
        untold: Vec<u64>,
    }

    /// An image in memory that writes down what it is told.
    struct Listening(Vec<u8>, Arc<Mutex<Told>>);

    impl Storage for Listening {
        fn path(&self) -> &Path {
            Path::new("listening")
        }

        fn size(&self) -> io::Result<u64> {
            Ok(self.0.len() as u64)
        }

        fn read_at(&self, out: &mut [u8], at: HostOffset) -> io::Result<()> {
            let start = in_memory(at.get());
            out.copy_from_slice(&self.0[start..start + out.len()]);
            let mut told = self.1.lock().expect("no panic");
            // An L2 table of these images, and nothing else.
            if out.len() == 1024 && !told.waiting.remove(&at.get()) {
                told.untold.push(at.get());
            }
            Ok(())
        }

        fn will_read(&self, at: HostOffset, length: u64) {
            assert_eq!(length, 1024);
            let mut told = self.1.lock().expect("no panic");
            if !told.waiting.insert(at.get()) {
                told.twice.push(at.get());
            }
            told.most = told.most.max(told.waiting.len());
        }
    }

    type Read = fn(&Qcow1Image);

    #[test]
    fn each_table_but_the_first_is_told_of_before_it_is_read() {
        const TABLES: u64 = 100;
        let mut builder = Builder::new(12, 7, TABLES << 19).aligned(4096);
        for table in 0..TABLES {
            builder.plain(table << 7, &[7; 4096]);
        }
        let bytes = builder.build();
        let ways: [(&str, Read); 3] = [
            ("survey", |image| {
                image.survey(&mut |_| {}).expect("a survey");
            }),
            ("visit", |image| image.visit_tables(&mut |_| {}).expect("tables")),
            ("map", |image| {
                let disk = GuestRange::at(0, TABLES << 19);
                let mut at = disk.start;
                while at < disk.end() {
                    let rest = GuestRange::between(at, disk.end());
                    let mut found = ExtentList::starting_at(at);
                    image.map(rest, &mut found).expect("a map");
                    at = found.next();
                }
            }),
        ];
        for (what, read) in ways {
            let told = Arc::<Mutex<Told>>::default();
            let storage = Listening(bytes.clone(), Arc::clone(&told));
            let image = Qcow1Image::open(Box::new(storage), None).expect("opens");
            read(&image);
            let told = told.lock().expect("no panic");
            assert_eq!((told.untold.len(), &*told.twice), (1, &[][..]), "{what}");
            assert!(told.waiting.is_empty(), "{what}: {:?}", told.waiting);
            // The next one to be read, and those behind it.
            assert_eq!(told.most, in_memory(AHEAD) + 1, "{what}");
        }
    }
}
