//! Table entries: what the 64 bits say (`docs/qcow1.md`, Q14 to Q24).

#![deny(clippy::arithmetic_side_effects, clippy::indexing_slicing)]

use crate::pages::UNREADABLE;
use crate::units::SECTOR;

/// Offsets from here on are no place in any file, but a sign of damage.
pub(super) const OFFSET_END: u64 = 1 << 62;

const PACKED: u64 = 1 << 63;

/// An L2 entry, taken apart.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Entry {
    /// Left to the backing file, or zeros.
    Unallocated,
    /// A cluster at this host offset, a multiple of 512.
    Plain(u64),
    /// A packed cluster of this many bytes at this host offset.
    Packed { at: u64, length: u64 },
    /// No offset that a cluster can have.
    Invalid,
    /// The host could not read the entry.
    Unreadable,
}

/// Takes an L2 entry apart. `cluster_bits` is 9 to 16.
pub(super) fn decode(raw: u64, cluster_bits: u8) -> Entry {
    if raw == 0 {
        return Entry::Unallocated;
    }
    if raw == UNREADABLE {
        return Entry::Unreadable;
    }
    if raw & PACKED == 0 {
        return if is_offset(raw) { Entry::Plain(raw) } else { Entry::Invalid };
    }
    // The flag, then as many bits of length as a cluster has, then the offset.
    let offset_bits = 63u32.saturating_sub(u32::from(cluster_bits));
    let (offset_mask, length_mask) = (low_bits(offset_bits), low_bits(cluster_bits.into()));
    let length = raw.checked_shr(offset_bits).unwrap_or(0) & length_mask;
    Entry::Packed { at: raw & offset_mask, length }
}

/// Whether a number can be the place of a table or a plain cluster.
pub(super) fn is_offset(raw: u64) -> bool {
    raw != 0 && raw < OFFSET_END && raw.is_multiple_of(SECTOR)
}

fn low_bits(count: u32) -> u64 {
    1u64.checked_shl(count).unwrap_or(0).wrapping_sub(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn q23_the_split_follows_the_cluster_size() {
        let known = 1 << 63 | 306 << 51 | 0x2000;
        assert_eq!(decode(known, 12), Entry::Packed { at: 0x2000, length: 306 });
        let byte_packed = 1 << 63 | 77 << 51 | 0x202C;
        assert_eq!(decode(byte_packed, 12), Entry::Packed { at: 0x202C, length: 77 });
        for bits in 9..=16 {
            let (length, at) = ((1u64 << bits) - 1, (1u64 << (63 - bits)) - 1);
            assert_eq!(decode(u64::MAX, bits), Entry::Packed { at, length }, "{bits}");
        }
        assert_eq!(decode(1 << 63, 12), Entry::Packed { at: 0, length: 0 });
    }

    #[test]
    fn q17_a_plain_entry_is_a_multiple_of_512_below_2_to_the_62() {
        assert_eq!(decode(0, 12), Entry::Unallocated);
        assert_eq!(decode(0x1200, 12), Entry::Plain(0x1200));
        for raw in [1, 0x1201, 1 << 62, 0x2000 | 1 << 62] {
            assert_eq!(decode(raw, 12), Entry::Invalid, "{raw:#x}");
        }
    }
}
