//! The digest of everything that an image itself stores of its disk, wherever it lies.

use std::sync::atomic::{AtomicBool, Ordering};

use calve_disk::units::{GuestRange, in_memory};
use calve_disk::{Disk, Encoding, Error as DiskError, Payload, Scratch, Storage};

use crate::error::{Error, Result};

/// Bytes that are read and hashed at once.
const PORTION: u64 = 1 << 20;

/// The digest of the bytes of a range of `disk` that are stored in `storage`, each under its place in the
/// disk: unpacked, and as they lie there where they are encrypted.
///
/// # Errors
/// Where a packed cluster does not unpack: what is lost already is found here.
pub(crate) fn digest(
    disk: &Disk,
    range: GuestRange,
    storage: &dyn Storage,
    stop: &AtomicBool,
) -> Result<blake3::Hash> {
    let mut hasher = blake3::Hasher::new();
    let (mut scratch, mut bytes) = (Scratch::default(), Vec::new());
    let mut next = 0;
    for extent in disk.extents(range) {
        let extent = extent?;
        let Payload::Stored(stored) = extent.payload else { continue };
        if extent.range.start.get() != next {
            hasher.update(&next.to_be_bytes());
            hasher.update(&extent.range.start.get().to_be_bytes());
        }
        next = extent.range.end().get();
        let end = next;
        let mut start = extent.range.start.get();
        while start < end {
            if stop.load(Ordering::Relaxed) {
                return Err(Error::Stopped);
            }
            let part = extent.clipped(GuestRange::at(start, PORTION.min(end - start)));
            bytes.resize(in_memory(part.range.length), 0);
            if stored.encoding == Encoding::Encrypted {
                let at = stored.at + (start - extent.range.start.get());
                storage
                    .read_at(&mut bytes, at)
                    .map_err(|source| DiskError::io("reading a cluster", storage, at, source))?;
            } else {
                disk.read_whole(&[part], &mut scratch, &mut bytes)?;
            }
            hasher.update(&bytes);
            start += part.range.length;
        }
    }
    hasher.update(&next.to_be_bytes());
    Ok(hasher.finalize())
}
