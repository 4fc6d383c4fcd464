//! What a plan says.

use std::ffi::OsString;
use std::fmt;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::cost::Rate;
use crate::window::Window;

/// A plan: families in the order in which they are migrated.
#[derive(Clone, PartialEq, Debug)]
pub struct Plan {
    /// What it was made from, and what was wished.
    pub head: Head,
    /// Families that have a version 1 image.
    pub families: Vec<Family>,
    /// What is needed on each file system.
    pub rooms: Vec<Room>,
    /// All of it in numbers.
    pub total: Total,
}

/// Images that are migrated together, or not at all. Bases come before their overlays.
#[derive(Clone, PartialEq, Debug)]
pub struct Family {
    /// Its number, from 1.
    pub number: u64,
    /// Its images.
    pub images: Vec<Image>,
}

impl Family {
    /// Whether anything is to be done.
    pub fn is_migrated(&self) -> bool {
        self.images.iter().any(|image| image.strategy != Strategy::Leave)
    }

    /// Bytes that its images take up now: what it weighs in a shard.
    pub fn bytes(&self) -> u64 {
        self.images.iter().map(|image| image.stamp.size).sum()
    }
}

/// The first line of a plan.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Head {
    /// The version of the shape of plans: 1.
    pub version: u32,
    /// The catalogue that it was made from.
    pub catalogue: PathText,
    /// The scan that the catalogue ended with, by number.
    pub scan: i64,
    /// What was wished.
    pub wishes: Wishes,
}

/// What whoever plans wishes.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Wishes {
    /// The way of images that nothing is the matter with.
    pub way: Way,
    /// What is done with damaged ones.
    pub damaged: Damaged,
    /// What becomes of originals.
    pub kept: Kept,
    /// The most bytes that any file system has to give beside what is used now.
    pub max_extra: Option<u64>,
    /// The hours in which families may begin.
    pub window: Option<Window>,
    /// How many bytes a second are expected, at least and at most.
    pub rate: Rate,
}

/// The way of images that nothing is the matter with.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Way {
    /// Where they lie: only tables are written.
    #[default]
    Upgrade,
    /// The same to a clone that shares all blocks, which then takes the image's place.
    Reflink,
    /// To a new file with clusters of 64 KiB, which then takes the image's place.
    Convert,
    /// The same, and overlays get all that their bases hold.
    Flatten,
}

/// What is done with damaged images.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Damaged {
    /// Nothing: somebody looks at them.
    #[default]
    Leave,
    /// What is left is copied to a new file, which takes the image's place; the damaged one is kept.
    Rescue,
    /// They are put aside.
    Quarantine,
}

/// What becomes of originals.
#[derive(Clone, PartialEq, Eq, Default, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kept {
    /// They stay beside the results, until somebody removes them.
    #[default]
    Beside,
    /// The same, and after so many days a release removes them.
    Days(u32),
    /// They go to this folder, which has to be on the same file system.
    Folder(PathText),
    /// They are given up as soon as the result is verified.
    None,
}

/// What is done with one image.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Strategy {
    /// It becomes qcow2 where it lies.
    Upgrade,
    /// A clone of it becomes qcow2 and takes its place.
    Reflink,
    /// A new qcow2 file takes its place.
    Convert,
    /// A new qcow2 file with all that its bases hold takes its place.
    Flatten,
    /// What is left of it takes its place.
    Rescue,
    /// It is put aside.
    Quarantine,
    /// It is qcow2, and records that its base is version 1: that is changed.
    Rebase,
    /// Nothing.
    Leave,
}

impl Strategy {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Upgrade,
        Self::Reflink,
        Self::Convert,
        Self::Flatten,
        Self::Rescue,
        Self::Quarantine,
        Self::Rebase,
        Self::Leave,
    ];

    /// Its word in plans.
    pub fn word(self) -> &'static str {
        match self {
            Self::Upgrade => "upgrade",
            Self::Reflink => "reflink",
            Self::Convert => "convert",
            Self::Flatten => "flatten",
            Self::Rescue => "rescue",
            Self::Quarantine => "quarantine",
            Self::Rebase => "rebase",
            Self::Leave => "leave",
        }
    }

    /// Whether the image is a qcow2 file afterwards, and was version 1.
    pub fn changes_format(self) -> bool {
        self == Self::Upgrade || self.replaces()
    }

    /// Whether a new file takes the image's place.
    pub fn replaces(self) -> bool {
        matches!(self, Self::Reflink | Self::Convert | Self::Flatten | Self::Rescue)
    }
}

