//! For tests only: what has to hold whatever the bytes of a file are.
//!
//! A [`Target`] is a function of any bytes that panics where something does not hold. libFuzzer
//! calls it from `fuzz/`, plain tests call it with seeded files; both get their first files from
//! [`seed()`] and change them with [`mutate()`], which knows where headers and tables are.

mod archives;
mod disks;
mod folder;
mod hostile;
mod input;
mod mutate;
mod seeds;
mod special;
mod stock;

pub mod targets;

pub use hostile::look_at;
pub use input::{Input, MAX_FILE, READ_UP_TO};
pub use mutate::mutate;
pub use seeds::{Kind, changing, hostile, seed};
pub use targets::{TARGETS, Target};
