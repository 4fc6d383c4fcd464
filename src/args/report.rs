//! The words of `report`.

use std::path::PathBuf;

use clap::{Args as Group, ValueEnum};

#[derive(Group)]
pub(crate) struct ReportArgs {
    /// The plan that was carried out, or the catalogue
    #[arg(value_name = "PLAN")]
    pub(crate) file: PathBuf,
    /// The run; the last one of the plan, or the last one that there is
    #[arg(long, value_name = "RUN")]
    pub(crate) run: Option<i64>,
    /// Where the journal is kept, if not in the catalogue that the plan was made from; of the folder
    /// of a plan's shards, all of them as one
    #[arg(long, value_name = "FILE")]
    pub(crate) journal: Option<PathBuf>,
    /// The shape of the report
    #[arg(long, value_enum, default_value_t)]
    pub(crate) output: ReportShape,
    /// Write the report to this new file; a bag, to this new folder
    #[arg(long, value_name = "FILE")]
    pub(crate) save: Option<PathBuf>,
    /// End with 2 where it cannot be said that no version 1 image remains
    #[arg(long)]
    pub(crate) watch_exit: bool,
}

/// In what shape a report is written.
#[derive(Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(crate) enum ReportShape {
    /// A few lines for terminals
    #[default]
    Human,
    /// A page that needs nothing else
    Html,
    /// A line for each image
    Csv,
    /// One JSON document
    Json,
    /// PREMIS 3, as archives keep such things
    Premis,
    /// A bag (RFC 8493) with the report in all shapes
    Bagit,
}
