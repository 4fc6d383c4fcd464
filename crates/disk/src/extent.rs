//! An extent: a range of the disk, and where its bytes are.

use crate::finding::Rule;
use crate::units::{ClusterSize, GuestOffset, GuestRange, HostOffset};

/// A range of the disk whose bytes are all to be had in one way.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Extent {
    /// The guest bytes it speaks of.
    pub range: GuestRange,
    /// Where they are.
    pub payload: Payload,
}

/// Where the bytes of an extent are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Payload {
    /// No layer stores anything here: reads as zeros. `layer` is the last one that was asked.
    Hole {
        /// The last layer that was asked, 0 on top.
        layer: usize,
    },
    /// A layer says "zeros" without storing them: a qcow2 zero cluster, a hole in a raw file.
    Zero {
        /// The layer that says so, 0 on top.
        layer: usize,
        /// Where in that layer's file room is kept for the bytes, if anywhere.
        at: Option<HostOffset>,
    },
    /// Not in this image: left to its backing file, or to zeros where it has none.
    ///
    /// An [`crate::Image`] answers this for everything unallocated. A [`crate::Disk`] passes it
    /// on only where a backing file is named and was not opened.
    Backing,
    /// Bytes in a file.
    Stored(Stored),
    /// The tables promise bytes that cannot be there.
    Lost(Lost),
}

/// Bytes in a file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Stored {
    /// The layer whose file holds them, 0 on top.
    pub layer: usize,
    /// Where in that file they begin.
    pub at: HostOffset,
    /// How many host bytes. For [`Encoding::Packed`] this is the payload's whole length.
    pub length: u64,
    /// How they are encoded.
    pub encoding: Encoding,
}

/// How stored bytes become guest bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Encoding {
    /// Host bytes are guest bytes.
    Plain,
    /// AES-128-CBC by sector, same length; the sector number is the guest's.
    Encrypted,
    /// One whole cluster, packed.
    Packed {
        /// How it is packed.
        codec: Codec,
        /// What it unpacks to.
        cluster: ClusterSize,
        /// How many bytes into the unpacked cluster the extent begins.
        skip: u32,
    },
}

/// How a packed cluster is packed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Codec {
    /// Raw deflate, no wrapper; success means that the cluster is full.
    Deflate,
    /// A Zstandard frame.
    Zstd,
}

/// A promise that the file cannot keep.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Lost {
    /// The layer whose tables promise, 0 on top.
    pub layer: usize,
    /// The rule that is broken.
    pub rule: Rule,
    /// The place in that layer's file: the table entry, or the payload that does not decode.
    pub at: HostOffset,
}

impl Extent {
    /// `length` bytes from `start`, to be had from `payload`.
    pub const fn new(start: GuestOffset, length: u64, payload: Payload) -> Self {
        Self { range: GuestRange::new(start, length), payload }
    }

    /// The one extent that this and `next` make, if they make one.
    ///
    /// `next` must begin where this ends; bytes must continue in the same file in the same
    /// encoding. Losses join where they break the same rule; the first place stands for all.
    pub fn joined(self, next: Extent) -> Option<Extent> {
        if self.range.end() != next.range.start || !self.continues(&next.payload) {
            return None;
        }
        let payload = match (self.payload, next.payload) {
            (Payload::Stored(mine), Payload::Stored(its)) if mine.encoding.is_same_length() => {
                Payload::Stored(Stored { length: mine.length + its.length, ..mine })
            }
            (payload, _) => payload,
        };
        Some(Extent::new(self.range.start, self.range.length + next.range.length, payload))
    }

    fn continues(&self, next: &Payload) -> bool {
        let length = self.range.length;
        match (self.payload, *next) {
            (Payload::Hole { layer }, Payload::Hole { layer: its }) => layer == its,
            (Payload::Backing, Payload::Backing) => true,
            (Payload::Zero { layer, at }, Payload::Zero { layer: its, at: next }) => {
                layer == its && at.and_then(|at| at.checked_add(length)) == next
            }
            (Payload::Stored(mine), Payload::Stored(its)) => mine.continues(&its, length),
            (Payload::Lost(mine), Payload::Lost(its)) => {
                mine.layer == its.layer && mine.rule == its.rule
            }
            _ => false,
        }
    }

    /// The part of this extent that lies in `to`; empty where they do not meet.
    pub fn clipped(self, to: GuestRange) -> Extent {
        let range = self.range.clipped(to);
        if range.is_empty() {
            return Extent { range, payload: self.payload };
        }
        let skipped = range.start - self.range.start;
        let payload = match self.payload {
            Payload::Zero { layer, at } => Payload::Zero { layer, at: at.map(|at| at + skipped) },
            Payload::Stored(stored) => Payload::Stored(stored.clipped(skipped, range.length)),
            other => other,
        };
        Extent { range, payload }
    }

    /// This extent seen from above: the layer counted from the top of a chain.
    pub(crate) fn in_layer(self, layer: usize) -> Extent {
        let payload = match self.payload {
            Payload::Hole { .. } => Payload::Hole { layer },
            Payload::Zero { at, .. } => Payload::Zero { layer, at },
            Payload::Stored(stored) => Payload::Stored(Stored { layer, ..stored }),
            Payload::Lost(lost) => Payload::Lost(Lost { layer, ..lost }),
            Payload::Backing => Payload::Backing,
        };
        Extent { payload, ..self }
    }
}

