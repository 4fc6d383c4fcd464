//! Attributes: what a file has beside its content, and the one that takes its place should have
//! too.

use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;

use rustix::fs::XattrFlags;
use rustix::io::Errno;

/// Gives `file` the owner, the permissions and the extended attributes of `original`.
///
/// # Errors
/// Where the host does not let one of them be read or given.
pub fn take_over_attributes(file: &File, original: &File) -> io::Result<()> {
    let like = original.metadata()?;
    let mine = file.metadata()?;
    if (mine.uid(), mine.gid()) != (like.uid(), like.gid()) {
        std::os::unix::fs::fchown(file, Some(like.uid()), Some(like.gid()))?;
    }
    file.set_permissions(like.permissions())?;
    let mut names = match rustix::fs::flistxattr_query(original) {
        Ok(length) => vec![0; length],
        // A file system without them.
        Err(Errno::NOTSUP) => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    let length = rustix::fs::flistxattr(original, &mut names[..])?;
    for name in names[..length].split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
        let mut value = vec![0; rustix::fs::fgetxattr_query(original, name)?];
        let length = rustix::fs::fgetxattr(original, name, &mut value[..])?;
        rustix::fs::fsetxattr(file, name, &value[..length], XattrFlags::empty())?;
    }
    Ok(())
}
