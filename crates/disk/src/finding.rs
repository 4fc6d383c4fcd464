//! Everything that can be odd about an image, in one list.

use std::fmt;

use crate::units::{GuestOffset, GuestRange, HostOffset};

/// How much a finding matters.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Weight {
    /// Worth knowing; nothing is lost and nothing is wrong.
    Note,
    /// Room in the file that nothing refers to.
    Leak,
    /// Reads, but a healthy writer would not have left it so.
    Suspect,
    /// Guest bytes are gone, or a promise of the tables cannot be kept.
    Damage,
}

impl Weight {
    /// The weight as one word.
    pub const fn word(self) -> &'static str {
        match self {
            Weight::Note => "note",
            Weight::Leak => "leak",
            Weight::Suspect => "suspect",
            Weight::Damage => "damage",
        }
    }
}

macro_rules! rules {
    ($($name:ident $number:literal $weight:ident $statement:literal $next:literal;)+) => {
        /// A rule of `docs/qcow1.md` (Q), of `docs/qcow2-read.md` (V), or of the host (H).
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        pub enum Rule {
            $(#[doc = concat!($number, ": ", $statement)] $name,)+
        }

        impl Rule {
            /// All rules, in the order of their numbers.
            pub const ALL: &'static [Rule] = &[$(Rule::$name),+];

            /// The number under which the documents explain it, such as `Q17`.
            pub const fn number(self) -> &'static str {
                match self { $(Rule::$name => $number,)+ }
            }

            /// How much it matters that the rule is broken.
            pub const fn weight(self) -> Weight {
                match self { $(Rule::$name => Weight::$weight,)+ }
            }

            /// What is the case where the rule is broken, as the middle of a sentence.
            pub const fn statement(self) -> &'static str {
                match self { $(Rule::$name => $statement,)+ }
            }

            /// What to do next, as a sentence without its full stop.
            pub const fn next(self) -> &'static str {
                match self { $(Rule::$name => $next,)+ }
            }
        }
    };
}

