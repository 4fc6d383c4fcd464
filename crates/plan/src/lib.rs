//! Plans: what is to be done with each image of an archive, why, in which order, and what it
//! takes. A plan is a file of JSON Lines that people read, compare and edit; `docs/migrate.md`
//! is the document behind it.
//!
//! ```text
//! make       families of a catalogue become families of a plan; nothing is written
//! decide     one family: what stands in the way of all of it, and the way of each image
//! survey     what an upgrade of one image would append, and why it cannot be
//! cost       bytes and time
//! shard      which worker gets which family
//! window     hours of the day
//! file       the plan as lines, and back
//! ```

mod cost;
mod decide;
mod error;
mod file;
mod make;
mod plan;
mod room;
mod shard;
mod survey;
mod volume;
mod window;

pub use cost::Rate;
pub use error::{Error, Result};
pub use file::{PlanReader, read, write};
pub use make::make;
pub use plan::{
    Damaged, Family, Head, Image, Kept, PathText, Plan, Room, Stamp, Strategy, Total, Way, Wishes,
};
pub use shard::{MOST_SHARDS, Weight, shards};
pub use survey::{Reading, Surveyed, Surveyor, Tables};
pub use window::Window;
