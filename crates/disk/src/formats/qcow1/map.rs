//! From guest ranges to extents: the walk over L1 and L2 entries.

use std::sync::Arc;

use super::Qcow1Image;
use super::entry::{self, Entry};
use super::header::HEADER_SIZE;
use super::tables::L1_PAGE;
use crate::error::Result;
use crate::extent::{Codec, Encoding, ExtentList, Lost, Payload, Stored};
use crate::finding::Rule;
use crate::units::{ClusterSize, GuestOffset, GuestRange, HostOffset, SECTOR};

/// One walk: from a guest offset as far as one L2 table or one piece of the L1 table tells.
pub(super) struct Walk<'a> {
    image: &'a Qcow1Image,
    end: u64,
    found: &'a mut ExtentList,
}

/// An L2 table as far as the file has it, and where it stands.
struct Table {
    at: u64,
    entries: Arc<[u64]>,
}

impl<'a> Walk<'a> {
    pub(super) fn new(
        image: &'a Qcow1Image,
        within: GuestRange,
        found: &'a mut ExtentList,
    ) -> Self {
        Self { image, end: within.end().get(), found }
    }

    pub(super) fn run(mut self) -> Result<()> {
        let header = &self.image.header;
        if header.l1_at < HEADER_SIZE {
            self.lose_to(self.end, Rule::L1Place, HostOffset::new(40));
            return Ok(());
        }
        let coverage = header.l1_coverage_bits();
        let index = self.guest() >> coverage;
        let first = index - index % L1_PAGE;
        let count = L1_PAGE.min(header.l1_entries - first);
        let page = self.image.tables.l1(self.image.l1_entry_at(first).get(), count)?;
        let rest = page.get(crate::units::in_memory(index - first)..).unwrap_or_default();
        match rest.first() {
            // What the file does not have of the table, it has nothing of behind this either.
            None => self.lose_to(self.end, Rule::L1Cut, self.image.l1_entry_at(index)),
            Some(0) => {
                let empty = rest.iter().take_while(|entry| **entry == 0).count() as u64;
                self.push_to((index + empty) << coverage, Payload::Backing);
            }
            Some(at) => {
                let end = self.end.min((index + 1) << coverage);
                let entries = header.l2_entries();
                self.image.tables.look_ahead(index, *at, &rest[1..], entries);
                self.table(*at, index, end)?;
            }
        }
        Ok(())
    }

    fn table(&mut self, at: u64, index: u64, end: u64) -> Result<()> {
        let entry_at = self.image.l1_entry_at(index);
        if let Some(rule) = self.image.table_objection(at) {
            self.lose_to(end, rule, entry_at);
            return Ok(());
        }
        self.end = end;
        let entries = self.image.tables.l2(at, self.image.header.l2_entries())?;
        self.entries(&Table { at, entries })
    }

    fn entries(&mut self, table: &Table) -> Result<()> {
        let bits = self.image.header.cluster_size.bits();
        let mask = self.image.header.l2_entries() - 1;
        while self.guest() < self.end {
            let index = self.guest() >> bits & mask;
            let rest = table.entries.get(crate::units::in_memory(index)..).unwrap_or_default();
            let Some(first) = rest.first() else {
                self.lose_to(self.end, Rule::L2Cut, table.entry_at(index));
                break;
            };
            match entry::decode(*first, bits) {
                Entry::Unallocated => {
                    let empty = rest.iter().take_while(|entry| **entry == 0).count();
                    self.push_clusters(empty, Payload::Backing);
                }
                Entry::Plain(at) => self.plain(at, rest, table.entry_at(index))?,
                Entry::Packed { at, length } => self.packed(at, length, table.entry_at(index)),
                Entry::Invalid => self.lose_cluster(Rule::ClusterEntry, table.entry_at(index)),
                Entry::Unreadable => self.lose_cluster(Rule::Unreadable, table.entry_at(index)),
            }
        }
        Ok(())
    }

