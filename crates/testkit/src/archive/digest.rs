//! BLAKE3 of disks that are nearly all holes, without hashing the holes of each.

use std::collections::HashMap;

use blake3::Hasher;
use blake3::hazmat::{
    ChainingValue, HasherExt, Mode, left_subtree_len, merge_subtrees_non_root, merge_subtrees_root,
};

use super::content::Content;

/// Bytes that are hashed in one piece.
const LEAF: u64 = 64 << 10;

/// Bytes that are no more than one chunk of BLAKE3, which has no parts.
const CHUNK: u64 = 1024;

/// Digests of disks. What a stretch of zeros adds depends on its place alone, so that it is worked
/// out once for all disks.
#[derive(Default)]
pub(super) struct Digests {
    zeros: HashMap<(u64, u64), ChainingValue>,
}

impl Digests {
    /// The digest that `b3sum` prints of the raw disk.
    pub(super) fn of(&mut self, content: &Content) -> String {
        let size = content.size;
        if size <= CHUNK {
            return blake3::hash(&content.read(0, size)).to_hex().to_string();
        }
        let left = left_subtree_len(size);
        let halves = [self.part(content, 0, left), self.part(content, left, size - left)];
        merge_subtrees_root(&halves[0], &halves[1], Mode::Hash).to_hex().to_string()
    }

    fn part(&mut self, content: &Content, start: u64, length: u64) -> ChainingValue {
        let is_zero = content.is_empty(start, length);
        if let Some(known) = self.zeros.get(&(start, length)).filter(|_| is_zero) {
            return *known;
        }
        let value = if length <= LEAF {
            let bytes = content.read(start, length);
            Hasher::new().set_input_offset(start).update(&bytes).finalize_non_root()
        } else {
            let left = left_subtree_len(length);
            let first = self.part(content, start, left);
            let second = self.part(content, start + left, length - left);
            merge_subtrees_non_root(&first, &second, Mode::Hash)
        };
        if is_zero {
            self.zeros.insert((start, length), value);
        }
        value
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;

    #[test]
    fn digests_are_those_of_all_bytes() {
        let (mut digests, mut random) = (Digests::default(), Random::new(1));
        for size in [512, 1024, 1536, 64 << 10, (64 << 10) + 512, 5 << 20, (7 << 20) + 4608] {
            for _ in 0..3 {
                let content = Content::installed(size, 0, &mut random);
                let expected = blake3::hash(&content.read(0, size)).to_hex().to_string();
                assert_eq!(digests.of(&content), expected, "{size}");
            }
        }
    }
}
