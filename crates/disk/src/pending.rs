//! Pending: a file that gets its name when it is whole, and goes away when it never is.

use std::collections::hash_map::RandomState;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::hash::{BuildHasher, Hasher};
use std::io::ErrorKind;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, RenameFlags};
use rustix::io::Errno;

use crate::error::{Error, Result};
use crate::open::{lock_for_writing, open_for_reading};

/// A file under a temporary name, in the folder of the final one. Removed when dropped.
pub struct PendingFile {
    folder: File,
    path: PathBuf,
    name: OsString,
    target: PathBuf,
    target_name: OsString,
    replaces: bool,
    has_final_name: bool,
}

/// Whether a pending file got its name.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Named {
    /// It has its name.
    Yes,
    /// Another file has it by now, and was not to be replaced.
    Taken,
}

impl PendingFile {
    /// Creates an empty file beside `target`, whose name it will take, with the permissions
    /// `mode`, and opens it for reading and writing. `replaces` says whether what bears that name
    /// then goes away.
    ///
    /// # Errors
    /// [`Error::Refused`] where `target` is no file name, or where what bears it is neither a regular
    /// file nor a link; [`Error::Io`] where the host fails.
    pub fn create(target: &Path, replaces: bool, mode: u32) -> Result<(File, Self)> {
        let Some(target_name) = target.file_name() else {
            return Err(Error::Refused { path: target.to_owned(), why: "is no file name".into() });
        };
        if replaces && !is_link(target) {
            may_replace(target)?;
        }
        let folder_path = folder_of(target);
        let failed = |error: Errno| Error::host("creating the target", target, error);
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let folder = rustix::fs::open(folder_path, flags, Mode::empty()).map_err(failed)?;
        let (file, name) = loop {
            let name = temporary_name(target_name);
            let flags =
                OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC | OFlags::NOFOLLOW;
            match rustix::fs::openat(&folder, &name, flags, Mode::from_raw_mode(mode)) {
                Ok(file) => break (File::from(file), name),
                Err(Errno::EXIST) => {}
                Err(error) => return Err(failed(error)),
            }
        };
        let pending = Self {
            folder: File::from(folder),
            path: folder_path.join(&name),
            name,
            target: target.to_owned(),
            target_name: target_name.to_owned(),
            replaces,
            has_final_name: false,
        };
        Ok((file, pending))
    }

    /// Where it is now, under its temporary name.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Gives the file its name and, where `durable` says so, returns when the name is on the
    /// medium. The content must be there already.
    ///
    /// # Errors
    /// [`Error::Io`] where the host fails; the file then does not bear the name, unless it
    /// replaced what bore it.
    pub fn take_name(mut self, durable: bool) -> Result<Named> {
        match self.rename() {
            Ok(()) => self.has_final_name = true,
            Err(Errno::EXIST) => return Ok(Named::Taken),
            Err(error) => return Err(Error::host("naming the target", &self.target, error)),
        }
        if durable {
            self.folder.sync_all().map_err(|source| {
                self.take_name_back();
                Error::host("syncing the folder", &self.target, source)
            })?;
        }
        Ok(Named::Yes)
    }

    /// Removes what runs that were killed left behind of files that were to be called `target`. A
    /// file that is locked belongs to a run that goes on.
    pub fn remove_leftovers(target: &Path) {
        let Some(target_name) = target.file_name() else { return };
        let start = temporary_start(target_name);
        let Ok(entries) = std::fs::read_dir(folder_of(target)) else { return };
        for entry in entries.flatten() {
            let is_ours = entry
                .file_name()
                .as_bytes()
                .strip_prefix(start.as_bytes())
                .is_some_and(|end| end.len() == 16 && end.iter().all(u8::is_ascii_hexdigit));
            let path = entry.path();
            let is_left = || open_for_reading(&path).is_ok_and(|file| !is_locked(&file, &path));
            if is_ours && is_left() {
                // Best effort: they are in nobody's way.
                let _ = std::fs::remove_file(&path);
            }
        }
    }

    fn rename(&self) -> std::result::Result<(), Errno> {
        let (folder, from, to) = (&self.folder, &self.name, &self.target_name);
        if self.replaces {
            return rustix::fs::renameat(folder, from, folder, to);
        }
        rename_new(folder, from, to)
    }

    /// Takes a name away that may not last. What it replaced is gone, and then the new file is
    /// better than none.
    fn take_name_back(&self) {
        if !self.replaces {
            // Best effort: the failure that led here is what is told.
            let _ = rustix::fs::unlinkat(&self.folder, &self.target_name, AtFlags::empty());
        }
    }
}

impl Drop for PendingFile {
    fn drop(&mut self) {
        if self.has_final_name {
            return;
        }
        // Best effort: there is nobody left to tell.
        let _ = rustix::fs::unlinkat(&self.folder, &self.name, AtFlags::empty());
    }
}

/// Whether a new file may take this name without a word: where nothing bears it, or a regular file. A
/// device, a pipe or a link (such as /dev/stdout) would be gone for all that use it.
///
/// # Errors
/// [`Error::Refused`] where it may not; [`Error::Io`] where the host fails.
pub fn may_replace(target: &Path) -> Result<()> {
    let refused = |why: &str| Error::Refused { path: target.to_owned(), why: why.into() };
    match target.symlink_metadata() {
        Ok(there) if there.is_file() => Ok(()),
        Ok(there) if there.is_symlink() => {
            Err(refused("is a symbolic link, which is not followed; name the file"))
        }
        Ok(_) => Err(refused("is no regular file, and is not replaced; name another")),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) => Err(Error::host("looking at the target", target, error)),
    }
}

