//! Carrying out plans: families of images become qcow2, all of one or nothing of it, with a journal
//! that says after any crash how far each is. `docs/migrate.md` is the document behind it.
//!
//! ```text
//! run        a plan from end to end: who is next, when to stop
//! queue      which family is next, so that no device has more to do than it should
//! family     one family: prepare, switch, finish; or take all of it back
//! step       one image: how each strategy is prepared, switched to and taken back
//! stores     images that are objects
//! journal    what is durable of it, in SQLite
//! configurations   what names images follows them, with the family or as a patch
//! dials      pause, jobs and rates, changed while it runs
//! back       runs are taken back, and ways back are given up
//! budget     how long, or for how many bytes, families may begin
//! shard      a part of a plan for one worker of several: its files, its report, all reports as one
//! ```

mod back;
mod budget;
mod configurations;
mod dials;
mod error;
mod event;
mod family;
mod hook;
mod journal;
mod lock;
mod names;
mod queue;
mod run;
pub mod shard;
mod step;
mod stores;

pub use back::{Released, Undone, can_end, release, undo};
pub use budget::Budget;
pub use configurations::{Configurations, Noted, Patches};
pub use dials::{Dials, Settings};
pub use error::{Cause, Error, Result};
pub use event::{Event, Outcome};
pub use hook::Hooks;
pub use journal::{
    FamilyRecord, FamilyState, ImageRecord, ImageState, Journal, RunRecord, Stamped,
};
pub use run::{Limits, Summary, run};
pub use stores::Stores;
