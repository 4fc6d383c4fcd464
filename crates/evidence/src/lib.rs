//! Evidence: what files were before and after they were read, and a log of it that can be signed.
//! `docs/evidence.md` is the document behind this crate.
//!
//! ```text
//! witness     looks at the files of disks, before and after somebody works with them
//! digest      SHA-256 and BLAKE3 of a file, in one pass
//! look        what a file is at one moment
//! record      all of it as one document
//! log         the file that the document stands in
//! ```

mod digest;
mod error;
mod log;
mod look;
mod record;
mod witness;

use std::sync::atomic::AtomicBool;

pub use error::{Error, Result};
pub use log::Log;
pub use record::{Failed, Record, Run};
pub use witness::{Role, Witness};

/// What digesting needs to know of the run it is part of, and whom to tell how far it is.
pub struct Control<'a> {
    /// Becomes true when the run is to stop; looked at for every MiB.
    pub stop: &'a AtomicBool,
    /// Told of the bytes of a file that are done, and of how many there are.
    pub progress: &'a dyn Fn(u64, u64),
}
