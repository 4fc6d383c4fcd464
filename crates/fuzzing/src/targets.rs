//! The targets: one file for each.

mod archives;
mod carve;
mod check;
mod extents;
mod header;
mod inflate;
mod qcow2;
mod rescue;
mod upgrade;

use crate::seeds::Kind;

/// Something that has to hold for any bytes.
#[derive(Clone, Copy)]
pub struct Target {
    /// Its name, which is also that of its file in `fuzz/fuzz_targets`.
    pub name: &'static str,
    /// What its inputs are, and so what it begins with.
    pub kind: Kind,
    /// Panics where it does not hold.
    pub run: fn(&[u8]),
}

/// All of them.
pub const TARGETS: &[Target] = &[
    Target { name: "header", kind: Kind::Version1, run: header::run },
    Target { name: "extents", kind: Kind::Version1, run: extents::run },
    Target { name: "qcow2", kind: Kind::Qcow2, run: qcow2::run },
    Target { name: "upgrade", kind: Kind::Version1, run: upgrade::run },
    Target { name: "inflate", kind: Kind::Stream, run: inflate::run },
    Target { name: "check", kind: Kind::Version1, run: check::run },
    Target { name: "rescue", kind: Kind::Version1, run: rescue::run },
    Target { name: "carve", kind: Kind::Version1, run: carve::run },
    Target { name: "archives", kind: Kind::Archive, run: archives::run },
];

/// The target of this name.
///
/// # Panics
/// Where there is none.
pub fn named(name: &str) -> &'static Target {
    let found = TARGETS.iter().find(|target| target.name == name);
    found.unwrap_or_else(|| panic!("there is no target {name}"))
}
