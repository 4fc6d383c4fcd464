//! What a conversion is asked to do.

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Arc;

use calve_disk::Disk;
use calve_disk::formats::qcow2::RecordedBacking;
use calve_disk::units::ClusterSize;

use crate::pace::Pace;

/// What a conversion is asked to do.
pub struct Options {
    /// The format of the result.
    pub format: TargetFormat,
    /// The smallest run of zeros that is left out of the result, in bytes; 0 looks for none and
    /// stores every byte.
    pub sparse_size: u64,
    /// What to do with the target's name.
    pub placement: Placement,
    /// How sure to be that the result is on the medium.
    pub cache: Cache,
    /// What to do where source bytes are lost.
    pub salvage: Salvage,
    /// Who moves plain bytes.
    pub copying: Copying,
    /// Whether to open the result afresh, read all of it and compare with what the source gave.
    pub verify: bool,
    /// Worker threads.
    pub threads: NonZeroUsize,
    /// The most bytes to write in a second; other conversions may have the same.
    pub pace: Arc<Pace>,
}

/// The format of the result.
pub enum TargetFormat {
    /// Guest bytes and nothing else.
    Raw,
    /// QCOW version 3.
    Qcow2(Qcow2Options),
}

/// How a qcow2 result is made.
pub struct Qcow2Options {
    /// Its cluster size.
    pub cluster_size: ClusterSize,
    /// Whether clusters are packed.
    pub compress: bool,
    /// The backing file of a thin overlay.
    pub base: Option<Base>,
}

/// The format of an empty image.
#[derive(Clone, Debug)]
pub enum EmptyFormat {
    /// All zeros.
    Raw,
    /// QCOW version 3 without a cluster.
    Qcow2 {
        /// Its cluster size.
        cluster_size: ClusterSize,
        /// What lies behind it, if anything.
        backing: Option<RecordedBacking>,
    },
}

/// What lies behind a thin overlay.
pub struct Base {
    /// The name to record, as it was given.
    pub name: Vec<u8>,
    /// The format to record.
    pub format: String,
    /// The base, opened with all that lies behind it.
    pub disk: Disk,
    /// Where the base is one of the files of the source's own chain: which layer.
    pub layer: Option<usize>,
}

/// What to do with the target's name.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Placement {
    /// Make a new file; an existing one is refused.
    New,
    /// Make a new file and put it in an existing one's place at the very end.
    Replace,
    /// The same, also where that is the source itself, which is only read until then.
    ReplaceSource,
    /// Write into the file or device that is there.
    Existing {
        /// Whether it is known to read as zeros.
        is_zero: bool,
    },
}

/// How sure to be that the result is on the medium.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Cache {
    /// Through the page cache, synced at the end.
    Writeback,
    /// Every write reaches the medium before the next begins.
    Writethrough,
    /// Whole blocks past the page cache where the file system allows it, synced at the end.
    None,
    /// Past the page cache, and every write reaches the medium before the next begins.
    Directsync,
    /// Never synced.
    Unsafe,
}

/// What to do where source bytes are lost.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Salvage {
    /// Refuse, before anything is written where the tables tell.
    Refuse,
    /// Go on; where a base lies behind the lost bytes it supplies them, else zeros.
    FromBase,
    /// Go on, with zeros.
    Zeros,
}

/// Who moves bytes that are stored in the result as they are in the source.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum Copying {
    /// The host, where that is quicker: long runs share their blocks with the source where the
    /// file system can do that. Where every byte is stored they are copied by a file system that
    /// is on another machine, and need not come here.
    #[default]
    Auto,
    /// As `Auto`, and where every byte is stored the kernel copies on every file system. On those
    /// of this machine that takes it longer than reading and writing.
    Kernel,
    /// As `Auto`, and where no block can be shared nothing is done.
    Clone,
    /// Every byte is read and written, and zeros are looked for everywhere.
    Read,
}

/// What a conversion needs to know of the run it is part of, and whom to tell how far it is.
pub struct Control<'a> {
    /// Becomes true when the run is to stop; looked at for every batch.
    pub stop: &'a std::sync::atomic::AtomicBool,
    /// Told of progress, from any thread, often.
    pub progress: &'a (dyn Fn(Progress) + Sync),
}

/// How far a conversion is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Progress {
    /// What is being done.
    pub phase: Phase,
    /// Guest bytes done; those that nobody stores are not counted.
    pub done: u64,
    /// Guest bytes to do.
    pub total: u64,
}

/// What takes time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Phase {
    /// Reading the source and writing the target.
    Copying,
    /// Waiting for the medium.
    Syncing,
    /// Reading the target again.
    Verifying,
    /// Reading two disks side by side.
    Comparing,
    /// Reading what an image stores, to see whether it is good.
    Checking,
}

/// What a conversion did.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Summary {
    /// The result.
    pub target: PathBuf,
    /// Its virtual size in bytes.
    pub virtual_size: u64,
    /// The source's virtual size in bytes, which a qcow2 result rounds up to 512.
    pub source_size: u64,
    /// The length of the result's file in bytes.
    pub file_size: u64,
    /// Guest bytes that were stored in the result, before packing.
    pub stored: u64,
    /// How many of them share their blocks with the source.
    pub cloned: u64,
    /// What was lost, in guest order, joined; empty unless salvaging.
    pub losses: Vec<Loss>,
    /// The BLAKE3 digest of the guest's bytes, as `b3sum` would print it of the raw disk; present
    /// where verification was asked for, which then succeeded.
    pub blake3: Option<String>,
}

/// A range of source bytes that was lost.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Loss {
    /// Which of several sources.
    pub source: usize,
    /// Which bytes of the result.
    pub range: calve_disk::units::GuestRange,
    /// What was wrong.
    pub lost: calve_disk::Lost,
    /// What the result has there instead.
    pub filled: Filled,
}

/// What the result has where source bytes were lost.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Filled {
    /// Zeros.
    Zeros,
    /// What the base behind the lost bytes has there.
    Base,
}
