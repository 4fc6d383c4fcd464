//! The words of `upgrade`.

use std::path::PathBuf;

use clap::{Args as Group, ValueEnum};

use super::Shape;

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
