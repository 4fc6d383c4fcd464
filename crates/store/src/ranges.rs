//! Ranges of bytes that are apart from each other.

use std::collections::BTreeMap;
use std::ops::Range;

/// Ranges of bytes: those that touch are one.
#[derive(Clone, Default, Debug)]
pub(crate) struct Ranges(BTreeMap<u64, u64>);

impl Ranges {
    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.0.len()
    }

    /// Adds a range.
    pub(crate) fn add(&mut self, range: Range<u64>) {
        let Range { mut start, mut end } = range;
        if start >= end {
            return;
        }
        while let Some((its_start, its_end)) =
            self.0.range(..=end).next_back().map(|(start, end)| (*start, *end))
        {
            if its_end < start {
                break;
            }
            self.0.remove(&its_start);
            (start, end) = (start.min(its_start), end.max(its_end));
        }
        self.0.insert(start, end);
    }

    /// Takes away all that lies at `end` or behind.
    pub(crate) fn cut(&mut self, end: u64) {
        self.0.split_off(&end);
        if let Some((_, last)) = self.0.iter_mut().next_back() {
            *last = (*last).min(end);
        }
    }

    /// The pieces of a range, in order, and whether each is among these ranges.
    pub(crate) fn pieces(&self, range: Range<u64>) -> Vec<(Range<u64>, bool)> {
        let mut pieces = Vec::new();
        let mut at = range.start;
        let before = self.0.range(..=range.start).next_back();
        let inside = self.0.range(range.start.saturating_add(1)..range.end.max(range.start + 1));
        for (start, end) in before.into_iter().chain(inside) {
            let (start, end) = ((*start).max(at), (*end).min(range.end));
            if start >= end {
                continue;
            }
            if at < start {
                pieces.push((at..start, false));
            }
            pieces.push((start..end, true));
            at = end;
        }
        if at < range.end {
            pieces.push((at..range.end, false));
        }
        pieces
    }

    /// All of them, in order.
    pub(crate) fn list(&self) -> Vec<Range<u64>> {
        self.0.iter().map(|(start, end)| *start..*end).collect()
    }
}

#[cfg(test)]
mod tests {
    use calve_testkit::{Random, seeds};

    use super::*;

    #[test]
    fn they_are_what_a_list_of_bytes_would_be() {
        const END: u64 = 64;
        const BYTES: usize = 64;
        for seed in seeds("ranges", 200) {
            let mut random = Random::new(seed);
            let (mut ranges, mut bytes) = (Ranges::default(), [false; BYTES]);
            for _ in 0..30 {
                let (a, b) = (random.below(END), random.below(END));
                if random.below(5) == 0 {
                    ranges.cut(a);
                    bytes[usize::try_from(a).expect("small")..].fill(false);
                } else {
                    ranges.add(a.min(b)..a.max(b));
                    let range = usize::try_from(a.min(b)).expect("small")
                        ..usize::try_from(a.max(b)).expect("small");
                    bytes[range].fill(true);
                }
                let (from, to) = (random.below(END), END);
                let mut at = from;
                for (piece, is_in) in ranges.pieces(from..to) {
                    assert_eq!(piece.start, at, "{seed}: {ranges:?}");
                    for byte in piece.clone() {
                        let byte = usize::try_from(byte).expect("small");
                        assert_eq!(bytes[byte], is_in, "{seed}: {ranges:?}");
                    }
                    at = piece.end;
                }
                assert_eq!(at, to);
            }
        }
    }
}