fn is_link(path: &Path) -> bool {
    path.symlink_metadata().is_ok_and(|there| there.is_symlink())
}

/// Gives a file or a folder the name `to` in the same folder, where nothing bears it.
fn rename_new(folder: &File, from: &OsStr, to: &OsStr) -> std::result::Result<(), Errno> {
    match rustix::fs::renameat_with(folder, from, folder, to, RenameFlags::NOREPLACE) {
        Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {
            let status = rustix::fs::statat(folder, from, AtFlags::SYMLINK_NOFOLLOW)?;
            if FileType::from_raw_mode(status.st_mode).is_dir() {
                // A folder takes the place of nothing but an empty folder.
                return match rustix::fs::renameat(folder, from, folder, to) {
                    Err(Errno::NOTEMPTY | Errno::NOTDIR) => Err(Errno::EXIST),
                    done => done,
                };
            }
            // A file system that cannot rename without replacing can still link without it.
            rustix::fs::linkat(folder, from, folder, to, AtFlags::empty())?;
            rustix::fs::unlinkat(folder, from, AtFlags::empty())
        }
        done => done,
    }
}

/// Gives the finished file or folder `from` the name `target` in the same folder, where nothing bears it,
/// and returns when that is on the medium.
///
/// # Errors
/// [`Error::Refused`] where something bears the name, or either is no file name; [`Error::Io`]
/// where the host fails.
pub fn give_name(from: &Path, target: &Path) -> Result<()> {
    let (Some(old), Some(new)) = (from.file_name(), target.file_name()) else {
        return Err(Error::Refused { path: target.to_owned(), why: "is no file name".into() });
    };
    let failed = |error: Errno| Error::host("naming the target", target, error);
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let folder = rustix::fs::open(folder_of(target), flags, Mode::empty()).map_err(failed)?;
    let folder = File::from(folder);
    match rename_new(&folder, old, new) {
        Err(Errno::EXIST) => {
            return Err(Error::Refused { path: target.to_owned(), why: "exists already".into() });
        }
        done => done.map_err(failed)?,
    }
    folder.sync_all().map_err(|source| Error::host("syncing the folder", target, source))
}

/// The folder that a file is in, as a path that can be opened.
pub fn folder_of(target: &Path) -> &Path {
    match target.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    }
}

/// The path with these characters behind its name: where what belongs to a file is put beside it.
#[must_use]
pub fn with_end(path: &Path, end: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(end);
    PathBuf::from(name)
}

fn is_locked(file: &File, path: &Path) -> bool {
    matches!(lock_for_writing(file, path), Err(Error::InUse { .. }))
}

/// A name beside the final one that says whose it is, in case the machine fails.
fn temporary_name(target: &OsStr) -> OsString {
    let random = RandomState::new().build_hasher().finish();
    let mut name = temporary_start(target);
    name.push(format!("{random:016x}"));
    name
}

/// What all temporary names for `target` begin with: they say whose they are, and have room for an end
/// of 16 characters.
pub fn temporary_start(target: &OsStr) -> OsString {
    const LONGEST: usize = 200;
    let bytes = target.as_bytes();
    let mut name = OsString::from(".");
    name.push(OsStr::from_bytes(&bytes[..bytes.len().min(LONGEST)]));
    name.push(".calve-");
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_regular_files_and_links_are_replaced() {
        let folder = tempfile::tempdir().expect("a folder");
        let name = |name: &str| folder.path().join(name);
        std::fs::write(name("file"), "old").expect("a file");
        std::os::unix::fs::symlink("file", name("link")).expect("a link");
        std::os::unix::fs::symlink("nothing", name("dangling")).expect("a link");
        std::fs::create_dir(name("folder")).expect("a folder");
        let _socket = std::os::unix::net::UnixListener::bind(name("socket")).expect("a socket");
        for there in ["link", "dangling", "folder", "socket"] {
            assert!(matches!(may_replace(&name(there)), Err(Error::Refused { .. })), "{there}");
        }
        for there in ["folder", "socket"] {
            let made = PendingFile::create(&name(there), true, 0o600);
            assert!(matches!(made, Err(Error::Refused { .. })), "{there}");
        }
        assert_eq!(std::fs::read_dir(folder.path()).expect("a folder").count(), 5);
        for there in ["link", "dangling", "file", "new"] {
            let (_, pending) = PendingFile::create(&name(there), true, 0o600).expect("a file");
            assert_eq!(pending.take_name(false).expect("named"), Named::Yes);
            assert_eq!(std::fs::read(name(there)).expect("a file"), b"");
            assert!(!is_link(&name(there)), "the link itself is replaced");
            let is_kept = matches!(there, "link" | "dangling");
            assert_eq!(std::fs::read(name("file")).expect("a file") == b"old", is_kept);
        }
    }

    #[test]
    fn leftovers_are_removed_and_live_files_are_not() {
        let folder = tempfile::tempdir().expect("a folder");
        let target = folder.path().join("new");
        let name = |end: &str| folder.path().join(format!(".new.calve-{end}"));
        let (file, live) = PendingFile::create(&target, false, 0o600).expect("a file");
        lock_for_writing(&file, live.path()).expect("locks");
        for end in ["0123456789abcdef", "0123", "0123456789abcdeg"] {
            std::fs::write(name(end), "").expect("a file");
        }
        PendingFile::remove_leftovers(&target);
        assert!(live.path().exists(), "a run goes on with it");
        assert!(!name("0123456789abcdef").exists(), "nobody's any more");
        assert!(name("0123").exists() && name("0123456789abcdeg").exists(), "not of our making");
    }
}
