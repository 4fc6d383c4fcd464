//! Which worker gets which family. Every worker finds the same without asking another.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use serde::{Deserialize, Serialize};

use crate::plan::{Family, Plan};

/// Workers at most.
pub const MOST_SHARDS: u64 = 100_000;

/// What is to be as much for each worker.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Weight {
    /// Bytes of the images.
    #[default]
    Bytes,
    /// Families.
    Families,
}

impl Weight {
    fn of(self, family: &Family) -> u64 {
        match self {
            // A family weighs something even where its files are empty.
            Self::Bytes => family.bytes().saturating_add(1),
            Self::Families => 1,
        }
    }
}

/// The families of each of `count` workers, by their place in the plan, in the plan's order: the
/// heaviest first to whoever has least so far. Families of which nothing is migrated are nobody's.
pub fn shards(plan: &Plan, count: usize, weight: Weight) -> Vec<Vec<usize>> {
    let families = plan.families.iter().enumerate().filter(|(_, family)| family.is_migrated());
    let mut families: Vec<(u64, usize)> =
        families.map(|(place, family)| (weight.of(family), place)).collect();
    families.sort_unstable_by_key(|(weight, place)| (Reverse(*weight), *place));
    let mut shards = vec![Vec::new(); count];
    let mut least: BinaryHeap<Reverse<(u64, usize)>> =
        (0..count).map(|shard| Reverse((0, shard))).collect();
    for (weight, place) in families {
        if let Some(Reverse((loaded, shard))) = least.pop() {
            shards[shard].push(place);
            least.push(Reverse((loaded.saturating_add(weight), shard)));
        }
    }
    for shard in &mut shards {
        shard.sort_unstable();
    }
    shards
}
