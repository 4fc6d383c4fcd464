//! Locks that QEMU respects, and the other way round.
//!
//! QEMU locks single bytes of an image with open-file-description locks: byte 100 + n says "I use
//! permission n", byte 200 + n says "I let nobody else use permission n". All locks are shared
//! ones; a conflict is found by asking whether an exclusive one would be granted.

use std::fs::File;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;

use crate::error::{Error, Result};

const USED: libc::off_t = 100;
const DENIED: libc::off_t = 200;

/// QEMU's permissions, by number.
const CONSISTENT_READ: libc::off_t = 0;
const WRITE: libc::off_t = 1;
const RESIZE: libc::off_t = 3;

/// How long a lock of this process's own may outlive the file that it was taken with.
const LINGERS: Duration = Duration::from_millis(500);

/// How often it is looked whether it does.
const STEP: Duration = Duration::from_millis(5);

/// Whether locks linger.
static LINGER: AtomicBool = AtomicBool::new(false);

/// Says that this process starts others while it takes locks. Each of those has all open files of
/// this one until it has become another program, and so long a lock stays that was given up here.
/// From now on a file is not called in use before that cannot be the reason any more.
pub fn expect_lingering_locks() {
    LINGER.store(true, Ordering::Relaxed);
}

/// Locks a file that is to be read: others may read it, nobody may write or resize it.
pub fn lock_for_reading(file: &File, path: &Path) -> Result<()> {
    lock(file, path, &[CONSISTENT_READ], &[WRITE, RESIZE])
}

/// Locks a file that is to be written: nobody else may read, write or resize it.
pub fn lock_for_writing(file: &File, path: &Path) -> Result<()> {
    lock(file, path, &[CONSISTENT_READ, WRITE, RESIZE], &[CONSISTENT_READ, WRITE, RESIZE])
}

/// Whether another process holds a file under QEMU's locks, for reading or for writing. No lock is
/// taken, so that whoever is about to open it is not disturbed. On a file system without locks
/// nobody can hold one.
pub fn is_in_use(file: &File) -> bool {
    let numbers = [CONSISTENT_READ, WRITE, RESIZE];
    numbers.iter().flat_map(|n| [USED + n, DENIED + n]).any(|byte| {
        let mut answer = one_byte(libc::F_WRLCK, byte);
        fcntl(file, FcntlArg::F_OFD_GETLK(&mut answer)).is_ok()
            && i32::from(answer.l_type) != libc::F_UNLCK
    })
}

fn lock(file: &File, path: &Path, used: &[libc::off_t], denied: &[libc::off_t]) -> Result<()> {
    let began = Instant::now();
    loop {
        match try_lock(file, path, used, denied) {
            Err(Error::InUse { .. })
                if LINGER.load(Ordering::Relaxed) && began.elapsed() < LINGERS =>
            {
                std::thread::sleep(STEP);
            }
            done => return done,
        }
    }
}

fn try_lock(file: &File, path: &Path, used: &[libc::off_t], denied: &[libc::off_t]) -> Result<()> {
    let taken = used.iter().map(|n| USED + n).chain(denied.iter().map(|n| DENIED + n));
    let to_ask = used.iter().map(|n| DENIED + n).chain(denied.iter().map(|n| USED + n));
    for byte in taken {
        match fcntl(file, FcntlArg::F_OFD_SETLK(&one_byte(libc::F_RDLCK, byte))) {
            Ok(_) => {}
            Err(Errno::EAGAIN | Errno::EACCES) => return Err(in_use(path)),
            // A file system without locks: nobody else can hold one either.
            Err(Errno::ENOLCK | Errno::EOPNOTSUPP | Errno::EINVAL) => return Ok(()),
            Err(error) => return Err(failed(path, error)),
        }
    }
    for byte in to_ask {
        let mut answer = one_byte(libc::F_WRLCK, byte);
        fcntl(file, FcntlArg::F_OFD_GETLK(&mut answer)).map_err(|error| failed(path, error))?;
        if i32::from(answer.l_type) != libc::F_UNLCK {
            return Err(in_use(path));
        }
    }
    Ok(())
}

fn in_use(path: &Path) -> Error {
    Error::InUse { path: path.to_owned() }
}

fn failed(path: &Path, error: Errno) -> Error {
    Error::host("locking", path, error)
}

fn one_byte(kind: libc::c_int, at: libc::off_t) -> libc::flock {
    libc::flock {
        // The constants are small; the field's type is narrower on some systems.
        l_type: libc::c_short::try_from(kind).unwrap_or_default(),
        l_whence: libc::c_short::try_from(libc::SEEK_SET).unwrap_or_default(),
        l_start: at,
        l_len: 1,
        l_pid: 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_locked_file_is_in_use_and_asking_takes_no_lock() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("disk");
        std::fs::write(&path, [7; 1024]).expect("a file");
        let open = || File::options().read(true).write(true).open(&path).expect("opens");
        let (asking, other) = (open(), open());
        assert!(!is_in_use(&asking));
        for lock in [lock_for_writing, lock_for_reading] {
            let holding = open();
            lock(&holding, &path).expect("nobody else has it");
            assert!(is_in_use(&asking));
        }
        assert!(!is_in_use(&asking));
        lock_for_writing(&other, &path).expect("asking took nothing");
    }
}
