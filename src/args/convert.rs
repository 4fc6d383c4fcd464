//! The words of `convert`.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use clap::{Args as Group, ValueEnum};

use super::{KeyArgs, OpenArgs, ProgressArgs, Shape};

#[derive(Group)]
pub(crate) struct ConvertArgs {
    /// The sources, one behind the other, and the target
    #[arg(required = true, num_args = 2.., value_names = ["SOURCE", "TARGET"])]
    pub(crate) files: Vec<OsString>,
    /// The sources' format; found out where it is not given
    #[arg(short, long, value_name = "FORMAT", visible_alias = "source-format")]
    pub(crate) format: Option<String>,
    /// The target's format: raw or qcow2
    #[arg(short = 'O', long, value_name = "FORMAT", default_value = "raw")]
    pub(crate) target_format: String,
    /// Options of the target, such as cluster_size=64k; help lists them
    #[arg(short = 'o', long = "target-options", value_name = "OPTIONS", visible_alias = "options")]
    pub(crate) options: Vec<String>,
    /// Pack the target's clusters (qcow2)
    #[arg(short, long)]
    pub(crate) compress: bool,
    /// Leave out runs of zeros of at least this length; 0 stores everything
    #[arg(short = 'S', long, value_name = "SIZE", default_value = "4k")]
    pub(crate) sparse_size: String,
    /// Write into a target that exists already, such as a block device
    #[arg(short, long)]
    pub(crate) no_create: bool,
    /// With -n: the target is known to read as zeros
    #[arg(long, requires = "no_create")]
    pub(crate) target_is_zero: bool,
    /// Make a thin overlay over this base
    #[arg(short = 'B', short_alias = 'b', long, value_name = "PATH")]
    pub(crate) backing: Option<OsString>,
    /// The format of that base
    #[arg(short = 'F', long, value_name = "FORMAT")]
    pub(crate) target_backing_format: Option<String>,
    /// Worker threads, 1 to 16
    #[arg(short = 'm', long, value_name = "COUNT")]
    pub(crate) parallel: Option<String>,
    /// Accepted for qemu-img's sake: the result is the same in any order
    #[arg(short = 'W', long)]
    pub(crate) oob_writes: bool,
    /// How to write: writeback, none (past the page cache, which is often quicker to be on the
    /// medium), writethrough, directsync or unsafe (never synced)
    #[arg(short = 't', long, value_name = "MODE", default_value = "writeback")]
    pub(crate) target_cache: String,
    /// How to read: writeback, or none, which gives the page cache of what was read back at once
    #[arg(short = 'T', long, value_name = "MODE", default_value = "writeback")]
    pub(crate) source_cache: String,
    /// Who moves plain bytes: auto shares blocks with the source where the file systems can
    #[arg(long, value_name = "HOW", value_enum, default_value_t)]
    pub(crate) copy: CopyHow,
    /// Write no more than this in a second
    #[arg(short, long, value_name = "BYTES", visible_alias = "rate")]
    pub(crate) rate_limit: Option<String>,
    /// Go on where source bytes are lost: with the base's where there is one, or with zeros
    #[arg(
        long,
        value_name = "WITH",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "base"
    )]
    pub(crate) salvage: Option<SalvageWith>,
    /// With --salvage: write what was lost to this file, as a map of GNU ddrescue
    #[arg(long, value_name = "PATH", requires = "salvage")]
    pub(crate) map: Option<PathBuf>,
    /// Open the target afresh, read all of it and compare it with what was read of the source
    #[arg(long)]
    pub(crate) verify: bool,
    /// Replace a target that exists
    #[arg(long, conflicts_with = "no_create")]
    pub(crate) force: bool,
    /// The shape of the summary
    #[arg(long, value_enum, default_value_t)]
    pub(crate) output: Shape,
    #[command(flatten)]
    pub(crate) open: OpenArgs,
    #[command(flatten)]
    pub(crate) keys: KeyArgs,
    #[command(flatten)]
    pub(crate) progress: ProgressArgs,
}

impl ConvertArgs {
    /// The files that are made: the target and the map of what was lost.
    pub(crate) fn makes(&self) -> Vec<&Path> {
        self.files.last().map(Path::new).into_iter().chain(self.map.as_deref()).collect()
    }
}

/// Who moves plain bytes.
#[derive(Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(crate) enum CopyHow {
    /// The host, where that is quicker: both files share long runs of blocks where their file
    /// system can do that
    #[default]
    Auto,
    /// As auto, and with -S 0 the kernel copies long runs, on any file system
    Kernel,
    /// As auto, and refuse where no block can be shared
    Clone,
    /// calve reads and writes every byte, and looks for zeros everywhere
    #[value(alias = "never")]
    Read,
}

/// What takes the place of lost bytes.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum SalvageWith {
    /// What the base has there, or zeros where there is none
    Base,
    /// Zeros
    Zeros,
}
