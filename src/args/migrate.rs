//! The words of `migrate`, and those that it has in common with `work`.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap::Args as Group;

use super::Shape;

#[derive(Group)]
pub(crate) struct MigrateArgs {
    /// The plan; to take back, release or list, the plan, the catalogue or a journal
    #[arg(value_name = "PLAN")]
    pub(crate) file: PathBuf,
    #[command(flatten)]
    pub(crate) action: MigrateAction,
    /// Where the journal is kept, if not in the catalogue that the plan was made from
    #[arg(long, value_name = "FILE")]
    pub(crate) journal: Option<PathBuf>,
    /// Only so many families of each kind: run it again without this to go on
    #[arg(long, value_name = "COUNT")]
    pub(crate) canary: Option<NonZeroUsize>,
    /// Configurations of libvirt and Proxmox VE that name the images, or folders of them; may be
    /// given several times. What has to change in them is written as a patch
    #[arg(long, value_name = "PATH")]
    pub(crate) configs: Vec<PathBuf>,
    /// Change the configurations with the families whose images they name
    #[arg(long, requires = "configs")]
    pub(crate) apply_configs: bool,
    /// Where the patch goes, if not beside the plan with .patch behind its name
    #[arg(long, value_name = "FILE", requires = "configs", conflicts_with = "apply_configs")]
    pub(crate) patches: Option<PathBuf>,
    /// With --undo, also take back what was written to since; with --release, do not wait for days
    #[arg(long)]
    pub(crate) force: bool,
    #[command(flatten)]
    pub(crate) carry: CarryArgs,
}

/// How a plan, or a part of one, is carried out.
#[derive(Group)]
pub(crate) struct CarryArgs {
    /// Families at once, 1 to 64; as many as there are processors
    #[arg(short, long, value_name = "COUNT")]
    pub(crate) jobs: Option<String>,
    /// Families at once on any one file system, 1 to 64; as many as --jobs
    #[arg(long, value_name = "COUNT")]
    pub(crate) per_device: Option<String>,
    /// The most bytes a second that all conversions together write
    #[arg(long, value_name = "SIZE")]
    pub(crate) rate_limit: Option<String>,
    /// Begin no further family when more than this share of them failed
    #[arg(long, value_name = "PERCENT", default_value = "5")]
    pub(crate) max_failures: f64,
    /// Begin families outside the hours that the plan names too
    #[arg(long)]
    pub(crate) any_time: bool,
    /// Begin no further family after so long, such as 90m or 2h; what was begun is ended
    #[arg(long, value_name = "TIME")]
    pub(crate) max_duration: Option<String>,
    /// Begin no further family when those that were begun have so many bytes
    #[arg(long, value_name = "SIZE")]
    pub(crate) max_bytes: Option<String>,
    /// Take BLAKE3 of upgraded disks too, as their guests see them, before and after: each overlay
    /// reads all that it lies on
    #[arg(long)]
    pub(crate) digests: bool,
    /// Run this in a shell before anything is done with an image
    #[arg(long, value_name = "COMMAND")]
    pub(crate) before: Option<String>,
    /// Run this in a shell for each image when its family is migrated
    #[arg(long, value_name = "COMMAND")]
    pub(crate) after: Option<String>,
    /// Listen for words on this socket: pause, resume, jobs N, per-device N, rate SIZE, status, stop
    #[arg(long, value_name = "SOCKET")]
    pub(crate) control: Option<PathBuf>,
    /// Append what happens to this file, as JSON Lines
    #[arg(long, value_name = "FILE")]
    pub(crate) events: Option<PathBuf>,
    /// Keep numbers in this file, as Prometheus reads them from files
    #[arg(long, value_name = "FILE")]
    pub(crate) metrics: Option<PathBuf>,
    /// The shape of the result
    #[arg(long, value_enum, default_value_t)]
    pub(crate) output: Shape,
    /// Show the run on the terminal while it goes on, and heed keys
    #[arg(long, conflicts_with_all = ["quiet", "show"])]
    pub(crate) live: bool,
    /// Tell of each family that is over
    #[arg(short = 'p')]
    pub(crate) show: bool,
    /// Say nothing but errors
    #[arg(short, long)]
    pub(crate) quiet: bool,
}

#[derive(Group)]
#[group(multiple = false)]
pub(crate) struct MigrateAction {
    /// Make all images of this run what they were
    #[arg(long, value_name = "RUN", conflicts_with = "live")]
    pub(crate) undo: Option<i64>,
    /// Remove the originals of this run, and undo records: it cannot be taken back any more
    #[arg(long, value_name = "RUN", conflicts_with = "live")]
    pub(crate) release: Option<i64>,
    /// List the runs
    #[arg(long, conflicts_with = "live")]
    pub(crate) list: bool,
}
