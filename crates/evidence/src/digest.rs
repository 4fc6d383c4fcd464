//! Digests: SHA-256 and BLAKE3 of a file, in one pass.
//!
//! Every byte is read. Holes could be taken for zeros unread, but then the digests would be of what
//! the file system says of its holes, and the time is SHA-256's either way.

use std::fmt::Write;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{self, Receiver, Sender, SyncSender};
use std::thread;

use calve_disk::units::{HostOffset, in_memory};
use calve_disk::{Error as DiskError, Storage};
use sha2::{Digest, Sha256};

use crate::Control;
use crate::error::{Error, Result};

/// Bytes that are read at once.
const PORTION: u64 = 1 << 20;

/// Portions that are in memory at most.
const PORTIONS: usize = 4;

/// The digests of a file, as `sha256sum` and `b3sum` print them.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Digests {
    pub(crate) sha256: String,
    pub(crate) blake3: String,
}

/// The digests of the first `size` bytes of `storage`.
///
/// # Errors
/// [`Error::Disk`] where they cannot be read, [`Error::Stopped`].
pub(crate) fn of(storage: &dyn Storage, size: u64, control: &Control) -> Result<Digests> {
    let mut portions = Portions { storage, size, at: 0, control };
    if size <= PORTION {
        // One portion needs no second thread.
        let mut bytes = Vec::new();
        portions.next(&mut bytes)?;
        return Ok(Digests::new(Sha256::digest(&bytes).into(), blake3::hash(&bytes)));
    }
    // SHA-256 takes longer than all the rest, so it has a thread of its own.
    thread::scope(|scope| {
        let (filled, to_digest) = mpsc::sync_channel(PORTIONS);
        let (emptied, to_fill) = mpsc::channel();
        let other = thread::Builder::new()
            .spawn_scoped(scope, move || sha256(&to_digest, &emptied))
            .map_err(|source| DiskError::host("starting a thread", storage.path(), source))?;
        let blake3 = read(&mut portions, filled, &to_fill);
        let sha256 = other.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        Ok(Digests::new(sha256, blake3?))
    })
}

/// Reads and digests all portions, and hands them on. What is handed back is filled again.
fn read(
    portions: &mut Portions,
    filled: SyncSender<Vec<u8>>,
    to_fill: &Receiver<Vec<u8>>,
) -> Result<blake3::Hash> {
    let mut hasher = blake3::Hasher::new();
    let mut made = 0;
    loop {
        let mut portion = match to_fill.try_recv() {
            Ok(portion) => portion,
            Err(_) if made < PORTIONS => {
                made += 1;
                Vec::new()
            }
            Err(_) => to_fill.recv().unwrap_or_default(),
        };
        if !portions.next(&mut portion)? {
            return Ok(hasher.finalize());
        }
        hasher.update(&portion);
        // Who takes them waits for as long as there are any.
        let _ = filled.send(portion);
    }
}

fn sha256(portions: &Receiver<Vec<u8>>, emptied: &Sender<Vec<u8>>) -> [u8; 32] {
    let mut hasher = Sha256::new();
    for portion in portions {
        hasher.update(&portion);
        // Behind the last one nobody wants it back.
        let _ = emptied.send(portion);
    }
    hasher.finalize().into()
}

impl Digests {
    fn new(sha256: [u8; 32], blake3: blake3::Hash) -> Self {
        let mut text = String::new();
        // Writing to a string cannot fail.
        sha256.iter().for_each(|byte| _ = write!(text, "{byte:02x}"));
        Self { sha256: text, blake3: blake3.to_hex().to_string() }
    }
}

/// The bytes of a file from front to back.
struct Portions<'a> {
    storage: &'a dyn Storage,
    size: u64,
    at: u64,
    control: &'a Control<'a>,
}

impl Portions<'_> {
    /// Puts the next bytes in place of what `portion` holds; false behind the last ones.
    fn next(&mut self, portion: &mut Vec<u8>) -> Result<bool> {
        if self.control.stop.load(Ordering::Relaxed) {
            return Err(Error::Stopped);
        }
        (self.control.progress)(self.at, self.size);
        let (at, length) = (HostOffset::new(self.at), PORTION.min(self.size - self.at));
        portion.resize(in_memory(length), 0);
        let read = self.storage.read_at(portion, at);
        read.map_err(|source| DiskError::io("digesting", self.storage, at, source))?;
        self.at += length;
        Ok(length > 0)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;

    use calve_testkit::{Faulty, Memory, Random};

    use super::*;

    fn digests(storage: &dyn Storage, size: u64) -> Result<Digests> {
        let stop = AtomicBool::new(false);
        of(storage, size, &Control { stop: &stop, progress: &|_, _| {} })
    }

    #[test]
    fn they_are_those_of_the_whole_whatever_its_length() {
        for size in [0, 1, PORTION - 1, PORTION, PORTION + 1, 3 * PORTION, 9 * PORTION + 12345] {
            let bytes = Random::new(size + 1).content(size);
            let digests = digests(&Memory::new(bytes.clone()), size).expect("memory does not fail");
            assert_eq!(digests.blake3, blake3::hash(&bytes).to_hex().as_str(), "{size}");
            let whole = Digests::new(Sha256::digest(&bytes).into(), blake3::hash(&bytes));
            assert_eq!(digests, whole, "{size}");
        }
    }

    #[test]
    fn they_are_the_published_ones() {
        let digests = digests(&Memory::new(b"abc".to_vec()), 3).expect("memory does not fail");
        let sha256 = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        let blake3 = "6437b3ac38465133ffb63b75273a8db548c558465d79db03fd359c6cd5bd9d85";
        assert_eq!((&*digests.sha256, &*digests.blake3), (sha256, blake3));
    }

    #[test]
    fn a_read_that_fails_is_told_with_its_place() {
        for failing in 0..5 {
            let size = 5 * PORTION;
            let storage = Faulty::new(Memory::new(vec![7; in_memory(size)]), failing);
            let error = digests(&storage, size).expect_err("one read fails");
            let place = format!("digesting at {:#x}:", failing * PORTION);
            assert!(error.to_string().contains(&place), "{error}");
        }
    }

    #[test]
    fn it_stops_when_it_is_asked_to_and_tells_how_far_it_is() {
        let (stop, size) = (AtomicBool::new(false), 64 * PORTION);
        let storage = Memory::new(vec![7; in_memory(size)]);
        let progress = |done, total| {
            assert_eq!(total, size);
            stop.store(done == 3 * PORTION, Ordering::Relaxed);
        };
        let stopped = of(&storage, size, &Control { stop: &stop, progress: &progress });
        assert!(matches!(stopped, Err(Error::Stopped)));
    }
}
