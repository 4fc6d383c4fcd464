//! The header and what follows it in the first cluster, as it lies in the file.

use std::mem::size_of;

use zerocopy::big_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::extent::Codec;
use crate::finding::{Finding, Rule};
use crate::limits;
use crate::units::{ClusterSize, HostOffset, SECTOR, in_memory};

/// The header as it lies in the file. Version 2 ends before `incompatible`.
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub(super) struct RawHeader {
    pub(super) magic: [u8; 4],
    pub(super) version: U32,
    pub(super) backing_name_at: U64,
    pub(super) backing_name_length: U32,
    pub(super) cluster_bits: U32,
    pub(super) size: U64,
    pub(super) crypt_method: U32,
    pub(super) l1_entries: U32,
    pub(super) l1_at: U64,
    pub(super) refcount_table_at: U64,
    pub(super) refcount_table_clusters: U32,
    pub(super) snapshots: U32,
    pub(super) snapshots_at: U64,
    pub(super) incompatible: U64,
    pub(super) compatible: U64,
    pub(super) autoclear: U64,
    pub(super) refcount_order: U32,
    pub(super) header_length: U32,
    pub(super) compression_type: u8,
    pub(super) padding: [u8; 7],
}

/// Bytes of the whole header.
pub(super) const HEADER_LENGTH: u32 = 112;
const _: () = assert!(size_of::<RawHeader>() == HEADER_LENGTH as usize);

/// Bytes of a version 2 header.
const V2_LENGTH: u64 = 72;
/// Bytes of the shortest version 3 header: without the compression type.
const V3_LENGTH: u64 = 104;

/// The magic that every version of QCOW begins with.
pub(super) const MAGIC: [u8; 4] = *b"QFI\xFB";

/// The extension that records the backing file's format.
pub(super) const BACKING_FORMAT: u32 = 0xE279_2ACA;
/// The extension that ends the extensions.
pub(super) const END: u32 = 0;
/// The extension that names feature bits.
const FEATURE_NAMES: u32 = 0x6803_F857;
/// The extension that says where dirty bitmaps are.
const BITMAPS: u32 = 0x2385_2875;
/// The extension that names the external data file.
const DATA_FILE: u32 = 0x4441_5441;

pub(super) const CRYPT_NONE: u32 = 0;
pub(super) const CRYPT_AES: u32 = 1;

const DIRTY: u64 = 1 << 0;
const CORRUPT: u64 = 1 << 1;
const HAS_DATA_FILE: u64 = 1 << 2;
const COMPRESSION_TYPE: u64 = 1 << 3;
const EXTENDED_L2: u64 = 1 << 4;
const KNOWN_INCOMPATIBLE: u64 = DIRTY | CORRUPT | HAS_DATA_FILE | COMPRESSION_TYPE | EXTENDED_L2;
const LAZY_REFCOUNTS: u64 = 1 << 0;
const RAW_DATA_FILE: u64 = 1 << 1;

/// QEMU opens no image with more entries in its L1 table.
const MAX_L1_ENTRIES: u64 = 1 << 22;

/// Below this, extended entries would speak of subclusters smaller than a sector.
const MIN_EXTENDED_BITS: u8 = 14;

/// A header whose numbers can be worked with.
#[derive(Clone, Debug)]
pub(super) struct Header {
    pub(super) version: u32,
    pub(super) size: u64,
    pub(super) cluster_size: ClusterSize,
    pub(super) l1_at: u64,
    pub(super) l1_entries: u64,
    pub(super) codec: Codec,
    pub(super) has_data_file: bool,
    pub(super) is_data_file_raw: bool,
    pub(super) has_extended_l2: bool,
    pub(super) has_lazy_refcounts: bool,
    pub(super) is_corrupt: bool,
    pub(super) is_dirty: bool,
    pub(super) is_encrypted: bool,
    pub(super) refcount_bits: u32,
    pub(super) refcount_table_at: u64,
    pub(super) refcount_table_clusters: u64,
    /// Whether clusters are in use of which only an extension tells: bitmaps.
    pub(super) has_bitmaps: bool,
    pub(super) snapshots: u32,
    pub(super) backing_name: Option<Vec<u8>>,
    pub(super) backing_format: Option<String>,
    pub(super) data_file: Option<Vec<u8>>,
    pub(super) findings: Vec<Finding>,
}

