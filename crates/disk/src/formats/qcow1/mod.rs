//! QCOW version 1. `docs/qcow1.md` is the document behind this folder; Q numbers are its rules.

mod claims;
mod dialect;
mod entries;
mod entry;
mod header;
mod map;
mod occupied;
mod producer;
mod survey;
mod tables;
mod visit;
mod walk;

pub use entries::{Leads, MetEntry};
pub use visit::VisitedTable;

use std::fmt;
use std::sync::OnceLock;

use crate::claim::Claim;
use crate::codec::aes::{Passphrase, SectorCipher};
use crate::disk::HostErrors;
use crate::error::{Error, Result};
use crate::extent::ExtentList;
use crate::finding::{Finding, Rule};
use crate::formats::Format;
use crate::image::{BackingReference, Facts, Image, Specific, Survey};
use crate::pages::{Pages, UNREADABLE};
use crate::storage::Storage;
use crate::units::{GuestRange, HostOffset, in_memory};
use dialect::L1Order;
use header::{HEADER_SIZE, Header, NamePlace, Recognised};
use occupied::Occupied;
use tables::{L1_PAGE, Tables};

/// What a version 1 image has to tell beyond [`crate::Facts`].
#[derive(Clone, Debug)]
pub struct Qcow1Facts {
    /// log2 of the cluster size.
    pub cluster_bits: u8,
    /// log2 of the number of entries in an L2 table.
    pub l2_bits: u8,
    /// Where the L1 table begins.
    pub l1_at: u64,
    /// How many entries the L1 table has.
    pub l1_entries: u64,
    /// The header's mtime field: seconds since 1970, 0 where none was recorded.
    pub mtime: u32,
    /// Whose dialect the file is in.
    pub dialect: Dialect,
    /// Who probably wrote the file, as far as its layout tells.
    pub producer: &'static str,
}

/// The dialects of version 1.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Dialect {
    /// As QEMU writes it: everything big-endian.
    Qemu,
    /// Xen's tapdisk, with its extended header and a big-endian L1 table.
    Xen,
    /// Xen's tapdisk before 2008: the L1 table, or part of it, is little-endian.
    XenLittleEndian,
}

impl fmt::Display for Dialect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Dialect::Qemu => "qemu",
            Dialect::Xen => "xen",
            Dialect::XenLittleEndian => "xen-little-endian",
        })
    }
}

/// A version 1 image.
pub struct Qcow1Image {
    header: Header,
    tables: Tables,
    occupied: OnceLock<Occupied>,
    cipher: Option<SectorCipher>,
    /// The checksum of the L1 table that Xen's tapdisk recorded.
    xen_checksum: Option<[u8; 4]>,
    facts: Facts,
}

/// How many bytes of the file's start are looked at: the header and what Xen put behind it.
const START: u64 = 64;

impl Qcow1Image {
    /// Opens a version 1 image. `passphrase` is used where the image is encrypted; whether it is
    /// the right one, the format cannot tell.
    ///
    /// Fails where a number of the header is impossible. Reads the header, the backing file's
    /// name and the first piece of the L1 table, however large the disk claims to be.
    pub fn open(storage: Box<dyn Storage>, passphrase: Option<&Passphrase>) -> Result<Self> {
        Self::open_with(storage, passphrase, HostErrors::Fail)
    }