impl Payload {
    /// Whether the guest reads zeros here and no byte has to be fetched to know it.
    pub const fn is_zero(&self) -> bool {
        matches!(self, Payload::Hole { .. } | Payload::Zero { .. })
    }
}

impl Stored {
    fn continues(&self, next: &Stored, length: u64) -> bool {
        if self.layer != next.layer {
            return false;
        }
        match (self.encoding, next.encoding) {
            (
                Encoding::Packed { codec, cluster, skip },
                Encoding::Packed { codec: its_codec, cluster: its_cluster, skip: its_skip },
            ) => {
                (self.at, self.length, codec, cluster)
                    == (next.at, next.length, its_codec, its_cluster)
                    && u64::from(skip) + length == u64::from(its_skip)
            }
            (mine, its) => mine == its && self.at.checked_add(self.length) == Some(next.at),
        }
    }

    fn clipped(self, skipped: u64, length: u64) -> Stored {
        match self.encoding {
            Encoding::Packed { codec, cluster, skip } => {
                // The skip stays below the cluster size, which is at most 2 MiB.
                let skip = skip + u32::try_from(skipped).expect("a cut inside one cluster");
                Stored { encoding: Encoding::Packed { codec, cluster, skip }, ..self }
            }
            Encoding::Plain | Encoding::Encrypted => {
                Stored { at: self.at + skipped, length, ..self }
            }
        }
    }
}

impl Encoding {
    /// Whether as many host bytes as guest bytes are stored.
    pub const fn is_same_length(self) -> bool {
        matches!(self, Encoding::Plain | Encoding::Encrypted)
    }
}

/// Extents in ascending order without gaps, joined while they are added.
///
/// An [`crate::Image`] answers [`crate::Image::map`] through this; the order and the joining are
/// then one place's business.
#[derive(Debug, Default)]
pub struct ExtentList {
    next: GuestOffset,
    extents: Vec<Extent>,
}

impl ExtentList {
    /// An empty list whose first extent will begin at `start`.
    pub fn starting_at(start: GuestOffset) -> Self {
        Self { next: start, extents: Vec::new() }
    }

    /// Empties the list; the next extent will begin at `start`.
    pub fn restart(&mut self, start: GuestOffset) {
        self.extents.clear();
        self.next = start;
    }

    /// Adds the next `length` bytes. Adding nothing is allowed and adds nothing.
    pub fn push(&mut self, length: u64, payload: Payload) {
        if length == 0 {
            return;
        }
        let extent = Extent::new(self.next, length, payload);
        self.next = extent.range.end();
        if let Some(last) = self.extents.last_mut()
            && let Some(joined) = last.joined(extent)
        {
            *last = joined;
            return;
        }
        self.extents.push(extent);
    }

    /// Adds everything from where the next extent will begin up to `end`, if that lies behind.
    pub fn push_to(&mut self, end: GuestOffset, payload: Payload) {
        self.push(GuestRange::between(self.next, end).length, payload);
    }

    /// Where the next extent will begin: everything before it is covered.
    pub fn next(&self) -> GuestOffset {
        self.next
    }

    /// The extents so far.
    pub fn as_slice(&self) -> &[Extent] {
        &self.extents
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stored(at: u64, length: u64, encoding: Encoding) -> Payload {
        Payload::Stored(Stored { layer: 0, at: HostOffset::new(at), length, encoding })
    }

    fn packed(at: u64, skip: u32) -> Payload {
        let cluster = ClusterSize::from_bits(12).unwrap();
        stored(at, 700, Encoding::Packed { codec: Codec::Deflate, cluster, skip })
    }

    fn at(start: u64, length: u64, payload: Payload) -> Extent {
        Extent::new(GuestOffset::new(start), length, payload)
    }

    #[test]
    fn plain_bytes_join_where_both_sides_continue() {
        let first = at(0, 4096, stored(8192, 4096, Encoding::Plain));
        let next = at(4096, 512, stored(12288, 512, Encoding::Plain));
        assert_eq!(first.joined(next), Some(at(0, 4608, stored(8192, 4608, Encoding::Plain))));
        for other in [
            at(4096, 512, stored(16384, 512, Encoding::Plain)),
            at(4096, 512, stored(12288, 512, Encoding::Encrypted)),
            at(4608, 512, stored(12288, 512, Encoding::Plain)),
            at(4096, 512, Payload::Backing),
        ] {
            assert_eq!(first.joined(other), None, "{other:?}");
        }
    }

    #[test]
    fn a_packed_cluster_can_be_cut_and_joined_again() {
        let whole = at(4096, 4096, packed(0x5001, 0));
        let left = whole.clipped(GuestRange::at(4096, 1000));
        let right = whole.clipped(GuestRange::at(5096, 9999));
        assert_eq!(right, at(5096, 3096, packed(0x5001, 1000)));
        assert_eq!(left.joined(right), Some(whole));
        assert_eq!(whole.joined(at(8192, 4096, packed(0x5001, 0))), None, "a second cluster");
    }

    #[test]
    fn a_list_joins_what_it_is_given() {
        let mut list = ExtentList::starting_at(GuestOffset::new(512));
        list.push(512, Payload::Backing);
        list.push(0, Payload::Hole { layer: 0 });
        list.push(512, Payload::Backing);
        list.push(512, stored(4096, 512, Encoding::Plain));
        assert_eq!(
            list.as_slice(),
            [at(512, 1024, Payload::Backing), at(1536, 512, stored(4096, 512, Encoding::Plain))]
        );
        assert_eq!(list.next(), GuestOffset::new(2048));
    }
}
