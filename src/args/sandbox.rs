//! The words about images from strangers.

use clap::{Args as Group, ValueEnum};

/// How far images are trusted.
#[derive(Group)]
pub(crate) struct SandboxArgs {
    /// Trust no image: open no base, and read in a worker that can do nothing else
    #[arg(long, conflicts_with_all = ["base", "base_root", "backing_format"])]
    pub(crate) untrusted: bool,
    /// How to confine that worker
    #[arg(long, value_name = "MODE", value_enum, default_value_t)]
    pub(crate) sandbox: SandboxMode,
}

/// How the worker that reads an image is confined.
#[derive(Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(crate) enum SandboxMode {
    /// As far as this kernel can, with a note where that is not wholly
    #[default]
    Auto,
    /// Wholly, or the image is not read
    Require,
    /// Not at all: there is no worker
    Off,
}
