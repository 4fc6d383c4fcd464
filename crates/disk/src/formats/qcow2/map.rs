//! From guest ranges to extents: the walk over L1 and L2 entries.

use std::sync::Arc;

use super::Qcow2Image;
use super::entry::{self, Dialect, Entry, SUBCLUSTERS};
use crate::error::Result;
use crate::extent::{Encoding, ExtentList, Lost, Payload, Stored};
use crate::finding::Rule;
use crate::units::{ClusterSize, GuestOffset, GuestRange, HostOffset, SECTOR, in_memory};

/// Entries of the L1 table that are read at once.
const L1_PAGE: u64 = 4096;

/// One walk: from a guest offset as far as one L2 table or one piece of the L1 table tells.
pub(super) struct Walk<'a> {
    image: &'a Qcow2Image,
    end: u64,
    found: &'a mut ExtentList,
}

/// An L2 table as far as the file has it, and where it stands.
struct Table {
    at: u64,
    words: Arc<[u64]>,
    /// Words of an entry.
    width: usize,
}

impl<'a> Walk<'a> {
    pub(super) fn new(
        image: &'a Qcow2Image,
        within: GuestRange,
        found: &'a mut ExtentList,
    ) -> Self {
        Self { image, end: within.end().get(), found }
    }

    pub(super) fn run(mut self) -> Result<()> {
        let header = &self.image.header;
        let span = header.l2_span();
        let index = self.guest() / span;
        let first = index - index % L1_PAGE;
        let count = L1_PAGE.min(header.l1_entries - first);
        let page = self.image.pages.get(
            header.l1_at + first * 8,
            count,
            "reading the L1 table",
            u64::from_be_bytes,
        )?;
        let entry_at = HostOffset::new(header.l1_at + index * 8);
        let rest = page.get(in_memory(index - first)..).unwrap_or_default();
        let Some(raw) = rest.first() else {
            self.lose_to(self.end, Rule::Qcow2L1Cut, entry_at);
            return Ok(());
        };
        match entry::l2_table(*raw) {
            None => {
                let empty = rest.iter().take_while(|raw| entry::l2_table(**raw).is_none());
                self.push_to((index + empty.count() as u64) * span, Payload::Backing);
            }
            Some(at) if header.cluster_size.within(at) != 0 => {
                self.lose_to(self.end.min((index + 1) * span), Rule::Qcow2L1Entry, entry_at);
            }
            Some(at) => {
                self.end = self.end.min((index + 1) * span);
                self.table(at)?;
            }
        }
        Ok(())
    }

    fn table(&mut self, at: u64) -> Result<()> {
        let header = &self.image.header;
        let words = self.image.pages.get(
            at,
            header.cluster_size.bytes() / 8,
            "reading an L2 table",
            u64::from_be_bytes,
        )?;
        let table = Table { at, words, width: in_memory(header.l2_entry_size() / 8) };
        let dialect = Dialect {
            cluster_size: header.cluster_size,
            version: header.version,
            has_data_file: header.has_data_file,
        };
        while self.guest() < self.end {
            let index = (self.guest() >> header.cluster_size.bits()) % header.l2_entries();
            let entry_at = table.entry_at(index);
            match table.entry(index) {
                None => self.lose_to(self.end, Rule::Qcow2L2Cut, entry_at),
                Some([0]) => {
                    let start = self.cluster_size().floor(self.guest());
                    let empty = table.empty(index) << self.cluster_size().bits();
                    self.push_to(start + empty, Payload::Backing);
                }
                Some([raw]) => match dialect.decode(*raw) {
                    Entry::Plain { at } => self.plain_run(at, table.run(index, dialect), entry_at),
                    other => self.cluster(other, entry_at),
                },
                Some([raw, parts, ..]) => {
                    self.cluster(dialect.decode_extended(*raw, *parts), entry_at);
                }
                Some([]) => unreachable!("entries have one or two words"),
            }
        }
        Ok(())
    }

    fn cluster(&mut self, entry: Entry, entry_at: HostOffset) {
        let (within, cluster_end) = (self.cluster_size().within(self.guest()), self.cluster_end());
        match entry {
            Entry::Unallocated => self.push_to(cluster_end, Payload::Backing),
            Entry::Zero { at } => {
                let at = at.map(|at| HostOffset::new(at + within));
                self.push_to(cluster_end, Payload::Zero { layer: 0, at });
            }
            Entry::Plain { at } => self.plain(at, cluster_end, entry_at),
            Entry::Packed { at, length } => self.packed(at, length, entry_at),
            Entry::Parts { at, stored, zero } => self.parts(at, stored, zero, entry_at),
            Entry::Invalid => self.lose_to(cluster_end, Rule::Qcow2ClusterEntry, entry_at),
        }
    }

