//! The 48-byte header, in three moves without input or output: raw, validated, arithmetic.

#![deny(clippy::arithmetic_side_effects, clippy::indexing_slicing)]

use std::mem::size_of;
use std::ops::Range;

use zerocopy::big_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, KnownLayout};

use crate::finding::{Finding, Rule};
use crate::limits;
use crate::units::{ClusterSize, HostOffset, SECTOR};

/// The magic that every version of QCOW begins with.
pub(super) const MAGIC: [u8; 4] = *b"QFI\xFB";

/// The header as it lies in the file (`docs/qcow1.md`, Q2 to Q12).
#[derive(FromBytes, KnownLayout, Immutable)]
#[repr(C)]
pub(super) struct RawHeader {
    magic: [u8; 4],
    version: U32,
    backing_name_at: U64,
    backing_name_length: U32,
    mtime: U32,
    size: U64,
    cluster_bits: u8,
    l2_bits: u8,
    /// A hole that the compiler of the first writer left; never looked at by anyone.
    padding: U16,
    crypt_method: U32,
    l1_at: U64,
}

pub(super) const HEADER_SIZE: u64 = 48;
const _: () = assert!(size_of::<RawHeader>() == 48);

/// The most entries an L1 table may have: one more and QEMU calls the image too large.
const MAX_L1_ENTRIES: u64 = (1 << 28) - 1;

const CRYPT_NONE: u32 = 0;
const CRYPT_AES: u32 = 1;

/// A header whose numbers can be worked with.
#[derive(Clone, Debug)]
pub(super) struct Header {
    pub(super) size: u64,
    pub(super) cluster_size: ClusterSize,
    pub(super) l2_bits: u8,
    pub(super) l1_at: u64,
    pub(super) l1_entries: u64,
    pub(super) mtime: u32,
    pub(super) is_encrypted: bool,
    pub(super) backing_name: NamePlace,
    /// What is odd about it but does not keep it from being used.
    pub(super) findings: Vec<Finding>,
}

/// Where the backing file's name is said to be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum NamePlace {
    /// There is no backing file.
    None,
    /// The name is here.
    At { at: HostOffset, length: u64 },
    /// A name is promised where none can be.
    Impossible,
}

/// What the first bytes of a file say.
pub(super) enum Recognised<'a> {
    /// A version 1 header.
    Header(&'a RawHeader),
    /// The magic and version 1, and then the file ends.
    Cut,
    /// QCOW, but of this version.
    OtherVersion(u32),
    /// Something else.
    No,
}

/// Looks at magic and version before anything else is made of the bytes: version 2 keeps its
/// cluster size where version 1 keeps a time.
pub(super) fn recognise(start: &[u8]) -> Recognised<'_> {
    if start.get(..4) != Some(&MAGIC[..]) {
        return Recognised::No;
    }
    let version = start.get(4..8).and_then(|bytes| U32::ref_from_bytes(bytes).ok());
    match version.map(|version| version.get()) {
        Some(1) => match RawHeader::ref_from_prefix(start) {
            Ok((raw, _)) => Recognised::Header(raw),
            Err(_) => Recognised::Cut,
        },
        Some(other) => Recognised::OtherVersion(other),
        None => Recognised::Cut,
    }
}

impl RawHeader {
    /// The header with every number checked, or the first rule that it breaks.
    pub(super) fn validated(&self, file_size: u64) -> Result<Header, Finding> {
        let broken = |rule, at, value| Err(Finding::new(rule).at(HostOffset::new(at)).value(value));
        let cluster_size = match self.cluster_bits {
            bits @ 9..=16 => ClusterSize::from_bits(bits),
            _ => None,
        };
        let Some(cluster_size) = cluster_size else {
            return broken(Rule::ClusterBits, 32, u64::from(self.cluster_bits));
        };
        if !(6..=13).contains(&self.l2_bits) {
            return broken(Rule::L2Bits, 33, u64::from(self.l2_bits));
        }
        let size = self.size.get();
        let l1_coverage_bits = u32::from(cluster_size.bits()).saturating_add(self.l2_bits.into());
        let l1_coverage = 1u64.checked_shl(l1_coverage_bits).unwrap_or(u64::MAX);
        let l1_entries = size.div_ceil(l1_coverage);
        if l1_entries > MAX_L1_ENTRIES || size > limits::MAX_VIRTUAL_SIZE {
            return broken(Rule::VirtualSize, 24, size);
        }
        let crypt_method = self.crypt_method.get();
        if crypt_method != CRYPT_NONE && crypt_method != CRYPT_AES {
            return broken(Rule::CryptMethod, 36, u64::from(crypt_method));
        }
        let mut header = Header {
            size,
            cluster_size,
            l2_bits: self.l2_bits,
            l1_at: self.l1_at.get(),
            l1_entries,
            mtime: self.mtime.get(),
            is_encrypted: crypt_method == CRYPT_AES,
            backing_name: self.name_place(file_size),
            findings: Vec::new(),
        };
        self.note_oddities(&mut header);
        Ok(header)
    }

