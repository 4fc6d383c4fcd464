//! Target: a disk being written.

use crate::error::Result;
use crate::extent::Codec;
use crate::units::{ClusterSize, GuestRange, HostOffset};

/// A disk being written: reserves room in guest order and keeps the map. It moves no guest bytes
/// and does no input or output; whoever calls it writes what it is told to.
///
/// Ranges are given in ascending guest order and never twice. A range that is never given is
/// left to the backing file, or to zeros where there is none.
pub trait Target: Send {
    /// The unit in which room is reserved: ranges begin and end at its multiples, but for the
    /// end of the disk.
    fn cluster_size(&self) -> ClusterSize;

    /// The virtual size that the result will have, in bytes.
    fn virtual_size(&self) -> u64;

    /// Whether a stream that packs one whole cluster of this target's size may be stored as it
    /// is, whoever packed it: [`Form::Packed`] then takes it.
    fn keeps(&self, _codec: Codec) -> bool {
        false
    }

    /// Reserves contiguous room for `range`, to be stored in `form`, and says where it begins.
    ///
    /// A plain range may span many clusters: room is contiguous only as far as the returned
    /// pieces say, which cover the range in order.
    fn place(&mut self, range: GuestRange, form: Form, pieces: &mut Vec<Placed>) -> Result<()>;

    /// Makes `range` read as zeros, whatever may lie behind it.
    fn zero(&mut self, range: GuestRange) -> Result<()>;

    /// Tables that became complete since the last call, to be written where they say.
    fn take_tables(&mut self) -> Vec<TableWrite>;

    /// Ends the map: what is left to write, in the order in which it must reach the medium.
    fn finish(&mut self) -> Result<Finish>;
}

/// In which form a range is stored.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Form {
    /// Guest bytes as they are.
    Plain,
    /// One whole cluster, packed into `length` bytes.
    Packed {
        /// The payload's length in bytes, less than a cluster.
        length: u64,
    },
}

/// Room that was reserved.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Placed {
    /// For which guest bytes.
    pub range: GuestRange,
    /// Where it begins in the result's file.
    pub at: HostOffset,
}

/// A table, complete, and its place in the file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TableWrite {
    /// Where it belongs.
    pub at: HostOffset,
    /// Its bytes.
    pub bytes: Vec<u8>,
}

/// What is left to write when all ranges were given.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Finish {
    /// The length that the file must have.
    pub file_size: u64,
    /// The last tables. They must be on the medium, with everything before, ahead of `header`.
    pub tables: Vec<TableWrite>,
    /// What makes the file an image: written last. A raw disk has none.
    pub header: Option<TableWrite>,
}
