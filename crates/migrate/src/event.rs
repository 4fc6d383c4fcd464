//! What a run tells while it goes on.

use std::path::Path;

use calve_plan::Family;

use crate::error::Cause;

/// Something that happened.
#[derive(Clone, Debug)]
pub enum Event<'a> {
    /// A family begins.
    Began {
        /// It.
        family: &'a Family,
    },
    /// A family is over.
    Ended {
        /// It.
        family: &'a Family,
        /// How it ended.
        outcome: Outcome,
        /// How long it took, in seconds.
        seconds: f64,
    },
    /// A configuration was changed with a family.
    Followed {
        /// The family's number.
        family: u64,
        /// The configuration.
        path: &'a Path,
    },
    /// A hook said a line, where that is told.
    Said {
        /// The family's number.
        family: u64,
        /// The image.
        path: &'a Path,
        /// Which hook.
        hook: &'static str,
        /// The line, or the beginning of a long one: 1024 bytes at most.
        line: &'a [u8],
        /// Bytes that it has behind that.
        cut: u64,
    },
    /// A hook that has ended said more lines than the hundred that were told.
    Unsaid {
        /// The family's number.
        family: u64,
        /// The image.
        path: &'a Path,
        /// Which hook.
        hook: &'static str,
        /// How many more.
        lines: u64,
    },
    /// No further family begins.
    Halted {
        /// Why.
        why: String,
    },
}

/// How a family ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// It is migrated.
    Done {
        /// Bytes of its disks that are missing, of those that were rescued.
        missing: u64,
    },
    /// It was migrated before.
    Known,
    /// It is as it was, or half way.
    Failed {
        /// What the failure is about.
        cause: Cause,
        /// One line.
        problem: String,
        /// Whether it is half way, so that the next run has to go on with it.
        is_open: bool,
        /// Whether it was left so three times for the same cause, and came no further.
        is_stuck: bool,
    },
}
