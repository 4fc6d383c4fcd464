//! The words of the command line: verbs and letters as `qemu-img` has them.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args as Group, Parser, Subcommand, ValueEnum};

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
    /// List where the bytes of a disk are
    Map(MapArgs),
    /// Copy a disk to a new raw or qcow2 image
    Convert(Box<ConvertArgs>),
    /// Compare what two disks hold
    Compare(CompareArgs),
    /// Make an empty raw or qcow2 image
    Create(CreateArgs),
    /// Make a version 1 image a qcow2 image where it lies, or take that back
    Upgrade(Box<UpgradeArgs>),
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
    #[arg(long)]
    pub(crate) backing_chain: bool,
    /// Walk all tables: count clusters and tell of everything odd
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
pub(crate) struct ConvertArgs {
    /// The sources, one behind the other, and the target
    #[arg(required = true, num_args = 2.., value_names = ["SOURCE", "TARGET"])]
    pub(crate) files: Vec<OsString>,
    /// The sources' format; found out where it is not given
    #[arg(short, long, value_name = "FORMAT", visible_alias = "source-format")]
    pub(crate) format: Option<String>,
    /// The target's format: raw or qcow2
    #[arg(short = 'O', long, value_name = "FORMAT", default_value = "raw")]
    pub(crate) target_format: String,
    /// Options of the target, such as cluster_size=64k; help lists them
    #[arg(short = 'o', long = "target-options", value_name = "OPTIONS", visible_alias = "options")]
    pub(crate) options: Vec<String>,
    /// Pack the target's clusters (qcow2)
    #[arg(short, long)]
    pub(crate) compress: bool,
    /// Leave out runs of zeros of at least this length; 0 stores everything
    #[arg(short = 'S', long, value_name = "SIZE", default_value = "4k")]
    pub(crate) sparse_size: String,
    /// Write into a target that exists already, such as a block device
    #[arg(short, long)]
    pub(crate) no_create: bool,
    /// With -n: the target is known to read as zeros
    #[arg(long, requires = "no_create")]
    pub(crate) target_is_zero: bool,
    /// Make a thin overlay over this base
    #[arg(short = 'B', short_alias = 'b', long, value_name = "PATH")]
    pub(crate) backing: Option<OsString>,
    /// The format of that base
    #[arg(short = 'F', long, value_name = "FORMAT")]
    pub(crate) target_backing_format: Option<String>,
    /// Worker threads, 1 to 16
    #[arg(short = 'm', long, value_name = "COUNT")]
    pub(crate) parallel: Option<String>,
    /// Accepted for qemu-img's sake: the result is the same in any order
    #[arg(short = 'W', long)]
    pub(crate) oob_writes: bool,
    /// How to write: writeback, none (past the page cache, which is often quicker to be on the
    /// medium), writethrough, directsync or unsafe (never synced)
    #[arg(short = 't', long, value_name = "MODE", default_value = "writeback")]
    pub(crate) target_cache: String,
    /// How to read: writeback, or none, which gives the page cache of what was read back at once
    #[arg(short = 'T', long, value_name = "MODE", default_value = "writeback")]
    pub(crate) source_cache: String,
    /// Who moves plain bytes: auto shares blocks with the source where the file systems can
    #[arg(long, value_name = "HOW", value_enum, default_value_t)]
    pub(crate) copy: CopyHow,
    /// Write no more than this in a second
    #[arg(short, long, value_name = "BYTES", visible_alias = "rate")]
    pub(crate) rate_limit: Option<String>,
    /// Go on where source bytes are lost: with the base's where there is one, or with zeros
    #[arg(
        long,
        value_name = "WITH",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "base"
    )]
    pub(crate) salvage: Option<SalvageWith>,
    /// With --salvage: write what was lost to this file, as a map of GNU ddrescue
    #[arg(long, value_name = "PATH", requires = "salvage")]
    pub(crate) map: Option<PathBuf>,
    /// Open the target afresh, read all of it and compare it with what was read of the source
    #[arg(long)]
    pub(crate) verify: bool,
    /// Replace a target that exists
    #[arg(long, conflicts_with = "no_create")]
    pub(crate) force: bool,
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

/// Who moves plain bytes.
#[derive(Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(crate) enum CopyHow {
    /// The host, where that is quicker: both files share long runs of blocks where their file
    /// system can do that
    #[default]
    Auto,
    /// As auto, and with -S 0 the kernel copies long runs, on any file system
    Kernel,
    /// As auto, and refuse where no block can be shared
    Clone,
    /// calve reads and writes every byte, and looks for zeros everywhere
    #[value(alias = "never")]
    Read,
}

/// What takes the place of lost bytes.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum SalvageWith {
    /// What the base has there, or zeros where there is none
    Base,
    /// Zeros
    Zeros,
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

#[derive(Group)]
#[group(id = "what", multiple = false)]
pub(crate) struct UpgradeAction {
    /// Make the image what it was before its upgrade, to the bit
    #[arg(long)]
    pub(crate) undo: bool,
    /// Settle an upgrade that was interrupted: finish it or roll it back
    #[arg(long)]
    pub(crate) recover: bool,
    /// Give up the way back: free what --hold holds, and remove the undo record
    #[arg(long)]
    pub(crate) release: bool,
    /// Say what would be done, and do nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Share all blocks with a new file of this name and upgrade that; the image stays as it is
    #[arg(long, value_name = "NEW", conflicts_with_all = ["chain", "hold"])]
    pub(crate) reflink_to: Option<PathBuf>,
    /// Afterwards convert to clusters of 64 KiB, verified, in the image's place
    #[arg(long, conflicts_with_all = ["chain", "hold"])]
    pub(crate) then_repack: bool,
}

#[derive(Group)]
pub(crate) struct UpgradeArgs {
    /// The image
    pub(crate) file: PathBuf,
    #[command(flatten)]
    pub(crate) action: UpgradeAction,
    /// Do so with the version 1 images of the whole backing chain, bases first (--undo: last)
    #[arg(long)]
    pub(crate) chain: bool,
    /// The format of the backing file, which qcow2 records; found out where it is not given
    #[arg(short = 'F', long, value_name = "FORMAT", conflicts_with = "chain")]
    pub(crate) backing_format: Option<String>,
    /// Allow bases in this folder and below, beside the image's own
    #[arg(long, value_name = "DIR")]
    pub(crate) base_root: Vec<PathBuf>,
    /// What to compare afterwards: tables (where every byte is), or full (every byte too)
    #[arg(long, value_name = "HOW", value_enum, default_value_t)]
    pub(crate) verify: VerifyHow,
    /// Keep what the old image used from being overwritten, until --release
    #[arg(long)]
    pub(crate) hold: bool,
    /// Let the file have the time it had
    #[arg(short, long)]
    pub(crate) preserve: bool,
    /// With --undo: also where the time says that something has written to the disk
    #[arg(long, requires = "undo")]
    pub(crate) force: bool,
    /// The shape of the report
    #[arg(long, value_enum, default_value_t)]
    pub(crate) output: Shape,
    /// Say nothing but errors
    #[arg(short, long)]
    pub(crate) quiet: bool,
}

/// What is compared after an upgrade.
#[derive(Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(crate) enum VerifyHow {
    /// Every guest cluster is where it was, and every reference count is right
    #[default]
    Tables,
    /// That, and all bytes that the image stores are read before and after
    Full,
}
