//! Limits: what is read of a file, and of what is packed in it, whatever that claims.

/// Bytes of a file that is not opened as an image: enough for every magic.
pub const START: usize = 512;

/// Bytes of an archive's member that are kept to look at: header, backing file name, and the
/// first tables of an image that is not absurdly large. Where all tables are walked, the rest of
/// an image is spooled.
pub const MEMBER_START: usize = 64 << 10;

/// Archives within archives: `disk.qcow.gz` within `all.tar.xz` is three.
pub const DEPTH: usize = 4;

/// Images of one archive that are told of.
pub const MEMBERS: usize = 10_000;

/// Bytes of the names of all images of one archive that are told of.
pub const MEMBER_NAMES: u64 = 4 << 20;

/// Bytes of names and other bookkeeping that one member of a tar archive may have.
pub const TAR_BOOKKEEPING: u64 = 1 << 20;

/// Bytes that come out of one archive before it is given up: as many as this, and
/// [`UNPACKED_FOR_EACH`] for each byte of the file. Images in which all tables are walked count as
/// unpacked though they lie there as they are.
pub const UNPACKED: u64 = 16 << 30;

/// What a byte of an archive may become on the whole. Images seldom pack as well as that.
pub const UNPACKED_FOR_EACH: u64 = 64;

/// Bytes of memory that unpacking xz, or Zstandard, may take for one stream: what their tools
/// need for what they make with their strongest options.
pub const WINDOW: u64 = 128 << 20;

/// Bytes other than blocks of zeros that one spool takes, and each worker has one. It is not derived
/// from the file's length, as a small one may become very much; an image that holds more is
/// unpacked by whoever wants its tables walked.
pub const SPOOL: u64 = 8 << 30;

/// Bytes that are written to a spool between two looks at the room that is left beside it.
pub const SPOOL_LOOK: u64 = 16 << 20;

/// Files with several names that are remembered during a walk, so that each is read once. Of
/// further ones every name is read.
pub const LINKED: usize = 1 << 20;

/// Extents of a file that are looked at. An image that is in more pieces is a badly fragmented one,
/// and the kernel is asked for each eight of them.
pub const EXTENTS: usize = 1 << 16;

/// Sightings that wait for whoever takes them down.
pub const WAITING: usize = 256;

/// The longest text about what did not work, in bytes.
pub const PROBLEM: usize = 1024;

/// Bytes of a member's name in such a text: what did not work has to fit behind it, though each
/// byte may be escaped.
pub const SHOWN_NAME: usize = 128;
