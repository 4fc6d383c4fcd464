//! Zstandard, as packed qcow2 clusters use it.

use zstd_safe::{DCtx, InBuffer, OutBuffer, ResetDirective};

use super::Filled;

/// A decoding context, kept from cluster to cluster: making one costs more than a small cluster.
pub(super) struct ZstdReader {
    context: DCtx<'static>,
}

impl ZstdReader {
    pub(super) fn new() -> Self {
        Self { context: DCtx::create() }
    }

    /// Fills the cluster from one or more frames; what follows them in the last sector is ignored.
    pub(super) fn fill(&mut self, packed: &[u8], cluster: &mut [u8]) -> Option<Filled> {
        self.context.reset(ResetDirective::SessionOnly).ok()?;
        let wanted = cluster.len();
        let mut input = InBuffer::around(packed);
        let mut output = OutBuffer::around(cluster);
        while output.pos() < wanted {
            let before = (input.pos(), output.pos());
            self.context.decompress_stream(&mut output, &mut input).ok()?;
            if (input.pos(), output.pos()) == before {
                return None;
            }
        }
        // Whether the frame ends here too is nobody's question: no target takes frames as they
        // are.
        Some(Filled::Loosely)
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
            assert!(reader.fill(&packed[..length + behind], &mut out).is_some());
            assert_eq!(out, bytes);
        }
        let mut fill = |packed, length| reader.fill(packed, &mut vec![0; length]);
        assert_eq!(fill(&packed[..length / 2], 4096), None, "half a frame");
        assert_eq!(fill(&packed[..length], 8192), None, "too short for the cluster");
        assert_eq!(fill(&[0xFF; 100], 4096), None, "garbage");
    }
}