    /// So many clusters that follow one another in the table as well as in the file.
    fn plain_run(&mut self, at: u64, count: u64, entry_at: HostOffset) {
        let size = self.cluster_size();
        let run_end = size.floor(self.guest()) + (count << size.bits());
        let is_there = at + (count << size.bits()) <= self.image.data_size;
        self.plain(at, if is_there { run_end } else { self.cluster_end() }, entry_at);
    }

    /// The stored bytes of the cluster at `at`, up to the guest offset `end`, as far as the file
    /// has them.
    fn plain(&mut self, at: u64, end: u64, entry_at: HostOffset) {
        let end = end.min(self.end);
        let cluster_start = self.cluster_size().floor(self.guest());
        let from = at + (self.guest() - cluster_start);
        let is_encrypted = self.image.header.is_encrypted;
        let encoding = if is_encrypted { Encoding::Encrypted } else { Encoding::Plain };
        // Encrypted sectors are worth something only whole.
        let unit = if is_encrypted { SECTOR } else { 1 };
        let present = (self.image.data_size / unit * unit).saturating_sub(from);
        let length = present.min(end - self.guest());
        if length > 0 {
            let at = HostOffset::new(from);
            let stored = Stored { layer: 0, at, length, encoding };
            self.push_to(self.guest() + length, Payload::Stored(stored));
        }
        let rule = if at >= self.image.data_size {
            Rule::Qcow2ClusterPastEnd
        } else {
            Rule::Qcow2ClusterCut
        };
        self.lose_to(end, rule, entry_at);
    }

    fn parts(&mut self, at: Option<u64>, stored: u32, zero: u32, entry_at: HostOffset) {
        let part = self.cluster_size().bytes() / u64::from(SUBCLUSTERS);
        let start = self.cluster_size().floor(self.guest());
        let end = self.end.min(self.cluster_end());
        while self.guest() < end {
            let number = (self.guest() - start) / part;
            let part_end = end.min(start + (number + 1) * part);
            let flag = 1u32 << number;
            match at {
                Some(at) if stored & flag != 0 => self.plain(at, part_end, entry_at),
                at if zero & flag != 0 => {
                    let at = at.map(|at| HostOffset::new(at + (self.guest() - start)));
                    self.push_to(part_end, Payload::Zero { layer: 0, at });
                }
                _ => self.push_to(part_end, Payload::Backing),
            }
        }
    }

    fn packed(&mut self, at: u64, length: u64, entry_at: HostOffset) {
        let file_size = self.image.pages.file_size;
        if at >= file_size {
            return self.lose_to(self.cluster_end(), Rule::Qcow2PackedPastEnd, entry_at);
        }
        let cluster = self.cluster_size();
        let skip = u32::try_from(cluster.within(self.guest())).expect("inside one cluster");
        let codec = self.image.header.codec;
        let payload = Payload::Stored(Stored {
            layer: 0,
            at: HostOffset::new(at),
            length: length.min(file_size - at),
            encoding: Encoding::Packed { codec, cluster, skip },
        });
        self.push_to(self.cluster_end(), payload);
    }

    /// The guest offset that the walk has reached.
    fn guest(&self) -> u64 {
        self.found.next().get()
    }

    fn cluster_size(&self) -> ClusterSize {
        self.image.header.cluster_size
    }

    fn cluster_end(&self) -> u64 {
        self.cluster_size().floor(self.guest()) + self.cluster_size().bytes()
    }

    fn lose_to(&mut self, end: u64, rule: Rule, at: HostOffset) {
        self.push_to(end, Payload::Lost(Lost { layer: 0, rule, at }));
    }

    fn push_to(&mut self, end: u64, payload: Payload) {
        self.found.push_to(GuestOffset::new(end.min(self.end)), payload);
    }
}

impl Table {
    fn entry(&self, index: u64) -> Option<&[u64]> {
        let start = in_memory(index) * self.width;
        self.words.get(start..start + self.width)
    }

    /// How many entries of nothing there are from this one on.
    fn empty(&self, index: u64) -> u64 {
        let rest = self.words.get(in_memory(index)..).unwrap_or_default();
        rest.iter().take_while(|word| **word == 0).count() as u64
    }

    /// How many plain clusters follow one another in the file from this entry on, which is one.
    fn run(&self, index: u64, dialect: Dialect) -> u64 {
        let rest = self.words.get(in_memory(index)..).unwrap_or_default();
        let first = rest.first().copied().unwrap_or_default();
        let expected = (0..).map(|number| first + (number << dialect.cluster_size.bits()));
        let run = rest.iter().zip(expected).take_while(|(word, expected)| *word == expected);
        run.count().max(1) as u64
    }

    fn entry_at(&self, index: u64) -> HostOffset {
        HostOffset::new(self.at + index * self.width as u64 * 8)
    }
}
