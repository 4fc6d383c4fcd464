//! Shape: what tables of a geometry look like.

use calve_disk::units::SECTOR;

/// The bits that make a geometry.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Shape {
    pub(crate) cluster_bits: u8,
    pub(crate) l2_bits: u8,
}

/// What an L2 entry can be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Entry {
    Empty,
    Plain(u64),
    Packed { at: u64, length: u64 },
    Bad,
}

/// Nothing that an entry names begins before the header's end.
pub(crate) const HEADER_SIZE: u64 = 48;

const PACKED: u64 = 1 << 63;

/// The geometries that version 1 can have, those that QEMU makes first.
pub(crate) fn all_shapes() -> impl Iterator<Item = Shape> {
    let common = [Shape { cluster_bits: 12, l2_bits: 9 }, Shape { cluster_bits: 9, l2_bits: 12 }];
    let others = (9..=16)
        .flat_map(|cluster_bits| (6..=13).map(move |l2_bits| Shape { cluster_bits, l2_bits }));
    common.into_iter().chain(others.filter(move |shape| !common.contains(shape)))
}

impl Shape {
    pub(crate) fn is_legal(self) -> bool {
        (9..=16).contains(&self.cluster_bits) && (6..=13).contains(&self.l2_bits)
    }

    pub(crate) fn cluster(self) -> u64 {
        1 << self.cluster_bits
    }

    pub(crate) fn entries(self) -> u64 {
        1 << self.l2_bits
    }

    pub(crate) fn table_length(self) -> u64 {
        8 << self.l2_bits
    }

    /// Guest bytes of one L1 entry.
    pub(crate) fn coverage(self) -> u64 {
        1 << (self.cluster_bits + self.l2_bits)
    }

    /// What an entry can be in a file of `size` bytes.
    pub(crate) fn entry(self, raw: u64, size: u64) -> Entry {
        if raw == 0 {
            return Entry::Empty;
        }
        if raw & PACKED == 0 {
            let fits = raw >= SECTOR && raw.is_multiple_of(SECTOR) && raw < size;
            return if fits { Entry::Plain(raw) } else { Entry::Bad };
        }
        let offset_bits = 63 - self.cluster_bits;
        let at = raw & ((1 << offset_bits) - 1);
        let length = raw >> offset_bits & (self.cluster() - 1);
        // Writers of the last years write whole sectors, and cut the last one.
        let fits = at >= HEADER_SIZE && length > 0 && at + length <= size;
        if fits { Entry::Packed { at, length } } else { Entry::Bad }
    }

    /// The host bytes that an entry claims: where, and how many.
    pub(crate) fn claim(self, raw: u64, size: u64) -> Option<(u64, u64)> {
        match self.entry(raw, size) {
            Entry::Plain(at) => Some((at, self.cluster())),
            Entry::Packed { at, length } => Some((at, length)),
            Entry::Empty | Entry::Bad => None,
        }
    }
}

/// Whether a number can be the place of an L2 table in a file of `size` bytes.
pub(crate) fn is_table_place(raw: u64, size: u64) -> bool {
    raw >= SECTOR && raw.is_multiple_of(SECTOR) && raw < size
}

/// Big-endian words.
pub(crate) fn words(bytes: &[u8]) -> impl Iterator<Item = u64> {
    bytes.as_chunks::<8>().0.iter().map(|word| u64::from_be_bytes(*word))
}
