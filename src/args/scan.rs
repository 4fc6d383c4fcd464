//! The words of `scan`.

use std::path::PathBuf;

use clap::{Args as Group, ValueEnum};

use super::{ProgressArgs, SandboxMode};

#[derive(Group)]
pub(crate) struct ScanArgs {
    /// Folders to look in, with all that is below them, and files; s3://BUCKET and s3://BUCKET/PREFIX
    #[arg(required = true, value_name = "PATH")]
    pub(crate) paths: Vec<PathBuf>,
    /// Keep what is found in this file, and read only what has changed since it was last written
    #[arg(long, value_name = "FILE")]
    pub(crate) catalogue: Option<PathBuf>,
    /// Walk all tables of each image, which finds damage in them
    #[arg(long)]
    pub(crate) deep: bool,
    /// The shape of the result
    #[arg(long, value_enum, default_value_t)]
    pub(crate) output: ScanShape,
    /// List other files too, not only images and what could not be read
    #[arg(long)]
    pub(crate) all: bool,
    /// Tell which images belong together, and which bases are missing
    #[arg(long)]
    pub(crate) families: bool,
    /// Threads, and workers, that read, 1 to 64; as many as there are processors, of objects 16
    #[arg(short, long, value_name = "COUNT")]
    pub(crate) jobs: Option<String>,
    /// Stay on the file system of each PATH
    #[arg(short = 'x', long)]
    pub(crate) one_file_system: bool,
    /// Do not look into .gz, .bz2, .xz, .zst, .zip and .tar files
    #[arg(long)]
    pub(crate) no_archives: bool,
    /// End with 2 where there is a version 1 image that the last scan into the catalogue did not find
    #[arg(long, requires = "catalogue")]
    pub(crate) watch_exit: bool,
    /// Take down that what was at or below PATH, and is gone, was removed on purpose, so that nobody asks
    /// for it any more
    #[arg(long, value_name = "PATH", requires = "catalogue")]
    pub(crate) removed: Vec<PathBuf>,
    /// How to confine the workers that read
    #[arg(long, value_name = "MODE", value_enum, default_value_t)]
    pub(crate) sandbox: SandboxMode,
    #[command(flatten)]
    pub(crate) progress: ProgressArgs,
}

/// In what shape the result of a scan is printed.
#[derive(Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(crate) enum ScanShape {
    /// For people
    #[default]
    Human,
    /// One JSON document
    Json,
    /// JSON Lines: an object for each file, family and trouble, and the totals
    Jsonl,
    /// Comma-separated values, a line for each file
    Csv,
}
