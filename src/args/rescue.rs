//! The words of `rescue`.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use clap::Args as Group;

use super::{KeyArgs, OpenArgs, ProgressArgs, Shape};

#[derive(Group)]
pub(crate) struct RescueArgs {
    /// The damaged image
    pub(crate) file: OsString,
    /// The target: it bears this name when all of the disk was tried
    pub(crate) target: PathBuf,
    /// The image's format; found out where it is not given
    #[arg(short, long, value_name = "FORMAT")]
    pub(crate) format: Option<String>,
    /// The target's format: raw or qcow2
    #[arg(short = 'O', long, value_name = "FORMAT", default_value = "raw")]
    pub(crate) target_format: String,
    /// The map of the rescue, in the grammar of GNU ddrescue; TARGET.map where it is not given. A
    /// rescue that has one goes on
    #[arg(long, value_name = "PATH")]
    pub(crate) map: Option<PathBuf>,
    /// The map that GNU ddrescue made when it copied the image from its medium: what was not
    /// copied does not count
    #[arg(long, value_name = "PATH")]
    pub(crate) source_map: Option<PathBuf>,
    /// Try sectors that cannot be read so often again
    #[arg(long, value_name = "COUNT", default_value_t = 0)]
    pub(crate) retries: u32,
    /// Guess what is wrong in the header from what lies behind it
    #[arg(long)]
    pub(crate) rebuild_header: bool,
    /// Find L2 tables that no entry of the L1 table leads to, and guess their places
    #[arg(long)]
    pub(crate) rebuild_l1: bool,
    /// Fill L2 tables of Xen's tapdisk in by where it puts data
    #[arg(long)]
    pub(crate) xen_layout: bool,
    /// Look for a missing base in this folder and below, by what the files hold
    #[arg(long, value_name = "DIR", conflicts_with = "base")]
    pub(crate) search: Option<PathBuf>,
    /// Try the passphrases in this file, one a line
    #[arg(long, value_name = "PATH", conflicts_with_all = ["passphrase_file", "passphrase_fd"])]
    pub(crate) passphrase_list: Option<PathBuf>,
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

impl RescueArgs {
    /// Where the map of the rescue is.
    pub(crate) fn map(&self) -> PathBuf {
        self.map.clone().unwrap_or_else(|| {
            let mut name = self.target.file_name().map(OsString::from).unwrap_or_default();
            name.push(".map");
            self.target.with_file_name(name)
        })
    }

    /// The files that are made.
    pub(crate) fn makes(&self) -> Vec<&Path> {
        std::iter::once(&*self.target).chain(self.map.as_deref()).collect()
    }
}
