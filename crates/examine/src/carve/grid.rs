//! Grid: where this file's writer puts tables and clusters.

use calve_disk::units::{ClusterSize, SECTOR, in_memory};
use calve_disk::{Image, Owner, Result};

/// The places at which a table or a cluster may begin: `step` bytes apart, the first at `phase`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Grid {
    pub(super) step: u64,
    phase: u64,
}

/// Of so many clusters, and tables as long as these, one may lie elsewhere: damage is not to move the grid.
const NEARLY: u64 = 100;

impl Grid {
    /// As nearly all tables and plain clusters have it that the image refers to: whole clusters
    /// from some sector on, or else sectors.
    pub(super) fn of(image: &dyn Image) -> Result<Self> {
        let cluster = image.facts().cluster_size.unwrap_or(ClusterSize::SECTOR);
        let mut counts = vec![0u64; in_memory(cluster.bytes() / SECTOR)];
        image.claims(&mut |claim| {
            let phase = in_memory(cluster.within(claim.at.get()) / SECTOR);
            if matches!(claim.owner, Owner::L2 | Owner::Data)
                && let Some(count) = counts.get_mut(phase)
            {
                *count += cluster.count(claim.length);
            }
            Ok(())
        })?;
        let all: u64 = counts.iter().sum();
        let (phase, most) = (0..).zip(counts).max_by_key(|(_, count)| *count).unwrap_or((0, 0));
        Ok(match (all - most) * NEARLY <= all {
            // Where there is nothing to count, as most writers have it.
            true if all == 0 => Self { step: cluster.bytes(), phase: 0 },
            true => Self { step: cluster.bytes(), phase: phase * SECTOR },
            false => Self { step: SECTOR, phase: 0 },
        })
    }

    /// The last place of the grid at or before `at`, if there is one.
    pub(super) fn floor(self, at: u64) -> Option<u64> {
        at.checked_sub(self.phase).map(|at| at / self.step * self.step + self.phase)
    }

    /// The first place of the grid at or behind `at`.
    pub(super) fn ceil(self, at: u64) -> u64 {
        at.saturating_sub(self.phase).next_multiple_of(self.step) + self.phase
    }

    /// Whether `at` is a place of the grid.
    pub(super) fn has(self, at: u64) -> bool {
        self.floor(at) == Some(at)
    }
}
