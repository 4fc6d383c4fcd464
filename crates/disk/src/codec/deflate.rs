//! Raw deflate, written so that every reader of qcow2 accepts it.
//!
//! The window is 4 KiB: QEMU opens its decoder with that, and a reader that takes the number at
//! its word would refuse a stream that looks further back.

use zlib_rs::{Deflate, DeflateFlush, Status};

/// A deflate state, kept from cluster to cluster.
pub struct Deflater {
    state: Deflate,
    /// Room for any stream of a cluster, also for one that grows: the library does not promise
    /// to stop cleanly where its room ends.
    room: Vec<u8>,
}

/// The level of zlib's own default, which QEMU uses too.
const LEVEL: i32 = 6;
const WINDOW_BITS: u8 = 12;

/// How far back, in bytes, a stream looks at most that qcow2 readers are given.
pub(crate) const WINDOW: u64 = 1 << WINDOW_BITS;

impl Default for Deflater {
    fn default() -> Self {
        Self::new()
    }
}

impl Deflater {
    /// A fresh state.
    pub fn new() -> Self {
        Self { state: Deflate::new(LEVEL, false, WINDOW_BITS), room: Vec::new() }
    }

    /// Packs `bytes`: the stream, or `None` where it would not be shorter.
    pub fn pack(&mut self, bytes: &[u8]) -> Option<&[u8]> {
        // More than zlib's own bound for its least favourable settings.
        self.room.resize(bytes.len() + bytes.len() / 4 + 64, 0);
        self.state.reset();
        let done = self.state.compress(bytes, &mut self.room, DeflateFlush::Finish);
        let length = usize::try_from(self.state.total_out()).ok()?;
        match done {
            Ok(Status::StreamEnd) if length < bytes.len() => self.room.get(..length),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::{Filled, Unpacker};
    use crate::extent::Codec;

    #[test]
    fn what_was_packed_unpacks_to_the_same_and_equal_input_to_equal_output() {
        let bytes: Vec<u8> = (0..65536u32).map(|i| (i / 97).to_be_bytes()[3]).collect();
        let mut deflater = Deflater::new();
        let first = deflater.pack(&bytes).unwrap().to_vec();
        assert!(deflater.pack(&[7; 512]).is_some());
        assert_eq!(deflater.pack(&bytes), Some(&first[..]));
        let mut out = vec![0; bytes.len()];
        let filled = Unpacker::default().fill(Codec::Deflate, &first, &mut out);
        assert_eq!(filled, Some(Filled::Exactly { length: first.len() }));
        assert_eq!(out, bytes);
    }

    #[test]
    fn what_does_not_get_smaller_is_not_packed() {
        let mut seed = 1u64;
        let bytes: Vec<u8> = std::iter::repeat_with(|| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            seed.to_be_bytes()[0]
        })
        .take(4096)
        .collect();
        let mut deflater = Deflater::new();
        for length in 1..bytes.len() {
            assert_eq!(deflater.pack(&bytes[..length]), None, "{length}");
        }
    }
}
