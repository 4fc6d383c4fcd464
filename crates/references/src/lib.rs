//! What names a disk image, and has to follow when the image becomes another file or format:
//! configurations of hypervisors, and the overlays that lie on it. `docs/references.md` is the
//! document behind this crate.
//!
//! ```text
//! changes     which images become what
//! libvirt     domains of libvirt: positions by an XML reader, bytes spliced
//! proxmox     virtual machines of Proxmox VE, by the lines of their drives
//! patch       the difference as a patch
//! replace     a file's bytes replaced as a whole
//! child       the header of a qcow2 overlay: planned, written, taken back
//! ```
//!
//! Nothing is written but by [`replace()`] and [`Child`].

mod changes;
mod child;
mod error;
mod libvirt;
mod mention;
mod patch;
mod proxmox;
mod replace;
mod splices;

pub mod limits;

use std::path::{Path, PathBuf};

pub use changes::{Change, Changes, normalised};
pub use child::{Backing, Child, HEADER_RECORD, HeaderChange, Settled};
pub use error::{Error, Result};
pub use patch::patch;
pub use proxmox::Storages;
pub use replace::replace;

/// Whose configuration a file is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// A domain of libvirt, a snapshot or a checkpoint of one, or the state of a running one.
    LibvirtDomain,
    /// A virtual machine of Proxmox VE.
    Proxmox,
}

/// A configuration as it has to be.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Rewritten {
    /// All of its bytes, or `None` where it may stay as it is.
    pub bytes: Option<Vec<u8>>,
    /// What changes, in the order of the file.
    pub edits: Vec<Edit>,
    /// What stays as it is and is for a person to judge, in the order of the file.
    pub notes: Vec<Note>,
}

/// One value that changes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Edit {
    /// Its line, from 1.
    pub line: u64,
    /// What it says, as in "format".
    pub what: &'static str,
    /// The image that it is about, under its old name.
    pub image: PathBuf,
    /// What it was, without the escapes of its file.
    pub was: String,
    /// What it becomes.
    pub now: String,
}

/// Something that names a changed image and stays as it is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Note {
    /// Its line, from 1.
    pub line: u64,
    /// What stands there and why it stays: the rest of a sentence about the line.
    pub text: String,
}

/// Whose configuration a file is, by its content first.
pub fn kind_of(path: &Path, bytes: &[u8]) -> Option<Kind> {
    if libvirt::is_domain(bytes) {
        return Some(Kind::LibvirtDomain);
    }
    proxmox::is_machine(path, bytes).then_some(Kind::Proxmox)
}

/// What a configuration has to be when the changes are made. All bytes but the values that change
/// stay what they are. `storages` says where volumes of Proxmox VE are.
///
/// # Errors
/// [`Error::Unreadable`] where it cannot be understood or is too long.
pub fn rewrite(
    kind: Kind,
    path: &Path,
    bytes: &[u8],
    changes: &Changes,
    storages: &Storages,
) -> Result<Rewritten> {
    if bytes.len() > limits::MAX_CONFIGURATION {
        let why = format!("is longer than {} bytes", limits::MAX_CONFIGURATION);
        return Err(Error::Unreadable { path: path.to_owned(), line: 1, why });
    }
    match kind {
        Kind::LibvirtDomain => libvirt::rewrite(path, bytes, changes),
        Kind::Proxmox => Ok(proxmox::rewrite(bytes, changes, storages)),
    }
}
