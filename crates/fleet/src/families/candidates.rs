//! Files that may be a base that is not where its overlay says, and what speaks for each.

use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::votes::Votes;
use super::{How, Member, Overlay, names};
use crate::catalogue::{Catalogue, Row};
use crate::error::Result;

/// Candidates that are told of one overlay, and that may vote.
const MOST: usize = 20;

/// A file that may be a base.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Candidate {
    /// Its row in the catalogue, by number.
    pub row: i64,
    /// Its path.
    pub path: PathBuf,
    /// The name within the archive at that path, where it lies in one.
    pub member: Option<Vec<u8>>,
    /// What speaks for it, the more the better; below 0 more speaks against it.
    pub score: i64,
    /// Why.
    pub evidence: Vec<Evidence>,
}

/// Something that speaks for a base, or against it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Evidence {
    /// So many parts at the end of its path are as recorded: 1 is the file's name.
    Path {
        /// How many.
        parts: u32,
    },
    /// The disks are equally long, or not.
    Size {
        /// Whether they are.
        is_same: bool,
    },
    /// The overlay recorded when its base was written last, and this was, or was not. Of a base
    /// that is where it should be, it has changed since, or is another one.
    Time {
        /// Whether it was.
        is_same: bool,
    },
    /// Sectors that overlay and base have alike, of those that say something.
    Content {
        /// Sectors that are alike.
        same: u64,
        /// Sectors compared.
        of: u64,
    },
}

impl Evidence {
    /// What it counts. The numbers are those of a search by content, so that both can be added.
    fn points(self) -> i64 {
        match self {
            Self::Path { parts } => 150 + 20 * (i64::from(parts) - 1),
            Self::Size { is_same: true } => 100,
            Self::Size { is_same: false } => -100,
            Self::Time { is_same: true } => 200,
            Self::Time { is_same: false } => 0,
            Self::Content { same, of } => {
                let share = |number| i64::try_from(number).unwrap_or(i64::MAX);
                let compared = share(of.min(ENOUGH_SECTORS));
                share(same).saturating_mul(1000) / share(of.max(1)) * compared
                    / share(ENOUGH_SECTORS)
            }
        }
    }
}

/// Fewer sectors than this weigh less.
const ENOUGH_SECTORS: u64 = 16;

/// What a clear base has at least: its name and its size, or its time and a little more.
const CLEAR: i64 = 250;

/// By how much a clear base is ahead of every other file.
const AHEAD: i64 = 100;

/// What speaks for a row as the base of an overlay.
pub(super) fn evidence(member: &Member, overlay: &Overlay, row: &Row) -> Vec<Evidence> {
    let mut evidence = Vec::new();
    let name = row.member.as_deref().unwrap_or(row.path.as_os_str().as_bytes());
    let own = name.rsplit(|byte| *byte == b'/').filter(|part| !part.is_empty());
    let alike = names::parts(&overlay.name).zip(own).take_while(|(one, other)| one == other);
    if let Ok(parts @ 1..) = u32::try_from(alike.count()) {
        evidence.push(Evidence::Path { parts });
    }
    let size = match &row.seen.image {
        Some(image) => image.virtual_size,
        None => row.seen.size,
    };
    if let (Some(one), Some(other)) = (member.virtual_size, size) {
        evidence.push(Evidence::Size { is_same: one == other });
    }
    // When an object was put there says nothing of when its disk was written.
    if let Some(time) = overlay.time.filter(|_| !row.is_object()) {
        let is_same = row.stamp.modified.div_euclid(1_000_000_000) == i64::from(time);
        evidence.push(Evidence::Time { is_same });
    }
    evidence
}

/// Files that may be the base of an overlay, the most likely first.
pub(super) fn candidates(
    catalogue: &Catalogue,
    member: &Member,
    overlay: &Overlay,
) -> Result<Vec<Candidate>> {
    let name = names::parts(&overlay.name).next().unwrap_or_default();
    let bucket = names::bucket(&member.path);
    let rows = catalogue.may_be_base(bucket.is_some(), name, overlay.time, member.virtual_size)?;
    let mut candidates: Vec<Candidate> = rows
        .into_iter()
        .filter(|row| row.id != member.row && names::bucket(&row.path) == bucket)
        .map(|row| {
            let evidence = evidence(member, overlay, &row);
            let score = evidence.iter().map(|evidence| evidence.points()).sum();
            Candidate { row: row.id, path: row.path, member: row.member, score, evidence }
        })
        .collect();
    order(&mut candidates);
    candidates.truncate(MOST);
    Ok(candidates)
}

fn order(candidates: &mut [Candidate]) {
    candidates.sort_by(|one, other| {
        other
            .score
            .cmp(&one.score)
            .then_with(|| (&one.path, &one.member).cmp(&(&other.path, &other.member)))
    });
}

/// Lets what overlay and candidates hold count too.
pub(super) fn count_votes(candidates: &mut [Candidate], overlay: &Path, votes: &dyn Votes) {
    let files = candidates.iter().filter(|candidate| candidate.member.is_none());
    let paths: Vec<PathBuf> = files.map(|candidate| candidate.path.clone()).collect();
    for vote in votes.vote(overlay, &paths) {
        let of =
            |candidate: &&mut Candidate| candidate.member.is_none() && candidate.path == vote.path;
        if let Some(candidate) = candidates.iter_mut().find(of) {
            let evidence = Evidence::Content { same: vote.same, of: vote.of };
            candidate.score += evidence.points();
            candidate.evidence.push(evidence);
        }
    }
    order(candidates);
}

/// How the first of these, which are in order, is clearly the base; `None` where it is not.
pub(super) fn clear(candidates: &[Candidate]) -> Option<How> {
    let best = candidates.first()?;
    let second = candidates.get(1).map_or(i64::MIN, |second| second.score);
    let is_clear = best.score >= CLEAR && best.score.saturating_sub(second) >= AHEAD;
    let voted = |evidence: &Evidence| matches!(evidence, Evidence::Content { same: 1.., .. });
    let how = if best.evidence.iter().any(voted) { How::Content } else { How::Moved };
    is_clear.then_some(how)
}
