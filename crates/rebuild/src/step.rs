//! What a reconstruction did, and what each guess rests on.

use std::fmt;

use calve_disk::units::{GuestRange, HostOffset};

use crate::patched::Patched;

/// A source with what was rebuilt laid over it, and the account of it.
pub struct Rebuilt {
    /// The source, patched.
    pub source: Patched,
    /// What was changed, in the order in which it was found; empty where nothing had to be.
    pub steps: Vec<Step>,
    /// Guest bytes that are read through a guess: ordered, without overlaps.
    pub suspect: Vec<GuestRange>,
    /// L2 tables that were found and have no place.
    pub unplaced: Vec<HostOffset>,
}

/// One thing that was rebuilt.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Step {
    /// What it is.
    pub subject: Subject,
    /// Where in the file it stands now.
    pub at: HostOffset,
    /// The number that stands there now; of a name its length, of several entries how many.
    pub value: u64,
    /// The guest bytes that depend on it, where those are not all.
    pub guest: Option<GuestRange>,
    /// How sure it is.
    pub confidence: Confidence,
    /// Why it is believed.
    pub evidence: Evidence,
}

/// What can be rebuilt.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Subject {
    /// Magic and version.
    Magic,
    /// Place and length of the backing file's name.
    BackingName,
    /// The virtual size in bytes.
    VirtualSize,
    /// log2 of the cluster size.
    ClusterBits,
    /// log2 of the number of entries of an L2 table.
    L2Bits,
    /// The encryption method.
    CryptMethod,
    /// The place of the L1 table.
    L1Place,
    /// One entry of the L1 table.
    L1Entry,
    /// Entries of one L2 table.
    L2Entries,
}

/// How sure a step is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Confidence {
    /// Nothing speaks against it, and little for it.
    Guess,
    /// It fits all that was found, and something else would be odd.
    Likely,
    /// The file, or the disk in it, says so itself.
    Strong,
}

/// Why a step is believed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Evidence {
    /// The caller says so.
    Pinned,
    /// Nothing else can stand there.
    Constant,
    /// Tables that hang together: so many, and what was found in them.
    Tables {
        /// L2 tables that were looked into.
        tables: u64,
        /// Entries in them that can be what they say.
        clusters: u64,
        /// Packed clusters that were unpacked to exactly one cluster.
        unpacked: u64,
        /// Where the first of the tables stands.
        first: HostOffset,
    },
    /// Text that can be a file's name.
    Text {
        /// Where it begins.
        at: HostOffset,
    },
    /// A GPT header, which says where it stands and how long the disk is.
    Gpt {
        /// The sector that it says it is.
        lba: u64,
    },
    /// A partition table in the first sector.
    PartitionTable,
    /// A superblock of an ext file system, which says which of its copies it is.
    ExtSuperblock {
        /// The number of its block group.
        group: u64,
    },
    /// A boot sector of NTFS or FAT, which says where its partition begins.
    BootSector {
        /// The sector at which it belongs.
        lba: u64,
    },
    /// All that is stored ends here.
    LastCluster,
    /// Stored sectors that are noise, among those looked at.
    Noise {
        /// Sectors of noise.
        noise: u64,
        /// Sectors looked at, those of zeros not counted.
        of: u64,
    },
    /// Tables are made in the order of the first writes: this one lies between these two.
    HostOrder {
        /// Tables without a place between two that have one.
        tables: u64,
        /// Free entries between those two.
        entries: u64,
    },
    /// Xen's tapdisk keeps data at a fixed distance from its table, and nothing else claims it.
    ImpliedLayout {
        /// Entries of the same table that already say so.
        agreeing: u64,
    },
    /// There is no room at the old place.
    NoRoom,
}

impl fmt::Display for Evidence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Evidence::Pinned => f.write_str("you say so"),
            Evidence::Constant => f.write_str("nothing else can stand there"),
            Evidence::Tables { tables, clusters, unpacked, first } => write!(
                f,
                "{tables} L2 tables from {first} on have {clusters} entries that fit, {unpacked} \
                 packed clusters unpack to exactly one cluster"
            ),
            Evidence::Text { at } => write!(f, "text at {at} can be a file's name"),
            Evidence::Gpt { lba } => write!(f, "a GPT header says that it is sector {lba}"),
            Evidence::PartitionTable => f.write_str("a partition table stands in the first sector"),
            Evidence::ExtSuperblock { group } => {
                write!(
                    f,
                    "a superblock of an ext file system says that it is that of group {group}"
                )
            }
            Evidence::BootSector { lba } => {
                write!(f, "a boot sector says that it belongs to sector {lba}")
            }
            Evidence::LastCluster => f.write_str("all that is stored ends there"),
            Evidence::Noise { noise, of } => {
                write!(f, "{noise} of {of} stored sectors look like noise")
            }
            Evidence::HostOrder { tables, entries } => write!(
                f,
                "tables lie in the order of first writes, and {tables} without a place lie where \
                 {entries} entries are free"
            ),
            Evidence::ImpliedLayout { agreeing } => write!(
                f,
                "Xen's tapdisk keeps data behind its table, as {agreeing} entries of the table \
                 say, and nothing else claims it"
            ),
            Evidence::NoRoom => f.write_str("the old place cannot hold it"),
        }
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Subject::Magic => "magic and version",
            Subject::BackingName => "backing file name",
            Subject::VirtualSize => "virtual size",
            Subject::ClusterBits => "cluster bits",
            Subject::L2Bits => "L2 bits",
            Subject::CryptMethod => "encryption method",
            Subject::L1Place => "place of the L1 table",
            Subject::L1Entry => "L1 entry",
            Subject::L2Entries => "entries of an L2 table",
        })
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sureness = match self.confidence {
            Confidence::Guess => "a guess",
            Confidence::Likely => "likely",
            Confidence::Strong => "sure",
        };
        write!(f, "at {}: {}, now {:#x} ({sureness}): ", self.at, self.subject, self.value)?;
        write!(f, "{}", self.evidence)?;
        if let Some(guest) = self.guest {
            write!(f, ", guest bytes {} to {}", guest.start, guest.end())?;
        }
        Ok(())
    }
}
