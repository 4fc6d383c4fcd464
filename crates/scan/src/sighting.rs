//! Sightings: what is told of a file, and of the images within it.

use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use calve_disk::formats::qcow1::Qcow1Facts;
use calve_disk::{Facts, Finding, Rule, Specific, Survey, Weight};
use serde::{Deserialize, Serialize};

use crate::blocks::Blocks;
use crate::class::Class;

/// Which file a name leads to, and what the host says of it. As long as nothing of this changes,
/// the file is taken to hold what it held.
///
/// Of an object `device` stands for its bucket and `inode` for the tag of its content, it has one
/// name, and was changed in 1970: its tag tells of every change.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Stamp {
    /// The device that it is on.
    pub device: u64,
    /// Its number there.
    pub inode: u64,
    /// How many names it has on that device.
    pub links: u64,
    /// Its length in bytes.
    pub size: u64,
    /// When it was written last: nanoseconds since 1970.
    pub modified: i64,
    /// When anything about it changed last: nanoseconds since 1970.
    pub changed: i64,
}

/// Whether a path is the name of an object of a store. Those of files are absolute.
pub fn is_object(path: &Path) -> bool {
    path.as_os_str().as_bytes().starts_with(b"s3://")
}

/// A file that was looked at.
#[derive(Clone, Debug)]
pub struct Sighting {
    /// Its path, beginning with the root under which it was found.
    pub path: PathBuf,
    /// Which file that is.
    pub stamp: Stamp,
    /// Whether the undo record of an upgrade lies beside it.
    pub has_undo_record: bool,
    /// What came of looking at it.
    pub look: Look,
    /// Of an image that is a file: where it lies, and what of that it shares with others.
    pub blocks: Option<Blocks>,
}

/// What a walk tells.
#[derive(Clone, Debug)]
pub enum Event {
    /// A file was looked at.
    Sighted(Box<Sighting>),
    /// A file that is known and has not changed: it was not read.
    Unchanged {
        /// Its path.
        path: PathBuf,
        /// Which file that is.
        stamp: Stamp,
    },
    /// A further name of a file that another event of this walk tells of, sooner or later.
    Linked {
        /// The name.
        path: PathBuf,
        /// Which file that is.
        stamp: Stamp,
    },
    /// Something below a root could not be looked at: a folder that may not be read, for one.
    Trouble {
        /// What it is about: of a folder, all below it is missing.
        path: PathBuf,
        /// What the host said.
        what: String,
    },
}

/// What came of looking at a file.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Look {
    /// The file itself.
    pub file: Seen,
    /// The images within it, where it is an archive, in the order in which they lie there.
    pub members: Vec<Member>,
    /// Whether tables that were to be walked were not, as there was no room to unpack them. Another
    /// time there may be.
    pub is_shallow: bool,
}

/// An image within an archive.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Member {
    /// Its name within the archive, as bytes. Within archives of archives the names are joined by
    /// a slash: `all.tar/disk.qcow`. Where several have one name, the second ends in `#2`.
    pub name: Vec<u8>,
    /// What it is.
    pub seen: Seen,
}

/// What a file, or a member of an archive, was seen to be.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Seen {
    /// What it is to somebody who wants no version 1 image left.
    pub class: Class,
    /// Its length in bytes; of a member only where the archive says so.
    pub size: Option<u64>,
    /// What it is instead of a QCOW image, with its article, where that is known.
    pub resembles: Option<String>,
    /// What is known of it as an image; `None` where its header says nothing, and of all else.
    pub image: Option<ImageFacts>,
    /// What is odd about it, each rule once.
    pub findings: Vec<Counted>,
    /// What kept it from being looked at, or from being looked at further, as one line.
    pub problem: Option<String>,
}

/// A rule that is broken, and how often.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Counted {
    /// The rule's number, such as `Q18`.
    pub rule: String,
    /// How often it is broken.
    pub count: u64,
    /// Where in the file first.
    pub at: Option<u64>,
}

/// What is known of an image.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ImageFacts {
    /// The format that it is in, as `qemu-img` names it: `qcow` is version 1.
    pub format: String,
    /// The disk's length in bytes; `None` where the header is broken.
    pub virtual_size: Option<u64>,
    /// log2 of the cluster size.
    pub cluster_bits: Option<u8>,
    /// log2 of the number of entries in an L2 table (version 1).
    pub l2_bits: Option<u8>,
    /// Whose dialect of version 1 it is in: `qemu`, `xen`, `xen-little-endian`.
    pub dialect: Option<String>,
    /// Who probably wrote it (version 1).
    pub producer: Option<String>,
    /// The backing file's name, as it stands in the image.
    pub backing_name: Option<Vec<u8>>,
    /// The backing file's format, where it is recorded.
    pub backing_format: Option<String>,
    /// When its base was last written, as it recorded that: seconds since 1970 (version 1).
    pub backing_time: Option<u32>,
    /// Whether the bytes of the disk are encrypted.
    pub is_encrypted: bool,
    /// What a walk over all tables counted, where one was asked for.
    pub survey: Option<Counts>,
}

