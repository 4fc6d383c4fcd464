//! Finding disk images: in folders, and in archives, by what files hold and never by their names.
//!
//! [`scan`] walks folders and tells of every regular file as an [`Event`]. Whether a file was
//! read before and has not changed is for a [`Known`] to say, and who reads it is a [`Looker`]:
//! [`Here`] does it in this process, by [`look()`]; what is no file is looked at by
//! [`look_elsewhere`]; a caller who trusts no file has a confined
//! process do it. A file that cannot be read, or ends whoever reads it, is an event as any other:
//! it never ends the walk.
//!
//! Nothing is written but a [`Spool`] without a name, no lock is taken, no backing file is opened, and nothing is followed that
//! is a symbolic link.

mod blocks;
mod class;
mod elsewhere;
mod image;
mod look;
mod members;
mod sighting;
mod spool;
mod start;
mod walk;

pub mod limits;

pub use blocks::Blocks;
pub use class::Class;
pub use elsewhere::{ARCHIVE_ELSEWHERE, look_elsewhere};
pub use look::{Ask, look, look_within};
pub use members::NOT_WALKED;
pub use sighting::{
    Counted, Counts, DIED, Event, ImageFacts, Look, Member, Seen, Sighting, Stamp, is_object,
};
pub use spool::Spool;
pub use walk::{ForThread, Here, Known, Looker, NothingKnown, ScanOptions, has_undo_record, scan};
