//! Image: one file, and facts about it.

use std::fmt;

use crate::claim::Claim;
use crate::codec::aes::SectorCipher;
use crate::error::Result;
use crate::extent::{Codec, ExtentList};
use crate::finding::Finding;
use crate::formats::{Format, qcow1, qcow2};
use crate::storage::Storage;
use crate::units::{ClusterSize, GuestRange};

/// One image file, opened for reading.
pub trait Image: Send + Sync {
    /// What is known of it without reading any table.
    fn facts(&self) -> &Facts;

    /// Its bytes.
    fn storage(&self) -> &dyn Storage;

    /// Where the bytes of guest ranges that this image stores plainly are kept, if not in
    /// [`Image::storage`] itself: a qcow2 image with an external data file.
    fn data_storage(&self) -> &dyn Storage {
        self.storage()
    }

    /// Adds to `found` what this image says of `within`, from its start as far as is cheap to
    /// tell, at least one byte.
    ///
    /// `within` is not empty and lies inside the virtual size; `found` is to be continued at its
    /// start. Layers are counted from this image, which is 0. Fails only where the host fails:
    /// what the file got wrong is an extent that is [`crate::Payload::Lost`].
    fn map(&self, within: GuestRange, found: &mut ExtentList) -> Result<()>;

    /// Keeps no more than so many bytes of tables in memory, where it keeps any.
    fn limit_tables(&self, _bytes: usize) {}

    /// What decrypts its [`crate::Encoding::Encrypted`] bytes, if a key was given.
    fn cipher(&self) -> Option<&SectorCipher> {
        None
    }

    /// Tells of all that claims bytes of the file, in the order of the file, within bounded memory,
    /// and says whether the format can tell at all. An error of `tell` ends it.
    fn claims(&self, _tell: &mut dyn FnMut(Claim) -> Result<()>) -> Result<bool> {
        Ok(false)
    }

    /// Walks every table, tells of everything odd, and counts.
    ///
    /// Memory stays bounded. Payloads are not read: [`crate::Disk::check`] does.
    fn survey(&self, report: &mut dyn FnMut(Finding)) -> Result<Survey>;
}

/// What is known of an image without reading any table.
#[derive(Clone, Debug)]
pub struct Facts {
    /// The format it is in.
    pub format: Format,
    /// The guest's size of the disk in bytes, exactly as the file says.
    pub virtual_size: u64,
    /// The file's length in bytes when it was opened.
    pub file_size: u64,
    /// The unit of allocation, where the format has one.
    pub cluster_size: Option<ClusterSize>,
    /// The backing file it names.
    pub backing: Option<BackingReference>,
    /// Whether guest bytes are encrypted.
    pub is_encrypted: bool,
    /// What only this format has.
    pub specific: Specific,
    /// What was odd already when it was opened.
    pub findings: Vec<Finding>,
}

/// What only one format has to tell.
#[derive(Clone, Debug)]
pub enum Specific {
    /// Raw: nothing.
    Raw,
    /// QCOW version 1.
    Qcow1(qcow1::Qcow1Facts),
    /// QCOW version 2 or 3.
    Qcow2(qcow2::Qcow2Facts),
}

/// How an image names its backing file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BackingReference {
    /// The name's bytes as they stand in the file; not to be printed without escaping.
    pub name: Vec<u8>,
    /// The backing file's format, where the image records it.
    pub format: Option<String>,
}

/// What a walk over all tables counted. Counts are of clusters; those of an L2 table that several
/// L1 entries lead to are counted once.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Survey {
    /// Clusters that the disk has.
    pub total: u64,
    /// Clusters that this image stores, packed ones included.
    pub allocated: u64,
    /// Clusters stored packed.
    pub packed: u64,
    /// Clusters that are said to be zero without being stored.
    pub zero: u64,
    /// Clusters whose bytes are lost, wholly or in part.
    pub lost: u64,
    /// Host bytes that nothing refers to.
    pub leaked_bytes: u64,
    /// Whether host bytes with two owners, and with none, were looked for.
    pub are_owners_compared: bool,
}

impl fmt::Display for Codec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Codec::Deflate => "zlib",
            Codec::Zstd => "zstd",
        })
    }
}
