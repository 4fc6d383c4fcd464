//! The words of `audit-sources`.

use std::path::PathBuf;

use clap::{Args as Group, ValueEnum};

#[derive(Group)]
pub(crate) struct SourcesArgs {
    /// Folders to look in, with all that is below them, and files
    #[arg(required = true, value_name = "PATH")]
    pub(crate) paths: Vec<PathBuf>,
    /// The shape of the result
    #[arg(long, value_enum, default_value_t)]
    pub(crate) output: SourcesShape,
    /// Threads that read, 1 to 64; as many as there are processors
    #[arg(short, long, value_name = "COUNT")]
    pub(crate) jobs: Option<String>,
    /// Stay on the file system of each PATH
    #[arg(short = 'x', long)]
    pub(crate) one_file_system: bool,
    /// Say nothing but errors; the exit code tells
    #[arg(short, long)]
    pub(crate) quiet: bool,
}

/// In what shape findings are printed.
#[derive(Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(crate) enum SourcesShape {
    /// For people, and for editors that go to a place
    #[default]
    Human,
    /// One JSON document
    Json,
    /// JSON Lines: an object for each finding and trouble, and the totals
    Jsonl,
}
