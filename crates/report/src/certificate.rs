//! Whether it can be said that no version 1 image remains, and what speaks against it.

use std::collections::BTreeSet;
use std::path::PathBuf;

use calve_fleet::{Scan, Trouble};

use crate::error::{Error, Result};
use crate::gathered::Gathered;
use crate::known::Counts;
use crate::sources::Sources;

/// Why it cannot be said of a path that no version 1 image is there.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Reason {
    /// There is one.
    Version1,
    /// There is one, and another process uses it.
    InUse,
    /// There is one: the original of a migrated image, or one that was put aside.
    Original,
    /// There is one in an archive.
    InArchive,
    /// A run has begun with it, and has not ended.
    Unfinished,
    /// Something else is there than when it was scanned or planned, and no run that is known did that:
    /// whoever did may have kept originals.
    Changed,
    /// Nothing is there, and nobody knows where it went.
    Missing,
    /// What is there is no regular file.
    NoFile,
    /// It cannot be read now.
    Unreadable,
    /// It could not be read, or not be looked into, when it was scanned.
    NotLookedInto,
    /// It could not be looked below when it was scanned.
    Trouble,
    /// No scan was ended.
    NoScan,
}

impl Reason {
    const ALL: [Self; 12] = [
        Self::Version1,
        Self::InUse,
        Self::Original,
        Self::InArchive,
        Self::Unfinished,
        Self::Changed,
        Self::Missing,
        Self::NoFile,
        Self::Unreadable,
        Self::NotLookedInto,
        Self::Trouble,
        Self::NoScan,
    ];

    /// Its place in their order.
    pub(crate) fn number(self) -> i64 {
        let place = Self::ALL.iter().position(|reason| *reason == self);
        place.and_then(|place| i64::try_from(place).ok()).unwrap_or_default()
    }

    pub(crate) fn of(number: i64) -> Option<Self> {
        Self::ALL.get(usize::try_from(number).ok()?).copied()
    }

    /// Its word in documents.
    pub fn word(self) -> &'static str {
        match self {
            Self::Version1 => "v1",
            Self::InUse => "v1-in-use",
            Self::Original => "v1-original",
            Self::InArchive => "v1-in-archive",
            Self::Unfinished => "unfinished",
            Self::Changed => "changed",
            Self::Missing => "missing",
            Self::NoFile => "no-file",
            Self::Unreadable => "unreadable",
            Self::NotLookedInto => "not-looked-into",
            Self::Trouble => "not-scanned",
            Self::NoScan => "no-scan",
        }
    }

    /// What it says, for people.
    pub fn statement(self) -> &'static str {
        match self {
            Self::Version1 => "Version 1 images",
            Self::InUse => "Version 1 images that another process uses",
            Self::Original => "Originals of migrated images, and images that were put aside",
            Self::InArchive => "Version 1 images in archives",
            Self::Unfinished => "Images that a run has begun with and not ended",
            Self::Changed => {
                "Images that became something else, which no run did that is known here"
            }
            Self::Missing => {
                "Images, and files that could not be looked into, that are not where they were"
            }
            Self::NoFile => "Places of images at which there is no regular file now",
            Self::Unreadable => "Files that cannot be read now",
            Self::NotLookedInto => {
                "Files that the scan could not read, and archives that it could not look into"
            }
            Self::Trouble => "Folders that the scan could not look below",
            Self::NoScan => "No scan was ended",
        }
    }

    /// Whether there is a version 1 image for certain.
    pub fn is_version1(self) -> bool {
        matches!(self, Self::Version1 | Self::InUse | Self::Original | Self::InArchive)
    }
}

/// One thing that speaks against a certificate.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Remaining {
    /// Why.
    pub reason: Reason,
    /// Where.
    pub path: PathBuf,
    /// The name within the archive at that path.
    pub member: Option<Vec<u8>>,
    /// The run that knows of it.
    pub run: Option<i64>,
}

/// A scan that a certificate rests on.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RestsOn {
    /// The scan.
    pub scan: Scan,
    /// Those of its roots that no later scan has looked below.
    pub roots: Vec<PathBuf>,
    /// What it could not look at, and no later scan did.
    pub troubles: Vec<Trouble>,
}

/// What was looked at, and what came of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Certificate {
    /// Paths that were looked at just now.
    pub looked: u64,
    /// Those of them that another process holds open under QEMU's locks, and that are no version 1.
    pub in_use: u64,
    /// Version 1 images that are gone, and of which somebody told a scan that they were removed on
    /// purpose.
    pub removed: u64,
    /// The scans that say which paths these are.
    pub rests_on: Vec<RestsOn>,
    /// How often each reason speaks against it, in their order: [`crate::Report::remaining`] tells
    /// of them one by one.
    pub remaining: Vec<(Reason, u64)>,
}

impl Certificate {
    pub(crate) fn of(sources: &Sources, gathered: &Gathered, counts: Counts) -> Result<Self> {
        let rests_on = rests_on(sources)?;
        for trouble in rests_on.iter().flat_map(|it| &it.troubles) {
            let (path, reason) = (trouble.path.clone(), Reason::Trouble);
            gathered.put_remaining(&Remaining { reason, path, member: None, run: None })?;
        }
        if rests_on.is_empty() {
            let (path, reason) = (sources.catalogue.path().to_owned(), Reason::NoScan);
            gathered.put_remaining(&Remaining { reason, path, member: None, run: None })?;
        }
        let remaining = gathered.count_remaining()?;
        let removed = sources.catalogue.count_removed_version1()?;
        let Counts { looked, in_use } = counts;
        Ok(Self { looked, in_use, removed, rests_on, remaining })
    }

    /// Whether nothing speaks against it.
    pub fn is_given(&self) -> bool {
        self.remaining.is_empty()
    }

    /// Places that speak against it.
    pub fn count(&self) -> u64 {
        self.remaining.iter().map(|(_, count)| count).sum()
    }

    /// Version 1 images that there are for certain.
    pub fn count_version1(&self) -> u64 {
        let known = self.remaining.iter().filter(|(reason, _)| reason.is_version1());
        known.map(|(_, count)| count).sum()
    }
}

/// The last scan of each root, by number.
fn rests_on(sources: &Sources) -> Result<Vec<RestsOn>> {
    let scans = sources.catalogue.scans()?;
    let is_covered_later = |place: usize, path: &std::path::Path| {
        let later = scans.iter().skip(place + 1);
        later.flat_map(|scan| &scan.roots).any(|root| path.starts_with(root))
    };
    let mut all = Vec::new();
    for (place, scan) in scans.iter().enumerate() {
        let roots: BTreeSet<&PathBuf> =
            scan.roots.iter().filter(|root| !is_covered_later(place, root)).collect();
        if roots.is_empty() {
            continue;
        }
        let mut troubles = Vec::new();
        sources.catalogue.troubles(scan.number, |trouble| {
            if !is_covered_later(place, &trouble.path) {
                troubles.push(trouble);
            }
            Ok::<(), Error>(())
        })?;
        let roots = roots.into_iter().cloned().collect();
        all.push(RestsOn { scan: scan.clone(), roots, troubles });
    }
    Ok(all)
}
