//! BLAKE3 of the guest's bytes, taken in pieces by many workers and put together in order.
//!
//! The digest is the one that `b3sum` prints of the raw disk: BLAKE3 is a tree, and pieces of
//! 2 MiB are whole subtrees of it.

use blake3::Hasher;
use blake3::hazmat::{
    ChainingValue, HasherExt, Mode, merge_subtrees_non_root, merge_subtrees_root,
};

/// Bytes of one piece: a power of two, and as much as a batch holds.
pub(crate) const LEAF: u64 = 2 << 20;

/// The digest of one piece, mergeable with its neighbours'.
pub(crate) enum Leaf {
    /// A piece of a longer disk.
    Part(ChainingValue),
    /// The only piece of a disk that is no longer.
    Whole(blake3::Hash),
}

/// The digest of the piece that begins at `start`, of a disk of `size` bytes.
pub(crate) fn leaf(bytes: &[u8], start: u64, size: u64) -> Leaf {
    if size <= LEAF {
        return Leaf::Whole(blake3::hash(bytes));
    }
    Leaf::Part(Hasher::new().set_input_offset(start).update(bytes).finalize_non_root())
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
    use calve_disk::units::in_memory;

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
}
