//! Tar archives: as a file, of which only the headers and the members' beginnings are read, and
//! as a stream.

use std::cell::Cell;
use std::io::{self, Read};

use tar::{Archive, Entries, Entry};

use super::{Bounded, Search, Stream, TOO_LONG};
use crate::limits;
use crate::start::Positioned;

/// What is said of a member with endless names.
const TOO_MUCH: &str = "a member's names are too long";

/// A member is filled up to a multiple of this.
const BLOCK: u64 = 512;

/// Looks into a tar archive that is a file of this length.
pub(super) fn in_file(file: Positioned<'_>, size: u64, search: &mut Search<'_>) -> io::Result<()> {
    let left = Cell::new(u64::MAX);
    let mut archive = Archive::new(SeekableBounded(Bounded::new(file, &left, TOO_MUCH)));
    let entries = archive.entries_with_seek()?;
    let end = members(entries, &left, (b"", 1), false, search)?;
    // Who skips does not see where the file ends.
    if end > size { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(()) }
}

/// Looks into a tar archive that comes as a stream.
pub(super) fn in_stream(
    bytes: &mut dyn Read,
    stream: &Stream,
    is_whole: bool,
    search: &mut Search<'_>,
) -> io::Result<()> {
    let left = Cell::new(u64::MAX);
    let mut archive = Archive::new(Bounded::new(bytes, &left, TOO_MUCH));
    let prefix = if is_whole { Vec::new() } else { [&*stream.name, b"/"].concat() };
    members(archive.entries()?, &left, (&prefix, stream.depth + 1), true, search).map(drop)
}

/// Looks at all members, and says where the last one ends.
fn members<R: Read>(
    mut entries: Entries<'_, R>,
    left: &Cell<u64>,
    (prefix, depth): (&[u8], usize),
    is_stream: bool,
    search: &mut Search<'_>,
) -> io::Result<u64> {
    let (mut end, mut skipped) = (0, 0);
    loop {
        // What is read between members is bookkeeping, and kept in memory; but for what was left
        // of the last one.
        left.set(limits::TAR_BOOKKEEPING.saturating_add(skipped));
        let Some(entry) = entries.next() else { return Ok(end) };
        let mut entry = entry?;
        left.set(u64::MAX);
        let kind = entry.header().entry_type();
        let is_sparse = kind.is_gnu_sparse();
        let length = if is_sparse { entry.header().entry_size()? } else { entry.size() };
        end = entry.raw_file_position().saturating_add(length);
        if kind.is_file() || kind.is_contiguous() || is_sparse {
            let in_place = (!is_stream && !is_sparse).then(|| entry.raw_file_position());
            let name = [prefix, &entry.path_bytes()].concat();
            // What stands there are parts of it, behind a list of where they go or without.
            let is_condensed = entry.pax_extensions()?.is_some_and(|all| {
                all.flatten().any(|one| one.key_bytes().starts_with(b"GNU.sparse."))
            });
            if is_condensed {
                let why =
                    "is sparse in the way of POSIX, which is not read: unpack it, and scan that";
                search.note(&name, &why);
            } else {
                let stream = Stream { name, size: Some(entry.size()), in_place, depth };
                member(&mut entry, &stream, is_sparse, search);
            }
        }
        let read = u64::MAX - left.get();
        skipped = if is_stream { length.saturating_sub(read).saturating_add(BLOCK) } else { 0 };
    }
}

fn member<R: Read>(
    entry: &mut Entry<'_, R>,
    stream: &Stream,
    is_sparse: bool,
    search: &mut Search<'_>,
) {
    if !is_sparse {
        return search.stream(entry, stream, false);
    }
    // Its holes come out of nothing, as many as it claims.
    let mut bounded = Bounded::new(entry, search.left, TOO_LONG);
    search.stream(&mut bounded, stream, false);
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
