//! Limits: how much a process may use. They follow from the length of what is read, never from
//! what that claims.

use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::Missing;

const MIB: u64 = 1 << 20;

/// Bytes of address space for the program, its libraries, and up to 16 threads with what they have
/// in hand, which is bounded by itself.
const LEAST_MEMORY: u64 = 512 * MIB;

/// No file, however long, gets more. (Nothing that is read needs to be kept as a whole.)
const MOST_MEMORY: u64 = 1024 * MIB;

/// Seconds of processor time that the smallest file gets.
const LEAST_SECONDS: u64 = 60;

/// A file gets one more second of processor time for each of these bytes. Tables take a hundredth
/// of that; packed clusters become up to a thousand times as long as they lie there.
const BYTES_PER_SECOND: u64 = 256 << 10;

/// How long the smallest file may take by the clock.
const LEAST_WAIT: u64 = 10 * 60;

/// A file gets one more second by the clock for each of these bytes: no device is as slow as that
/// and still of use.
const BYTES_PER_SECOND_WAITED: u64 = 64 << 10;

/// Files that may be open at once.
const OPEN_FILES: u64 = 1024;

/// Between the polite and the final signal.
const SECONDS_OF_GRACE: u64 = 2;

/// How much a process may use.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// Bytes of address space.
    pub memory: u64,
    /// Seconds of processor time, of all threads together.
    pub seconds: u64,
    /// How long it may take by the clock, which whoever started it has to see to.
    pub wait: Duration,
}

impl Limits {
    /// The limits for a process that reads so many bytes of files.
    pub fn for_reading(bytes: u64) -> Self {
        Self {
            memory: LEAST_MEMORY.saturating_add(bytes).min(MOST_MEMORY),
            seconds: LEAST_SECONDS + bytes / BYTES_PER_SECOND,
            wait: Duration::from_secs(LEAST_WAIT + bytes / BYTES_PER_SECOND_WAITED),
        }
    }

    /// Puts the limits in force. A limit that is narrower already stays.
    pub(crate) fn enter(&self, writes: bool) -> Option<Missing> {
        let mut refused = None;
        let mut limit = |resource, most: u64, grace: u64| {
            let old = getrlimit(resource);
            let narrowed = |old: Option<u64>, new: u64| Some(old.map_or(new, |old| old.min(new)));
            let maximum = narrowed(old.maximum, most.saturating_add(grace));
            let new = Rlimit { current: narrowed(old.current, most), maximum };
            if let Err(error) = setrlimit(resource, new) {
                refused = Some(Missing { what: "limits", why: error.to_string() });
            }
        };
        limit(Resource::As, self.memory, 0);
        limit(Resource::Cpu, self.seconds, SECONDS_OF_GRACE);
        limit(Resource::Nofile, OPEN_FILES, 0);
        limit(Resource::Core, 0, 0);
        if !writes {
            limit(Resource::Fsize, 0, 0);
        }
        refused
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_grow_with_the_file_and_never_overflow() {
        let least = Limits::for_reading(0);
        assert_eq!((least.memory, least.seconds), (512 << 20, 60));
        assert_eq!(least.wait, Duration::from_secs(600));
        let gibibyte = Limits::for_reading(1 << 30);
        assert_eq!((gibibyte.memory, gibibyte.seconds), (1 << 30, 60 + 4096));
        assert_eq!(gibibyte.wait, Duration::from_secs(600 + 16384));
        let most = Limits::for_reading(u64::MAX);
        assert_eq!(most.memory, 1 << 30);
        assert!(most.seconds > gibibyte.seconds && most.wait > gibibyte.wait);
    }
}
