//! The words of the command line: verbs and letters as `qemu-img` has them. What most verbs share
//! is here; verbs with many words of their own have a file each.

mod check;
mod convert;
mod examine;
mod migrate;
mod plan;
mod report;
mod rescue;
mod sandbox;
mod scan;
mod sources;
mod upgrade;
mod work;

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use clap::{Args as Group, Parser, Subcommand, ValueEnum};

pub(crate) use check::{CheckArgs, Repair};
pub(crate) use convert::{ConvertArgs, CopyHow, SalvageWith};
pub(crate) use examine::{CarveArgs, LayoutArgs, LayoutShape, TimelineArgs, TimelineShape};
pub(crate) use migrate::{CarryArgs, MigrateArgs};
pub(crate) use plan::{DamagedWord, PlanAction, PlanArgs, PlanShape, ShardArgs, ShardBy, WayWord};
pub(crate) use report::{ReportArgs, ReportShape};
pub(crate) use rescue::RescueArgs;
pub(crate) use sandbox::{SandboxArgs, SandboxMode};
pub(crate) use scan::{ScanArgs, ScanShape};
pub(crate) use sources::{SourcesArgs, SourcesShape};
pub(crate) use upgrade::{UpgradeArgs, VerifyHow};
pub(crate) use work::{MergeArgs, WorkArgs};

/// Reads and migrates QCOW version 1 disk images. An old QCOW calves a QCOW2.
#[derive(Parser)]
#[command(version, args_conflicts_with_subcommands = true)]
pub(crate) struct Args {
    /// Say what an exit code means and what to do next
    #[arg(long, value_name = "CODE")]
    pub(crate) explain: Option<u8>,
    #[command(subcommand)]
    pub(crate) verb: Option<Verb>,
}

#[derive(Subcommand)]
pub(crate) enum Verb {
    /// Say what an image is, who made it and what to do about it
    Info(InfoArgs),
    /// Look for damage: all tables, who owns which bytes, and with --deep all that is stored
    Check(Box<CheckArgs>),
    /// List where the bytes of a disk are
    Map(MapArgs),
    /// Copy a disk to a new raw or qcow2 image
    Convert(Box<ConvertArgs>),
    /// Compare what two disks hold
    Compare(CompareArgs),
    /// Copy what is left of a damaged disk, and say of every byte what it is
    Rescue(Box<RescueArgs>),
    /// Make an empty raw or qcow2 image
    Create(CreateArgs),
    /// Make a version 1 image a qcow2 image where it lies, or take that back
    Upgrade(Box<UpgradeArgs>),
    /// Find images in folders and archives, and say what they are
    Scan(Box<ScanArgs>),
    /// Say what is to be done with each version 1 image of a catalogue
    Plan(Box<PlanArgs>),
    /// Carry out a plan, or take a run back
    Migrate(Box<MigrateArgs>),
    /// Carry out one shard of a plan: one worker of several
    Work(Box<WorkArgs>),
    /// Make one report of those of all shards, and fail where one is missing
    MergeReports(MergeArgs),
    /// Say what a run came to, and whether any version 1 image remains
    Report(Box<ReportArgs>),
    /// Find scripts and settings that still make version 1 images, or name them
    AuditSources(SourcesArgs),
    /// Say of every byte of a version 1 file what it is
    Layout(LayoutArgs),
    /// List what a version 1 file holds in the order in which it was first written
    Timeline(TimelineArgs),
    /// Take out what nothing in a version 1 file refers to any more
    Carve(CarveArgs),
}

/// What verbs that read images have in common.
pub(crate) struct Reading<'a> {
    /// The verb.
    pub(crate) name: &'static str,
    pub(crate) open: &'a OpenArgs,
    pub(crate) progress: Option<&'a ProgressArgs>,
    /// Files that it makes.
    pub(crate) makes: Vec<&'a Path>,
}

