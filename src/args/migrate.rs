//! The words of `migrate`.

use std::path::PathBuf;

use clap::Args as Group;

use super::Shape;

#[derive(Group)]
pub(crate) struct MigrateArgs {
    /// The plan; to take back, release or list, the plan or the catalogue
    #[arg(value_name = "PLAN")]
    pub(crate) file: PathBuf,
    #[command(flatten)]
    pub(crate) action: MigrateAction,
    /// Where the journal is kept, if not in the catalogue that the plan was made from
    #[arg(long, value_name = "FILE")]
    pub(crate) journal: Option<PathBuf>,
    /// Families at once, 1 to 64; as many as there are processors
    #[arg(short, long, value_name = "COUNT")]
    pub(crate) jobs: Option<String>,
    /// Families at once on any one file system, 1 to 64; as many as --jobs
    #[arg(long, value_name = "COUNT")]
    pub(crate) per_device: Option<String>,
    /// The most bytes a second that all conversions together write
    #[arg(long, value_name = "SIZE")]
    pub(crate) rate_limit: Option<String>,
    /// Only so many families of each kind: run it again without this to go on
    #[arg(long, value_name = "COUNT")]
    pub(crate) canary: Option<usize>,
    /// Begin no further family when more than this share of them failed
    #[arg(long, value_name = "PERCENT", default_value = "5")]
    pub(crate) max_failures: f64,
    /// Begin families outside the hours that the plan names too
    #[arg(long)]
    pub(crate) any_time: bool,
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
    /// With --undo, also take back what was written to since; with --release, do not wait for days
    #[arg(long)]
    pub(crate) force: bool,
    /// The shape of the result
    #[arg(long, value_enum, default_value_t)]
    pub(crate) output: Shape,
    /// Show the run on the terminal while it goes on, and heed keys
    #[arg(long, conflicts_with_all = ["quiet", "show", "undo", "release", "list"])]
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
    #[arg(long, value_name = "RUN")]
    pub(crate) undo: Option<i64>,
    /// Remove the originals of this run, and undo records: it cannot be taken back any more
    #[arg(long, value_name = "RUN")]
    pub(crate) release: Option<i64>,
    /// List the runs
    #[arg(long)]
    pub(crate) list: bool,
}