/// What a walk over all tables counted: clusters, and bytes that nothing refers to.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Counts {
    /// Clusters that the disk has.
    pub total: u64,
    /// Clusters that the image stores, packed ones included.
    pub allocated: u64,
    /// Clusters stored packed.
    pub packed: u64,
    /// Clusters that are said to be zero without being stored.
    pub zero: u64,
    /// Clusters whose bytes are lost, wholly or in part.
    pub lost: u64,
    /// Bytes of the file that nothing refers to.
    pub leaked_bytes: u64,
}

impl From<Survey> for Counts {
    fn from(survey: Survey) -> Self {
        let Survey { total, allocated, packed, zero, lost, leaked_bytes, .. } = survey;
        Self { total, allocated, packed, zero, lost, leaked_bytes }
    }
}

impl ImageFacts {
    /// What is known of an image whose header is broken: its format.
    pub(crate) fn only_format(format: &str) -> Self {
        Self {
            format: format.to_owned(),
            virtual_size: None,
            cluster_bits: None,
            l2_bits: None,
            dialect: None,
            producer: None,
            backing_name: None,
            backing_format: None,
            backing_time: None,
            is_encrypted: false,
            survey: None,
        }
    }

    /// What an image that could be opened tells.
    pub(crate) fn of(facts: &Facts) -> Self {
        let mut image = Self {
            virtual_size: Some(facts.virtual_size),
            cluster_bits: facts.cluster_size.map(calve_disk::units::ClusterSize::bits),
            backing_name: facts.backing.as_ref().map(|backing| backing.name.clone()),
            backing_format: facts.backing.as_ref().and_then(|backing| backing.format.clone()),
            is_encrypted: facts.is_encrypted,
            ..Self::only_format(facts.format.name())
        };
        if let Specific::Qcow1(Qcow1Facts { l2_bits, dialect, producer, mtime, .. }) =
            &facts.specific
        {
            image.l2_bits = Some(*l2_bits);
            image.dialect = Some(dialect.to_string());
            image.producer = Some((*producer).to_owned());
            image.backing_time = Some(*mtime).filter(|mtime| *mtime != 0);
        }
        image
    }

    /// Whether it is a version 1 image, whatever its class.
    pub fn is_version1(&self) -> bool {
        self.format == calve_disk::Format::Qcow1.name()
    }
}

impl Seen {
    /// What could not be read, and why.
    pub fn unreadable(problem: &str) -> Self {
        Self { problem: Some(shortened(problem)), ..Self::nothing(Class::Unreadable, None) }
    }

    /// Something of this class of which nothing else is known.
    pub(crate) fn nothing(class: Class, size: Option<u64>) -> Self {
        Self { class, size, resembles: None, image: None, findings: Vec::new(), problem: None }
    }

    /// Counts a finding under its rule.
    pub(crate) fn count(&mut self, finding: &Finding) {
        let number = finding.rule.number();
        match self.findings.iter_mut().find(|counted| counted.rule == number) {
            Some(counted) => counted.count += 1,
            None => self.findings.push(Counted {
                rule: number.to_owned(),
                count: 1,
                at: finding.at.map(calve_disk::units::HostOffset::get),
            }),
        }
    }

    /// Whether bytes of the disk are missing, as far as that was looked for.
    pub(crate) fn is_damaged(&self) -> bool {
        self.findings
            .iter()
            .any(|counted| counted.rule().is_some_and(|rule| rule.weight() == Weight::Damage))
    }
}

impl Counted {
    /// The rule, if it is one of this version.
    pub fn rule(&self) -> Option<Rule> {
        Rule::ALL.iter().copied().find(|rule| rule.number() == self.rule)
    }
}

impl Look {
    /// A file that could not be read.
    pub fn unreadable(problem: &str) -> Self {
        Self { file: Seen::unreadable(problem), members: Vec::new(), is_shallow: false }
    }

    /// A file at which the process that looked at it died. `how` is the end of a sentence about
    /// that process.
    pub fn died(how: &str) -> Self {
        let mut file = Seen::unreadable(&format!("{DIED}: {how}"));
        file.class = Class::Damaged;
        file.count(&Finding::new(Rule::WorkerDied));
        Self { file, members: Vec::new(), is_shallow: false }
    }
}

/// How the problem of a file begins at which the process that looked at it died.
pub const DIED: &str = "the worker that read this file died";

/// A text of at most [`crate::limits::PROBLEM`] bytes.
pub(crate) fn shortened(text: &str) -> String {
    let fits =
        |(at, character): &(usize, char)| at + character.len_utf8() <= crate::limits::PROBLEM;
    text.char_indices().take_while(fits).map(|(_, character)| character).collect()
}
