//! Output: the file that is written, and the name that it bears only when it is whole.

use std::collections::hash_map::RandomState;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::hash::{BuildHasher, Hasher};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use calve_disk::open::{FileIdentity, lock_for_writing};
use calve_disk::units::HostOffset;
use calve_disk::{Disk, Error as DiskError, HostFile, HostMove, Storage, StorageMut};
use rustix::fs::{AtFlags, Mode, OFlags, RenameFlags};
use rustix::io::Errno;

use crate::error::{Error, Result};
use crate::moves;
use crate::options::{Cache, Placement};

/// The file that is written.
pub(crate) struct Output {
    /// Its bytes.
    pub(crate) file: HostFile,
    /// Where it is now: under a temporary name, or under its own.
    pub(crate) path: PathBuf,
    temporary: Option<Temporary>,
    target: PathBuf,
}

/// A file under a temporary name, in the folder of the final one. Removed when dropped.
struct Temporary {
    folder: File,
    name: OsString,
    target_name: OsString,
    replaces: bool,
    has_final_name: bool,
}

impl Output {
    /// Opens what is to be written. Fails, with nothing changed, where that would touch a source
    /// or an existing file that nobody said may be touched.
    pub(crate) fn open(
        target: &Path,
        placement: Placement,
        cache: Cache,
        disks: &[&Disk],
    ) -> Result<Self> {
        refuse_own_source(target, disks)?;
        match placement {
            Placement::Existing { .. } => Self::open_existing(target, cache),
            Placement::New | Placement::Replace => {
                let replaces = placement == Placement::Replace;
                Self::create(target, replaces, cache, restricted_mode(disks))
            }
        }
    }

    fn open_existing(target: &Path, cache: Cache) -> Result<Self> {
        let refused = |why: &str| Error::Target { path: target.to_owned(), why: why.to_owned() };
        let failed = |source| DiskError::host("opening the target", target, source);
        let followed = std::fs::metadata(target).map_err(failed)?.file_type();
        if !followed.is_block_device() {
            let itself = std::fs::symlink_metadata(target).map_err(failed)?.file_type();
            if itself.is_symlink() {
                return Err(refused("is a symbolic link, which is not followed; name the file"));
            }
            if !itself.is_file() {
                return Err(refused("is neither a regular file nor a block device"));
            }
        }
        let file = File::options()
            .read(true)
            .write(true)
            .custom_flags(write_flags(cache))
            .open(target)
            .map_err(failed)?;
        lock_for_writing(&file, target)?;
        let path = target.to_owned();
        Ok(Self {
            file: written_as(file, path.clone(), cache),
            path: path.clone(),
            temporary: None,
            target: path,
        })
    }

    fn create(target: &Path, replaces: bool, cache: Cache, mode: u32) -> Result<Self> {
        let refused = |why: &str| Error::Target { path: target.to_owned(), why: why.to_owned() };
        let Some(target_name) = target.file_name() else {
            return Err(refused("is no file name"));
        };
        match std::fs::symlink_metadata(target) {
            Ok(there) if there.is_dir() => return Err(refused("is a folder")),
            Ok(there) if !there.is_file() && !there.is_symlink() => {
                return Err(refused("is no regular file; write into what is there with -n"));
            }
            Ok(_) if !replaces => return Err(refused("exists already")),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => {
                return Err(DiskError::host("looking at the target", target, error).into());
            }
        }
        let folder_path = folder_of(target);
        let failed = |error: Errno| DiskError::host("creating the target", target, error);
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let folder = rustix::fs::open(folder_path, flags, Mode::empty()).map_err(failed)?;
        let (file, name) = loop {
            let name = temporary_name(target_name);
            let flags =
                OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC | OFlags::NOFOLLOW;
            match rustix::fs::openat(&folder, &name, flags, Mode::from_raw_mode(mode)) {
                Ok(file) => break (File::from(file), name),
                Err(Errno::EXIST) => {}
                Err(error) => return Err(failed(error).into()),
            }
        };
        let temporary = Temporary {
            folder: File::from(folder),
            name,
            target_name: target_name.to_owned(),
            replaces,
            has_final_name: false,
        };
        let path = folder_path.join(&temporary.name);
        // From here on the file goes away with `temporary`, whatever fails.
        let file = if write_flags(cache) == 0 {
            file
        } else {
            File::options()
                .read(true)
                .write(true)
                .custom_flags(write_flags(cache))
                .open(&path)
                .map_err(|source| DiskError::host("creating the target", target, source))?
        };
        lock_for_writing(&file, target)?;
        Ok(Self {
            // What goes wrong with it is told under the name that the caller knows.
            file: written_as(file, target.to_owned(), cache),
            path,
            temporary: Some(temporary),
            target: target.to_owned(),
        })
    }

    /// The name that the file will bear.
    pub(crate) fn target(&self) -> &Path {
        &self.target
    }

    /// The unit, in bytes, in which the target's file system keeps files.
    pub(crate) fn block_size(&self) -> u64 {
        const USUAL: u64 = 4096;
        let status = self.file.as_file().and_then(|file| rustix::fs::fstatvfs(file).ok());
        status.map_or(USUAL, |status| status.f_bsize.max(status.f_frsize).max(512))
    }

    /// Whether a file beside the target can share blocks with `source`: found out with a file
    /// that has no name and goes away at once.
    pub(crate) fn shares_blocks_with(&self, source: &dyn Storage, block: u64) -> bool {
        if source.size().is_ok_and(|size| size < moves::SHORTEST.max(block)) {
            return false;
        }
        let flags = OFlags::RDWR | OFlags::TMPFILE | OFlags::CLOEXEC;
        let mode = Mode::RUSR | Mode::WUSR;
        let Ok(file) = rustix::fs::open(folder_of(&self.target), flags, mode) else { return false };
        let start = HostOffset::default();
        HostFile::new(File::from(file), self.target.clone()).take_from(
            source,
            start,
            start,
            block,
            HostMove::Clone,
        )
    }

