//! What a damaged QCOW version 1 image would be had its header and tables not been lost.
//!
//! Nothing is written. Each step takes a [`Patched`] source and returns a [`Rebuilt`]: the same
//! source with a few other bytes in memory, which [`calve_disk::formats::qcow1::Qcow1Image`]
//! reads like any file, and what the guesses rest on.

mod base;
mod bytes;
mod guest;
mod header;
mod l1;
mod layout;
mod passphrase;
mod patched;
mod sectors;
mod shape;
mod step;
mod trial;
mod xen;

pub use base::{Candidate, Reason, Search, find_base, is_clear, judge_bases};
pub use header::{Hints, header};
pub use l1::l1;
pub use passphrase::{Tried, find_passphrase};
pub use patched::{MOST_PATCHED, Patched, Patches};
pub use sectors::LONGEST_SCANNED;
pub use step::{Confidence, Evidence, Rebuilt, Step, Subject};
pub use xen::xen;
