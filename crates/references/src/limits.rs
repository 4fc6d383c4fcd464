//! Every limit has a name and stands here.

/// Bytes of a configuration: a hundred times what a machine with many disks and snapshots has.
pub const MAX_CONFIGURATION: usize = 4 << 20;

/// Elements within each other in a configuration: as many as libxml2 takes.
pub const MAX_DEPTH: usize = 256;

/// Attributes of one element, each of which is compared with all others.
pub const MAX_ATTRIBUTES: usize = 256;

/// Bytes of the longest note beside an overlay: what its first cluster, of 2 MiB at most, was and
/// becomes, as text.
pub const MAX_NOTE: u64 = 8 << 20;
