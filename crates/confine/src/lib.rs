//! Confinement: a process gives up, for good, what it does not need before it looks at a file
//! that may be made to take it over. `docs/untrusted.md` is the document behind this crate.
//!
//! ```text
//! limits    memory, processor time, files: derived from the length of what is read
//! files     Landlock: no name in the file system, but for the folders that are written to
//! calls     seccomp: the system calls that reading and computing need, and no others
//! ```
//!
//! What is open already stays open and usable, so a process opens what it works on first. Nothing
//! here knows of images.

mod calls;
mod descriptors;
mod files;
mod limits;

use std::path::PathBuf;
use std::{fmt, io};

use rustix::process::Signal;

pub use descriptors::Inherited;
pub use limits::Limits;

/// What a process keeps.
#[derive(Clone, Debug)]
pub struct Confinement {
    /// How much it may use.
    pub limits: Limits,
    /// Folders in which it may create, write, rename and remove files. Where there are none,
    /// nothing is written at all but what [`Self::fills_files`] allows.
    pub folders: Vec<PathBuf>,
    /// Whether it is handed further open files, over a socket that is open already.
    pub takes_files: bool,
    /// Whether one of those may be written to, so that files grow. What is opened for reading
    /// stays as it is.
    pub fills_files: bool,
}

/// Something that this kernel cannot keep from a process.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Missing {
    /// The mechanism.
    pub what: &'static str,
    /// Why it is not there.
    pub why: String,
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.what, self.why)
    }
}

/// Why a process cannot be confined as it is to be.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A folder that is to be written to cannot be opened.
    #[error("{}: opening the folder: {source}", path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
        /// What the host says.
        source: io::Error,
    },
}

impl Confinement {
    /// Confines the calling thread and all that it starts, for good: a process calls this while
    /// it has no other thread. Limits hold for the whole process.
    ///
    /// All that can be had is in force afterwards; what could not be had is returned. The process
    /// also ends when the one that started it does.
    ///
    /// # Errors
    /// [`Error::Folder`]; it is not wholly confined then.
    pub fn enter(&self) -> Result<Vec<Missing>, Error> {
        let writes = !self.folders.is_empty();
        // Who writes gets the chance to tidy up.
        let signal = if writes { Signal::TERM } else { Signal::KILL };
        let mut missing = Vec::new();
        if let Err(error) = rustix::process::set_parent_process_death_signal(Some(signal)) {
            missing.push(Missing { what: "an end with the parent", why: error.to_string() });
        }
        missing.extend(self.limits.enter(writes || self.fills_files));
        missing.extend(files::enter(&self.folders)?);
        missing.extend(calls::enter(calls::Kinds {
            writes,
            takes_files: self.takes_files,
            fills_files: self.fills_files,
        }));
        Ok(missing)
    }
}