rules! {
    HeaderCut "Q2" Damage
        "the file ends inside the 48-byte header"
        "look for a longer copy of the file";
    PaddingSet "Q3" Note
        "the two padding bytes before the encryption method are not zero"
        "nothing: no reader looks at them";
    ClusterBits "Q5" Damage
        "cluster_bits is outside 9 to 16"
        "restore the header from another copy";
    L2Bits "Q6" Damage
        "l2_bits is outside 6 to 13"
        "restore the header from another copy";
    VirtualSize "Q7" Damage
        "the virtual size needs more L1 entries than the 2^28 - 1 that any reader accepts"
        "restore the header from another copy";
    SizeNotSectors "Q8" Note
        "the virtual size is not a multiple of 512"
        "a raw result keeps it exactly, a qcow2 result is rounded up with zeros";
    CryptMethod "Q9" Damage
        "the encryption method is neither 0 (none) nor 1 (AES)"
        "restore the header from another copy";
    BackingNamePlace "Q10" Damage
        "a backing file is named, but the name is not 1 to 1023 bytes inside the file"
        "name the base with --base";
    BackingNameText "Q11" Suspect
        "the backing file name holds a zero byte and counts only up to it"
        "compare the name with the base you expect, or name the base with --base";
    L1Place "Q12" Damage
        "the L1 table would begin inside the header"
        "restore the header from another copy";
    L1Cut "Q13" Damage
        "the file ends before this part of the L1 table"
        "look for a longer copy of the file, or take what is left with --salvage";
    L1Entry "Q14" Damage
        "an L1 entry is no offset that an L2 table can have"
        "take what is left with --salvage";
    L2Place "Q15" Damage
        "an L2 table would overlap the header or the L1 table"
        "take what is left with --salvage";
    L2Cut "Q16" Damage
        "the file ends before this part of an L2 table"
        "look for a longer copy of the file, or take what is left with --salvage";
    ClusterEntry "Q17" Damage
        "an L2 entry is no offset that a cluster can have"
        "take what is left with --salvage";
    ClusterPastEnd "Q18" Damage
        "a cluster would begin behind the end of the file"
        "look for a longer copy of the file, or take what is left with --salvage";
    ClusterCut "Q19" Damage
        "the file ends inside a cluster"
        "look for a longer copy of the file, or take what is left with --salvage";
    LastClusterShort "Q20" Note
        "the last cluster is cut, but only behind the end of the disk"
        "nothing: no guest byte is missing";
    ClusterOnTable "Q21" Damage
        "a cluster overlaps the header or a table"
        "take what is left with --salvage";
    ClusterShared "Q22" Suspect
        "two L2 entries point at the same host bytes"
        "find the other place with map: at most one of them is what the guest wrote";
    PackedEmpty "Q23" Damage
        "a packed cluster has no bytes"
        "take what is left with --salvage";
    PackedPastEnd "Q24" Damage
        "a packed cluster would begin behind the end of the file"
        "look for a longer copy of the file, or take what is left with --salvage";
    PackedOverrun "Q25" Note
        "a packed cluster's stated length runs past the end of the file"
        "nothing, as long as it unpacks to a whole cluster";
    PackedBroken "Q26" Damage
        "a packed cluster does not unpack to a whole cluster"
        "take what is left with --salvage";
    L2Shared "Q27" Suspect
        "two L1 entries point at the same L2 table"
        "find the other place with map: at most one of them is what the guest wrote";
    Leak "Q28" Leak
        "bytes of the file that nothing refers to"
        "nothing: writers of version 1 never free room";
    XenByteOrder "Q29" Note
        "the L1 table is in little-endian order, as Xen's tapdisk wrote it before 2008"
        "convert it: other tools read this disk as empty";
    PackedOnTable "Q30" Suspect
        "a packed cluster overlaps the header or a table"
        "see with check --deep whether it still unpacks, and compare what it holds";
    NameShared "Q31" Suspect
        "the backing file's name has bytes that something else claims too"
        "compare the name with the base you expect, or name the base with --base";
    L2Overlap "Q32" Suspect
        "two L2 tables overlap in part"
        "at most one of them is what the writer wrote: compare what both lead to";
    EntryBehindDisk "Q33" Note
        "an L2 entry behind the end of the disk is not 0"
        "nothing: no guest byte is concerned; the disk may once have been larger";
    XenChecksum "Q34" Note
        "the checksum of Xen's tapdisk is not that of the L1 table"
        "nothing: it is true only after a clean close and while nothing else has written";
    BaseChanged "Q35" Suspect
        "the base was changed after the overlay was made"
        "look for the base as it was: what the overlay does not hold may not be what its guest saw";
    BaseSize "Q36" Note
        "the base is not as long as the disk"
        "see that it is the right base: writers make both alike";
    PackedUnmarked "Q37" Suspect
        "a plain cluster holds a packed stream of exactly one cluster"
        "look at it: writers of 2008 forgot the flag of packed clusters, and some overwrote plain ones";
    ZeroedEntries "Q38" Suspect
        "the first six entries of an L2 table are 0 where VirtualBox overwrites them"
        "look for the clusters with carve: the file has room that nothing refers to";
    NeverWritten "Q39" Suspect
        "a sector of an encrypted cluster holds zeros instead of ciphertext"
        "nothing: it was never written, and reads as noise";
    BackingNameHalf "Q40" Suspect
        "of the place and the length of a backing file's name one is zero and the other is not"
        "if this disk should have a base, name it with --base";
    Qcow2HeaderCut "V1" Damage
        "the file ends inside the header"
        "look for a longer copy of the file";
    Qcow2ClusterBits "V2" Damage
        "cluster_bits is outside 9 to 21, or below 14 with extended L2 entries"
        "restore the header from another copy";
    Qcow2HeaderLength "V3" Damage
        "the header's length is below 104, no multiple of 8, or longer than a cluster"
        "restore the header from another copy";
    Qcow2Extension "V4" Damage
        "a header extension runs out of the first cluster"
        "restore the header from another copy";
    Qcow2BackingName "V5" Damage
        "a backing file is named, but the name is not 1 to 1023 bytes inside the first cluster"
        "name the base with --base";
    Qcow2Size "V6" Damage
        "the L1 table has fewer entries than the virtual size needs, or more than 2^22"
        "restore the header from another copy";
    Qcow2SizeNotSectors "V7" Note
        "the virtual size is not a multiple of 512"
        "a raw result keeps it exactly, a qcow2 result is rounded up with zeros";
    Qcow2L1Place "V8" Damage
        "the L1 table does not begin at a cluster behind the header"
        "restore the header from another copy";
    Qcow2L1Cut "V9" Damage
        "the file ends before this part of the L1 table"
        "look for a longer copy of the file, or take what is left with --salvage";
    Qcow2L1Entry "V10" Damage
        "an L1 entry is no offset that an L2 table can have"
        "take what is left with --salvage";
    Qcow2L2Cut "V11" Damage
        "the file ends before this part of an L2 table"
        "look for a longer copy of the file, or take what is left with --salvage";
    Qcow2ClusterEntry "V12" Damage
        "an L2 entry is nothing that a cluster can have"
        "take what is left with --salvage";
    Qcow2ClusterPastEnd "V13" Damage
        "a cluster would begin behind the end of the file"
        "look for a longer copy of the file, or take what is left with --salvage";
    Qcow2ClusterCut "V14" Damage
        "the file ends inside a cluster"
        "look for a longer copy of the file, or take what is left with --salvage";
    Qcow2PackedPastEnd "V15" Damage
        "a packed cluster would begin behind the end of the file"
        "look for a longer copy of the file, or take what is left with --salvage";
    Qcow2Dirty "V16" Note
        "the image was not closed properly"
        "nothing for reading: only its reference counts may be stale";
    Qcow2Corrupt "V17" Suspect
        "the image is marked corrupt by the program that last wrote it"
        "run qemu-img check on it before you trust what is read";
    Unreadable "H1" Damage
        "the host could not read these bytes"
        "copy the file from the failing medium with ddrescue first, or take what is left with --salvage";
    WorkerDied "H2" Damage
        "the worker that read this file died"
        "open it with no other program before somebody has looked at it, and report it";
}

