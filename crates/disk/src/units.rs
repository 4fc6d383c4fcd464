//! Offsets, ranges and cluster sizes, with only the arithmetic that means something.
//!
//! A guest offset and a host offset are different things, and adding one to the other does not
//! compile. Guest offsets stay below 2^63 because [`crate::limits::MAX_VIRTUAL_SIZE`] is checked
//! when an image is opened; host offsets stay below 2^63 because table entries are masked or
//! refused before they become one.

use std::fmt;
use std::ops::{Add, Sub};

/// Bytes in a sector, the unit of encryption and of alignment in every format here.
pub const SECTOR: u64 = 512;

macro_rules! offset {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        pub struct $name(u64);

        impl $name {
            /// The offset that lies `bytes` from the start.
            pub const fn new(bytes: u64) -> Self {
                Self(bytes)
            }

            /// Bytes from the start.
            pub const fn get(self) -> u64 {
                self.0
            }

            /// This offset moved forward, or `None` where it would leave 64 bits.
            pub fn checked_add(self, length: u64) -> Option<Self> {
                self.0.checked_add(length).map(Self)
            }
        }

        impl Add<u64> for $name {
            type Output = Self;
            fn add(self, length: u64) -> Self {
                Self(self.0 + length)
            }
        }

        impl Sub for $name {
            type Output = u64;
            fn sub(self, earlier: Self) -> u64 {
                self.0 - earlier.0
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:#x}", self.0)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:#x}", self.0)
            }
        }
    };
}

offset! {
    /// A place on the disk as the guest sees it, in bytes.
    GuestOffset
}
offset! {
    /// A place in a file on the host, in bytes.
    HostOffset
}

/// A range of the disk as the guest sees it: `length` bytes from `start`.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct GuestRange {
    /// The first byte.
    pub start: GuestOffset,
    /// How many bytes.
    pub length: u64,
}

impl GuestRange {
    /// `length` bytes from `start`.
    pub const fn new(start: GuestOffset, length: u64) -> Self {
        Self { start, length }
    }

    /// `length` bytes from byte number `start`.
    pub const fn at(start: u64, length: u64) -> Self {
        Self { start: GuestOffset::new(start), length }
    }

    /// From `start` up to, not including, `end`; empty where `end` does not lie behind `start`.
    pub fn between(start: GuestOffset, end: GuestOffset) -> Self {
        Self { start, length: end.get().saturating_sub(start.get()) }
    }

    /// The first byte behind the range.
    pub fn end(&self) -> GuestOffset {
        self.start + self.length
    }

    /// Whether there is no byte in it.
    pub const fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// Whether `offset` is one of its bytes.
    pub fn contains(&self, offset: GuestOffset) -> bool {
        self.start <= offset && offset < self.end()
    }

    /// The part of this range that lies in `to`; empty where they do not meet.
    pub fn clipped(&self, to: GuestRange) -> Self {
        Self::between(self.start.max(to.start), self.end().min(to.end()))
    }
}

impl fmt::Debug for GuestRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}+{:#x}", self.start, self.length)
    }
}

/// The unit of allocation of a format: a power of two from 512 bytes to 2 MiB.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ClusterSize {
    bits: u8,
}

impl ClusterSize {
    /// The smallest and the largest exponent that any format here knows.
    pub const BITS: std::ops::RangeInclusive<u8> = 9..=21;

    /// The smallest cluster size: a sector.
    pub const SECTOR: Self = Self { bits: 9 };

    /// The cluster size of `2^bits` bytes, where `bits` is 9 to 21.
    pub const fn from_bits(bits: u8) -> Option<Self> {
        if bits >= 9 && bits <= 21 { Some(Self { bits }) } else { None }
    }

    /// The cluster size of exactly `bytes`, where that is a power of two from 512 to 2 MiB.
    pub fn from_bytes(bytes: u64) -> Option<Self> {
        if !bytes.is_power_of_two() {
            return None;
        }
        u8::try_from(bytes.trailing_zeros()).ok().and_then(Self::from_bits)
    }

    /// The exponent.
    pub const fn bits(self) -> u8 {
        self.bits
    }

    /// The size in bytes.
    pub const fn bytes(self) -> u64 {
        1 << self.bits
    }

    /// How far into its cluster a byte lies.
    pub const fn within(self, byte: u64) -> u64 {
        byte & (self.bytes() - 1)
    }

    /// The start of the cluster that holds a byte.
    pub const fn floor(self, byte: u64) -> u64 {
        byte - self.within(byte)
    }

    /// The first cluster boundary at or behind a byte.
    pub const fn ceil(self, byte: u64) -> u64 {
        self.count(byte) << self.bits
    }

    /// How many clusters hold `bytes` bytes.
    pub const fn count(self, bytes: u64) -> u64 {
        bytes.div_ceil(self.bytes())
    }
}

/// A length that some limit has bounded, as a length of memory.
///
/// # Panics
/// Where the machine's address space is smaller than the limit, which no supported machine's is.
pub fn in_memory(bytes: u64) -> usize {
    usize::try_from(bytes).expect("a length within the limits fits the address space")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_clip_to_what_they_share() {
        let a = GuestRange::at(100, 50);
        assert_eq!(a.clipped(GuestRange::at(120, 100)), GuestRange::at(120, 30));
        assert!(a.clipped(GuestRange::at(150, 10)).is_empty());
        assert!(a.clipped(GuestRange::at(0, 100)).is_empty());
        assert!(a.contains(GuestOffset::new(149)) && !a.contains(GuestOffset::new(150)));
    }

    #[test]
    fn cluster_sizes_are_powers_of_two_in_range() {
        assert_eq!(ClusterSize::from_bytes(4096).map(ClusterSize::bits), Some(12));
        for bytes in [0, 1, 256, 513, 4 << 20, u64::MAX] {
            assert_eq!(ClusterSize::from_bytes(bytes), None, "{bytes}");
        }
        let size = ClusterSize::from_bits(12).unwrap();
        assert_eq!((size.floor(4097), size.ceil(4097), size.within(4097)), (4096, 8192, 1));
        assert_eq!((size.ceil(0), size.ceil(4096), size.count(1)), (0, 4096, 1));
    }
}
