//! Converting disks: walks one disk's extents and moves each one's bytes, by the cheapest way
//! its encoding allows, to the place that a target reserves for them.

mod error;
mod options;

pub use error::{Error, Result};
pub use options::{
    Base, Cache, Control, Filled, Loss, Options, Phase, Placement, Progress, Qcow2Options, Salvage,
    Summary, TargetFormat,
};
