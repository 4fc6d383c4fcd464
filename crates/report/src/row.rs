//! A row: an image of the plan or the run, what was to be done with it and what came of that.

use std::path::Path;

use calve_migrate::{FamilyRecord, FamilyState, ImageRecord, ImageState};
use calve_plan::{Image, Kept, Strategy};

use crate::look::{Found, Looked};

/// Seconds in a day.
const DAY: i64 = 24 * 60 * 60;

/// What came of an image.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Outcome {
    /// It is migrated.
    Migrated,
    /// Its family failed, and is as it was.
    Failed,
    /// Its family was begun and is not over.
    Unfinished,
    /// Its family was not begun.
    NotBegun,
    /// It was migrated and taken back.
    Undone,
    /// The plan leaves it, and it is version 1.
    Left,
    /// The plan leaves it: it is not version 1.
    Unchanged,
}

impl Outcome {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Migrated,
        Self::Failed,
        Self::Unfinished,
        Self::NotBegun,
        Self::Undone,
        Self::Left,
        Self::Unchanged,
    ];

    /// Its word in documents.
    pub fn word(self) -> &'static str {
        match self {
            Self::Migrated => "migrated",
            Self::Failed => "failed",
            Self::Unfinished => "unfinished",
            Self::NotBegun => "not-begun",
            Self::Undone => "undone",
            Self::Left => "left",
            Self::Unchanged => "unchanged",
        }
    }

    /// What it says, for people.
    pub fn statement(self) -> &'static str {
        match self {
            Self::Migrated => "migrated",
            Self::Failed => "failed: the images are as they were",
            Self::Unfinished => "begun and not ended",
            Self::NotBegun => "planned and not begun",
            Self::Undone => "taken back",
            Self::Left => "version 1, left by the plan",
            Self::Unchanged => "not version 1, nothing to do",
        }
    }
}

/// How somebody gets back what an image was.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum WayBack<'a> {
    /// The original lies here.
    Original(&'a Path),
    /// The image itself and a record beside it know the way back.
    Undo,
    /// It was given up.
    Released,
    /// There is nothing to take back.
    None,
}

/// An image.
#[derive(Clone, Debug)]
pub struct Row<'a> {
    /// Its line in the plan, where there is one.
    pub planned: Option<&'a Image>,
    /// What the journal has of it, where it was begun.
    pub record: Option<ImageRecord>,
    /// What the journal has of its family.
    pub family: Option<&'a FamilyRecord>,
    /// What is at its path now.
    pub now: Option<&'a Looked>,
    /// What becomes of originals.
    pub(crate) kept: Option<&'a Kept>,
}

impl Row<'_> {
    /// Its family and its place there.
    pub fn number(&self) -> (u64, u64) {
        match (&self.record, self.planned) {
            (Some(record), _) => (record.family, record.place),
            (None, Some(image)) => (image.family, image.order),
            (None, None) => (0, 0),
        }
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        match (&self.record, self.planned) {
            (Some(record), _) => &record.path,
            (None, Some(image)) => &image.path.0,
            (None, None) => Path::new(""),
        }
    }

    /// What is done with it.
    pub fn strategy(&self) -> Strategy {
        let planned = self.planned.map(|image| image.strategy);
        let recorded = self.record.as_ref().map(|record| record.strategy);
        recorded.or(planned).unwrap_or(Strategy::Leave)
    }

    /// What came of it.
    pub fn outcome(&self) -> Outcome {
        if self.strategy() == Strategy::Leave {
            let is_version1 = self.planned.is_some_and(Image::is_version1);
            return if is_version1 { Outcome::Left } else { Outcome::Unchanged };
        }
        match self.family.map(|family| family.state) {
            Some(FamilyState::Done) => Outcome::Migrated,
            Some(FamilyState::Failed) => Outcome::Failed,
            Some(FamilyState::Preparing | FamilyState::Switching) => Outcome::Unfinished,
            Some(FamilyState::Undone) => Outcome::Undone,
            None => Outcome::NotBegun,
        }
    }

    /// Why it is as it is: why the family failed, or why the plan leaves it.
    pub fn why(&self) -> Option<&str> {
        match self.outcome() {
            Outcome::Failed => self.family.and_then(|family| family.problem.as_deref()),
            Outcome::Left | Outcome::Unchanged => self.planned.map(|image| &*image.reason),
            _ => None,
        }
    }

    /// Its format before, as `qemu-img` names it.
    pub fn format_before(&self) -> &str {
        match self.planned {
            Some(image) => image.format.as_deref().unwrap_or("other"),
            None if self.strategy() == Strategy::Rebase => "qcow2",
            None => "qcow",
        }
    }

    /// Its length before, in bytes.
    pub fn size_before(&self) -> u64 {
        let recorded = self.record.as_ref().map(|record| record.old.size);
        recorded.or(self.planned.map(|image| image.stamp.size)).unwrap_or_default()
    }

    /// What is there now, by its first bytes.
    pub fn found(&self) -> Option<&Found> {
        self.now.map(|now| &now.found)
    }

    /// Whether it was written to since it was migrated.
    pub fn is_written_since(&self) -> bool {
        let new = self.record.as_ref().and_then(|record| record.new);
        match (new, self.now, self.outcome()) {
            (Some(new), Some(now), Outcome::Migrated) => {
                (new.inode, new.size, new.modified) != (now.inode, now.size, now.modified)
            }
            _ => false,
        }
    }

    /// BLAKE3 of the disk, read before and afterwards.
    pub fn digest(&self) -> Option<&str> {
        let record = self.record.as_ref().filter(|_| self.outcome() == Outcome::Migrated)?;
        record.digest.as_deref()
    }

    /// Bytes of its disk that are missing.
    pub fn missing(&self) -> u64 {
        self.record.as_ref().map_or(0, |record| record.missing)
    }

    /// When it was done, in seconds since 1970, or when its family failed.
    pub fn ended(&self) -> Option<i64> {
        let recorded = self.record.as_ref().and_then(|record| record.ended);
        recorded.or(self.family.and_then(|family| family.ended))
    }

    /// When it was begun, in seconds since 1970.
    pub fn began(&self) -> Option<i64> {
        let recorded = self.record.as_ref().map(|record| record.began);
        recorded.or(self.family.map(|family| family.began))
    }

    /// How somebody gets back what it was.
    pub fn way_back(&self) -> WayBack<'_> {
        let Some(record) = self.record.as_ref() else { return WayBack::None };
        if self.outcome() != Outcome::Migrated {
            return WayBack::None;
        }
        match (&record.kept, record.state) {
            (Some(kept), _) if record.strategy == Strategy::Quarantine => WayBack::Original(kept),
            (_, ImageState::Released) => WayBack::Released,
            (Some(kept), ImageState::Switched) => WayBack::Original(kept),
            (None, ImageState::Switched) => WayBack::Undo,
            _ => WayBack::None,
        }
    }

    /// Until when the way back is kept, in seconds since 1970; `None` where that is for somebody to
    /// decide.
    pub fn kept_until(&self) -> Option<i64> {
        let Some(Kept::Days(days)) = self.kept else { return None };
        match self.way_back() {
            WayBack::Original(_) | WayBack::Undo => {
                Some(self.ended()?.saturating_add(i64::from(*days) * DAY))
            }
            WayBack::Released | WayBack::None => None,
        }
    }
}