/// One odd thing about an image: what `check` prints, `info` counts, an extent names as lost and
/// an error carries.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Finding {
    /// The rule that is broken.
    pub rule: Rule,
    /// Where in the file: a header field, a table entry, a payload.
    pub at: Option<HostOffset>,
    /// Which guest bytes it concerns.
    pub guest: Option<GuestRange>,
    /// The value that was found there; of bytes with two owners or with none, how many.
    pub value: Option<u64>,
    /// The first guest byte of the other owner, where there are two.
    pub other: Option<GuestOffset>,
}

impl Finding {
    /// The finding that `rule` is broken, without a place.
    pub const fn new(rule: Rule) -> Self {
        Self { rule, at: None, guest: None, value: None, other: None }
    }

    /// The same finding with its place in the file.
    #[must_use]
    pub const fn at(self, at: HostOffset) -> Self {
        Self { at: Some(at), ..self }
    }

    /// The same finding with the guest bytes it concerns.
    #[must_use]
    pub const fn guest(self, guest: GuestRange) -> Self {
        Self { guest: Some(guest), ..self }
    }

    /// The same finding with the value that was found.
    #[must_use]
    pub const fn value(self, value: u64) -> Self {
        Self { value: Some(value), ..self }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(at) = self.at {
            write!(f, "at {at}: ")?;
        }
        write!(f, "{}", self.rule.statement())?;
        if let Some(value) = self.value {
            write!(f, " (found {value:#x})")?;
        }
        if let Some(guest) = self.guest {
            write!(f, ", guest bytes {} to {}", guest.start, guest.end())?;
        }
        if let Some(other) = self.other {
            write!(f, ", also guest byte {other}")?;
        }
        write!(f, " [{}]", self.rule.number())
    }
}
