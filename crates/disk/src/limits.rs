//! Every limit has a name and stands here: memory is bounded by our choice, never by a header's.

/// Layers in a backing chain, the top one included.
pub const MAX_CHAIN: usize = 64;

/// The largest virtual size in bytes: guest offsets and their sums stay inside 63 bits.
pub const MAX_VIRTUAL_SIZE: u64 = i64::MAX as u64 - (1 << 21);

/// The longest backing file name in bytes (QEMU opens no longer one, in either format).
pub const MAX_BACKING_NAME: u64 = 1023;

/// Bytes of one read that gathers neighbouring payloads.
pub const MERGED_READ: u64 = 1 << 20;

/// Host bytes that nobody asked for but that a merged read may pass over: reading 16 KiB costs
/// less than another request.
pub const MERGE_GAP: u64 = 16 << 10;

/// Bytes of one read of what is far, which answers late whatever is asked.
pub const FAR_READ: u64 = 4 << 20;

/// Host bytes that nobody asked for but that a read of what is far may pass over: a store sends 128 KiB
/// in less time than it takes to answer.
pub const FAR_GAP: u64 = 128 << 10;

/// Bytes of table pages that the images of one disk keep together.
pub const TABLE_CACHE: usize = 4 << 20;

/// Bytes of table pages that each image of a long chain keeps all the same: the largest page of
/// an L1 table and the largest L2 table of version 1.
pub const LEAST_TABLE_CACHE: usize = 96 << 10;
