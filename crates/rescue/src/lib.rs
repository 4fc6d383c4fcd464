//! Rescue: a best-effort copy of a damaged disk that says of every guest byte what it is.
//!
//! The target is laid out first, from the tables alone. What is left to do then is to fill guest
//! ranges in, in any order, as often as it takes: quickly at first, sector by sector where the
//! host fails, and again in later runs, which a map file of GNU ddrescue's grammar connects.

mod error;
mod labels;
mod map;
mod marked;
mod missing;
mod rescue;
mod target;

pub use error::{Error, Result};
pub use labels::{Label, Labelled, Totals};
pub use map::{MapError, MapFile, Region, Status};
pub use marked::Marked;
pub use rescue::{Control, Options, Phase, Progress, Summary, rescue};
pub use target::{TargetFormat, working_name};
