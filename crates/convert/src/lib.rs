//! Converting disks: walks one disk's extents and moves each one's bytes, by the cheapest way
//! its encoding allows, to the place that a target reserves for them.

mod batches;
mod blank;
mod buffer;
mod compare;
mod convert;
mod crew;
mod digest;
mod error;
mod losses;
mod moves;
mod options;
mod output;
mod pace;
mod pieces;
mod prescan;
mod run;
mod source;
mod spans;
mod turnstile;
mod verify;
mod worker;
mod zeros;

pub use compare::{CompareError, CompareOptions, Comparison, compare};
pub use convert::{Unnamed, convert, convert_unnamed, create};
pub use error::{Error, Result};
pub use options::{
    Base, Cache, Control, Copying, EmptyFormat, Filled, Loss, Options, Phase, Placement, Progress,
    Qcow2Options, Salvage, Summary, TargetFormat,
};
pub use pace::Pace;
pub use verify::digest;
