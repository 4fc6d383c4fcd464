//! Class: what a file is to somebody who wants no version 1 image left.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What a file is. Exactly one of these; what else there is to say of it, such as that it is
/// encrypted or in which dialect it is, stands beside it in [`crate::ImageFacts`].
///
/// Where several could be said, the first of this order counts: unreadable, in use, damaged,
/// migrated, misnamed. So a class says what to do next, and [`crate::ImageFacts::format`] what
/// the bytes are: a version 1 image in use is [`Class::InUse`], in the format `qcow`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Class {
    /// A version 1 image.
    #[serde(rename = "v1")]
    Version1,
    /// A version 1 image with the extension of another format: `.img`, `.qcow2`.
    #[serde(rename = "v1-misnamed")]
    Version1Misnamed,
    /// A qcow2 image.
    Qcow2,
    /// A qcow2 image with the extension of version 1: `.qcow`.
    Qcow2Misnamed,
    /// A qcow2 image with the undo record of its upgrade beside it.
    Migrated,
    /// Begins as a QCOW image, of whichever version, and cannot be one: its header is broken, or,
    /// where all tables were walked, bytes of the disk are missing.
    Damaged,
    /// A QCOW image, of whichever version, that another process holds under QEMU's locks.
    InUse,
    /// Anything else that has the extension of a QCOW image.
    OtherMisnamed,
    /// Anything else.
    Other,
    /// Could not be read.
    Unreadable,
}

impl Class {
    /// All classes, in the order in which people are told of them.
    pub const ALL: [Self; 10] = [
        Self::Version1,
        Self::Version1Misnamed,
        Self::Damaged,
        Self::InUse,
        Self::Qcow2Misnamed,
        Self::Qcow2,
        Self::Migrated,
        Self::OtherMisnamed,
        Self::Unreadable,
        Self::Other,
    ];

    /// The class as one word, which does not change its meaning.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Version1 => "v1",
            Self::Version1Misnamed => "v1-misnamed",
            Self::Qcow2 => "qcow2",
            Self::Qcow2Misnamed => "qcow2-misnamed",
            Self::Migrated => "migrated",
            Self::Damaged => "damaged",
            Self::InUse => "in-use",
            Self::OtherMisnamed => "other-misnamed",
            Self::Other => "other",
            Self::Unreadable => "unreadable",
        }
    }

    /// The class of the same file under another name.
    #[must_use]
    pub fn under_name(self, name: &[u8]) -> Self {
        match (self, Promise::of(name)) {
            (Self::Version1 | Self::Version1Misnamed, Promise::Qcow2 | Promise::OtherDisk) => {
                Self::Version1Misnamed
            }
            (Self::Version1Misnamed, _) => Self::Version1,
            (Self::Qcow2 | Self::Qcow2Misnamed, Promise::Qcow) => Self::Qcow2Misnamed,
            (Self::Qcow2Misnamed, _) => Self::Qcow2,
            (Self::Other | Self::OtherMisnamed, Promise::Qcow | Promise::Qcow2) => {
                Self::OtherMisnamed
            }
            (Self::OtherMisnamed, _) => Self::Other,
            (same, _) => same,
        }
    }

    /// The class of that word.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|class| class.word() == word)
    }
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// What the last extension of a file's name promises.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Promise {
    /// Version 1.
    Qcow,
    /// qcow2.
    Qcow2,
    /// Another format of disks.
    OtherDisk,
    /// Nothing about disks.
    Nothing,
}

/// Extensions of formats of disks that are not QCOW.
const OTHER_DISKS: &[&[u8]] = &[
    b"img", b"ima", b"raw", b"dd", b"bin", b"iso", b"dsk", b"vmdk", b"vdi", b"vhd", b"vhdx",
    b"qed", b"hdd", b"hds",
];

impl Promise {
    /// What the name of a file promises.
    pub(crate) fn of(name: &[u8]) -> Self {
        let Some(dot) = name.iter().rposition(|byte| *byte == b'.') else { return Self::Nothing };
        match &*name[dot + 1..].to_ascii_lowercase() {
            b"qcow" | b"qcow1" => Self::Qcow,
            b"qcow2" | b"qc2" => Self::Qcow2,
            extension if OTHER_DISKS.contains(&extension) => Self::OtherDisk,
            _ => Self::Nothing,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_class_has_one_word_in_all_places() {
        for class in Class::ALL {
            assert_eq!(Class::from_word(class.word()), Some(class));
        }
        assert_eq!(Class::from_word("v2"), None);
    }

    #[test]
    fn under_another_name_a_file_is_the_same_but_for_its_name() {
        for (class, name, expected) in [
            (Class::Version1, "a.img", Class::Version1Misnamed),
            (Class::Version1Misnamed, "a.qcow", Class::Version1),
            (Class::Qcow2, "a.qcow", Class::Qcow2Misnamed),
            (Class::Other, "a.qcow2", Class::OtherMisnamed),
            (Class::Damaged, "a.img", Class::Damaged),
        ] {
            assert_eq!(class.under_name(name.as_bytes()), expected, "{class} {name}");
        }
    }

    #[test]
    fn the_last_extension_promises() {
        for (name, promise) in [
            ("a.qcow", Promise::Qcow),
            ("a.QCOW2", Promise::Qcow2),
            ("a.qcow.img", Promise::OtherDisk),
            ("qcow", Promise::Nothing),
            ("a.qcow.bak", Promise::Nothing),
            ("a.", Promise::Nothing),
        ] {
            assert_eq!(Promise::of(name.as_bytes()), promise, "{name}");
        }
    }
}