    /// As [`Qcow1Image::open`]. With [`HostErrors::Lose`], what the host cannot read of the tables
    /// loses the guest bytes that it speaks of and nothing else, and a name that it cannot read is
    /// one that cannot be followed.
    pub fn open_with(
        storage: Box<dyn Storage>,
        passphrase: Option<&Passphrase>,
        host_errors: HostErrors,
    ) -> Result<Self> {
        let path = storage.path().to_owned();
        let file_size = storage
            .size()
            .map_err(|source| Error::host("asking for the file's size", &path, source))?;
        let mut start = vec![0; in_memory(file_size.min(START))];
        read(&*storage, "reading the header", &mut start, 0)?;
        let header = match header::recognise(&start) {
            Recognised::Header(raw) => {
                raw.validated(file_size).map_err(|finding| Error::broken(&path, finding))?
            }
            Recognised::Cut => {
                let finding = Finding::new(Rule::HeaderCut).at(HostOffset::new(file_size));
                return Err(Error::broken(&path, finding));
            }
            Recognised::OtherVersion(version) => {
                return Err(not_version_1(path, format!("it is QCOW version {version}")));
            }
            Recognised::No => {
                return Err(not_version_1(path, "it does not begin with its magic".into()));
            }
        };
        let l1_order = L1Order { is_xen: dialect::is_xen(&start, header.l1_at), file_size };
        let xen_checksum = if l1_order.is_xen { dialect::recorded_checksum(&start) } else { None };
        let mut findings = header.findings.clone();
        let backing = backing_reference(&*storage, &header, host_errors, &mut findings)?;
        let cipher = passphrase.filter(|_| header.is_encrypted).map(SectorCipher::new);
        let pages = Pages::new(storage, file_size).on_host_errors(host_errors);
        let mut image = Self {
            facts: facts(&header, file_size, backing, findings),
            tables: Tables::new(pages, l1_order),
            occupied: OnceLock::new(),
            cipher,
            xen_checksum,
            header,
        };
        image.recognise_writer()?;
        Ok(image)
    }

    /// The dialect and the producer show in the first piece of the L1 table.
    fn recognise_writer(&mut self) -> Result<()> {
        let (dialect, lowest_l2) = self.first_l1_entries()?;
        let producer = producer::of(&self.header, dialect, lowest_l2);
        if dialect == Dialect::XenLittleEndian {
            let finding = Finding::new(Rule::XenByteOrder).at(HostOffset::new(self.header.l1_at));
            self.facts.findings.push(finding);
        }
        if let Specific::Qcow1(facts) = &mut self.facts.specific {
            (facts.dialect, facts.producer) = (dialect, producer);
        }
        Ok(())
    }

    fn first_l1_entries(&self) -> Result<(Dialect, Option<u64>)> {
        let order = self.tables.l1_order;
        let assumed = if order.is_xen { Dialect::Xen } else { Dialect::Qemu };
        if self.header.l1_at < HEADER_SIZE {
            return Ok((assumed, None));
        }
        let entries = self.header.l1_entries.min(L1_PAGE);
        let present =
            entries.min(self.tables.pages.file_size.saturating_sub(self.header.l1_at) / 8);
        let raw = self.tables.pages.words(self.header.l1_at, present, "reading the L1 table")?;
        let raw: Vec<[u8; 8]> = raw.into_iter().flatten().collect();
        let told: Vec<_> = raw.iter().filter_map(|raw| order.dialect(*raw)).collect();
        let dialect = match told.contains(&Dialect::XenLittleEndian) {
            true => Dialect::XenLittleEndian,
            false => assumed,
        };
        let lowest = raw.iter().map(|raw| order.decode(*raw)).filter(|entry| *entry != 0).min();
        Ok((dialect, lowest))
    }

    /// The place of an L1 entry in the file.
    fn l1_entry_at(&self, index: u64) -> HostOffset {
        HostOffset::new(self.header.l1_at.saturating_add(index * 8))
    }

    /// The rule that an L1 entry breaks which is not 0, if it breaks one. The table may be cut.
    fn table_objection(&self, at: u64) -> Option<Rule> {
        if at == UNREADABLE {
            return Some(Rule::Unreadable);
        }
        if !entry::is_offset(at) {
            return Some(Rule::L1Entry);
        }
        let l1 = self.header.l1_range();
        let end = at + self.header.l2_entries() * 8;
        let overlaps_head = at < HEADER_SIZE || (at < l1.end && l1.start < end);
        overlaps_head.then_some(Rule::L2Place)
    }

    /// The rule that a plain cluster at `at` breaks, if it breaks one. It may be cut.
    ///
    /// What lies behind the end of the file is on nothing, also where a cut table claims to be
    /// there.
    fn plain_objection(&self, at: u64) -> Result<Option<Rule>> {
        if at >= self.tables.pages.file_size {
            return Ok(Some(Rule::ClusterPastEnd));
        }
        let end = at + self.header.cluster_size.bytes();
        Ok(self.occupied()?.meets(at, end).then_some(Rule::ClusterOnTable))
    }

