//! Missing: guest bytes that should be there and could not be had so far.

use std::collections::BTreeMap;

use calve_disk::units::{GuestOffset, GuestRange};
use calve_disk::{HostErrors, Lost, Rule};

/// Why guest bytes are missing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Cause {
    /// What was read together failed; nobody looked closer.
    Failed,
    /// An earlier run could not have them; its map does not say why.
    Earlier,
    /// They are lost, by this rule and at this place of a file.
    Lost(Lost),
}

impl Cause {
    /// What a loss means that was met while reading in this way.
    pub(crate) fn of(lost: Lost, host_errors: HostErrors) -> Self {
        match host_errors {
            HostErrors::LoseAtOnce if lost.rule == Rule::Unreadable => Self::Failed,
            _ => Self::Lost(lost),
        }
    }

    /// Whether another try may bring them.
    pub(crate) fn may_pass(self) -> bool {
        match self {
            Self::Failed | Self::Earlier => true,
            Self::Lost(lost) => lost.rule == Rule::Unreadable,
        }
    }
}

/// Ranges that do not overlap, each with its cause.
#[derive(Default)]
pub(crate) struct Missing(BTreeMap<u64, (u64, Cause)>);

impl Missing {
    /// What is missing, in the order of the disk.
    pub(crate) fn ranges(&self) -> impl DoubleEndedIterator<Item = (GuestRange, Cause)> {
        self.0.iter().map(|(start, (end, cause))| (GuestRange::at(*start, end - start), *cause))
    }

    /// What of the missing ranges holds `at`, or begins first behind it.
    pub(crate) fn next_at(&self, at: GuestOffset) -> Option<(GuestRange, Cause)> {
        let before = self.0.range(..=at.get()).next_back().filter(|(_, (end, _))| *end > at.get());
        let found = before.or_else(|| self.0.range(at.get()..).next())?;
        let (start, (end, cause)) = found;
        Some((GuestRange::at(*start, end - start), *cause))
    }

    /// Takes a range out, whatever was said of it.
    pub(crate) fn remove(&mut self, range: GuestRange) {
        let (start, end) = (range.start.get(), range.end().get());
        let before = self.0.range(..start).next_back().map(|(start, _)| *start);
        let within = self.0.range(start..end).map(|(start, _)| *start);
        let touched: Vec<u64> = before.into_iter().chain(within).collect();
        for key in touched {
            let Some((old_end, cause)) = self.0.remove(&key) else { continue };
            if key < start {
                self.0.insert(key, (old_end.min(start), cause));
            }
            if old_end > end {
                self.0.insert(key.max(end), (old_end, cause));
            }
        }
    }

    /// Says of a range why it is missing, in the place of all that was said of it.
    pub(crate) fn insert(&mut self, range: GuestRange, cause: Cause) {
        if range.is_empty() {
            return;
        }
        self.remove(range);
        let (mut start, mut end) = (range.start.get(), range.end().get());
        if let Some((before, (its_end, its))) = self.0.range(..start).next_back()
            && *its_end == start
            && is_alike(*its, cause)
        {
            start = *before;
        }
        if let Some((its_end, its)) = self.0.get(&end).copied()
            && is_alike(its, cause)
        {
            self.0.remove(&end);
            end = its_end;
        }
        self.0.insert(start, (end, cause));
    }
}

fn is_alike(one: Cause, other: Cause) -> bool {
    match (one, other) {
        (Cause::Failed, Cause::Failed) | (Cause::Earlier, Cause::Earlier) => true,
        (Cause::Lost(one), Cause::Lost(other)) => {
            (one.rule, one.layer) == (other.rule, other.layer)
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use calve_disk::units::HostOffset;
    use calve_testkit::Random;

    use super::*;

    #[test]
    fn ranges_are_what_a_list_of_bytes_says() {
        let lost = Lost { layer: 0, rule: Rule::Unreadable, at: HostOffset::new(7) };
        for seed in 0..300 {
            let mut random = Random::new(seed);
            let (mut missing, mut bytes) = (Missing::default(), [None; 64]);
            for _ in 0..40 {
                let start = random.below(64);
                let length = 1 + random.below(64 - start);
                let range = GuestRange::at(start, length);
                let said = match random.below(3) {
                    0 => None,
                    1 => Some(Cause::Failed),
                    _ => Some(Cause::Lost(lost)),
                };
                match said {
                    None => missing.remove(range),
                    Some(cause) => missing.insert(range, cause),
                }
                let [from, to] = [start, start + length].map(|at| usize::try_from(at).unwrap());
                bytes[from..to].fill(said);
                let mut found = [None; 64];
                for (range, cause) in missing.ranges() {
                    assert!(!range.is_empty(), "seed {seed}");
                    let [from, to] =
                        [range.start, range.end()].map(|at| usize::try_from(at.get()).unwrap());
                    assert!(found[from..to].iter().all(Option::is_none), "seed {seed}");
                    found[from..to].fill(Some(cause));
                }
                assert_eq!(found, bytes, "seed {seed}");
                let at = random.below(64);
                let next = missing
                    .next_at(GuestOffset::new(at))
                    .map(|(range, _)| range.start.get().max(at));
                let expected = (at..64).find(|at| bytes[usize::try_from(*at).unwrap()].is_some());
                assert_eq!(next, expected, "seed {seed}");
            }
        }
    }
}
