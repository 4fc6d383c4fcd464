//! File systems in files and in memory, mounted for as long as somebody needs them.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::qemu;

/// A file system, unmounted when dropped.
pub struct Mounted {
    folder: PathBuf,
}

impl Mounted {
    /// Makes a file system of `size` bytes with `mkfs.KIND`, in a file in `folder`, and mounts it
    /// there under its kind's name. `None` where that cannot be had here: without the tool, root
    /// or loop devices.
    ///
    /// # Errors
    /// Where the tool is there and fails.
    pub fn new(folder: &Path, kind: &str, size: u64) -> io::Result<Option<Self>> {
        let (backing, mounted) = (folder.join(format!("{kind}.img")), folder.join(kind));
        File::create(&backing)?.set_len(size)?;
        std::fs::create_dir_all(&mounted)?;
        let made = Command::new(format!("mkfs.{kind}")).arg("-q").arg(&backing).output();
        let Ok(made) = made else { return Ok(None) };
        if !made.status.success() {
            let said = String::from_utf8_lossy(&made.stderr).into_owned();
            return Err(io::Error::other(format!("mkfs.{kind}: {said}")));
        }
        let mount = Command::new("mount").args(["-o", "loop"]).arg(&backing).arg(&mounted).output();
        let is_mounted = mount.is_ok_and(|output| output.status.success());
        Ok(is_mounted.then_some(Self { folder: mounted }))
    }

    /// Mounts a file system of `size` bytes in memory on a folder that is there. `None` where that
    /// takes rights that nobody has here, which is said loudly.
    pub fn in_memory(folder: &Path, size: u64) -> Option<Self> {
        let size = format!("size={size}");
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(folder);
        let is_mounted = mount.output().is_ok_and(|output| output.status.success());
        if !is_mounted {
            // Not a missing tool: only root may mount.
            qemu::skipped("mounting a tmpfs needs root");
        }
        is_mounted.then(|| Self { folder: folder.to_owned() })
    }

    /// Lets nobody write to it from now on.
    ///
    /// # Errors
    /// Where the host refuses.
    pub fn make_read_only(&self) -> io::Result<()> {
        let mut mount = Command::new("mount");
        let output = mount.args(["-o", "remount,ro"]).arg(&self.folder).output()?;
        let said = || String::from_utf8_lossy(&output.stderr).into_owned();
        if output.status.success() { Ok(()) } else { Err(io::Error::other(said())) }
    }

    /// Where it is mounted.
    pub fn folder(&self) -> &Path {
        &self.folder
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let unmounted = Command::new("umount").arg(&self.folder).output();
        assert!(unmounted.is_ok_and(|output| output.status.success()), "unmounted again");
    }
}