    /// A plain cluster and those that follow it in the table as well as in the file.
    fn plain(&mut self, at: u64, rest: &[u64], entry_at: HostOffset) -> Result<()> {
        let cluster = self.cluster_size().bytes();
        let fitting = self.image.tables.pages.file_size.saturating_sub(at) / cluster;
        let expected = (0..fitting).map(|number| at + number * cluster);
        let run = rest.iter().zip(expected).take_while(|(entry, expected)| *entry == expected);
        let count = run.count();
        let occupied = self.image.occupied()?;
        if count > 0 && !occupied.meets(at, at + count as u64 * cluster) {
            self.push_stored(count, at);
            return Ok(());
        }
        // Something is odd about one of them: the first is judged alone.
        if let Some(rule) = self.image.plain_objection(at)? {
            self.lose_cluster(rule, entry_at);
        } else if count > 0 {
            self.push_stored(1, at);
        } else {
            self.cut_cluster(at, entry_at);
        }
        Ok(())
    }

    /// A cluster of which the file has only the beginning.
    fn cut_cluster(&mut self, at: u64, entry_at: HostOffset) {
        let skip = self.cluster_size().within(self.guest());
        let end = self.end.min(self.guest() - skip + self.cluster_size().bytes());
        // Encrypted sectors are worth something only whole.
        let mut present = self.image.tables.pages.file_size - at;
        if self.image.header.is_encrypted {
            present -= present % SECTOR;
        }
        let present_end = end.min((self.guest() - skip).saturating_add(present));
        if self.guest() < present_end {
            let length = present_end - self.guest();
            self.push_to(present_end, self.stored(at + skip, length));
        }
        self.lose_to(end, Rule::ClusterCut, entry_at);
    }

    fn packed(&mut self, at: u64, length: u64, entry_at: HostOffset) {
        if let Some(rule) = self.image.packed_objection(at, length) {
            return self.lose_cluster(rule, entry_at);
        }
        let cluster = self.cluster_size();
        let skip = u32::try_from(cluster.within(self.guest())).unwrap_or_default();
        let payload = Payload::Stored(Stored {
            layer: 0,
            at: HostOffset::new(at),
            length: length.min(self.image.tables.pages.file_size - at),
            encoding: Encoding::Packed { codec: Codec::Deflate, cluster, skip },
        });
        self.push_clusters(1, payload);
    }

    /// The guest offset that the walk has reached.
    fn guest(&self) -> u64 {
        self.found.next().get()
    }

    fn cluster_size(&self) -> ClusterSize {
        self.image.header.cluster_size
    }

    fn stored(&self, at: u64, length: u64) -> Payload {
        let encoding =
            if self.image.header.is_encrypted { Encoding::Encrypted } else { Encoding::Plain };
        Payload::Stored(Stored { layer: 0, at: HostOffset::new(at), length, encoding })
    }

    fn push_stored(&mut self, count: usize, at: u64) {
        let skip = self.cluster_size().within(self.guest());
        let end = self.end.min(self.clusters_end(count));
        self.push_to(end, self.stored(at + skip, end - self.guest()));
    }

    fn push_clusters(&mut self, count: usize, payload: Payload) {
        self.push_to(self.clusters_end(count), payload);
    }

    fn clusters_end(&self, count: usize) -> u64 {
        self.cluster_size().floor(self.guest()) + ((count as u64) << self.cluster_size().bits())
    }

    fn lose_cluster(&mut self, rule: Rule, at: HostOffset) {
        self.lose_to(self.clusters_end(1), rule, at);
    }

    fn lose_to(&mut self, end: u64, rule: Rule, at: HostOffset) {
        self.push_to(end, Payload::Lost(Lost { layer: 0, rule, at }));
    }

    fn push_to(&mut self, end: u64, payload: Payload) {
        self.found.push_to(GuestOffset::new(end.min(self.end)), payload);
    }
}

impl Table {
    fn entry_at(&self, index: u64) -> HostOffset {
        HostOffset::new(self.at + index * 8)
    }
}
