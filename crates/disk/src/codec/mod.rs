//! Packing, unpacking and decrypting: how stored bytes become guest bytes.

pub mod aes;
mod deflate;
mod inflate;
mod zstd;

pub use deflate::Deflater;
pub(crate) use deflate::WINDOW;

use crate::extent::Codec;
use inflate::Inflater;
use zstd::ZstdReader;

/// How a cluster was filled from what was packed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Filled {
    /// By a stream that ends, as its format wants it, with the cluster's last byte. `length` is
    /// the stream's in bytes.
    Exactly {
        /// The stream's length in bytes.
        length: usize,
    },
    /// By a stream that goes on behind the cluster or that lost its end.
    Loosely,
}

/// What unpacks clusters: one for each worker, so that nothing is allocated per cluster.
#[derive(Default)]
pub struct Unpacker {
    inflater: Option<Inflater>,
    zstd: Option<ZstdReader>,
}

impl Unpacker {
    /// Fills all of `cluster` from `packed`; `None` where that is not possible, and then
    /// `cluster` holds nothing of use.
    ///
    /// What follows the packed stream in `packed` is ignored, and so is what the stream would
    /// yield beyond the cluster.
    pub fn fill(&mut self, codec: Codec, packed: &[u8], cluster: &mut [u8]) -> Option<Filled> {
        match codec {
            Codec::Deflate => self.inflater.get_or_insert_with(Inflater::new).fill(packed, cluster),
            Codec::Zstd => self.zstd.get_or_insert_with(ZstdReader::new).fill(packed, cluster),
        }
    }
}
