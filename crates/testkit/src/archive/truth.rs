//! What is true of an archive, file by file.

use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::Archive;

/// All that is true of an archive.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Truth {
    /// What the archive was made from.
    pub archive: Archive,
    /// Every file, in the order of their paths. Folders and further names of a file are not here.
    pub files: Vec<Entry>,
}

/// One file.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Entry {
    /// Its path below the archive's folder.
    pub path: String,
    /// What it is.
    pub what: What,
    /// Whether its name promises another format than it is in: version 1 named as qcow2 or as
    /// another format of disks, qcow2 named `.qcow`, what is no QCOW image named `.qcow`.
    pub name_lies: bool,
    /// The number of the family that it belongs to, where it is one of the images asked for.
    pub family: Option<usize>,
    /// How many images lie below it, those that are missing too.
    pub depth: usize,
    /// Bytes of the disk; none of what is no disk, or damaged.
    pub virtual_size: Option<u64>,
    /// What is damaged. Of a damaged image only this, what it is and its passphrase are told.
    pub damage: Option<Damage>,
    /// The passphrase of this layer, where it is encrypted.
    pub passphrase: Option<String>,
    /// What it lies on.
    pub base: Option<Base>,
    /// Further names that are the same file, below the archive's folder.
    pub hard_links: Vec<String>,
    /// Symbolic links to it, below the archive's folder.
    pub symlinks: Vec<String>,
    /// Whose base it could be taken for, and is not.
    pub decoy: Option<Decoy>,
    /// When it was written last, in seconds since 1970.
    pub modified: u32,
    /// BLAKE3 of the disk as its guest sees it, through all its bases, as `b3sum` prints it; none
    /// where a base is missing, of damaged images and of what is no disk.
    pub digest: Option<String>,
}

/// What a file is.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(tag = "format", rename_all = "kebab-case")]
pub enum What {
    /// A version 1 image.
    #[serde(rename = "qcow")]
    Version1(Version1),
    /// A qcow2 image of version 2 or 3, with clusters of 64 KiB.
    Qcow2 {
        /// Its version.
        version: u32,
    },
    /// A disk without a format.
    Raw,
    /// No disk.
    Other,
}

/// A version 1 image.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Version1 {
    /// Whose layout it has.
    pub producer: Producer,
    /// How its clusters are stored.
    pub stored: Stored,
    /// The base-two logarithm of a cluster's bytes, 9 to 16; what the header says, where damaged.
    pub cluster_bits: u8,
    /// The base-two logarithm of an L2 table's entries, 6 to 13; as above.
    pub l2_bits: u8,
}

/// Whose layout a version 1 image has.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Producer {
    /// QEMU 0.6.1 to 0.8.2: overlays have their base's time, payloads lie back to back.
    OldQemu,
    /// QEMU from 0.9 on.
    Qemu,
    /// VirtualBox: a page before the first table, the base's name behind all.
    VirtualBox,
    /// FreeBSD's mkimg: the L1 table at 4096.
    Mkimg,
    /// Aaru: the time of writing in the header.
    Aaru,
    /// Xen's tapdisk, with an L1 table in the header's order.
    Xen,
    /// Xen's tapdisk, with an L1 table in the order of a little-endian host.
    XenLittleEndian,
    /// Xen's tapdisk, with an L1 table in both orders.
    XenMixed,
    /// Nobody known: any geometry.
    Other,
}

/// How the clusters of an image are stored.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stored {
    /// As they are.
    Plain,
    /// Packed, where that makes them shorter.
    Packed,
    /// Encrypted.
    Encrypted,
}

/// What was damaged.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Damage {
    /// The kind: one of [`crate::Kind::ALL`] by its name.
    pub kind: String,
    /// Rules one of which tells of it.
    pub rules: Vec<String>,
}

/// What an overlay lies on.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Base {
    /// The name that the overlay recorded.
    pub recorded: String,
    /// When the base was written last, where the overlay recorded that.
    pub recorded_time: Option<u32>,
    /// The true base's path below the archive's folder; none where it is missing.
    pub path: Option<String>,
    /// How it can be found.
    pub found: Found,
}

/// How the base of an overlay can be found.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Found {
    /// The recorded name, from the overlay's folder, is its path.
    Name,
    /// The recorded name is a further name of the same file.
    HardLink,
    /// The recorded name is a symbolic link to it.
    Symlink,
    /// The recorded name leads nowhere: the file has its name, and lies in another folder.
    Moved,
    /// The recorded name leads nowhere: the file lies in that folder, and has another name.
    Renamed,
    /// It is not in the archive.
    Missing,
}

/// A file that could be taken for a base.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Decoy {
    /// The path of the base.
    pub of: String,
    /// What it has in common with the base.
    pub alike: Alike,
}

/// What a decoy has in common with the base that it is not.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Alike {
    /// The recorded file name, the format and the disk's length. The content is another one.
    Name,
    /// The disk's length.
    Size,
}

impl Truth {
    /// The entry of a path, by the first name of a file.
    pub fn of(&self, path: &str) -> Option<&Entry> {
        let place = self.files.binary_search_by(|entry| entry.path.as_str().cmp(path));
        place.ok().map(|place| &self.files[place])
    }

    /// An entry and its true bases, as far as they are there, the entry first.
    pub fn chain<'a>(&'a self, entry: &'a Entry) -> Vec<&'a Entry> {
        let below = |entry: &&'a Entry| self.of(entry.base.as_ref()?.path.as_ref()?);
        std::iter::successors(Some(entry), below).collect()
    }

    /// The images that were asked for: those of families.
    pub fn images(&self) -> impl Iterator<Item = &Entry> {
        self.files.iter().filter(|entry| entry.family.is_some())
    }

    /// Writes it as JSON.
    ///
    /// # Errors
    /// Where the host does.
    pub fn write(&self, path: &Path) -> io::Result<()> {
        let mut text = serde_json::to_vec_pretty(self)?;
        text.push(b'\n');
        std::fs::write(path, text)
    }

    /// Reads what [`Truth::write`] wrote.
    ///
    /// # Errors
    /// Where the host does, or where it is something else.
    pub fn read(path: &Path) -> io::Result<Self> {
        Ok(serde_json::from_slice(&std::fs::read(path)?)?)
    }
}

impl Entry {
    /// A file of which nothing more is known.
    pub(super) fn new(path: String, what: What, modified: u32) -> Self {
        let name_lies = lies(&path, &what);
        Self {
            path,
            what,
            name_lies,
            family: None,
            depth: 0,
            virtual_size: None,
            damage: None,
            passphrase: None,
            base: None,
            hard_links: Vec::new(),
            symlinks: Vec::new(),
            decoy: None,
            modified,
            digest: None,
        }
    }

    /// Whether it is a version 1 image, whole or damaged.
    pub fn is_version1(&self) -> bool {
        matches!(self.what, What::Version1(_))
    }
}

fn lies(path: &str, what: &What) -> bool {
    let name = path.rsplit('/').next().unwrap_or_default();
    let extension = name.rsplit_once('.').map_or("", |(_, extension)| extension);
    match what {
        What::Version1(_) => matches!(extension, "img" | "raw" | "qcow2"),
        What::Qcow2 { .. } => extension == "qcow",
        What::Raw | What::Other => matches!(extension, "qcow" | "qcow2"),
    }
}
