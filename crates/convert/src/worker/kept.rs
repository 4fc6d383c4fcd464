//! Kept: streams that came packed in the target's own way.

use std::ops::Range;

/// The streams of which clusters of the batch were unpacked, to be stored as they are.
#[derive(Default)]
pub(super) struct Kept {
    bytes: Vec<u8>,
    /// For each cluster of the batch its stream in `bytes`; empty where there is none.
    streams: Vec<Range<usize>>,
}

impl Kept {
    pub(super) fn clear(&mut self) {
        self.bytes.clear();
        self.streams.clear();
    }

    /// Keeps the stream of which `part` of the batch was unpacked, where that is one cluster of
    /// the target and packing gained something.
    pub(super) fn add(&mut self, part: Range<usize>, cluster: usize, stream: &[u8]) {
        if part.len() != cluster || !part.start.is_multiple_of(cluster) || stream.len() >= cluster {
            return;
        }
        let number = part.start / cluster;
        if self.streams.len() <= number {
            self.streams.resize(number + 1, 0..0);
        }
        let start = self.bytes.len();
        self.bytes.extend_from_slice(stream);
        self.streams[number] = start..self.bytes.len();
    }

    pub(super) fn stream(&self, number: usize) -> Option<&[u8]> {
        let stream = self.streams.get(number)?;
        (!stream.is_empty()).then(|| &self.bytes[stream.clone()])
    }
}
