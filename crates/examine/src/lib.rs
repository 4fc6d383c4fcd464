//! Disk images as evidence: who owns each byte of the file, in which order its parts came, and what
//! lies there that nothing refers to any more.
//!
//! Everything here is a walk over the claims of an image ([`calve_disk::Image::claims`]), in the
//! order of the file and within bounded memory. Results are handed out one by one or written to
//! what the caller gives; nothing is printed.

mod carve;
mod layout;
mod map;
mod report;
mod timeline;

pub use carve::{Carved, Carver, Ending, Kind, MOST_FILES, MOST_GROWTH};
pub use layout::{Label, Region, Totals, layout};
pub use report::{Report, write_dfxml, write_html, write_human, write_json, write_svg};
pub use timeline::{Event, EventKind, Order, bodyfile, csv, judge, timeline};

use calve_disk::{Error, Format, Image, Result};

/// Refuses an image of a format that does not tell who owns the bytes of its file.
fn require_claims(image: &dyn Image) -> Result<()> {
    let facts = image.facts();
    if facts.format == Format::Qcow1 {
        return Ok(());
    }
    let what = format!("is {}, and only QCOW version 1 can be examined", facts.format);
    Err(Error::Unsupported { path: image.storage().path().to_owned(), what })
}