    /// Gives the file its name. Its content must be on the medium already.
    pub(crate) fn commit(mut self, cache: Cache) -> Result<()> {
        let Some(mut temporary) = self.temporary.take() else { return Ok(()) };
        let named = temporary.take_name();
        match named {
            Ok(()) => temporary.has_final_name = true,
            Err(Errno::EXIST) => {
                let why = "came into being while the conversion ran".to_owned();
                return Err(Error::Target { path: self.target, why });
            }
            Err(error) => {
                return Err(DiskError::host("naming the target", &self.target, error).into());
            }
        }
        if cache == Cache::Unsafe {
            return Ok(());
        }
        temporary.folder.sync_all().map_err(|source| {
            temporary.take_name_back();
            DiskError::host("syncing the folder", &self.target, source).into()
        })
    }
}

impl Temporary {
    /// Takes a name away that may not last. What it replaced is gone, and then the new file is
    /// better than none.
    fn take_name_back(&self) {
        if !self.replaces {
            // Best effort: the failure that led here is what is told.
            let _ = rustix::fs::unlinkat(&self.folder, &self.target_name, AtFlags::empty());
        }
    }

    fn take_name(&self) -> std::result::Result<(), Errno> {
        let (folder, from, to) = (&self.folder, &self.name, &self.target_name);
        if self.replaces {
            return rustix::fs::renameat(folder, from, folder, to);
        }
        match rustix::fs::renameat_with(folder, from, folder, to, RenameFlags::NOREPLACE) {
            // A file system that cannot rename without replacing can still link without it.
            Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {
                rustix::fs::linkat(folder, from, folder, to, AtFlags::empty())?;
                rustix::fs::unlinkat(folder, from, AtFlags::empty())
            }
            done => done,
        }
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if self.has_final_name {
            return;
        }
        // Best effort: there is nobody left to tell.
        let _ = rustix::fs::unlinkat(&self.folder, &self.name, AtFlags::empty());
    }
}

/// Whether a file is on a file system of another machine, which can copy without sending the
/// bytes here and back.
pub(crate) fn is_remote(file: &File) -> bool {
    // As statfs(2) has them.
    const NFS: i64 = 0x6969;
    const CIFS: i64 = 0xFF53_4D42;
    const SMB2: i64 = 0xFE53_4D42;
    const CEPH: i64 = 0x00C3_6400;
    let kind = rustix::fs::fstatfs(file).map(|status| status.f_type);
    kind.is_ok_and(|kind| [NFS, CIFS, SMB2, CEPH].contains(&kind))
}

fn folder_of(target: &Path) -> &Path {
    match target.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    }
}

/// A name beside the final one that says whose it is, in case the machine fails.
fn temporary_name(target: &OsStr) -> OsString {
    const LONGEST: usize = 200;
    let bytes = target.as_bytes();
    let shown = &bytes[..bytes.len().min(LONGEST)];
    let random = RandomState::new().build_hasher().finish();
    let mut name = OsString::from(".");
    name.push(OsStr::from_bytes(shown));
    name.push(format!(".calve-{random:016x}"));
    name
}

/// Nobody may read the result who may not read the source.
fn restricted_mode(disks: &[&Disk]) -> u32 {
    let modes = disks.iter().filter_map(|disk| {
        let file = disk.top().storage().as_file()?;
        let metadata = file.metadata().ok()?;
        metadata.is_file().then(|| metadata.mode())
    });
    modes.fold(0o666, |all, mode| all & (mode | 0o600))
}

fn write_flags(cache: Cache) -> i32 {
    let dsync = OFlags::DSYNC.bits();
    match cache {
        Cache::Writethrough | Cache::Directsync => i32::try_from(dsync).unwrap_or_default(),
        Cache::Writeback | Cache::None | Cache::Unsafe => 0,
    }
}

/// The open file, past the page cache where `cache` asks for that and the file system can.
fn written_as(file: File, path: PathBuf, cache: Cache) -> HostFile {
    let is_direct = matches!(cache, Cache::None | Cache::Directsync);
    let flags = write_flags(cache) | i32::try_from(OFlags::DIRECT.bits()).unwrap_or_default();
    // Under this name it is the same file, whatever became of its own.
    let same = format!("/proc/self/fd/{}", file.as_raw_fd());
    let direct = is_direct.then(|| File::options().write(true).custom_flags(flags).open(same));
    let file = HostFile::new(file, path);
    match direct {
        Some(Ok(direct)) => file.writing_direct(direct),
        Some(Err(_)) | None => file,
    }
}

/// However it is spelled or linked, a target that is one of the files being read is refused.
fn refuse_own_source(target: &Path, disks: &[&Disk]) -> Result<()> {
    let open = File::options().read(true).custom_flags(nonblocking()).open(target);
    let Ok(file) = open else { return Ok(()) };
    let identity = FileIdentity::of(&file)
        .map_err(|source| DiskError::host("looking at the target", target, source))?;
    let mut layers = disks.iter().flat_map(|disk| disk.layers());
    match layers.find(|layer| layer.identity() == Some(identity)) {
        Some(layer) => Err(Error::Target {
            path: target.to_owned(),
            why: format!("is the same file as the source {}", layer.path.display()),
        }),
        None => Ok(()),
    }
}

/// Opening a pipe by mistake must not wait for its other end.
fn nonblocking() -> i32 {
    i32::try_from(OFlags::NONBLOCK.bits()).unwrap_or_default()
}