/// Why an image cannot be read.
pub(super) enum Objection {
    /// It does not begin as a qcow2 image does; the rest of a sentence.
    NotQcow2(String),
    /// It breaks a rule.
    Broken(Finding),
    /// It uses what is not supported.
    Unsupported(String),
}

impl From<Finding> for Objection {
    fn from(finding: Finding) -> Self {
        Self::Broken(finding)
    }
}

/// How many bytes of the file the header may need: all of its first cluster.
pub(super) fn first_cluster(start: &[u8]) -> u64 {
    let bits = start.get(20..24).and_then(|bytes| U32::ref_from_bytes(bytes).ok());
    let bits = bits.and_then(|bits| u8::try_from(bits.get()).ok());
    bits.and_then(ClusterSize::from_bits).map_or(SECTOR, ClusterSize::bytes)
}

/// Takes the first cluster apart. `start` is as much of it as the file has.
pub(super) fn parse(start: &[u8]) -> Result<Header, Objection> {
    let raw = recognise(start)?;
    let broken = |rule, at, value| Finding::new(rule).at(HostOffset::new(at)).value(value);
    let bits = raw.cluster_bits.get();
    let has_extended_l2 = raw.incompatible.get() & EXTENDED_L2 != 0;
    let cluster_size = u8::try_from(bits)
        .ok()
        .filter(|bits| !has_extended_l2 || *bits >= MIN_EXTENDED_BITS)
        .and_then(ClusterSize::from_bits)
        .ok_or_else(|| broken(Rule::Qcow2ClusterBits, 20, u64::from(bits)))?;
    let length = raw.length();
    if length < V3_LENGTH && raw.version.get() > 2
        || !length.is_multiple_of(8)
        || length > cluster_size.bytes()
    {
        return Err(broken(Rule::Qcow2HeaderLength, 100, length).into());
    }
    let in_cluster = &start[..start.len().min(in_memory(cluster_size.bytes()))];
    let extensions = Extensions::parse(in_cluster, length, raw.backing_name_at.get())?;
    raw.refuse_unsupported(&extensions)?;
    let mut header = Header {
        version: raw.version.get(),
        size: raw.size.get(),
        cluster_size,
        l1_at: raw.l1_at.get(),
        l1_entries: u64::from(raw.l1_entries.get()),
        codec: if raw.compression_type == 1 { Codec::Zstd } else { Codec::Deflate },
        has_data_file: raw.incompatible.get() & HAS_DATA_FILE != 0,
        is_data_file_raw: raw.autoclear.get() & RAW_DATA_FILE != 0,
        has_extended_l2,
        has_lazy_refcounts: raw.compatible.get() & LAZY_REFCOUNTS != 0,
        is_corrupt: raw.incompatible.get() & CORRUPT != 0,
        is_dirty: raw.incompatible.get() & DIRTY != 0,
        is_encrypted: raw.crypt_method.get() == CRYPT_AES,
        refcount_bits: 1 << raw.refcount_order.get(),
        refcount_table_at: raw.refcount_table_at.get(),
        refcount_table_clusters: u64::from(raw.refcount_table_clusters.get()),
        has_bitmaps: extensions.has_bitmaps,
        snapshots: raw.snapshots.get(),
        backing_name: None,
        backing_format: extensions.backing_format,
        data_file: extensions.data_file,
        findings: Vec::new(),
    };
    header.check_tables()?;
    header.name_backing(&raw, in_cluster);
    header.note_oddities();
    Ok(header)
}

