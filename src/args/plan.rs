//! The words of `plan`.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args as Group, Subcommand, ValueEnum};

use super::ProgressArgs;

#[derive(Group)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub(crate) struct PlanArgs {
    #[command(subcommand)]
    pub(crate) action: Option<PlanAction>,
    /// The catalogue of a scan
    #[arg(required = true, value_name = "CATALOGUE")]
    pub(crate) catalogue: Option<PathBuf>,
    /// Write the plan to this new file
    #[arg(long, value_name = "FILE")]
    pub(crate) save: Option<PathBuf>,
    /// How images that nothing is the matter with become qcow2
    #[arg(long, value_enum, default_value_t)]
    pub(crate) way: WayWord,
    /// What is done with damaged images
    #[arg(long, value_enum, default_value_t)]
    pub(crate) damaged: DamagedWord,
    /// What becomes of originals: beside, so many days beside (30d), none (damaged ones
    /// are kept beside all the same), or a folder
    #[arg(long, value_name = "beside|DAYS|none|DIR", default_value = "beside")]
    pub(crate) keep_originals: String,
    /// The most bytes that any file system has to give beside what is used now
    #[arg(long, value_name = "SIZE")]
    pub(crate) max_extra: Option<String>,
    /// The hours in which families may begin, in local time: 22:00-06:00
    #[arg(long, value_name = "FROM-TO")]
    pub(crate) window: Option<String>,
    /// How many bytes a second are expected, at least and at most
    #[arg(long, value_name = "LEAST-MOST", default_value = "50M-1G")]
    pub(crate) rate: String,
    /// Take a base that is not where its overlay says, by what both hold; this may be another one
    #[arg(long)]
    pub(crate) guess_bases: bool,
    /// The base of an overlay whose recorded name leads to nothing, as you know it; repeatable
    #[arg(long, value_name = "OVERLAY=BASE")]
    pub(crate) base: Vec<OsString>,
    /// The same from a file, one a line; lines that begin with # say nothing
    #[arg(long, value_name = "FILE")]
    pub(crate) bases: Option<PathBuf>,
    /// Threads that read tables; as many as there are processors
    #[arg(short, long, value_name = "COUNT")]
    pub(crate) jobs: Option<String>,
    /// The shape of the result
    #[arg(long, value_enum, default_value_t)]
    pub(crate) output: PlanShape,
    #[command(flatten)]
    pub(crate) progress: ProgressArgs,
}

#[derive(Subcommand)]
pub(crate) enum PlanAction {
    /// Print a plan as a table
    Show {
        /// The plan
        plan: PathBuf,
    },
    /// Say which families each of so many workers gets; a family is never split
    Shard(ShardArgs),
}

#[derive(Group)]
pub(crate) struct ShardArgs {
    /// The plan
    pub(crate) plan: PathBuf,
    /// How many workers there are
    #[arg(short = 'n', long, value_name = "COUNT")]
    pub(crate) shards: u64,
    /// What is to be as much for each
    #[arg(long, value_enum, default_value_t)]
    pub(crate) by: ShardBy,
    /// The shape of the result
    #[arg(long, value_enum, default_value_t)]
    pub(crate) output: super::Shape,
}

/// What is to be as much for each worker.
#[derive(Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(crate) enum ShardBy {
    /// Bytes of the images
    #[default]
    Bytes,
    /// Families
    Families,
}

impl From<ShardBy> for calve_plan::Weight {
    fn from(by: ShardBy) -> Self {
        match by {
            ShardBy::Bytes => Self::Bytes,
            ShardBy::Families => Self::Families,
        }
    }
}

/// How images that nothing is the matter with become qcow2.
#[derive(Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(crate) enum WayWord {
    /// Where they lie: only tables are written
    #[default]
    Upgrade,
    /// The same to a clone that shares all blocks and takes the image's place
    Reflink,
    /// To a new file with clusters of 64 KiB that takes the image's place
    Convert,
    /// The same, and overlays get all that their bases hold
    Flatten,
}

/// What is done with damaged images.
#[derive(Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(crate) enum DamagedWord {
    /// Nothing
    #[default]
    Leave,
    /// What is left of them takes their place, and they are kept
    Rescue,
    /// They are put aside, where nothing lies on them
    Quarantine,
}

/// In what shape a plan is printed.
#[derive(Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(crate) enum PlanShape {
    /// For people
    #[default]
    Human,
    /// The plan itself: JSON Lines
    Jsonl,
}
