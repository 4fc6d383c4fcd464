//! L2 entries: what the 64 bits say, or the 128 of extended ones (`docs/qcow2-read.md`, V12).

#![deny(clippy::arithmetic_side_effects, clippy::indexing_slicing)]

use crate::units::{ClusterSize, SECTOR};

/// Nobody else refers to this cluster.
pub(super) const COPIED: u64 = 1 << 63;
/// The cluster is packed.
pub(super) const PACKED: u64 = 1 << 62;
/// The cluster reads as zeros, whatever the backing file has.
pub(super) const ZERO: u64 = 1;

/// The bits of an entry of the L1 table or of a plain L2 entry that are an offset.
const OFFSET: u64 = (1 << 56) - (1 << 9);

/// How many subclusters a cluster with an extended entry has.
pub(super) const SUBCLUSTERS: u32 = 32;

/// An L2 entry, taken apart.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Entry {
    /// Left to the backing file, or zeros.
    Unallocated,
    /// Zeros, with or without room kept for them.
    Zero { at: Option<u64> },
    /// A cluster at this host offset.
    Plain { at: u64 },
    /// A packed cluster: whole sectors from here on hold it, this many bytes at most.
    Packed { at: u64, length: u64 },
    /// A cluster whose parts differ: bit n says of part n that it is stored, or that it is zeros.
    Parts { at: Option<u64>, stored: u32, zero: u32 },
    /// Nothing that a cluster can have.
    Invalid,
}

/// What an image's entries may say.
#[derive(Clone, Copy, Debug)]
pub(super) struct Dialect {
    pub(super) cluster_size: ClusterSize,
    pub(super) version: u32,
    pub(super) has_data_file: bool,
}

/// The place of an L2 table that an L1 entry names, if it names one.
pub(super) fn l2_table(raw: u64) -> Option<u64> {
    Some(raw & OFFSET).filter(|at| *at != 0)
}

/// Bits of a packed cluster's entry that are its offset.
pub(super) fn packed_offset_bits(size: ClusterSize) -> u32 {
    70u32.saturating_sub(size.bits().into())
}

/// The entry of a packed cluster: `length` bytes, at least one, from host offset `at`.
pub(super) fn of_packed(at: u64, length: u64, size: ClusterSize) -> u64 {
    let last = (at & low_bits(9)).saturating_add(length).saturating_sub(1);
    let more_sectors = last.checked_shr(9).unwrap_or(0);
    PACKED | more_sectors.checked_shl(packed_offset_bits(size)).unwrap_or(0) | at
}

impl Dialect {
    /// Takes a plain entry apart.
    pub(super) fn decode(self, raw: u64) -> Entry {
        if raw & PACKED != 0 {
            return self.packed(raw);
        }
        let place = self.place(raw);
        match (raw & ZERO != 0, place) {
            (_, Err(())) => Entry::Invalid,
            (true, _) if self.version < 3 => Entry::Invalid,
            (true, Ok(at)) => Entry::Zero { at },
            (false, Ok(Some(at))) => Entry::Plain { at },
            (false, Ok(None)) => Entry::Unallocated,
        }
    }

    /// Takes an extended entry apart: `raw`, then the two bits of each subcluster.
    pub(super) fn decode_extended(self, raw: u64, parts: u64) -> Entry {
        if raw & PACKED != 0 {
            return self.packed(raw);
        }
        let halves = parts.to_be_bytes();
        let [a, b, c, d, e, f, g, h] = halves;
        let (zero, stored) = (u32::from_be_bytes([a, b, c, d]), u32::from_be_bytes([e, f, g, h]));
        match self.place(raw) {
            Err(()) => Entry::Invalid,
            Ok(_) if zero & stored != 0 => Entry::Invalid,
            Ok(None) if stored != 0 => Entry::Invalid,
            Ok(at) => match (at, stored, zero) {
                (_, 0, 0) => Entry::Unallocated,
                (_, 0, u32::MAX) => Entry::Zero { at },
                (Some(at), u32::MAX, 0) => Entry::Plain { at },
                _ => Entry::Parts { at, stored, zero },
            },
        }
    }

