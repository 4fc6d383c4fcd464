//! Every limit has a name and stands here.

/// Bytes of a configuration: as many as libxml2 takes of one text.
pub const MAX_CONFIGURATION: usize = 10_000_000;

/// Elements within each other in a configuration: as many as libxml2 takes.
pub const MAX_DEPTH: usize = 256;

/// Bytes of the longest note beside an overlay: what its first cluster, of 2 MiB at most, was and
/// becomes, as text.
pub const MAX_NOTE: u64 = 8 << 20;
