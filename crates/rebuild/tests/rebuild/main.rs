//! Damaged images, and what is rebuilt of them beside what they were.

mod common;
mod header;
mod hostile;
mod l1;
mod search;
