//! What file systems cannot do, as far as the host tells without a write.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use calve_disk::folder_of;

/// File systems that share no blocks between files, by what the kernel calls them in numbers.
const WITHOUT_CLONES: [(i64, &str); 5] = [
    (0xEF53, "ext4"),
    (0x0102_1994, "tmpfs"),
    (0x8584_58F6, "ramfs"),
    (0x4D44, "FAT"),
    (0x2011_BAB0, "exFAT"),
];

/// A file system whose subvolumes have numbers of their own, as if they were others.
const BTRFS: i64 = 0x9123_683E;

/// The name of the file system on which this file is, where that shares no blocks between files. Of
/// others only a try would tell, and a plan tries nothing.
pub(crate) fn without_clones(path: &Path) -> Option<&'static str> {
    let kind = kind_of(path)?;
    WITHOUT_CLONES.iter().find(|(number, _)| *number == kind).map(|(_, name)| *name)
}

/// File systems that give a file no more blocks than it has written bytes in.
const WITH_HOLES: [i64; 2] = [0xEF53, 0x0102_1994];

/// Whether the file system on which this file is certainly leaves holes where nothing is written.
pub(crate) fn leaves_holes(path: &Path) -> bool {
    kind_of(path).is_some_and(|kind| WITH_HOLES.contains(&kind))
}

/// Whether this file can certainly not be renamed into this folder, as it is on another file system.
pub(crate) fn is_elsewhere(path: &Path, folder: &Path) -> bool {
    let device = |path: &Path| path.symlink_metadata().ok().map(|metadata| metadata.dev());
    let (Some(here), Some(there)) = (device(path), device(folder)) else { return false };
    here != there && (kind_of(path) != Some(BTRFS) || kind_of(&folder.join("it")) != Some(BTRFS))
}

/// The number of the kind of the file system on which this file is, or would be.
fn kind_of(path: &Path) -> Option<i64> {
    let status = rustix::fs::statfs(folder_of(path)).ok()?;
    // The field has another type on other processors, and 32 bits everywhere.
    #[allow(clippy::useless_conversion, reason = "not on other processors")]
    i64::try_from(status.f_type).ok()
}
