//! Output: the file that is written, and the name that it bears only when it is whole.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use calve_disk::open::shown;
use calve_disk::open::{FileIdentity, lock_for_writing};
use calve_disk::units::HostOffset;
use calve_disk::{
    Disk, Error as DiskError, HostFile, HostMove, Named, PendingFile, Status, Storage, StorageMut,
    folder_of, take_over_attributes,
};
use rustix::fs::{Mode, OFlags};

use crate::error::{Error, Result};
use crate::moves;
use crate::options::{Cache, Placement};

/// The file that is written.
pub(crate) struct Output {
    /// Its bytes.
    pub(crate) file: HostFile,
    /// Where it is now: under a temporary name, or under its own.
    pub(crate) path: PathBuf,
    pending: Option<PendingFile>,
    target: PathBuf,
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
        if placement != Placement::ReplaceSource {
            refuse_own_source(target, disks)?;
        }
        match placement {
            Placement::Existing { .. } => Self::open_existing(target, cache),
            Placement::New | Placement::Replace | Placement::ReplaceSource => {
                let replaces = placement != Placement::New;
                let output = Self::create(target, replaces, cache, restricted_mode(disks))?;
                if placement == Placement::ReplaceSource {
                    output.resemble(target)?;
                }
                Ok(output)
            }
        }
    }

    /// Gives the new file the owner, the permissions and the extended attributes of the one whose
    /// place it takes.
    fn resemble(&self, original: &Path) -> Result<()> {
        let failed = |error: io::Error| DiskError::host("taking over attributes", original, error);
        let Some(file) = self.file.as_file() else { return Ok(()) };
        let original = File::open(original);
        Ok(original.and_then(|original| take_over_attributes(file, &original)).map_err(failed)?)
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
            pending: None,
            target: path,
        })
    }

    fn create(target: &Path, replaces: bool, cache: Cache, mode: u32) -> Result<Self> {
        let refused = |why: &str| Error::Target { path: target.to_owned(), why: why.to_owned() };
        if target.file_name().is_none() {
            return Err(refused("is no file name"));
        }
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
        let (file, pending) = PendingFile::create(target, replaces, mode)?;
        // From here on the file goes away with `pending`, whatever fails.
        let file = if write_flags(cache) == 0 {
            file
        } else {
            File::options()
                .read(true)
                .write(true)
                .custom_flags(write_flags(cache))
                .open(pending.path())
                .map_err(|source| DiskError::host("creating the target", target, source))?
        };
        lock_for_writing(&file, target)?;
        Ok(Self {
            // What goes wrong with it is told under the name that the caller knows.
            file: written_as(file, target.to_owned(), cache),
            path: pending.path().to_owned(),
            pending: Some(pending),
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
        let Some(pending) = self.pending.take() else { return Ok(()) };
        match pending.take_name(cache != Cache::Unsafe)? {
            Named::Yes => Ok(()),
            Named::Taken => {
                let why = "came into being while the conversion ran".to_owned();
                Err(Error::Target { path: self.target, why })
            }
        }
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

/// Nobody may read the result who may not read the source.
fn restricted_mode(disks: &[&Disk]) -> u32 {
    let modes = disks.iter().filter_map(|disk| {
        let file = disk.top().storage().as_file()?;
        let status = Status::of(file).ok()?;
        status.kind.is_file().then_some(status.mode)
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
            why: format!("is the same file as the source {}", shown(&layer.path)),
        }),
        None => Ok(()),
    }
}

/// Opening a pipe by mistake must not wait for its other end.
fn nonblocking() -> i32 {
    i32::try_from(OFlags::NONBLOCK.bits()).unwrap_or_default()
}
