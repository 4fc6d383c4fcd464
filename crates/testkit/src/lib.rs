//! For tests only: images of every kind, a slow obvious reader, and storage that misbehaves.
//!
//! This is the only place that can write version 1.

mod builder;
mod crash;
mod flips;
mod mounted;
mod notes;
mod pack;
mod planted;
mod random;
mod reference;
mod storage;

pub mod archive;
pub mod corpus;
pub mod qemu;

pub use builder::{Builder, XenOrder};
pub use crash::{Crashed, crashes};
pub use flips::{BASE_NAME, Field, Specimen};
pub use mounted::Mounted;
pub use notes::Notes;
pub use pack::{Encryption, deflated};
pub use planted::{Kind, Planted};
pub use random::{Random, Sketch, seeds};
pub use reference::{Reference, inflated, read, read_around};
pub use storage::{Access, Faulty, Memory, Recorder, Recording};