/// The header, with everything zero that this version or length does not have.
fn recognise(start: &[u8]) -> Result<RawHeader, Objection> {
    if start.get(..4) != Some(&MAGIC[..]) {
        return Err(Objection::NotQcow2("it does not begin with its magic".into()));
    }
    let cut = || Finding::new(Rule::Qcow2HeaderCut).at(HostOffset::new(start.len() as u64));
    let version = start.get(4..8).and_then(|bytes| U32::ref_from_bytes(bytes).ok());
    let needed = match version.ok_or_else(cut)?.get() {
        2 => V2_LENGTH,
        3 => V3_LENGTH,
        other => return Err(Objection::NotQcow2(format!("it is QCOW version {other}"))),
    };
    let needed = in_memory(needed);
    let fields = start.get(..needed).ok_or_else(cut)?;
    let mut bytes = [0; HEADER_LENGTH as usize];
    bytes[..needed].copy_from_slice(fields);
    let RawHeader { header_length, version, .. } = zerocopy::transmute!(bytes);
    let known = in_memory(u64::from(header_length.get()).min(HEADER_LENGTH.into()));
    if version.get() > 2 && known > needed {
        bytes[..known].copy_from_slice(start.get(..known).ok_or_else(cut)?);
    }
    let mut raw: RawHeader = zerocopy::transmute!(bytes);
    if version.get() == 2 {
        // The order of the 16-bit counters that version 2 always has.
        raw.refcount_order = U32::new(4);
    }
    Ok(raw)
}

impl RawHeader {
    /// Where the extensions begin.
    fn length(&self) -> u64 {
        if self.version.get() == 2 { V2_LENGTH } else { u64::from(self.header_length.get()) }
    }

    fn refuse_unsupported(&self, extensions: &Extensions) -> Result<(), Objection> {
        let unknown = self.incompatible.get() & !KNOWN_INCOMPATIBLE;
        if unknown != 0 {
            let bit = unknown.trailing_zeros();
            let name = extensions.incompatible_name(bit);
            let what = format!("uses the qcow2 feature {name}, which is not supported");
            return Err(Objection::Unsupported(what));
        }
        let what = match self.crypt_method.get() {
            CRYPT_NONE | CRYPT_AES => None,
            2 => Some("is encrypted with LUKS, which is not supported".to_owned()),
            other => Some(format!("is encrypted by method {other}, which is not supported")),
        };
        if let Some(what) = what {
            return Err(Objection::Unsupported(format!("{what}; convert it with qemu-img")));
        }
        if self.compression_type > 1 {
            let what = format!("packs clusters by method {}", self.compression_type);
            return Err(Objection::Unsupported(format!("{what}, which is not supported")));
        }
        if self.refcount_order.get() > 6 {
            let what = format!("has counters of 2^{} bits", self.refcount_order);
            return Err(Objection::Unsupported(format!("{what}, which is not supported")));
        }
        Ok(())
    }
}

impl Header {
    /// Guest bytes that one L2 table maps.
    pub(super) fn l2_span(&self) -> u64 {
        self.l2_entries() << self.cluster_size.bits()
    }

    /// Entries of an L2 table.
    pub(super) fn l2_entries(&self) -> u64 {
        self.cluster_size.bytes() / self.l2_entry_size()
    }

    /// Bytes of an entry of an L2 table.
    pub(super) fn l2_entry_size(&self) -> u64 {
        if self.has_extended_l2 { 16 } else { 8 }
    }

    fn check_tables(&self) -> Result<(), Finding> {
        let broken = |rule, at, value| Err(Finding::new(rule).at(HostOffset::new(at)).value(value));
        if self.size > limits::MAX_VIRTUAL_SIZE
            || self.l1_entries > MAX_L1_ENTRIES
            || self.l1_entries < self.size.div_ceil(self.l2_span())
        {
            return broken(Rule::Qcow2Size, 36, self.l1_entries);
        }
        let is_aligned = self.cluster_size.within(self.l1_at) == 0;
        if self.l1_entries > 0 && (self.l1_at == 0 || self.l1_at >= 1 << 62 || !is_aligned) {
            return broken(Rule::Qcow2L1Place, 40, self.l1_at);
        }
        Ok(())
    }

