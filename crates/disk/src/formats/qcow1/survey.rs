//! The walk over every table: counts, and what is odd.

mod hints;
mod owners;

use super::Qcow1Image;
use super::entry::Entry;
use super::header::HEADER_SIZE;
use super::walk::{self, Met};
use crate::error::Result;
use crate::extent::{Extent, ExtentList, Payload};
use crate::finding::{Finding, Rule};
use crate::image::{Image, Survey};
use crate::units::{GuestRange, HostOffset};

/// Runs the walk.
pub(super) fn run(image: &Qcow1Image, report: &mut dyn FnMut(Finding)) -> Result<Survey> {
    let total = image.header.cluster_size.count(image.header.size);
    let counts = Survey { total, are_owners_compared: true, ..Survey::default() };
    image.facts.findings.iter().for_each(|finding| report(*finding));
    let mut walk = Walk { image, counts, report };
    if image.header.l1_at < HEADER_SIZE {
        walk.counts.lost = total;
        walk.counts.are_owners_compared = false;
        return Ok(walk.counts);
    }
    walk::run(image, &mut |met, at, guest| walk.met(met, at, guest))?;
    let Walk { mut counts, report, .. } = walk;
    counts.leaked_bytes = owners::run(image, report)?;
    hints::run(image, counts.leaked_bytes, report)?;
    Ok(counts)
}

struct Walk<'a> {
    image: &'a Qcow1Image,
    counts: Survey,
    report: &'a mut dyn FnMut(Finding),
}

impl Walk<'_> {
    fn met(&mut self, met: Met, at: HostOffset, guest: GuestRange) -> Result<()> {
        match met {
            Met::Table { .. } | Met::SharedTable { .. } => {}
            Met::NoTable(rule) => self.lose(rule, at, guest),
            Met::L1Cut => self.lose(Rule::L1Cut, at, guest),
            Met::L2Cut => self.lose(Rule::L2Cut, at, guest),
            // No guest byte is concerned.
            Met::Behind => (self.report)(Finding::new(Rule::EntryBehindDisk).at(at)),
            Met::Cluster(entry) => self.cluster(entry, at, guest)?,
        }
        Ok(())
    }

    fn cluster(&mut self, entry: Entry, entry_at: HostOffset, guest: GuestRange) -> Result<()> {
        self.counts.allocated += 1;
        let objection = match entry {
            Entry::Unallocated => None,
            Entry::Unreadable => Some(Rule::Unreadable),
            Entry::Invalid => Some(Rule::ClusterEntry),
            Entry::Plain(at) => match self.image.plain_objection(at)? {
                None => self.cut(at, entry_at, guest)?,
                objection => objection,
            },
            Entry::Packed { at, length } => {
                let objection = self.image.packed_objection(at, length);
                if objection.is_none() {
                    self.counts.packed += 1;
                    if at + length > self.image.tables.pages.file_size {
                        self.find(Rule::PackedOverrun, entry_at, guest);
                    }
                }
                objection
            }
        };
        if let Some(rule) = objection {
            self.lose(rule, entry_at, guest);
        }
        Ok(())
    }

    /// What a plain cluster that the file may have only the beginning of breaks.
    fn cut(&mut self, at: u64, entry_at: HostOffset, guest: GuestRange) -> Result<Option<Rule>> {
        let cluster = self.image.header.cluster_size.bytes();
        if at + cluster <= self.image.tables.pages.file_size {
            return Ok(None);
        }
        // What the guest sees of a cut cluster, the map knows best.
        let mut found = ExtentList::starting_at(guest.start);
        self.image.map(guest, &mut found)?;
        let is_lost = |extent: &Extent| matches!(extent.payload, Payload::Lost(_));
        if found.as_slice().iter().any(is_lost) {
            return Ok(Some(Rule::ClusterCut));
        }
        self.find(Rule::LastClusterShort, entry_at, guest);
        Ok(None)
    }

    fn lose(&mut self, rule: Rule, at: HostOffset, guest: GuestRange) {
        self.counts.lost += self.image.header.cluster_size.count(guest.length);
        self.find(rule, at, guest);
    }

    fn find(&mut self, rule: Rule, at: HostOffset, guest: GuestRange) {
        (self.report)(Finding::new(rule).at(at).guest(guest));
    }
}