impl Verb {
    /// What a verb that reads images has in common with the others; `None` of one that does more.
    pub(crate) fn reading(&self) -> Option<Reading<'_>> {
        let (name, open, progress, makes) = match self {
            Verb::Info(args) => ("info", &args.open, None, Vec::new()),
            Verb::Check(args) => ("check", &args.open, Some(&args.progress), Vec::new()),
            Verb::Map(args) => ("map", &args.open, None, Vec::new()),
            Verb::Convert(args) => ("convert", &args.open, Some(&args.progress), args.makes()),
            Verb::Compare(args) => ("compare", &args.open, Some(&args.progress), Vec::new()),
            Verb::Rescue(args) => ("rescue", &args.open, Some(&args.progress), args.makes()),
            Verb::Layout(args) => ("layout", &args.open, None, Vec::new()),
            Verb::Timeline(args) => ("timeline", &args.open, None, Vec::new()),
            Verb::Carve(args) => ("carve", &args.open, None, vec![&*args.folder]),
            Verb::AuditSources(_)
            | Verb::Create(_)
            | Verb::MergeReports(_)
            | Verb::Migrate(_)
            | Verb::Plan(_)
            | Verb::Report(_)
            | Verb::Scan(_)
            | Verb::Upgrade(_)
            | Verb::Work(_) => return None,
        };
        Some(Reading { name, open, progress, makes })
    }
}

/// How images are opened.
#[derive(Group)]
pub(crate) struct OpenArgs {
    /// The FILE is a list of options: driver=qcow,file.filename=PATH,encrypt.key-secret=ID
    #[arg(long)]
    pub(crate) image_opts: bool,
    /// Define a secret: secret,id=ID,file=PATH or secret,id=ID,data=TEXT
    #[arg(long = "object", value_name = "OBJECT")]
    pub(crate) objects: Vec<String>,
    /// Open without locks, also what another process is writing
    #[arg(short = 'U', long)]
    pub(crate) force_share: bool,
    /// Take this file as the base instead of the one that the image names; again for its base
    #[arg(long, value_name = "PATH")]
    pub(crate) base: Vec<PathBuf>,
    /// Allow bases in this folder and below, beside the image's own
    #[arg(long, value_name = "DIR")]
    pub(crate) base_root: Vec<PathBuf>,
    /// Read the base in this format; again for its base
    #[arg(long, value_name = "FORMAT")]
    pub(crate) backing_format: Vec<String>,
    /// The external data file of a qcow2 image that has one
    #[arg(long, value_name = "PATH")]
    pub(crate) data_file: Option<PathBuf>,
    /// Write digests of all files that are read, before and after, to this new file, as JSON
    #[arg(long, value_name = "LOG")]
    pub(crate) evidence: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) sandbox: SandboxArgs,
}

/// Where passphrases come from.
#[derive(Group)]
pub(crate) struct KeyArgs {
    /// Read a passphrase from this file; again for each further encrypted layer
    #[arg(long, value_name = "PATH")]
    pub(crate) passphrase_file: Vec<PathBuf>,
    /// Read a passphrase from this file descriptor
    #[arg(long, value_name = "FD")]
    pub(crate) passphrase_fd: Vec<u32>,
    /// Take a passphrase even where all it yields is noise
    #[arg(long)]
    pub(crate) force_passphrase: bool,
}

/// How progress is told.
#[derive(Group)]
pub(crate) struct ProgressArgs {
    /// Show progress
    #[arg(short = 'p')]
    pub(crate) show: bool,
    /// Show progress as: bar, json or json=FD (JSON Lines on that file descriptor), none
    #[arg(long, value_name = "MODE")]
    pub(crate) progress: Option<String>,
    /// Say nothing but errors
    #[arg(short, long)]
    pub(crate) quiet: bool,
}

/// In what shape a result is printed.
#[derive(Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(crate) enum Shape {
    /// For people
    #[default]
    Human,
    /// One JSON document
    Json,
}

