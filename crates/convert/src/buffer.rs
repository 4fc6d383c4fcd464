//! A buffer whose first byte is where direct writes want it.

use std::ops::{Deref, DerefMut};

use calve_disk::DIRECT_BLOCK;

/// Bytes that begin at a multiple of [`DIRECT_BLOCK`] of the memory.
///
/// What it holds when it becomes longer is of no meaning. Memory that nobody touched is not there:
/// what is never read into it costs nothing.
#[derive(Default)]
pub(crate) struct Buffer {
    bytes: Vec<u8>,
    start: usize,
    length: usize,
}

impl Buffer {
    /// Makes it so many bytes long.
    pub(crate) fn set_length(&mut self, length: usize) {
        if self.bytes.len() < self.start + length || self.bytes.is_empty() {
            self.bytes = vec![0; length + DIRECT_BLOCK];
            // Where that cannot be told, writes are not direct.
            let start = self.bytes.as_ptr().align_offset(DIRECT_BLOCK);
            self.start = if start < DIRECT_BLOCK { start } else { 0 };
        }
        self.length = length;
    }
}

impl Deref for Buffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes[self.start..self.start + self.length]
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.bytes[self.start..self.start + self.length]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_begins_on_a_block_however_long_it_becomes() {
        let mut buffer = Buffer::default();
        assert!(buffer.is_empty());
        for length in [1, 5000, 100, 1 << 21, 0, 4096] {
            buffer.set_length(length);
            assert_eq!(buffer.len(), length);
            assert_eq!(buffer.as_ptr().align_offset(DIRECT_BLOCK), 0);
            buffer.fill(7);
        }
    }
}
