//! Files of the host, opened so that reading them shows nowhere, where that can be had.

use std::fs::File;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use nix::libc;
use rustix::fs::OFlags;
use rustix::io::Errno;

/// Opens a file for reading: without waiting for whoever may be at its other end and, where the
/// host allows that, without a change of its access time. It allows the file's owner, and those
/// who may do everything.
///
/// # Errors
/// What the host says.
pub fn open_for_reading(path: &Path) -> std::io::Result<File> {
    let open = |flags| File::options().read(true).custom_flags(libc::O_NONBLOCK | flags).open(path);
    match open(libc::O_NOATIME) {
        Err(error) if error.raw_os_error() == Some(libc::EPERM) => open(0),
        done => done,
    }
}

/// As [`open_for_reading`], with the call that opens given.
pub(super) fn open_quietly<T>(open: impl Fn(OFlags) -> Result<T, Errno>) -> Result<T, Errno> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
    match open(flags | OFlags::NOATIME) {
        Err(Errno::PERM) => open(flags),
        done => done,
    }
}
