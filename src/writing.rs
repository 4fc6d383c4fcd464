//! Files that a user names to be written to, which may be pipes.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rustix::fs::OFlags;
use rustix::io::Errno;

/// Opens a file as `how` says, and waits for nobody: a pipe that nobody reads is an error. What is
/// written then waits for room, as it does in a file.
pub(crate) fn open(how: &mut OpenOptions, path: &Path) -> io::Result<File> {
    let flags = i32::try_from(OFlags::NONBLOCK.bits()).unwrap_or_default();
    let file = how.custom_flags(flags).open(path)?;
    // A confined worker may not ask for that, and a file never has anybody wait.
    if !file.metadata()?.is_file() {
        rustix::io::ioctl_fionbio(&file, false)?;
    }
    Ok(file)
}

/// What [`open`] says of a pipe that nobody reads, and what to do then.
pub(crate) fn unread(error: &io::Error) -> Option<(&'static str, &'static str)> {
    let is_unread = Errno::from_io_error(error) == Some(Errno::NXIO);
    is_unread.then_some(("nobody reads it", "start the reader first"))
}
