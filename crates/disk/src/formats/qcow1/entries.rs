//! All entries of an image, one after the other, for whoever is to change some of them.

use super::Qcow1Image;
use super::entry::Entry;
use super::walk::{self, Met};
use crate::error::Result;
use crate::units::{GuestRange, HostOffset, SECTOR};

/// A table entry that is not 0 and that a reader of the disk comes by.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MetEntry {
    /// Where it stands in the file: 8 bytes.
    pub place: HostOffset,
    /// The guest bytes that it stands for, clipped to the disk.
    pub guest: GuestRange,
    /// Where it leads.
    pub leads: Leads,
}

/// Where a table entry leads.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Leads {
    /// To a possible place from the end of the file on: nothing of what it stands for is there.
    Behind,
    /// To a plain cluster on no table, of which the file has all that the disk has of it.
    Cluster(HostOffset),
    /// To a table or a plain cluster of which the file has a part.
    Cut,
    /// Anywhere else: to a table, to a packed cluster, or to where nothing can be.
    Elsewhere,
}

impl Qcow1Image {
    /// Tells of every entry that is not 0, in the order of the disk; of those in a table that
    /// several L1 entries share, once. Entries for bytes behind the end of the disk are passed
    /// over. An error of `tell` ends it.
    ///
    /// # Errors
    /// Where the host fails.
    pub fn entries(&self, tell: &mut dyn FnMut(MetEntry) -> Result<()>) -> Result<()> {
        let table_bytes = self.header.l2_entries() * 8;
        walk::run(self, &mut |met, place, guest| {
            let leads = match met {
                Met::Table { at } | Met::SharedTable { at } => self.span(at, table_bytes),
                Met::Cluster(Entry::Plain(at)) => self.plain(at, guest)?,
                // One that is longer than the file unpacks, or does not: its length is a limit.
                Met::Cluster(Entry::Packed { at, length: 1.. }) => self.span(at, 1),
                Met::L1Cut | Met::L2Cut | Met::Behind => return Ok(()),
                Met::NoTable(_) | Met::Cluster(_) => Leads::Elsewhere,
            };
            tell(MetEntry { place, guest, leads })
        })
    }

    fn span(&self, at: u64, length: u64) -> Leads {
        let file_size = self.tables.pages.file_size;
        match at {
            at if at >= file_size => Leads::Behind,
            at if at + length > file_size => Leads::Cut,
            _ => Leads::Elsewhere,
        }
    }

    fn plain(&self, at: u64, guest: GuestRange) -> Result<Leads> {
        let leads = self.span(at, guest.length.next_multiple_of(SECTOR));
        if leads == Leads::Elsewhere && self.plain_objection(at)?.is_none() {
            return Ok(Leads::Cluster(HostOffset::new(at)));
        }
        Ok(leads)
    }
}