/// In what shape a map is printed.
#[derive(Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(crate) enum MapShape {
    /// For people
    #[default]
    Human,
    /// One JSON document
    Json,
    /// A map file of GNU ddrescue: lost ranges are bad sectors
    Ddrescue,
}

#[derive(Group)]
pub(crate) struct InfoArgs {
    /// The image
    pub(crate) file: OsString,
    /// The image's format; found out where it is not given
    #[arg(short, long)]
    pub(crate) format: Option<String>,
    /// Tell of every image of the backing chain
    #[arg(long, conflicts_with = "untrusted")]
    pub(crate) backing_chain: bool,
    /// Walk all tables: count clusters and what is odd, which check lists one by one
    #[arg(long)]
    pub(crate) deep: bool,
    /// The shape of the result
    #[arg(long, value_enum, default_value_t)]
    pub(crate) output: Shape,
    #[command(flatten)]
    pub(crate) open: OpenArgs,
}

#[derive(Group)]
pub(crate) struct MapArgs {
    /// The image
    pub(crate) file: OsString,
    /// The image's format; found out where it is not given
    #[arg(short, long)]
    pub(crate) format: Option<String>,
    /// Where to begin
    #[arg(short, long, value_name = "OFFSET")]
    pub(crate) start_offset: Option<String>,
    /// How far to go
    #[arg(short = 'l', long, value_name = "LENGTH")]
    pub(crate) max_length: Option<String>,
    /// The shape of the result
    #[arg(long, value_enum, default_value_t)]
    pub(crate) output: MapShape,
    #[command(flatten)]
    pub(crate) open: OpenArgs,
}

#[derive(Group)]
pub(crate) struct CompareArgs {
    /// One image
    pub(crate) first: OsString,
    /// The other image
    pub(crate) second: OsString,
    /// The first image's format; found out where it is not given
    #[arg(short = 'f', long, value_name = "FORMAT", visible_alias = "a-format")]
    pub(crate) first_format: Option<String>,
    /// The second image's format; found out where it is not given
    #[arg(short = 'F', long, value_name = "FORMAT", visible_alias = "b-format")]
    pub(crate) second_format: Option<String>,
    /// Sizes and what is stored at all must be the same too
    #[arg(short, long)]
    pub(crate) strict: bool,
    /// How to read: writeback, or none, which gives the page cache of what was read back at once
    #[arg(short = 'T', long, value_name = "MODE", default_value = "writeback")]
    pub(crate) source_cache: String,
    /// The shape of the result
    #[arg(long, value_enum, default_value_t)]
    pub(crate) output: Shape,
    #[command(flatten)]
    pub(crate) open: OpenArgs,
    #[command(flatten)]
    pub(crate) keys: KeyArgs,
    #[command(flatten)]
    pub(crate) progress: ProgressArgs,
}

#[derive(Group)]
pub(crate) struct CreateArgs {
    /// The new image
    pub(crate) file: OsString,
    /// Its virtual size, such as 10G; the base's where there is one
    pub(crate) size: Option<String>,
    /// Its format: raw or qcow2
    #[arg(short, long, default_value = "raw")]
    pub(crate) format: String,
    /// Options, such as cluster_size=64k; help lists them
    #[arg(short, long, value_name = "OPTIONS")]
    pub(crate) options: Vec<String>,
    /// Its backing file, looked up from its own folder
    #[arg(short, long, value_name = "PATH")]
    pub(crate) backing: Option<OsString>,
    /// The backing file's format
    #[arg(short = 'F', long, value_name = "FORMAT")]
    pub(crate) backing_format: Option<String>,
    /// Do not open the backing file
    #[arg(short = 'u', long)]
    pub(crate) backing_unsafe: bool,
    /// Replace a file that exists
    #[arg(long)]
    pub(crate) force: bool,
    /// Say nothing but errors
    #[arg(short, long)]
    pub(crate) quiet: bool,
}
