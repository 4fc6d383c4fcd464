//! What a guest's disk holds, page by page, and what guests write over it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::random::Random;

/// Bytes of a page: a block of the guest's file system.
pub(super) const PAGE: u64 = 4096;

/// Sectors of a page.
const SECTORS: u64 = 8;

/// Guest bytes under one L2 table of QEMU's layouts. Writes keep to a few of these.
const AREA: u64 = 2 << 20;

/// A disk as its guest sees it. Pages that are not here are zeros.
#[derive(Clone)]
pub(super) struct Content {
    /// Bytes of the disk.
    pub(super) size: u64,
    pages: BTreeMap<u64, Arc<[u8]>>,
}

/// Sectors that a guest wrote, whether or not it changed them.
pub(super) type Written = BTreeSet<u64>;

impl Content {
    /// A disk that was installed from one of a few distributions and then used: it begins with a
    /// table of partitions, and shares pages with other disks of its distribution.
    pub(super) fn installed(size: u64, seed: u64, random: &mut Random) -> Self {
        let mut content = Self { size, pages: BTreeMap::new() };
        let distribution = seed ^ (random.below(12) << 32);
        content.put(0, boot_page(size, random));
        for _ in 0..4 + random.below(6) {
            let first = random.below(size.div_ceil(PAGE));
            for page in first..first + 8 + random.below(32) {
                if random.once_in(6) {
                    continue;
                }
                let mut source = match random.once_in(4) {
                    true => Random::new(distribution ^ random.below(64)),
                    false => Random::new(random.number()),
                };
                content.put(page, used_page(&mut source));
            }
        }
        content
    }

    /// Lets a guest write to the disk and says which sectors it wrote. It writes more than it
    /// changes: most writes are of whole blocks of which a sector or two are new.
    pub(super) fn written(&mut self, random: &mut Random) -> Written {
        let mut written = Written::new();
        let known: Vec<u64> = self.pages.keys().copied().collect();
        for _ in 0..24 + random.below(80) {
            let page = random.one_of(&known);
            match random.below(10) {
                0..=5 => {
                    let changed = 1 + random.below(3);
                    self.change(page, changed, random);
                    written.extend(page * SECTORS..(page + 1) * SECTORS);
                }
                6 | 7 => _ = written.insert(self.change(page, 1, random)),
                8 => {
                    let near = page - page % (AREA / PAGE) + random.below(AREA / PAGE);
                    self.put(near, used_page(random));
                    written.extend(near * SECTORS..(near + 1) * SECTORS);
                }
                // Zeros over something: an overlay has to store them.
                _ => {
                    self.pages.remove(&page);
                    written.extend(page * SECTORS..(page + 1) * SECTORS);
                }
            }
        }
        written.retain(|sector| sector * 512 < self.size);
        written
    }

    /// Puts new bytes into so many sectors of a page and says which was the last.
    fn change(&mut self, page: u64, sectors: u64, random: &mut Random) -> u64 {
        let mut bytes = self.page(page).map_or_else(|| vec![0; small(PAGE)], <[u8]>::to_vec);
        let mut sector = 0;
        for _ in 0..sectors {
            sector = random.below(SECTORS);
            let new = &used_page(random)[..512];
            bytes[small(sector * 512)..][..512].copy_from_slice(new);
        }
        self.put(page, bytes);
        page * SECTORS + sector
    }

    /// Sets a page, but for what lies behind the disk's end.
    fn put(&mut self, page: u64, mut bytes: Vec<u8>) {
        let room = self.size.saturating_sub(page * PAGE).min(PAGE);
        bytes[small(room)..].fill(0);
        if room > 0 {
            self.pages.insert(page, bytes.into());
        }
    }

    fn page(&self, page: u64) -> Option<&[u8]> {
        self.pages.get(&page).map(|bytes| &**bytes)
    }

    /// Pages that hold something, and what, in the order of the disk.
    pub(super) fn pages(&self) -> impl Iterator<Item = (u64, &[u8])> {
        self.pages.iter().map(|(page, bytes)| (*page, &**bytes))
    }

    /// Whether the range holds nothing but zeros, as far as pages tell.
    pub(super) fn is_empty(&self, start: u64, length: u64) -> bool {
        self.pages.range(start / PAGE..(start + length).div_ceil(PAGE)).next().is_none()
    }

    /// The bytes of a range; behind the disk's end are zeros.
    pub(super) fn read(&self, start: u64, length: u64) -> Vec<u8> {
        let mut bytes = vec![0; small(length)];
        let end = start + length;
        for (page, content) in self.pages.range(start / PAGE..end.div_ceil(PAGE)) {
            let (from, to) = ((page * PAGE).max(start), ((page + 1) * PAGE).min(end));
            let part = &content[small(from - page * PAGE)..small(to - page * PAGE)];
            bytes[small(from - start)..small(to - start)].copy_from_slice(part);
        }
        bytes
    }

    /// Clusters of `1 << bits` bytes that hold something.
    pub(super) fn used_clusters(&self, bits: u8) -> BTreeSet<u64> {
        let clusters = self.pages.keys().flat_map(|page| {
            let (start, end) = (page * PAGE, ((page + 1) * PAGE).min(self.size));
            start >> bits..=(end - 1) >> bits
        });
        clusters.collect()
    }
}

/// Clusters of `1 << bits` bytes in which a sector was written: all that an overlay stores.
pub(super) fn clusters_of(written: &Written, bits: u8) -> BTreeSet<u64> {
    written.iter().map(|sector| (sector * 512) >> bits).collect()
}

/// A page as programs and documents fill it: unlike any other, and packing to about a half; now
/// and then noise, which does not pack.
fn used_page(random: &mut Random) -> Vec<u8> {
    let is_noise = random.once_in(8);
    let mut bytes = Vec::with_capacity(small(PAGE));
    while bytes.len() < small(PAGE) {
        bytes.extend_from_slice(&random.number().to_be_bytes());
        let second = if is_noise { random.number() } else { random.below(16) };
        bytes.extend_from_slice(&second.to_be_bytes());
    }
    bytes
}

/// A first page with a table of one partition that reaches to the disk's end.
fn boot_page(size: u64, random: &mut Random) -> Vec<u8> {
    let mut page = used_page(random);
    page[440..510].fill(0);
    let sectors = u32::try_from((size / 512).saturating_sub(63)).unwrap_or(u32::MAX);
    page[446] = 0x80;
    page[450] = 0x83;
    // As all PCs have it, the number's lowest byte comes first.
    for (at, number) in [(454, 63u32), (458, sectors)] {
        let bytes: Vec<u8> = number.to_be_bytes().into_iter().rev().collect();
        page[at..at + 4].copy_from_slice(&bytes);
    }
    page[510..512].copy_from_slice(&[0x55, 0xAA]);
    page
}

/// A number of bytes that fit into memory.
pub(super) fn small(number: u64) -> usize {
    usize::try_from(number).expect("fits into memory")
}
