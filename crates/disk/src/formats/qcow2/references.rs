//! What an image refers to: each part of the file that something in it points at. This is what
//! reference counts have to count.

use super::Qcow2Image;
use super::entry;
use crate::error::{Error, Result};
use crate::extent::{ExtentList, Payload, Stored};
use crate::finding::{Finding, Rule};
use crate::image::Image;
use crate::units::{GuestOffset, GuestRange, HostOffset, in_memory};

/// Words of the L1 table or of the refcount table that are read at once.
const PAGE: u64 = 4096;

/// The bits of an entry of the refcount table that are an offset.
const BLOCK_OFFSET: u64 = !0x1FF;

/// One reference to a part of the file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reference {
    /// The header or a table: whole clusters.
    Table {
        /// Where it begins.
        at: HostOffset,
        /// How many bytes.
        length: u64,
    },
    /// Bytes of the disk: one reference for each cluster of a plain run, and one for each host
    /// cluster that a packed payload touches.
    Data(Stored),
}

impl Qcow2Image {
    /// Tells `found` of everything that the image refers to, in no particular order.
    ///
    /// # Errors
    /// [`Error::Unsupported`] where the image has parts that are not followed here: internal
    /// snapshots, bitmaps, a data file. [`Error::Broken`] where a table cannot be read.
    pub fn references(&self, found: &mut dyn FnMut(Reference)) -> Result<()> {
        let cluster = self.header.cluster_size.bytes();
        self.refuse_other_parts()?;
        let mut table = |at: u64, length: u64| {
            found(Reference::Table { at: HostOffset::new(at), length });
        };
        table(0, cluster);
        table(self.header.l1_at, self.header.cluster_size.ceil(self.header.l1_entries * 8));
        table(self.header.refcount_table_at, self.header.refcount_table_clusters * cluster);
        self.words(self.header.l1_at, self.header.l1_entries, &mut |word| {
            if let Some(at) = entry::l2_table(word) {
                table(at, cluster);
            }
        })?;
        self.refcount_blocks(&mut |_, at| table(at.get(), cluster))?;
        let end = GuestOffset::new(self.header.size);
        let (mut reached, mut list) = (GuestOffset::default(), ExtentList::default());
        while reached < end {
            list.restart(reached);
            self.map(GuestRange::between(reached, end), &mut list)?;
            for extent in list.as_slice() {
                match extent.payload {
                    Payload::Stored(stored) => found(Reference::Data(stored)),
                    Payload::Zero { at: Some(at), .. } => {
                        let length = self.header.cluster_size.ceil(extent.range.length);
                        found(Reference::Table { at, length });
                    }
                    Payload::Lost(lost) => {
                        let finding = Finding::new(lost.rule).at(lost.at).guest(extent.range);
                        return Err(Error::broken(self.storage().path(), finding));
                    }
                    _ => {}
                }
            }
            reached = list.next();
        }
        Ok(())
    }

    /// Tells `found` of each refcount block: its number, and where it is.
    ///
    /// # Errors
    /// [`Error::Unsupported`] where counters have not 16 bits.
    pub fn refcount_blocks(&self, found: &mut dyn FnMut(u64, HostOffset)) -> Result<()> {
        if self.header.refcount_bits != 16 {
            let what = format!("has reference counts of {} bits", self.header.refcount_bits);
            return Err(self.not_followed(what));
        }
        let words = self.header.refcount_table_clusters * self.header.cluster_size.bytes() / 8;
        let mut index = 0;
        self.words(self.header.refcount_table_at, words, &mut |word| {
            if word & BLOCK_OFFSET != 0 {
                found(index, HostOffset::new(word & BLOCK_OFFSET));
            }
            index += 1;
        })
    }

    fn refuse_other_parts(&self) -> Result<()> {
        let what = if self.header.snapshots > 0 {
            format!("has {} internal snapshots", self.header.snapshots)
        } else if self.header.has_bitmaps {
            "has dirty bitmaps".to_owned()
        } else if self.header.has_data_file {
            "has a data file".to_owned()
        } else {
            return Ok(());
        };
        Err(self.not_followed(what))
    }

    fn not_followed(&self, what: String) -> Error {
        let what = format!("{what}, and its reference counts are not followed");
        Error::Unsupported { path: self.storage().path().to_owned(), what }
    }

    /// Each of `count` words from host offset `at`.
    fn words(&self, at: u64, count: u64, each: &mut dyn FnMut(u64)) -> Result<()> {
        let mut index = 0;
        while index < count {
            let wanted = PAGE.min(count - index);
            let place = at.saturating_add(index * 8);
            let page = self.pages.get(place, wanted, "reading a table", u64::from_be_bytes)?;
            if (page.len() as u64) < wanted {
                let finding = Finding::new(Rule::Qcow2L1Cut).at(HostOffset::new(place));
                return Err(Error::broken(self.storage().path(), finding));
            }
            page.iter().take(in_memory(wanted)).for_each(|word| each(*word));
            index += wanted;
        }
        Ok(())
    }
}
