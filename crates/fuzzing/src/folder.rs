//! Folders for targets that need files of the host.

use std::path::Path;

/// Where files are only memory, if there is such a place: syncing takes no time there.
const IN_MEMORY: &str = "/dev/shm";

/// A folder that goes away when it is no longer used.
pub(crate) fn new() -> tempfile::TempDir {
    let folder = match Path::new(IN_MEMORY).is_dir() {
        true => tempfile::tempdir_in(IN_MEMORY),
        false => tempfile::tempdir(),
    };
    folder.expect("a folder")
}
