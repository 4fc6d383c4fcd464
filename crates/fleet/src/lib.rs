//! Many images at once: a catalogue of what scans have found, and the families that backing files
//! make of it.
//!
//! ```text
//! catalogue    one row for each file and for each image in an archive, in SQLite
//! families     overlays joined to their bases; what is broken, with candidates
//! ```
//!
//! Nothing here opens an image, but for [`Votes`] of a caller who asks for them.

mod catalogue;
mod error;
mod families;

pub use catalogue::{
    Catalogue, Counted, Ended, OnDisk, Row, Run, Scan, Totals, Trouble, Which, Written,
    connect_for_reading, connect_temporary, is_full, log_ahead,
};
pub use error::{Error, Result};
pub use families::{
    Broken, Candidate, Confirmed, ContentVotes, Edge, Evidence, Family, Hints, How, Member, Vote,
    Votes, Why, families,
};
