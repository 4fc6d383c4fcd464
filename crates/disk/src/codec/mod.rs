//! Packing, unpacking and decrypting: how stored bytes become guest bytes.

pub mod aes;
mod deflate;
mod inflate;
mod zstd;

pub use deflate::Deflater;

use crate::extent::Codec;
use inflate::Inflater;
use zstd::ZstdReader;

/// What unpacks clusters: one for each worker, so that nothing is allocated per cluster.
#[derive(Default)]
pub struct Unpacker {
    inflater: Option<Inflater>,
    zstd: Option<ZstdReader>,
}

impl Unpacker {
    /// Fills all of `cluster` from `packed` and says whether that was possible.
    ///
    /// What follows the packed stream in `packed` is ignored, and so is what the stream would
    /// yield beyond the cluster. `cluster` holds nothing of use where the answer is no.
    pub fn fill(&mut self, codec: Codec, packed: &[u8], cluster: &mut [u8]) -> bool {
        match codec {
            Codec::Deflate => self.inflater.get_or_insert_with(Inflater::new).fill(packed, cluster),
            Codec::Zstd => self.zstd.get_or_insert_with(ZstdReader::new).fill(packed, cluster),
        }
    }
}
