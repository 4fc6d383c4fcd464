//! The only list of formats. The folders beside this file never import each other.

use std::fmt;

pub mod qcow1;
pub mod qcow2;
pub mod raw;

/// A format of disk images.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Format {
    /// Guest bytes and nothing else.
    Raw,
    /// QCOW version 1.
    Qcow1,
    /// QCOW version 2 or 3.
    Qcow2,
}

impl Format {
    /// The name that `qemu-img` gives it on its command line and in its output.
    pub const fn name(self) -> &'static str {
        match self {
            Format::Raw => "raw",
            Format::Qcow1 => "qcow",
            Format::Qcow2 => "qcow2",
        }
    }

    /// The format of that name; `qcow1` is understood as well as `qcow`.
    pub fn from_name(name: &str) -> Option<Self> {
        match name {
            "raw" => Some(Format::Raw),
            "qcow" | "qcow1" => Some(Format::Qcow1),
            "qcow2" => Some(Format::Qcow2),
            _ => None,
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