    /// The rule that the entry of a packed cluster breaks, if it breaks one.
    fn packed_objection(&self, at: u64, length: u64) -> Option<Rule> {
        if length == 0 {
            return Some(Rule::PackedEmpty);
        }
        (at >= self.tables.pages.file_size).then_some(Rule::PackedPastEnd)
    }

    /// The first guest byte that the first L1 entry for the L2 table at `table` stands for.
    fn first_guest_of(&self, table: u64) -> Result<Option<u64>> {
        let mut index = 0;
        while index < self.header.l1_entries {
            let count = L1_PAGE.min(self.header.l1_entries - index);
            let page = self.tables.l1(self.l1_entry_at(index).get(), count)?;
            if let Some(number) = page.iter().position(|at| *at == table) {
                return Ok(Some((index + number as u64) << self.header.l1_coverage_bits()));
            }
            index += count;
        }
        Ok(None)
    }

    /// The host ranges of header and tables, gathered when first asked for.
    fn occupied(&self) -> Result<&Occupied> {
        if let Some(occupied) = self.occupied.get() {
            return Ok(occupied);
        }
        let occupied = Occupied::gather(self)?;
        Ok(self.occupied.get_or_init(|| occupied))
    }
}

impl Image for Qcow1Image {
    fn facts(&self) -> &Facts {
        &self.facts
    }

    fn storage(&self) -> &dyn Storage {
        &*self.tables.pages.storage
    }

    fn map(&self, within: GuestRange, found: &mut ExtentList) -> Result<()> {
        map::Walk::new(self, within, found).run()
    }

    fn cipher(&self) -> Option<&SectorCipher> {
        self.cipher.as_ref()
    }

    fn limit_tables(&self, bytes: usize) {
        self.tables.pages.limit(bytes);
    }

    fn claims(&self, tell: &mut dyn FnMut(Claim) -> Result<()>) -> Result<bool> {
        claims::run(self, claims::MOST, tell)?;
        Ok(true)
    }

    fn survey(&self, report: &mut dyn FnMut(Finding)) -> Result<Survey> {
        survey::run(self, report)
    }
}

fn read(storage: &dyn Storage, doing: &'static str, out: &mut [u8], at: u64) -> Result<()> {
    let at = HostOffset::new(at);
    storage.read_at(out, at).map_err(|source| Error::io(doing, storage, at, source))
}

fn not_version_1(path: std::path::PathBuf, resembles: String) -> Error {
    Error::NotThisFormat { path, expected: "a QCOW version 1 image", resembles }
}

fn facts(
    header: &Header,
    file_size: u64,
    backing: Option<BackingReference>,
    findings: Vec<Finding>,
) -> Facts {
    Facts {
        format: Format::Qcow1,
        virtual_size: header.size,
        file_size,
        cluster_size: Some(header.cluster_size),
        backing,
        is_encrypted: header.is_encrypted,
        specific: Specific::Qcow1(Qcow1Facts {
            cluster_bits: header.cluster_size.bits(),
            l2_bits: header.l2_bits,
            l1_at: header.l1_at,
            l1_entries: header.l1_entries,
            mtime: header.mtime,
            dialect: Dialect::Qemu,
            producer: "unknown",
        }),
        findings,
    }
}

/// The backing file's name, if there is one. Tells of one that is cut by a zero byte or begins
/// with it, or that the host cannot read, where that is no error.
fn backing_reference(
    storage: &dyn Storage,
    header: &Header,
    host_errors: HostErrors,
    findings: &mut Vec<Finding>,
) -> Result<Option<BackingReference>> {
    let NamePlace::At { at, length } = header.backing_name else { return Ok(None) };
    let mut name = vec![0; in_memory(length)];
    let done = read(storage, "reading the backing file's name", &mut name, at.get());
    if done.is_err() && host_errors != HostErrors::Fail {
        findings.push(Finding::new(Rule::Unreadable).at(at));
        return Ok(None);
    }
    done?;
    let Some(end) = name.iter().position(|byte| *byte == 0) else {
        return Ok(Some(BackingReference { name, format: None }));
    };
    name.truncate(end);
    // A name is promised, and it begins with a zero byte.
    let rule = if name.is_empty() { Rule::BackingNamePlace } else { Rule::BackingNameText };
    findings.push(Finding::new(rule).at(at));
    Ok((!name.is_empty()).then_some(BackingReference { name, format: None }))
}
