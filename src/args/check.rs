//! The words of `check`.

use std::ffi::OsString;

use clap::{Args as Group, ValueEnum};

use super::{OpenArgs, ProgressArgs, Shape};

#[derive(Group)]
pub(crate) struct CheckArgs {
    /// The image
    pub(crate) file: OsString,
    /// The image's format; found out where it is not given
    #[arg(short, long)]
    pub(crate) format: Option<String>,
    /// Read all that is stored, too, and unpack every packed cluster
    #[arg(long)]
    pub(crate) deep: bool,
    /// Check every image of the backing chain, and compare what each recorded of its base
    #[arg(long, conflicts_with = "untrusted")]
    pub(crate) backing_chain: bool,
    /// Mend first what can be mended without guessing, where the image lies
    #[arg(short, long, value_enum, value_name = "WHAT",
          conflicts_with_all = ["backing_chain", "untrusted", "evidence", "force_share", "image_opts", "base"])]
    pub(crate) repair: Option<Repair>,
    /// List every finding, not only the first ten of each rule
    #[arg(long)]
    pub(crate) all: bool,
    /// Threads that read, 1 to 16
    #[arg(short = 'm', long, value_name = "COUNT")]
    pub(crate) parallel: Option<String>,
    /// The shape of the result
    #[arg(long, value_enum, default_value_t)]
    pub(crate) output: Shape,
    #[command(flatten)]
    pub(crate) open: OpenArgs,
    #[command(flatten)]
    pub(crate) progress: ProgressArgs,
}

/// What `check -r` mends.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Repair {
    /// Room at the end of the file that nothing refers to
    Leaks,
    /// That, entries that lead behind the end of the file, and clusters that several entries share
    All,
}