    fn name_backing(&mut self, raw: &RawHeader, first_cluster: &[u8]) {
        let (at, length) = (raw.backing_name_at.get(), u64::from(raw.backing_name_length.get()));
        if at == 0 {
            return;
        }
        let name = at.checked_add(length).and_then(|end| {
            let range = usize::try_from(at).ok()?..usize::try_from(end).ok()?;
            first_cluster.get(range)
        });
        match name {
            Some(name) if (1..=limits::MAX_BACKING_NAME).contains(&length) => {
                self.backing_name = Some(name.to_vec());
            }
            _ => {
                let finding = Finding::new(Rule::Qcow2BackingName).at(HostOffset::new(8));
                self.findings.push(finding.value(at));
            }
        }
    }

    fn note_oddities(&mut self) {
        let mut note = |is_so, rule, at| {
            if is_so {
                self.findings.push(Finding::new(rule).at(HostOffset::new(at)));
            }
        };
        note(!self.size.is_multiple_of(SECTOR), Rule::Qcow2SizeNotSectors, 24);
        note(self.is_dirty, Rule::Qcow2Dirty, 72);
        note(self.is_corrupt, Rule::Qcow2Corrupt, 72);
    }
}

/// What the extensions tell.
#[derive(Default)]
struct Extensions {
    backing_format: Option<String>,
    data_file: Option<Vec<u8>>,
    has_bitmaps: bool,
    feature_names: Vec<u8>,
}

/// Bytes of a row of the feature names: the kind, the bit, the name.
const FEATURE_ROW: usize = 48;

impl Extensions {
    /// The extensions of a first cluster, from `at` to their end, to the backing file's name or
    /// to the end of the cluster.
    fn parse(first_cluster: &[u8], at: u64, backing_name_at: u64) -> Result<Self, Finding> {
        let mut extensions = Self::default();
        let end = match usize::try_from(backing_name_at) {
            Ok(at) if at != 0 => at.min(first_cluster.len()),
            _ => first_cluster.len(),
        };
        let mut rest = first_cluster.get(in_memory(at)..end).unwrap_or_default();
        while let Some((kind, length, data)) = extension(rest) {
            if kind == END {
                break;
            }
            let Some(value) = data.get(..length) else {
                let at = HostOffset::new((end - rest.len()) as u64);
                return Err(Finding::new(Rule::Qcow2Extension).at(at).value(length as u64));
            };
            match kind {
                BACKING_FORMAT => {
                    extensions.backing_format = Some(String::from_utf8_lossy(value).into_owned());
                }
                DATA_FILE => extensions.data_file = Some(value.to_vec()),
                BITMAPS => extensions.has_bitmaps = true,
                FEATURE_NAMES => extensions.feature_names = value.to_vec(),
                _ => {}
            }
            rest = data.get(length.next_multiple_of(8)..).unwrap_or_default();
        }
        Ok(extensions)
    }

    /// What an incompatible feature is called.
    fn incompatible_name(&self, bit: u32) -> String {
        let mut rows = self.feature_names.chunks_exact(FEATURE_ROW);
        let row = rows.find(|row| row[0] == 0 && u32::from(row[1]) == bit);
        let name = row.map(|row| row[2..].split(|byte| *byte == 0).next().unwrap_or_default());
        match name {
            Some(name) => format!("'{}' (incompatible bit {bit})", crate::open::escaped(name)),
            None => format!("of incompatible bit {bit}"),
        }
    }
}

/// The first extension's type, its length and everything behind these two.
fn extension(bytes: &[u8]) -> Option<(u32, usize, &[u8])> {
    let (kind, rest) = bytes.split_first_chunk()?;
    let (length, data) = rest.split_first_chunk()?;
    let length = usize::try_from(u32::from_be_bytes(*length)).ok()?;
    Some((u32::from_be_bytes(*kind), length, data))
}
