//! BLAKE3 of the guest's bytes, taken in pieces by many workers and put together in order.
//!
//! The digest is the one that `b3sum` prints of the raw disk: BLAKE3 is a tree, and pieces of
//! 2 MiB are whole subtrees of it.

use std::sync::OnceLock;

use blake3::Hasher;
use blake3::hazmat::{
    ChainingValue, HasherExt, Mode, merge_subtrees_non_root, merge_subtrees_root,
};

use calve_disk::units::in_memory;

use crate::zeros::is_zero;

/// Bytes of one piece: a power of two, and as much as a batch holds.
pub(crate) const LEAF: u64 = 2 << 20;

/// The digest of one piece, mergeable with its neighbours'.
pub(crate) enum Leaf {
    /// A piece of a longer disk.
    Part(ChainingValue),
    /// The only piece of a disk that is no longer.
    Whole(blake3::Hash),
}

/// Digests of whole pieces of zeros, each at its place: they are the same in every disk. Most of an
/// archive is empty, and hashing that again and again was most of the time that it took to migrate.
/// These are for the first 128 GiB, and take 2.6 MiB where all of that is empty.
static EMPTY: [OnceLock<ChainingValue>; 1 << 16] = [const { OnceLock::new() }; 1 << 16];

/// Zeros that are hashed at once.
static ZEROS: [u8; 64 << 10] = [0; 64 << 10];

/// The digest of the piece that begins at `start`, of a disk of `size` bytes.
pub(crate) fn leaf(bytes: &[u8], start: u64, size: u64) -> Leaf {
    if size <= LEAF {
        return Leaf::Whole(blake3::hash(bytes));
    }
    if bytes.len() as u64 == LEAF && is_zero(bytes) {
        return empty_leaf(start, LEAF, size);
    }
    Leaf::Part(Hasher::new().set_input_offset(start).update(bytes).finalize_non_root())
}

/// The same of a piece of `length` zeros.
pub(crate) fn empty_leaf(start: u64, length: u64, size: u64) -> Leaf {
    if size <= LEAF {
        return Leaf::Whole(zeros_into(Hasher::new(), length).finalize());
    }
    let value = || {
        let mut hasher = Hasher::new();
        hasher.set_input_offset(start);
        zeros_into(hasher, length).finalize_non_root()
    };
    let known = usize::try_from(start / LEAF).ok().and_then(|number| EMPTY.get(number));
    Leaf::Part(match known.filter(|_| length == LEAF) {
        Some(known) => *known.get_or_init(value),
        None => value(),
    })
}

fn zeros_into(mut hasher: Hasher, length: u64) -> Hasher {
    let mut left = in_memory(length);
    while left > 0 {
        let bytes = &ZEROS[..ZEROS.len().min(left)];
        hasher.update(bytes);
        left -= bytes.len();
    }
    hasher
}

/// The pieces' digests, put together in guest order.
#[derive(Default)]
pub(crate) struct Tree {
    /// Subtrees that wait for their right neighbour, with the number of leaves in each.
    waiting: Vec<(ChainingValue, u64)>,
    whole: Option<blake3::Hash>,
}

impl Tree {
    /// Adds the next piece.
    pub(crate) fn push(&mut self, leaf: Leaf) {
        match leaf {
            Leaf::Whole(hash) => self.whole = Some(hash),
            Leaf::Part(value) => {
                // Equal neighbours merge only now: with nothing behind them they might have been
                // the two halves of the root.
                while let [.., (left, size), (right, same)] = self.waiting[..]
                    && size == same
                {
                    let merged = merge_subtrees_non_root(&left, &right, Mode::Hash);
                    self.waiting.truncate(self.waiting.len() - 2);
                    self.waiting.push((merged, size * 2));
                }
                self.waiting.push((value, 1));
            }
        }
    }

    /// The digest of all pieces.
    pub(crate) fn finish(mut self) -> blake3::Hash {
        if let Some(hash) = self.whole {
            return hash;
        }
        while let [.., (left, size), (right, more)] = self.waiting[..]
            && self.waiting.len() > 2
        {
            let merged = merge_subtrees_non_root(&left, &right, Mode::Hash);
            self.waiting.truncate(self.waiting.len() - 2);
            self.waiting.push((merged, size + more));
        }
        match self.waiting[..] {
            [(left, _), (right, _)] => merge_subtrees_root(&left, &right, Mode::Hash),
            // A disk of no bytes has no piece.
            _ => blake3::hash(&[]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_make_the_digest_of_the_whole() {
        for size in [0, 1, LEAF - 1, LEAF, LEAF + 1, 2 * LEAF, 3 * LEAF, 5 * LEAF + 12345, 8 * LEAF]
        {
            let bytes: Vec<u8> = (0..size).map(|i| (i / 3 % 253).to_be_bytes()[7]).collect();
            let mut tree = Tree::default();
            for (number, piece) in (0..).zip(bytes.chunks(in_memory(LEAF))) {
                tree.push(leaf(piece, number * LEAF, size));
            }
            assert_eq!(tree.finish(), blake3::hash(&bytes), "{size}");
        }
    }

    #[test]
    fn pieces_of_zeros_have_the_digest_of_any_pieces_also_when_they_are_known() {
        for size in [0, 1, LEAF - 1, LEAF, LEAF + 1, 4 * LEAF, 5 * LEAF + 12345] {
            let mut bytes = vec![0; in_memory(size)];
            // One piece that is not empty, where there is another one.
            if size > LEAF {
                bytes[in_memory(LEAF)] = 1;
            }
            let expected = blake3::hash(&bytes);
            for _ in 0..2 {
                let (mut read, mut told) = (Tree::default(), Tree::default());
                for (number, piece) in (0..).zip(bytes.chunks(in_memory(LEAF))) {
                    let start = number * LEAF;
                    read.push(leaf(piece, start, size));
                    told.push(match is_zero(piece) {
                        true => empty_leaf(start, piece.len() as u64, size),
                        false => leaf(piece, start, size),
                    });
                }
                assert_eq!((read.finish(), told.finish()), (expected, expected), "{size}");
            }
        }
    }

    #[test]
    fn zeros_behind_the_pieces_that_are_known_are_hashed_too() {
        let start = (EMPTY.len() as u64 + 3) * LEAF;
        let Leaf::Part(told) = empty_leaf(start, LEAF, 2 * start) else { panic!("a part") };
        let zeros = vec![0; in_memory(LEAF)];
        let hashed = Hasher::new().set_input_offset(start).update(&zeros).finalize_non_root();
        assert_eq!(told, hashed);
    }
}
