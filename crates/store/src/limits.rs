//! Every limit has a name and stands here: what is kept, how long is waited, how large a part is.

use std::time::Duration;

/// Bytes that are read at once at least: to ask again costs more than to send them.
pub const BLOCK: u64 = 32 << 10;

/// Blocks of one object that are kept: 8 MiB.
pub const KEPT_BLOCKS: usize = 256;

/// A read that is as long as this asks the server for just that, and nothing of it is kept.
pub const LONG_READ: u64 = 128 << 10;

/// The most blocks that are read ahead of whoever reads one after the other: 1 MiB.
pub const MOST_AHEAD: u64 = 32;

/// Readers of one object whose places are remembered.
pub const READERS: usize = 16;

/// Requests of one object at the same time that nobody waits for yet.
pub const FETCHERS: usize = 8;

/// Blocks that wait to be fetched for somebody who will want them; what is beyond is forgotten.
pub const WAITING: usize = 256;

/// Parts on their way at the same time.
pub const SENDERS: usize = 4;

/// How often something is asked for in all, where the server or the network fails.
pub const ATTEMPTS: u32 = 5;

/// The pause after the first failure. Each further one is twice as long.
pub const FIRST_PAUSE: Duration = Duration::from_millis(200);

/// How often, and how long, it is tried to take away the parts of what came to nothing.
pub const GIVING_UP: (u32, Duration) = (2, Duration::from_secs(5));

/// Pages of old uploads of one object that are given up.
pub const PENDING_PAGES: u32 = 10;

/// How soon a pause ends where the run is to stop.
pub const HEED: Duration = Duration::from_millis(50);

/// How long a request that says how things stand, or cleans up, may take where the run is to stop.
pub const GRACE: Duration = Duration::from_secs(3);

/// The longest code of a server that is repeated.
pub const LONGEST_CODE: usize = 64;

/// The longest object that is read: what files may have at most.
pub const LONGEST_OBJECT: u64 = i64::MAX.unsigned_abs();

/// How long a connection may take to come about.
pub const CONNECT: Duration = Duration::from_secs(10);

/// How long the addresses of a server's name are good: stores have many, and change them often.
pub const ADDRESSES: Duration = Duration::from_secs(5);

/// How long the server may take to begin its answer.
pub const ANSWER: Duration = Duration::from_secs(30);

/// The same where it has to copy something, or to put an object together.
pub const SLOW_ANSWER: Duration = Duration::from_secs(900);

/// How long a body may take whatever its length.
pub const BODY: Duration = Duration::from_secs(30);

/// Bytes of a body that have to come in each further second.
pub const SLOWEST: u64 = 64 << 10;

/// How long the metadata service of a machine may take: where there is none, nobody answers.
pub const METADATA: Duration = Duration::from_secs(2);

/// Credentials that end sooner than this are asked for anew.
pub const FRESH: Duration = Duration::from_secs(300);

/// The longest answer that is not an object's bytes.
pub const LONGEST_ANSWER: u64 = 1 << 20;

/// Objects that a page of a listing has at most, as S3 has it.
pub const PAGE: u32 = 1000;

/// The longest page: keys of 1024 bytes, each byte of them escaped, and what is beside them.
pub const LONGEST_PAGE: u64 = 8 << 20;

/// Pages one after the other that hold nothing and say that more comes.
pub const EMPTY_PAGES: u32 = 1000;

/// Objects of a listing that are looked at at the same time, unless somebody asks for another
/// number.
pub const LOOKERS: usize = 16;

/// Objects one after the other that cannot be asked for at all, after which no further one is.
pub const UNREACHABLE_IN_A_ROW: usize = 32;

/// The longest file of settings that is read.
pub const LONGEST_SETTINGS: u64 = 1 << 20;

/// The longest key, as S3 has it.
pub const LONGEST_KEY: usize = 1024;

/// What every part but the last has at least, as S3 has it.
pub const LEAST_PART: u64 = 5 << 20;

/// The most parts of an object, as S3 has it.
pub const MOST_PARTS: u64 = 10_000;

/// Bytes of a part that is sent, unless there would be too many parts.
pub const PART: u64 = 16 << 20;

/// Bytes of a part that the server copies, unless there would be too many. It may be 5 GiB, and
/// several small ones are copied at once.
pub const COPIED_PART: u64 = 256 << 20;

/// Parts beyond which longer ones are made: short of [`MOST_PARTS`], since those that are sent and
/// those that are copied take turns.
pub const MANY_PARTS: u64 = 4_000;

/// Bytes that a draft reads at once of what it will send.
pub const SPOOLED_READ: u64 = 1 << 20;

/// Ranges that a draft remembers to have read. What is beyond is read anew each time.
pub const KEPT_RANGES: usize = 1 << 18;
