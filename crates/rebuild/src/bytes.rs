//! Numbers out of bytes, in either order, and bytes out of a file as far as it goes.

use calve_disk::units::{HostOffset, in_memory};
use calve_disk::{Error, Result, Storage};

/// The big-endian number of `length` bytes at `at`, or 0 where the bytes end before.
pub(crate) fn big(bytes: &[u8], at: usize, length: usize) -> u64 {
    let found = bytes.get(at..at + length).unwrap_or_default();
    found.iter().fold(0, |number, byte| number << 8 | u64::from(*byte))
}

/// The little-endian number of `length` bytes at `at`, or 0 where the bytes end before.
pub(crate) fn little(bytes: &[u8], at: usize, length: usize) -> u64 {
    let found = bytes.get(at..at + length).unwrap_or_default();
    found.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte))
}

/// At most `length` bytes from `at`: fewer where the file ends. `length` is within our limits.
pub(crate) fn read_up_to(source: &dyn Storage, at: u64, length: u64) -> Result<Vec<u8>> {
    let size = source
        .size()
        .map_err(|failed| Error::host("asking for the file's size", source.path(), failed))?;
    let mut bytes = vec![0; in_memory(length.min(size.saturating_sub(at)))];
    let at = HostOffset::new(at);
    source
        .read_at(&mut bytes, at)
        .map_err(|failed| Error::io("looking for tables", source, at, failed))?;
    Ok(bytes)
}
