//! Disk images as extents: QCOW version 1, qcow2 and raw.
//!
//! A [`Disk`] is what the guest sees: a chain of [`Image`]s, top first. It is a sequence of
//! [`Extent`]s, and each extent says where its bytes are and how they are encoded. A format is a
//! function from a guest range to extents (reading), or from placed ranges to tables
//! ([`Target`], writing).
//!
//! Nothing here copies disks, prints, or knows of networks and terminals.

mod attributes;
mod check;
mod claim;
mod disk;
mod error;
mod extent;
mod finding;
mod image;
mod judge;
mod pages;
mod pending;
mod status;
mod storage;
mod target;

pub mod codec;
pub mod formats;
pub mod limits;
pub mod open;
pub mod shell;
pub mod units;

pub use attributes::take_over_attributes;
pub use check::{CheckOptions, Checked};
pub use claim::{Claim, Owner};
pub use disk::{Disk, Extents, Found, HostErrors, Layer, Scratch};
pub use error::{Error, Result};
pub use extent::{Codec, Encoding, Extent, ExtentList, Lost, Payload, Stored};
pub use finding::{Finding, Rule, Weight};
pub use formats::Format;
pub use image::{BackingReference, Facts, Image, Specific, Survey};
pub use judge::Judgement;
pub use open::OpenOptions;
pub use pending::{
    Named, PendingFile, folder_of, give_name, may_replace, temporary_start, with_end,
};
pub use status::Status;
pub use storage::{DIRECT_BLOCK, HostFile, HostMove, Region, Storage, StorageMut};
pub use target::{Finish, Form, Placed, TableWrite, Target};
