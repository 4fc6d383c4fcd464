//! Tar archives: as a file, of which only the headers and the members' beginnings are read, and
//! as a stream.

use std::cell::Cell;
use std::io::{self, Read};

use tar::{Archive, Entries};

use super::{Bounded, Search, Stream};
use crate::limits;
use crate::start::Positioned;

/// What is said of a member with endless names.
const TOO_MUCH: &str = "a member's names are too long";

/// Looks into a tar archive that is a file.
pub(super) fn in_file(file: Positioned<'_>, search: &mut Search<'_>) -> io::Result<()> {
    let left = Cell::new(u64::MAX);
    let mut archive =
        Archive::new(SeekableBounded(Bounded { bytes: file, left: &left, most: TOO_MUCH }));
    let entries = archive.entries_with_seek()?;
    members(entries, &left, b"", 1, false, search)
}

/// Looks into a tar archive that comes as a stream.
pub(super) fn in_stream(
    bytes: &mut dyn Read,
    stream: &Stream,
    is_whole: bool,
    search: &mut Search<'_>,
) -> io::Result<()> {
    let left = Cell::new(u64::MAX);
    let mut archive = Archive::new(Bounded { bytes, left: &left, most: TOO_MUCH });
    let prefix = if is_whole { Vec::new() } else { [&*stream.name, b"/"].concat() };
    members(archive.entries()?, &left, &prefix, stream.depth + 1, true, search)
}

fn members<R: Read>(
    mut entries: Entries<'_, R>,
    left: &Cell<u64>,
    prefix: &[u8],
    depth: usize,
    is_stream: bool,
    search: &mut Search<'_>,
) -> io::Result<()> {
    loop {
        // What is read between members is bookkeeping, and kept in memory.
        left.set(limits::TAR_BOOKKEEPING);
        let Some(entry) = entries.next() else { return Ok(()) };
        let mut entry = entry?;
        left.set(u64::MAX);
        let kind = entry.header().entry_type();
        if kind.is_file() || kind.is_contiguous() || kind.is_gnu_sparse() {
            let name = [prefix, &entry.path_bytes()].concat();
            let stream = Stream { name, size: Some(entry.size()), depth };
            search.stream(&mut entry, &stream, false);
        }
        if is_stream {
            io::copy(&mut entry, &mut io::sink())?;
        }
    }
}

/// The same bounded bytes, where they can be skipped.
struct SeekableBounded<'a, 'f>(Bounded<'a, Positioned<'f>>);

impl Read for SeekableBounded<'_, '_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        self.0.read(out)
    }
}

impl io::Seek for SeekableBounded<'_, '_> {
    fn seek(&mut self, to: io::SeekFrom) -> io::Result<u64> {
        self.0.bytes.seek(to)
    }
}
