//! Claim: host bytes of which something in the file says that they are its own.

use crate::units::{GuestRange, HostOffset};

/// Host bytes, and who says that they are its own.
///
/// Told in the order of the file, claims are the layout of an image: what two of them share has
/// two owners, and what lies between them has none.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Claim {
    /// The first byte.
    pub at: HostOffset,
    /// How many bytes; a claim may run past the end of the file.
    pub length: u64,
    /// Who claims them.
    pub owner: Owner,
    /// The guest bytes that they are for: of a cluster its own, of an L2 table those that it
    /// covers. May reach behind the end of the disk, and is empty for all else.
    pub guest: GuestRange,
    /// How many entries make this very claim, this one included and others told of not.
    pub times: u32,
}

/// Who claims host bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Owner {
    /// The header.
    Header,
    /// What a dialect puts behind the header.
    Extension,
    /// The backing file's name.
    Name,
    /// The L1 table.
    L1,
    /// An L2 table.
    L2,
    /// Plain or encrypted clusters that follow one another on the disk as well as in the file.
    Data,
    /// One packed cluster.
    Packed,
}

impl Owner {
    /// All owners, each under its own number.
    pub const ALL: [Owner; 7] = [
        Owner::Header,
        Owner::Extension,
        Owner::Name,
        Owner::L1,
        Owner::L2,
        Owner::Data,
        Owner::Packed,
    ];

    /// The owner in a few words.
    pub const fn words(self) -> &'static str {
        match self {
            Owner::Header => "header",
            Owner::Extension => "extended header",
            Owner::Name => "backing file name",
            Owner::L1 => "L1 table",
            Owner::L2 => "L2 table",
            Owner::Data => "data",
            Owner::Packed => "packed data",
        }
    }

    /// Whether it says where other things are.
    pub const fn is_table(self) -> bool {
        matches!(self, Owner::Header | Owner::Extension | Owner::L1 | Owner::L2)
    }
}

impl Claim {
    /// The first byte behind the claim.
    pub fn end(&self) -> u64 {
        self.at.get().saturating_add(self.length)
    }
}
