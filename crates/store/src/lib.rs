//! Objects of stores that speak S3 as files: read by ranges, written in parts, changed by having
//! the store copy what stays. `docs/store.md` is the document behind this crate.
//!
//! ```text
//! client      a store, and what went to and fro
//! sending     a request signed and sent once; trying: sent again, and judged
//! object      what is asked of one object
//! listing     which objects there are
//! file        an object as a file that is read, of one age
//! upload      an object that comes into being in parts
//! copying     an object that the store makes of another one
//! pending     uploads that nobody ended
//! draft       an object as it would be, and how it becomes that
//! ```

mod addresses;
mod agents;
mod blocks;
mod certificates;
mod client;
mod copying;
mod credentials;
mod document;
mod draft;
mod error;
mod file;
mod journal;
pub mod limits;
mod listing;
mod name;
mod object;
mod part;
mod pending;
pub mod pieces;
mod ranges;
mod request;
mod sending;
mod settings;
mod signing;
mod trying;
mod upload;

pub use client::{Store, Traffic};
pub use copying::hold_the_same;
pub use draft::Draft;
pub use error::{Error, Kind, Result};
pub use file::ObjectFile;
pub use journal::ObjectJournal;
pub use listing::{Listed, Listing};
pub use name::{Folder, ObjectName};
pub use object::{Condition, Head, Object, Tag};
pub use settings::Settings;
pub use upload::Upload;
