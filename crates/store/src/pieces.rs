//! Which parts an object is made of: ranges that are sent, and ranges that the server copies.

use std::ops::Range;

use crate::limits::{COPIED_PART, LEAST_PART, MANY_PARTS, PART};
use crate::ranges::Ranges;

/// A part of a new object.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Piece {
    /// Where it begins, in the old object as in the new one.
    pub at: u64,
    /// Its length in bytes.
    pub length: u64,
    /// Whether it is as in the old object, and need not be sent.
    pub is_kept: bool,
}

/// The pieces of an object of `size` bytes that is sent as a whole.
pub fn all_new(size: u64) -> Vec<Piece> {
    // An object without a byte is a part without a byte.
    match size {
        0 => vec![Piece { at: 0, length: 0, is_kept: false }],
        _ => cut(&[(0..size, false)], size),
    }
}

/// The pieces of an object of `size` bytes that differs from one of `old` bytes in the ranges
/// `changed`.
///
/// Every piece but the last is as long as parts have to be: what changed takes some of its
/// neighbours with it.
pub fn over(size: u64, old: u64, changed: &[Range<u64>]) -> Vec<Piece> {
    // Of a small object no range is copied.
    if old <= LEAST_PART || size <= LEAST_PART {
        return all_new(size);
    }
    let mut sent = Ranges::default();
    changed.iter().cloned().for_each(|range| sent.add(range));
    sent.add(old..size);
    let runs: Vec<_> =
        sent.pieces(0..size).into_iter().map(|(range, is_sent)| (range, !is_sent)).collect();
    cut(&grown(&runs, size), size)
}

/// The same runs, with none that is shorter than a part may be.
fn grown(runs: &[(Range<u64>, bool)], size: u64) -> Vec<(Range<u64>, bool)> {
    let mut grown: Vec<(Range<u64>, bool)> = Vec::new();
    for (range, is_kept) in runs {
        let mut range = range.clone();
        // The one before may be too short still, or this one.
        if let Some((last, false)) = grown.last_mut() {
            let lacking = LEAST_PART.saturating_sub(last.end - last.start);
            let taken = match is_kept {
                false => range.end - range.start,
                true => lacking.min(range.end - range.start),
            };
            last.end += taken;
            range.start += taken;
        }
        if range.is_empty() {
            continue;
        }
        let is_short = range.end - range.start < LEAST_PART && range.end < size;
        match grown.last_mut() {
            Some((last, false)) if is_short => last.end = range.end,
            _ => grown.push((range, *is_kept && !is_short)),
        }
    }
    grown
}

/// The runs in parts, of which there are not too many.
fn cut(runs: &[(Range<u64>, bool)], size: u64) -> Vec<Piece> {
    let scale = size.div_ceil(MANY_PARTS).div_ceil(1 << 20) << 20;
    let mut pieces = Vec::new();
    for (range, is_kept) in runs {
        let usual = if *is_kept { COPIED_PART } else { PART }.max(scale);
        let mut at = range.start;
        while at < range.end {
            let rest = range.end - at;
            // The last one is not too short: it goes with the one before.
            let length = if rest < usual + LEAST_PART { rest } else { usual };
            pieces.push(Piece { at, length, is_kept: *is_kept });
            at += length;
        }
    }
    pieces
}

#[cfg(test)]
mod tests {
    use calve_testkit::Random;

    use super::*;
    use crate::limits::MOST_PARTS;

    const MIB: u64 = 1 << 20;
    const SECTOR: Range<u64> = 0..512;

    fn assert_sound(pieces: &[Piece], size: u64, old: u64, changed: &[Range<u64>]) {
        let mut at = 0;
        for (number, piece) in pieces.iter().enumerate() {
            assert_eq!(piece.at, at, "{pieces:?}");
            at += piece.length;
            let is_last = number + 1 == pieces.len();
            assert!(is_last || piece.length >= LEAST_PART, "{number}: {pieces:?}");
            if piece.is_kept {
                let end = piece.at + piece.length;
                assert!(end <= old, "{pieces:?}");
                let is_apart = |range: &Range<u64>| range.end <= piece.at || range.start >= end;
                assert!(changed.iter().all(is_apart), "{piece:?} of {changed:?}");
            }
        }
        assert_eq!(at, size);
        assert!(pieces.len() as u64 <= MOST_PARTS);
    }

    #[test]
    fn an_upgrade_sends_its_first_part_and_its_tables() {
        let (old, size) = (200 * MIB + 512, 203 * MIB);
        let changed = [0..512, 201 * MIB..203 * MIB];
        let pieces = over(size, old, &changed);
        assert_sound(&pieces, size, old, &changed);
        let expected = [
            Piece { at: 0, length: 5 * MIB, is_kept: false },
            Piece { at: 5 * MIB, length: 195 * MIB + 512, is_kept: true },
            Piece { at: 200 * MIB + 512, length: 3 * MIB - 512, is_kept: false },
        ];
        assert_eq!(pieces, expected);
    }

    #[test]
    fn small_objects_are_sent_as_they_are() {
        assert_eq!(over(MIB, MIB, &[]), [Piece { at: 0, length: MIB, is_kept: false }]);
        assert_eq!(all_new(0), [Piece { at: 0, length: 0, is_kept: false }]);
        // Too little is left to be copied.
        let pieces = over(7 * MIB, 6 * MIB, &[SECTOR]);
        assert_sound(&pieces, 7 * MIB, 6 * MIB, &[SECTOR]);
        assert!(pieces.iter().all(|piece| !piece.is_kept), "{pieces:?}");
    }

    #[test]
    fn the_largest_objects_have_parts_enough() {
        let size = 40 << 40;
        assert_sound(&all_new(size), size, 0, &[]);
        assert_sound(&over(size, size - 512, &[SECTOR]), size, size - 512, &[SECTOR]);
    }

    #[test]
    fn whatever_changed_every_part_is_one_that_may_be() {
        let mut random = Random::new(7);
        for _ in 0..2000 {
            let old = random.below(90 * MIB);
            let size = 1 + random.below(100 * MIB);
            let mut changed = Vec::new();
            let mut at = 0;
            for _ in 0..random.below(6) {
                let start = at + random.below(30 * MIB);
                let end = start + 1 + random.below(9 * MIB);
                changed.push(start..end);
                at = end + 1;
            }
            assert_sound(&over(size, old, &changed), size, old, &changed);
        }
    }
}
