//! Files: no name in the file system leads anywhere any more, but in the folders that are written
//! to; and no network, and no signal to others. Landlock does it.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, LandlockStatus, PathBeneath, RestrictionStatus,
    Ruleset, RulesetAttr, RulesetCreatedAttr, RulesetError, RulesetStatus, Scope, make_bitflags,
};

use rustix::fs::{Mode, OFlags};

use crate::{Error, Missing};

/// The latest list of rights that is asked for. An older kernel denies those that it knows.
const ABI: ABI = ABI::V10;

const WHAT: &str = "Landlock";

/// Denies everything that this kernel can deny.
pub(crate) fn enter(folders: &[PathBuf]) -> Result<Option<Missing>, Error> {
    let folders = folders.iter().map(|folder| open(folder)).collect::<Result<Vec<_>, _>>()?;
    let why = match restrict(folders) {
        Ok(RestrictionStatus { ruleset: RulesetStatus::NotEnforced, landlock, .. }) => {
            match landlock {
                LandlockStatus::NotEnabled => "switched off in this kernel".to_owned(),
                _ => "not in this kernel".to_owned(),
            }
        }
        Ok(_) => return Ok(None),
        Err(error) => error.to_string(),
    };
    Ok(Some(Missing { what: WHAT, why }))
}

fn open(folder: &Path) -> Result<OwnedFd, Error> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::open(folder, flags, Mode::empty())
        .map_err(|error| Error::Folder { path: folder.to_owned(), source: error.into() })
}

fn restrict(folders: Vec<OwnedFd>) -> Result<RestrictionStatus, RulesetError> {
    let mut ruleset = Ruleset::default()
        .handle_access(AccessFs::from_all(ABI))?
        .handle_access(AccessNet::from_all(ABI))?
        .scope(Scope::from_all(ABI))?
        .create()?;
    for folder in folders {
        ruleset = ruleset.add_rule(PathBeneath::new(folder, in_folders()))?;
    }
    ruleset.restrict_self()
}

/// What may be done in the folders that are written to: files are made there, and nothing else.
fn in_folders() -> BitFlags<AccessFs> {
    make_bitflags!(AccessFs::{
        ReadFile | WriteFile | Truncate | ReadDir | MakeReg | RemoveFile
    })
}
