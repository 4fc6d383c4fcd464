//! Whether SQLite failed for want of room.

use std::path::Path;

use rusqlite::ErrorCode;

/// What SQLite takes at once beside a database: less is no room.
const LEAST: u64 = 64 << 10;

/// Whether a database in this folder failed for want of room. SQLite says so of the database itself;
/// of the log and of the memory that processes share beside it, it says no more than that input or
/// output failed, or that they cannot be made, and then the file system is asked what it has left.
/// A quota does not show there.
pub fn is_full(error: &rusqlite::Error, folder: &Path) -> bool {
    match error.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => true,
        Some(ErrorCode::SystemIoFailure | ErrorCode::CannotOpen) => has_no_room(folder),
        _ => false,
    }
}

/// Whether a file in this folder could not be made, or could not grow.
fn has_no_room(folder: &Path) -> bool {
    let Ok(status) = rustix::fs::statvfs(folder) else { return false };
    let bytes = status.f_bavail.saturating_mul(status.f_frsize);
    // Some file systems count no files, and say that there are none at all.
    bytes < LEAST || (status.f_files > 0 && status.f_favail == 0)
}
