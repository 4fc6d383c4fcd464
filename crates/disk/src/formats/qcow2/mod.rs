//! QCOW version 2 and 3.

mod target;

pub use target::{Qcow2Target, Qcow2TargetOptions, RecordedBacking};

/// What a qcow2 image has to tell beyond [`crate::Facts`].
#[derive(Clone, Debug, Default)]
pub struct Qcow2Facts {
    /// 2 or 3.
    pub version: u32,
}