/// One image: a line of a plan.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Image {
    /// Its family.
    pub family: u64,
    /// Its place in the family, from 1.
    pub order: u64,
    /// How many images the family has: a plan that has lost one is refused.
    pub of: u64,
    /// Its path, absolute, or the name of an object.
    pub path: PathText,
    /// What is done with it.
    pub strategy: Strategy,
    /// Why.
    pub reason: String,
    /// What the catalogue says that it is.
    pub class: String,
    /// Its format; none of a file that is no image.
    pub format: Option<String>,
    /// Whether clusters are packed, so that a new file has packed ones too.
    pub packed: bool,
    /// Whether its disk is encrypted.
    pub encrypted: bool,
    /// Bytes of its disk, where the catalogue knows.
    #[serde(default)]
    pub virtual_size: Option<u64>,
    /// In which dialect of version 1 it is.
    pub dialect: Option<String>,
    /// Who is likely to have written it.
    pub producer: Option<String>,
    /// Which file that is: where it is another one by then, nothing is done.
    pub stamp: Stamp,
    /// The image that it lies on, by the name under which it was found.
    pub base: Option<PathText>,
    /// The place of that image in the family, where it may have another name.
    pub base_order: Option<u64>,
    /// The format of that one by then.
    pub base_format: Option<String>,
    /// Whether that one is elsewhere than the image says, so that another name has to be recorded.
    pub base_moved: bool,
    /// Bytes that are read.
    pub read: u64,
    /// Bytes that are written.
    pub write: u64,
    /// Bytes that are taken up beside what is used now, until originals are given up.
    pub extra: u64,
    /// Seconds that it may take, at least and at most.
    pub seconds: [f64; 2],
}

impl Image {
    /// Whether it is a version 1 image now.
    pub fn is_version1(&self) -> bool {
        self.format.as_deref() == Some(calve_disk::Format::Qcow1.name())
    }
}

/// Which file an image is, and when it was written last.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Stamp {
    /// The file system.
    pub device: u64,
    /// Its number there.
    pub inode: u64,
    /// Its length in bytes.
    pub size: u64,
    /// When it was written last, in nanoseconds since 1970.
    pub modified: i64,
}

/// What is needed on one file system.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Room {
    /// The file system.
    pub device: u64,
    /// Bytes that are read.
    pub read: u64,
    /// Bytes that are written.
    pub write: u64,
    /// Bytes that are taken up at the most beside what is used now.
    pub peak_extra: u64,
}

/// The last line of a plan: a file without one was cut.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Total {
    /// Families with a version 1 image.
    pub families: u64,
    /// Version 1 images.
    pub version1: u64,
    /// How many of them will be no longer.
    pub migrated: u64,
    /// Bytes that are read.
    pub read: u64,
    /// Bytes that are written.
    pub write: u64,
    /// Seconds that all of it may take one after the other, at least and at most.
    pub seconds: [f64; 2],
}

/// A path in JSON: its text, or `{"hex": ...}` where it is no text.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PathText(pub PathBuf);

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Written {
    Text(String),
    Bytes { hex: String },
}

impl fmt::Debug for PathText {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, out)
    }
}

impl From<&Path> for PathText {
    fn from(path: &Path) -> Self {
        Self(path.to_owned())
    }
}

impl Serialize for PathText {
    fn serialize<S: serde::Serializer>(&self, to: S) -> std::result::Result<S::Ok, S::Error> {
        match self.0.to_str() {
            Some(text) => Written::Text(text.to_owned()),
            None => {
                let bytes = self.0.as_os_str().as_bytes();
                Written::Bytes { hex: bytes.iter().map(|byte| format!("{byte:02x}")).collect() }
            }
        }
        .serialize(to)
    }
}

impl<'de> Deserialize<'de> for PathText {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> std::result::Result<Self, D::Error> {
        let bytes = match Written::deserialize(from)? {
            Written::Text(text) => text.into_bytes(),
            Written::Bytes { hex } => bytes_of(&hex).ok_or_else(|| {
                serde::de::Error::custom("a path in hexadecimal is not pairs of digits")
            })?,
        };
        Ok(Self(PathBuf::from(OsString::from_vec(bytes))))
    }
}

fn bytes_of(hex: &str) -> Option<Vec<u8>> {
    let digits: Vec<u8> =
        hex.chars().map(|digit| digit.to_digit(16)?.try_into().ok()).collect::<Option<_>>()?;
    let pairs = digits.chunks(2).map(|pair| Some(pair[0] << 4 | *pair.get(1)?));
    pairs.collect()
}