    /// A cluster's place, if it has one; an error where none can be there.
    fn place(self, raw: u64) -> Result<Option<u64>, ()> {
        let at = raw & OFFSET;
        if self.cluster_size.within(at) != 0 {
            return Err(());
        }
        // In a file of its own the first cluster may hold data; only the flag tells then.
        let is_there = at != 0 || (self.has_data_file && raw & COPIED != 0);
        Ok(is_there.then_some(at))
    }

    fn packed(self, raw: u64) -> Entry {
        if self.has_data_file {
            return Entry::Invalid;
        }
        let bits = u32::from(self.cluster_size.bits());
        let offset_bits = packed_offset_bits(self.cluster_size);
        let at = raw & low_bits(offset_bits);
        let more_sectors =
            raw.checked_shr(offset_bits).unwrap_or(0) & low_bits(bits.saturating_sub(8));
        let sectors = more_sectors.saturating_add(1);
        let before = at.checked_rem(SECTOR).unwrap_or(0);
        let length = sectors.saturating_mul(SECTOR).saturating_sub(before);
        Entry::Packed { at, length }
    }
}

fn low_bits(count: u32) -> u64 {
    1u64.checked_shl(count).unwrap_or(0).wrapping_sub(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dialect(bits: u8) -> Dialect {
        let cluster_size = ClusterSize::from_bits(bits).unwrap();
        Dialect { cluster_size, version: 3, has_data_file: false }
    }

    #[test]
    fn v12_plain_entries() {
        let known = dialect(16);
        assert_eq!(known.decode(0), Entry::Unallocated);
        assert_eq!(known.decode(COPIED), Entry::Unallocated);
        assert_eq!(known.decode(COPIED | 0x5_0000), Entry::Plain { at: 0x5_0000 });
        assert_eq!(known.decode(ZERO), Entry::Zero { at: None });
        assert_eq!(known.decode(COPIED | 0x5_0000 | ZERO), Entry::Zero { at: Some(0x5_0000) });
        assert_eq!(known.decode(COPIED | 0x5_0200), Entry::Invalid);
        assert_eq!(Dialect { version: 2, ..known }.decode(ZERO), Entry::Invalid);
        let apart = Dialect { has_data_file: true, ..known };
        assert_eq!(apart.decode(COPIED), Entry::Plain { at: 0 });
        assert_eq!(apart.decode(PACKED | 0x5_0000), Entry::Invalid);
    }

    #[test]
    fn v15_packed_entries_say_how_many_sectors_follow_the_first() {
        let entry = dialect(16).decode(PACKED | 3 << 54 | 0x5_0123);
        assert_eq!(entry, Entry::Packed { at: 0x5_0123, length: 4 * 512 - 0x123 });
        let entry = dialect(12).decode(PACKED | 7 << 58 | 0x5_0000);
        assert_eq!(entry, Entry::Packed { at: 0x5_0000, length: 4096 });
    }

    #[test]
    fn v12_extended_entries_speak_of_each_part() {
        let known = dialect(16);
        let at = COPIED | 0x5_0000;
        assert_eq!(known.decode_extended(at, 0xFFFF_FFFF), Entry::Plain { at: 0x5_0000 });
        assert_eq!(known.decode_extended(0, 0xFFFF_FFFF << 32), Entry::Zero { at: None });
        let parts = Entry::Parts { at: Some(0x5_0000), stored: 1, zero: 2 };
        assert_eq!(known.decode_extended(at, 2 << 32 | 1), parts);
        assert_eq!(known.decode_extended(at, 1 << 32 | 1), Entry::Invalid, "both at once");
        assert_eq!(known.decode_extended(0, 1), Entry::Invalid, "stored nowhere");
        assert_eq!(known.decode_extended(at, 0), Entry::Unallocated);
    }
}
