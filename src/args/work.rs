//! The words of `work` and `merge-reports`.

use std::path::PathBuf;

use clap::Args as Group;

use super::{CarryArgs, Shape, ShardBy};

#[derive(Group)]
pub(crate) struct WorkArgs {
    /// The plan
    #[arg(long, value_name = "PLAN")]
    pub(crate) plan: PathBuf,
    /// Which shard of how many, from 0; else as SLURM_ARRAY_TASK_ID or JOB_COMPLETION_INDEX says
    #[arg(long, value_name = "I/N")]
    pub(crate) shard: Option<String>,
    /// How many shards there are, where only the index is known
    #[arg(long, value_name = "COUNT", conflicts_with = "shard")]
    pub(crate) shards: Option<u64>,
    /// What is to be as much for each shard
    #[arg(long, value_enum, default_value_t)]
    pub(crate) by: ShardBy,
    /// Where journals and reports of shards are kept; PLAN.shards, beside the plan
    #[arg(long, value_name = "DIR")]
    pub(crate) journals: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) carry: CarryArgs,
}

#[derive(Group)]
pub(crate) struct MergeArgs {
    /// The folder with the reports of all shards, or these reports
    #[arg(required = true, value_name = "DIR|FILE")]
    pub(crate) reports: Vec<PathBuf>,
    /// The plan: each shard has to have the families that it gives to it
    #[arg(long, value_name = "PLAN")]
    pub(crate) plan: Option<PathBuf>,
    /// Configurations of libvirt and Proxmox VE that name the images, or folders of them; may be
    /// given several times. What has to change in them is written as a patch
    #[arg(long, value_name = "PATH", requires = "plan")]
    pub(crate) configs: Vec<PathBuf>,
    /// Where the patch goes, if not beside the plan with .patch behind its name
    #[arg(long, value_name = "FILE", requires = "configs")]
    pub(crate) patches: Option<PathBuf>,
    /// The shape of the result
    #[arg(long, value_enum, default_value_t)]
    pub(crate) output: Shape,
    /// Say nothing but errors
    #[arg(short, long)]
    pub(crate) quiet: bool,
}
