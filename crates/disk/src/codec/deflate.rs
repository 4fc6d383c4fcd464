//! Raw deflate, written so that every reader of qcow2 accepts it.
//!
//! The window is 4 KiB: QEMU opens its decoder with that, and a reader that takes the number at
//! its word would refuse a stream that looks further back.

use zlib_rs::{Deflate, DeflateFlush, Status};

/// A deflate state, kept from cluster to cluster.
pub struct Deflater {
    state: Deflate,
}

/// The level of zlib's own default, which QEMU uses too.
const LEVEL: i32 = 6;
const WINDOW_BITS: u8 = 12;

impl Default for Deflater {
    fn default() -> Self {
        Self::new()
    }
}

impl Deflater {
    /// A fresh state.
    pub fn new() -> Self {
        Self { state: Deflate::new(LEVEL, false, WINDOW_BITS) }
    }

    /// Packs `bytes` into `packed` and returns the stream's length, or `None` where it does not
    /// fit.
    pub fn pack(&mut self, bytes: &[u8], packed: &mut [u8]) -> Option<usize> {
        self.state.reset();
        match self.state.compress(bytes, packed, DeflateFlush::Finish) {
            Ok(Status::StreamEnd) => usize::try_from(self.state.total_out()).ok(),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::Unpacker;
    use crate::extent::Codec;

    #[test]
    fn what_was_packed_unpacks_to_the_same_and_equal_input_to_equal_output() {
        let bytes: Vec<u8> = (0..65536u32).map(|i| (i / 97).to_be_bytes()[3]).collect();
        let mut deflater = Deflater::new();
        let mut first = vec![0; 65535];
        let length = deflater.pack(&bytes, &mut first).unwrap();
        let mut again = vec![0xAA; 65535];
        assert_eq!(deflater.pack(&bytes, &mut again), Some(length));
        assert_eq!(first[..length], again[..length]);
        let mut out = vec![0; bytes.len()];
        assert!(Unpacker::default().fill(Codec::Deflate, &first[..length], &mut out));
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
        assert_eq!(Deflater::new().pack(&bytes, &mut vec![0; 4095]), None);
    }
}
