//! The base of an overlay, found among the files of a folder by what it holds.

mod candidate;
mod folder;

use std::path::{Path, PathBuf};

use calve_disk::open::FileIdentity;
use calve_disk::{Disk, Format, Result};

/// How a folder is searched.
#[derive(Clone, Debug)]
pub struct Search {
    /// Folders below the first one: 0 looks at its own files only.
    pub depth: usize,
    /// Files that are opened at most.
    pub most_files: usize,
    /// Overlay sectors that are compared with each candidate at most.
    pub sectors: usize,
    /// Whether to open files that another process has open.
    pub force_share: bool,
}

impl Default for Search {
    fn default() -> Self {
        Self { depth: 4, most_files: 1000, sectors: 4096, force_share: false }
    }
}

/// A file that may be the base.
#[derive(Clone, Debug)]
pub struct Candidate {
    /// The file.
    pub path: PathBuf,
    /// The format it is in.
    pub format: Format,
    /// What speaks for it, the more the better; below 0 more speaks against it.
    pub score: i64,
    /// Why.
    pub reasons: Vec<Reason>,
    /// For each sector that was compared whether it is alike.
    alike: Vec<bool>,
}

/// Something that speaks for a candidate, or against it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reason {
    /// Sectors that overlay and candidate have alike, of those that say something. A guest writes
    /// more than it changes.
    SameSectors {
        /// Sectors that are alike.
        same: u64,
        /// Sectors compared: not those of one byte all over.
        of: u64,
    },
    /// The disks are equally long, or not.
    Size {
        /// Whether they are.
        is_same: bool,
    },
    /// The overlay recorded when its base was last written, and this is that time, or not.
    Modified {
        /// Whether it is.
        is_same: bool,
    },
    /// The file has the name that the overlay recorded.
    Name,
    /// What overlay and candidate make together begins as disks do: a boot sector, a superblock.
    Joined,
}

/// Looks in `folder` for the base of the top layer of `overlay`, and returns what was found, the
/// best first. Files that cannot be opened or read are left out, and so is the overlay itself.
/// Links are not followed, and only regular files are opened.
///
/// # Errors
/// Where the overlay or the folder cannot be read.
pub fn find_base(overlay: &Disk, folder: &Path, search: &Search) -> Result<Vec<Candidate>> {
    judge_bases(overlay, &folder::files(folder, search)?, search)
}

/// Judges these files as bases of the top layer of `overlay`, as [`find_base`] does.
///
/// # Errors
/// Where the overlay cannot be read.
pub fn judge_bases(overlay: &Disk, paths: &[PathBuf], search: &Search) -> Result<Vec<Candidate>> {
    let own: Vec<FileIdentity> =
        overlay.layers().iter().filter_map(calve_disk::Layer::identity).collect();
    let sample = candidate::sample(overlay, search.sectors)?;
    let mut found = Vec::new();
    for path in paths {
        if let Some(candidate) = candidate::judge(overlay, &own, &sample, path, search) {
            found.push(candidate);
        }
    }
    found.sort_by(|one, other| other.score.cmp(&one.score).then(one.path.cmp(&other.path)));
    Ok(found)
}

/// Points by which the best has to be ahead, and that it must have.
const CLEARLY: i64 = 100;

/// Sectors that only the best has alike, so that it is as clearly ahead: copies that went on
/// differently differ in few. Of those that only the second has there may be a quarter as many.
const ONLY_IN_BEST: usize = 8;
const QUARTER: usize = 4;

/// Whether the first of these, which are in order, is clearly the base.
///
/// A copy of what the overlay itself shows is alike in every sector and is then taken for the
/// base: read through the overlay, it shows the same.
pub fn is_clear(candidates: &[Candidate]) -> bool {
    match candidates {
        [] => false,
        [only] => only.score >= CLEARLY && only.is_known(),
        [best, second, ..] => {
            let (mine, its) = (best.alone(second), second.alone(best));
            let is_ahead = best.score - second.score >= CLEARLY
                || (mine >= ONLY_IN_BEST && mine >= its * QUARTER);
            best.score >= CLEARLY && best.is_known() && is_ahead
        }
    }
}

impl Candidate {
    /// Whether something speaks for it that hardly any other file has: a sector that is alike, the
    /// recorded name or time. That a disk is as long says little.
    fn is_known(&self) -> bool {
        self.reasons.iter().any(|reason| {
            matches!(
                reason,
                Reason::SameSectors { same: 1.., .. }
                    | Reason::Name
                    | Reason::Modified { is_same: true }
            )
        })
    }

    /// Sectors that are alike in this and not in `other`.
    fn alone(&self, other: &Candidate) -> usize {
        let pairs = self.alike.iter().zip(&other.alike);
        pairs.filter(|(mine, its)| **mine && !**its).count()
    }
}