    fn name_place(&self, file_size: u64) -> NamePlace {
        let (at, length) = (self.backing_name_at.get(), u64::from(self.backing_name_length.get()));
        if at == 0 || length == 0 {
            return NamePlace::None;
        }
        let fits = at.checked_add(length).is_some_and(|end| end <= file_size);
        if length > limits::MAX_BACKING_NAME || !fits {
            return NamePlace::Impossible;
        }
        NamePlace::At { at: HostOffset::new(at), length }
    }

    fn note_oddities(&self, header: &mut Header) {
        let mut note = |rule, at, value: u64| {
            header.findings.push(Finding::new(rule).at(HostOffset::new(at)).value(value));
        };
        if self.padding.get() != 0 {
            note(Rule::PaddingSet, 34, u64::from(self.padding.get()));
        }
        if !header.size.is_multiple_of(SECTOR) {
            note(Rule::SizeNotSectors, 24, header.size);
        }
        if header.backing_name == NamePlace::Impossible {
            note(Rule::BackingNamePlace, 8, self.backing_name_at.get());
        }
        let (at, length) = (self.backing_name_at.get(), self.backing_name_length.get());
        if (at == 0) != (length == 0) {
            note(Rule::BackingNameHalf, if at == 0 { 8 } else { 16 }, at.max(length.into()));
        }
        if header.l1_at < HEADER_SIZE && header.l1_entries > 0 {
            note(Rule::L1Place, 40, header.l1_at);
        }
    }
}

impl Header {
    /// How many entries an L2 table has.
    pub(super) fn l2_entries(&self) -> u64 {
        1 << self.l2_bits
    }

    /// log2 of the guest bytes that one L1 entry covers.
    pub(super) fn l1_coverage_bits(&self) -> u32 {
        u32::from(self.cluster_size.bits()).saturating_add(u32::from(self.l2_bits))
    }

    /// The host range of the L1 table: its start and the first byte behind it.
    pub(super) fn l1_range(&self) -> Range<u64> {
        // At most 2^28 entries of 8 bytes; the place may be anything.
        self.l1_at..self.l1_at.saturating_add(self.l1_entries.saturating_mul(8))
    }
}

#[cfg(test)]
#[expect(clippy::indexing_slicing, reason = "a test may panic")]
mod tests {
    use super::*;

    fn header() -> [u8; 48] {
        let mut bytes = [0; 48];
        bytes[..4].copy_from_slice(&MAGIC);
        bytes[7] = 1;
        bytes[24..32].copy_from_slice(&(1u64 << 20).to_be_bytes());
        (bytes[32], bytes[33], bytes[47]) = (12, 9, 48);
        bytes
    }

    fn validated(bytes: &[u8]) -> Result<Header, Finding> {
        match recognise(bytes) {
            Recognised::Header(raw) => raw.validated(4096),
            _ => panic!("not recognised"),
        }
    }

    #[test]
    fn the_version_decides_before_any_field_is_read() {
        assert!(matches!(recognise(&header()), Recognised::Header(_)));
        assert!(matches!(recognise(&header()[..47]), Recognised::Cut));
        assert!(matches!(recognise(&header()[..6]), Recognised::Cut));
        assert!(matches!(recognise(b""), Recognised::No));
        let mut two = header();
        two[7] = 2;
        assert!(matches!(recognise(&two), Recognised::OtherVersion(2)));
    }

    #[test]
    fn the_padding_stands_before_the_encryption_method() {
        let mut bytes = header();
        (bytes[34], bytes[35], bytes[39]) = (0xFF, 0xFF, 1);
        let header = validated(&bytes).unwrap();
        assert!(header.is_encrypted);
        assert_eq!(header.l1_at, 48);
        assert_eq!(header.findings[0].rule, Rule::PaddingSet);
    }

    #[test]
    fn geometry_follows_from_the_bits() {
        let mut bytes = header();
        bytes[24..32].copy_from_slice(&(2 * (1u64 << 21) + 1).to_be_bytes());
        let header = validated(&bytes).unwrap();
        assert_eq!((header.l1_entries, header.l2_entries()), (3, 512));
        assert_eq!(header.l1_range(), 48..72);
        assert_eq!(header.findings[0].rule, Rule::SizeNotSectors);
    }

    #[test]
    fn a_table_of_2_to_the_28_entries_is_too_large() {
        let mut bytes = header();
        for (entries, accepted) in [((1 << 28) - 1, true), (1u64 << 28, false)] {
            bytes[24..32].copy_from_slice(&(entries << 21).to_be_bytes());
            assert_eq!(validated(&bytes).is_ok(), accepted, "{entries}");
        }
        for size in [u64::MAX, (1 << 63) - 512] {
            bytes[24..32].copy_from_slice(&size.to_be_bytes());
            assert_eq!(validated(&bytes).unwrap_err().rule, Rule::VirtualSize);
        }
    }
}
