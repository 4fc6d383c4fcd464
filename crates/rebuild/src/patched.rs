//! Patched: the bytes of a file with other bytes in some places, in memory only.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use calve_disk::units::{HostOffset, in_memory};
use calve_disk::{Error, Region, Result, Storage};

/// Bytes that the patches of one file may have together.
pub const MOST_PATCHED: u64 = 64 << 20;

/// Other bytes for some places of a file. What is put later stands.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct Patches {
    /// By their places; they do not overlap.
    runs: BTreeMap<u64, Vec<u8>>,
    length: u64,
}

impl Patches {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    /// How many bytes they have together.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// Each run of bytes with its place, in the order of the file.
    pub fn iter(&self) -> impl Iterator<Item = (HostOffset, &[u8])> {
        self.runs.iter().map(|(at, bytes)| (HostOffset::new(*at), &bytes[..]))
    }

    /// Puts `bytes` at `at`, and says whether there was room: all patches together have at most
    /// [`MOST_PATCHED`] bytes, and none ends behind 2^63.
    #[must_use]
    pub fn put(&mut self, at: HostOffset, bytes: &[u8]) -> bool {
        let (start, added) = (at.get(), bytes.len() as u64);
        let end = match start.checked_add(added) {
            Some(end) if end < 1 << 63 && self.length + added <= MOST_PATCHED => end,
            _ => return false,
        };
        if bytes.is_empty() {
            return true;
        }
        while let Some((before, length)) = self.last_before(end)
            && before + length > start
        {
            let run = self.runs.remove(&before).unwrap_or_default();
            self.length -= length;
            if before < start {
                self.keep(before, run[..in_memory(start - before)].to_vec());
            }
            if before + length > end {
                self.keep(end, run[in_memory(end - before)..].to_vec());
            }
        }
        self.keep(start, bytes.to_vec());
        true
    }

    /// Puts all of `later` over these, and says whether there was room.
    #[must_use]
    pub fn put_all(&mut self, later: &Patches) -> bool {
        later.iter().all(|(at, bytes)| self.put(at, bytes))
    }

    /// Takes a run into the list, to the end of its neighbour where it continues one.
    fn keep(&mut self, at: u64, bytes: Vec<u8>) {
        self.length += bytes.len() as u64;
        match self.runs.range_mut(..at).next_back() {
            Some((before, run)) if before + run.len() as u64 == at => run.extend_from_slice(&bytes),
            _ => {
                self.runs.insert(at, bytes);
            }
        }
    }

    fn last_before(&self, end: u64) -> Option<(u64, u64)> {
        self.runs.range(..end).next_back().map(|(at, bytes)| (*at, bytes.len() as u64))
    }

    /// The first byte behind the last patch.
    fn end(&self) -> u64 {
        self.last_before(u64::MAX).map_or(0, |(at, length)| at + length)
    }

    /// What is patched at `at`: those bytes, to the end of their run.
    fn covering(&self, at: u64) -> Option<&[u8]> {
        let (start, bytes) = self.runs.range(..=at).next_back()?;
        bytes.get(in_memory(at - start)..).filter(|rest| !rest.is_empty())
    }

    /// Where the first patch behind `at` begins.
    fn next_behind(&self, at: u64) -> Option<u64> {
        self.runs.range(at.saturating_add(1)..).next().map(|(at, _)| *at)
    }
}

/// A file's bytes with patches over them. Clones share the file.
///
/// Patches may lie behind the end of the file: it then ends with the last of them, and what is
/// between reads as zeros. The kernel is never handed the file as long as there is a patch, since
/// it would copy what is beneath.
#[derive(Clone)]
pub struct Patched {
    below: Arc<dyn Storage>,
    below_size: u64,
    patches: Arc<Patches>,
    path: PathBuf,
}

impl Patched {
    /// What is stored here, with no patch yet. Its size is asked for once.
    pub fn over(storage: Box<dyn Storage>) -> Result<Self> {
        let path = storage.path().to_owned();
        let below_size = storage
            .size()
            .map_err(|source| Error::host("asking for the file's size", &path, source))?;
        Ok(Self { below: Arc::from(storage), below_size, patches: Arc::default(), path })
    }

    /// The same with further patches over those it has.
    ///
    /// # Errors
    /// [`Error::Refused`] where they are more than [`MOST_PATCHED`] bytes.
    pub fn with(&self, further: &Patches) -> Result<Self> {
        let mut patches = (*self.patches).clone();
        if !patches.put_all(further) {
            return Err(too_much(&self.path));
        }
        Ok(Self { patches: Arc::new(patches), ..self.clone() })
    }

    /// The patches.
    pub fn patches(&self) -> &Patches {
        &self.patches
    }

    /// How many bytes there are, patches included.
    pub fn length(&self) -> u64 {
        self.below_size.max(self.patches.end())
    }

