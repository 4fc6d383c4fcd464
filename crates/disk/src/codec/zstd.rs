//! Zstandard, as packed qcow2 clusters use it.

use zstd_safe::{DCtx, InBuffer, OutBuffer, ResetDirective};

/// A decoding context, kept from cluster to cluster: making one costs more than a small cluster.
pub(super) struct ZstdReader {
    context: DCtx<'static>,
}

impl ZstdReader {
    pub(super) fn new() -> Self {
        Self { context: DCtx::create() }
    }

    /// Fills the cluster from one or more frames; what follows them in the last sector is ignored.
    pub(super) fn fill(&mut self, packed: &[u8], cluster: &mut [u8]) -> bool {
        if self.context.reset(ResetDirective::SessionOnly).is_err() {
            return false;
        }
        let wanted = cluster.len();
        let mut input = InBuffer::around(packed);
        let mut output = OutBuffer::around(cluster);
        while output.pos() < wanted {
            let before = (input.pos(), output.pos());
            if self.context.decompress_stream(&mut output, &mut input).is_err() {
                return false;
            }
            if (input.pos(), output.pos()) == before {
                return false;
            }
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_fills_its_cluster_and_what_follows_is_ignored() {
        let bytes: Vec<u8> = (0..4096u32).map(|i| (i / 31).to_be_bytes()[3]).collect();
        let mut packed = vec![0; 8192];
        let length = zstd_safe::compress(&mut packed[..], &bytes, 3).unwrap();
        let mut reader = ZstdReader::new();
        for behind in [0, 300] {
            let mut out = vec![0xAA; 4096];
            assert!(reader.fill(&packed[..length + behind], &mut out));
            assert_eq!(out, bytes);
        }
        assert!(!reader.fill(&packed[..length / 2], &mut vec![0; 4096]), "half a frame");
        assert!(!reader.fill(&packed[..length], &mut vec![0; 8192]), "too short for the cluster");
        assert!(!reader.fill(&[0xFF; 100], &mut vec![0; 4096]), "garbage");
    }
}
