//! What a report says, and that each shape of it is what its readers take it for.

mod certificate;
mod common;
mod shapes;
