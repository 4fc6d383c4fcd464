//! Raw deflate, read with the tolerance that old images need.
//!
//! Success means that the cluster is full, whatever the decoder's last word: streams without an
//! end marker, with bytes behind it, or that would yield more than a cluster are all found in
//! images that QEMU reads (`docs/qcow1.md`, Q26). The window is 32 KiB, because writers other
//! than QEMU look further back than its 4 KiB and QEMU itself reads that.

use zlib_rs::{InflateFlush, Status};

use super::Filled;

/// An inflate state, kept from cluster to cluster.
pub(super) struct Inflater {
    state: zlib_rs::Inflate,
}

const WINDOW_BITS: u8 = 15;

impl Inflater {
    pub(super) fn new() -> Self {
        Self { state: zlib_rs::Inflate::new(false, WINDOW_BITS) }
    }

    pub(super) fn fill(&mut self, packed: &[u8], cluster: &mut [u8]) -> Option<Filled> {
        self.state.reset(false);
        let status = self.state.decompress(packed, cluster, InflateFlush::Finish);
        // Whatever the status, a full cluster is a good cluster.
        if self.state.total_out() != cluster.len() as u64 {
            return None;
        }
        match (status, usize::try_from(self.state.total_in())) {
            (Ok(Status::StreamEnd), Ok(length)) => Some(Filled::Exactly { length }),
            _ => Some(Filled::Loosely),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::Deflater;

    fn pattern(length: usize) -> Vec<u8> {
        (0..length).map(|i| u8::try_from(i / 7 % 251).unwrap()).collect()
    }

    fn packed(bytes: &[u8]) -> Vec<u8> {
        Deflater::new().pack(bytes).expect("the pattern packs").to_vec()
    }

    fn check(stream: &[u8], cluster: usize, expected: Option<&[u8]>, what: &str) {
        let mut inflater = Inflater::new();
        for dirt in [0x00, 0xAA] {
            let mut out = vec![dirt; cluster];
            assert_eq!(inflater.fill(stream, &mut out).is_some(), expected.is_some(), "{what}");
            if let Some(expected) = expected {
                assert_eq!(out, expected, "{what}");
            }
        }
    }

    #[test]
    fn q26_a_full_cluster_is_success_and_nothing_else_is() {
        let bytes = pattern(4096);
        let stream = packed(&bytes);
        check(&stream, 4096, Some(&bytes), "an exact stream");
        let mut surplus = stream.clone();
        surplus.extend_from_slice(&[0xFF; 100]);
        check(&surplus, 4096, Some(&bytes), "bytes behind the stream");
        check(&packed(&pattern(8192)), 4096, Some(&bytes), "a stream of two clusters");
        check(&packed(&pattern(2048)), 4096, None, "a stream of half a cluster");
        check(&stream[..stream.len() / 2], 4096, None, "half a stream");
        check(&[], 4096, None, "nothing");
        check(&[0; 512], 4096, None, "a hole");
        check(&[0xFF; 512], 4096, None, "garbage");
    }

    #[test]
    fn q26_a_stream_that_lost_only_its_end_marker_is_whole() {
        // A stored block, so that the end is at a known place: header, length, its complement,
        // the bytes, and then the empty final block, which is cut off.
        let bytes = pattern(512);
        let mut stream = vec![0x00, 0x00, 0x02, 0xFF, 0xFD];
        stream.extend_from_slice(&bytes);
        check(&stream, 512, Some(&bytes), "no final block");
    }

    #[test]
    fn only_a_stream_that_ends_with_the_cluster_fills_it_exactly() {
        let bytes = pattern(4096);
        let stream = packed(&bytes);
        let filled = |stream: &[u8]| Inflater::new().fill(stream, &mut [0; 4096]);
        let exactly = Some(Filled::Exactly { length: stream.len() });
        assert_eq!(filled(&stream), exactly);
        assert_eq!(filled(&[&stream[..], &[0xFF; 100]].concat()), exactly, "bytes behind");
        assert_eq!(filled(&packed(&pattern(8192))), Some(Filled::Loosely), "two clusters");
        let mut endless = vec![0x00, 0x00, 0x10, 0xFF, 0xEF];
        endless.extend_from_slice(&bytes);
        assert_eq!(filled(&endless), Some(Filled::Loosely), "no final block");
    }

    #[test]
    fn q26_length_codes_that_do_not_exist_are_damage() {
        // The fixed code has room for 286 and 287, and no stream may hold them.
        let stream = [0xB3, 0xB6, 0x1E, 0x07, 0xA3, 0x60, 0x14, 0x58, 0x8F, 0x50, 0x00, 0x00];
        check(&stream, 1024, None, "code 287");
    }
}