    /// What stands at `at` up to the next change of owner: how far, and whose.
    fn piece(&self, at: u64) -> (u64, Option<&[u8]>) {
        if let Some(bytes) = self.patches.covering(at) {
            return (bytes.len() as u64, Some(bytes));
        }
        let next = self.patches.next_behind(at).unwrap_or(self.length());
        let end = if at < self.below_size { next.min(self.below_size) } else { next };
        (end.saturating_sub(at), None)
    }
}

/// The error that what is to be rebuilt is more than is kept in memory.
pub(crate) fn too_much(path: &Path) -> Error {
    let why = format!(
        "rebuilding it takes more than {} MiB of patches in memory",
        MOST_PATCHED / (1 << 20)
    );
    Error::Refused { path: path.to_owned(), why }
}

impl Storage for Patched {
    fn path(&self) -> &Path {
        &self.path
    }

    fn size(&self) -> io::Result<u64> {
        Ok(self.length())
    }

    fn read_at(&self, mut out: &mut [u8], at: HostOffset) -> io::Result<()> {
        let mut at = at.get();
        let end = at.checked_add(out.len() as u64);
        if !out.is_empty() && end.is_none_or(|end| end > self.length()) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        while !out.is_empty() {
            let (length, patch) = self.piece(at);
            let now = in_memory(length.min(out.len() as u64));
            let (part, rest) = out.split_at_mut(now);
            match patch {
                Some(bytes) => part.copy_from_slice(&bytes[..now]),
                None if at < self.below_size => self.below.read_at(part, HostOffset::new(at))?,
                None => part.fill(0),
            }
            (out, at) = (rest, at + now as u64);
        }
        Ok(())
    }

    fn region(&self, at: HostOffset) -> io::Result<Region> {
        let (length, patch) = self.piece(at.get());
        if patch.is_some() {
            return Ok(Region { length, is_hole: false });
        }
        if at.get() >= self.below_size {
            return Ok(Region { length, is_hole: true });
        }
        let region = self.below.region(at)?;
        Ok(Region { length: region.length.min(length), ..region })
    }

    fn will_read(&self, at: HostOffset, length: u64) {
        self.below.will_read(at, length);
    }

    fn is_far(&self) -> bool {
        self.below.is_far()
    }

    fn as_file(&self) -> Option<&File> {
        self.below.as_file().filter(|_| self.patches.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use calve_testkit::{Memory, Random};

    #[test]
    fn reads_agree_with_bytes_that_were_patched_in_place() {
        let mut random = Random::new(7);
        for round in 0..200 {
            let below = random.content(3000);
            let mut expected = below.clone();
            let source = Patched::over(Box::new(Memory::new(below))).expect("memory");
            let mut patches = Patches::default();
            for _ in 0..random.below(12) {
                let length = 1 + random.below(400);
                let (at, bytes) = (random.below(4000), random.content(length));
                assert!(patches.put(HostOffset::new(at), &bytes));
                let end = in_memory(at) + bytes.len();
                expected.resize(expected.len().max(end), 0);
                expected[in_memory(at)..end].copy_from_slice(&bytes);
            }
            let kept: u64 = patches.iter().map(|(_, bytes)| bytes.len() as u64).sum();
            assert_eq!(kept, patches.length());
            let source = source.with(&patches).expect("little");
            assert_eq!(source.length(), expected.len() as u64, "round {round}");
            let mut all = vec![0; expected.len()];
            source.read_at(&mut all, HostOffset::new(0)).expect("memory");
            assert_eq!(all, expected, "round {round}");
            assert!(source.read_at(&mut [0], HostOffset::new(expected.len() as u64)).is_err());
            assert_regions(&source, &expected);
        }
    }

    fn assert_regions(source: &Patched, expected: &[u8]) {
        let mut at = 0;
        while at < expected.len() {
            let region = source.region(HostOffset::new(at as u64)).expect("memory");
            assert!(region.length > 0);
            let end = at + in_memory(region.length);
            let is_zero = expected[at..end].iter().all(|byte| *byte == 0);
            assert!(is_zero || !region.is_hole);
            at = end;
        }
    }

    #[test]
    fn patches_are_bounded_and_hide_the_file() {
        let mut patches = Patches::default();
        assert!(patches.put(HostOffset::new(5), &vec![1; in_memory(MOST_PATCHED)]));
        assert!(!patches.put(HostOffset::new(0), &[1]));
        assert!(!Patches::default().put(HostOffset::new(u64::MAX), &[1]));
        let file = tempfile::tempfile().expect("a file");
        let file = calve_disk::HostFile::new(file, PathBuf::from("file"));
        let source = Patched::over(Box::new(file)).expect("a file");
        assert!(source.as_file().is_some());
        let mut patches = Patches::default();
        assert!(patches.put(HostOffset::new(5), &[1]));
        assert!(source.with(&patches).expect("little").as_file().is_none());
    }
}
