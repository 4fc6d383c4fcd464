//! Votes: what overlay and candidates hold, where a caller lets files be opened.

use std::path::{Path, PathBuf};

use calve_disk::{Disk, OpenOptions};
use calve_rebuild::{Reason, Search, judge_bases};

/// What a candidate holds of what its overlay holds.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Vote {
    /// The candidate.
    pub path: PathBuf,
    /// Sectors that both have alike.
    pub same: u64,
    /// Sectors compared.
    pub of: u64,
}

/// Compares overlays with candidates.
pub trait Votes {
    /// The votes on these candidates, in any order. One that cannot be read has none.
    fn vote(&self, overlay: &Path, candidates: &[PathBuf]) -> Vec<Vote>;
}

/// Reads the files themselves, in this process. They are opened for reading only.
#[derive(Clone, Debug, Default)]
pub struct ContentVotes {
    /// How much is compared.
    pub search: Search,
}

impl Votes for ContentVotes {
    fn vote(&self, overlay: &Path, candidates: &[PathBuf]) -> Vec<Vote> {
        let options =
            OpenOptions { force_share: self.search.force_share, ..OpenOptions::default() };
        let Ok(disk) = Disk::open(overlay, &options) else { return Vec::new() };
        let Ok(judged) = judge_bases(&disk, candidates, &self.search) else { return Vec::new() };
        let votes = judged.into_iter().filter_map(|candidate| {
            let counted = candidate.reasons.iter().find_map(|reason| match reason {
                Reason::SameSectors { same, of } => Some((*same, *of)),
                _ => None,
            });
            counted.map(|(same, of)| Vote { path: candidate.path, same, of })
        });
        votes.collect()
    }
}
