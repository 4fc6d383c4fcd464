//! What a migration came to: for administrators, for auditors and for programs. `docs/report.md` is
//! the document behind it.
//!
//! ```text
//! sources       what it rests on: the catalogue, the journal and the plan, opened for reading
//! known         every path that any of them knows as version 1; look: what is there now
//! gathered      what is told in another order than it is met, in a temporary database
//! certificate   whether no version 1 image remains, and what speaks against it; claims: in words
//! row           one image: what was to be done, and what came of it
//! report        all of it counted and grouped; next: what to type then
//! human html table json premis bag  the same, written down; table is CSV
//! text          names without harm, sizes, times
//! ```
//!
//! Nothing here writes anything but the report.

mod bag;
mod certificate;
mod claims;
mod error;
mod gathered;
mod html;
mod human;
mod json;
mod known;
mod look;
mod next;
mod premis;
mod report;
mod row;
mod sources;
mod table;
mod text;

pub use bag::write_bag;
pub use certificate::{Certificate, Reason, Remaining, RestsOn};
pub use error::{Error, Result};
pub use gathered::FailedFamily;
pub use html::write_html;
pub use human::human;
pub use json::write_json;
pub use look::{Found, Looked};
pub use next::Next;
pub use premis::write_premis;
pub use report::{Failed, Originals, Report, Space, Sum};
pub use row::{Outcome, Row, WayBack};
pub use sources::Sources;
pub use table::write_csv;
