//! Every limit has a name and stands here.

/// Bytes of a configuration: as many as libxml2 takes of one text.
pub const MAX_CONFIGURATION: usize = 10_000_000;

/// Elements within each other in a configuration: as many as libxml2 takes.
pub const MAX_DEPTH: usize = 256;

/// Bytes of the longest name of a format in a qcow2 header (QEMU reads no longer one).
pub const MAX_FORMAT_NAME: usize = 15;

/// Bytes of the longest note beside an overlay: what its first cluster, of 2 MiB at most, was and
/// becomes, as text.
pub const MAX_NOTE: u64 = 8 << 20;
