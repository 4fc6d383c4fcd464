//! Window: a range of the file, read in large pieces and looked at in small ones.

use calve_disk::units::{HostOffset, in_memory};
use calve_disk::{Result, Storage};

use super::unread;

/// Bytes that are looked at together at most: an L2 table or a cluster.
pub(super) const AHEAD: u64 = 64 << 10;

/// Bytes that are read at once.
const READ: u64 = 1 << 20;

/// A range of the file.
pub(super) struct Window<'a> {
    storage: &'a dyn Storage,
    pub(super) start: u64,
    pub(super) end: u64,
    at: u64,
    bytes: Vec<u8>,
}

impl<'a> Window<'a> {
    pub(super) fn new(storage: &'a dyn Storage, start: u64, end: u64) -> Self {
        Self { storage, start, end, at: start, bytes: Vec::new() }
    }

    /// The bytes from `at` on, at most `most` and [`AHEAD`] of them; fewer at the range's end.
    pub(super) fn bytes(&mut self, at: u64, most: u64) -> Result<&[u8]> {
        let to = at.saturating_add(most.min(AHEAD)).min(self.end).max(at);
        let held_to = self.at + self.bytes.len() as u64;
        if at < self.at || to > held_to {
            let length = READ.min(self.end.saturating_sub(at));
            self.bytes.resize(in_memory(length), 0);
            self.at = at;
            self.storage
                .read_at(&mut self.bytes, HostOffset::new(at))
                .map_err(|source| unread(self.storage, at, source))?;
        }
        let (from, to) = (in_memory(at - self.at), in_memory(to - self.at));
        Ok(self.bytes.get(from..to).unwrap_or_default())
    }

    /// The first byte from `at` on that is not zero. What the host does not store is not read.
    pub(super) fn not_zero(&mut self, mut at: u64) -> Result<Option<u64>> {
        while at < self.end {
            let is_held = at >= self.at && at < self.at + self.bytes.len() as u64;
            if !is_held {
                let region = self.storage.region(HostOffset::new(at));
                let region = region.map_err(|source| unread(self.storage, at, source))?;
                if region.is_hole && region.length > 0 {
                    at = at.saturating_add(region.length);
                    continue;
                }
            }
            let bytes = self.bytes(at, AHEAD)?;
            match bytes.iter().position(|byte| *byte != 0) {
                Some(number) => return Ok(Some(at + number as u64)),
                None => at += bytes.len() as u64,
            }
        }
        Ok(None)
    }

    /// Whether all bytes from `at` up to `to` are zeros.
    pub(super) fn is_zero(&mut self, at: u64, to: u64) -> Result<bool> {
        Ok(self.bytes(at, to.saturating_sub(at))?.iter().all(|byte| *byte == 0))
    }
}
