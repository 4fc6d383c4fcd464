//! The words of the verbs that take version 1 images as evidence.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args as Group, ValueEnum};

use super::OpenArgs;

#[derive(Group)]
pub(crate) struct LayoutArgs {
    /// The image
    pub(crate) file: OsString,
    /// The shape of the result
    #[arg(long, value_enum, default_value_t)]
    pub(crate) output: LayoutShape,
    #[command(flatten)]
    pub(crate) open: OpenArgs,
}

/// In what shape a layout is printed.
#[derive(Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(crate) enum LayoutShape {
    /// For people
    #[default]
    Human,
    /// A JSON array, one object for each range
    Json,
    /// Digital Forensics XML: byte runs
    Dfxml,
    /// A picture
    Svg,
    /// A page with that picture
    Html,
}

#[derive(Group)]
pub(crate) struct TimelineArgs {
    /// The image
    pub(crate) file: OsString,
    /// The shape of the result
    #[arg(long, value_enum, default_value_t)]
    pub(crate) output: TimelineShape,
    #[command(flatten)]
    pub(crate) open: OpenArgs,
}

/// In what shape a timeline is printed.
#[derive(Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(crate) enum TimelineShape {
    /// Comma-separated values
    #[default]
    Csv,
    /// The body format of the Sleuth Kit, version 3
    Bodyfile,
}

#[derive(Group)]
pub(crate) struct CarveArgs {
    /// The image
    pub(crate) file: OsString,
    /// Where the finds go: a folder that is empty, or that is made
    pub(crate) folder: PathBuf,
    #[command(flatten)]
    pub(crate) open: OpenArgs,
}
