//! Images in archives: found by what the members hold. Memory is bounded, as is what is unpacked,
//! whatever an archive claims.

mod packed;
mod tarred;
mod zipped;

use std::cell::Cell;
use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use calve_disk::open::{Likeness, escaped, likeness};
use calve_disk::{HostFile, Storage};

use crate::class::Class;
use crate::image::{self, Around};
use crate::limits;
use crate::sighting::{Member, shortened};
use crate::spool::{Spool, Unspooled};
use crate::start::{Positioned, Start, Window, fill};

pub(crate) use packed::Packing;

/// What holds members.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    /// One packed stream, or several behind each other.
    Packed(Packing),
    Tar,
    Zip,
}

impl Kind {
    /// What begins with `start`, if it is an archive.
    pub(crate) fn of(start: &[u8]) -> Option<Self> {
        if let Some(packing) = Packing::of(start) {
            return Some(Self::Packed(packing));
        }
        if start.starts_with(b"PK\x03\x04") {
            return Some(Self::Zip);
        }
        let is_tar = start.get(257..262) == Some(b"ustar");
        is_tar.then_some(Self::Tar)
    }

    /// The kind with its article.
    pub(crate) fn words(self) -> &'static str {
        match self {
            Self::Packed(packing) => packing.words(),
            Self::Tar => "a tar archive",
            Self::Zip => "a zip file",
        }
    }
}

/// What was found in an archive.
#[derive(Default)]
pub(crate) struct Found {
    pub(crate) members: Vec<Member>,
    /// The first thing that could not be looked at, and why.
    pub(crate) problem: Option<String>,
    /// Whether the spool did not take something.
    pub(crate) is_shallow: bool,
}

/// An archive that is looked into.
#[derive(Clone, Copy)]
pub(crate) struct Archive<'a> {
    pub(crate) file: &'a File,
    pub(crate) size: u64,
    pub(crate) kind: Kind,
    /// The last part of its name.
    pub(crate) name: &'a [u8],
    /// Whether all tables of the images in it are walked.
    pub(crate) is_deep: bool,
    /// Bytes that may come out of it beside those for each of its own.
    pub(crate) unpacked: u64,
}

/// Looks for images in an archive.
pub(crate) fn look_into(archive: Archive<'_>, spool: &mut Spool) -> Found {
    let Archive { file, size, kind, name, unpacked, .. } = archive;
    let most = unpacked.saturating_add(size.saturating_mul(limits::UNPACKED_FOR_EACH));
    let left = Cell::new(most);
    let (found, names) = (Found::default(), Names::default());
    let mut search = Search { archive, found, names, left: &left, spool };
    let positioned = Positioned::new(file, size);
    let done = match kind {
        Kind::Packed(packing) => {
            let mut packed = BufReader::with_capacity(limits::MEMBER_START, positioned);
            let name = packing.unpacked_name(name);
            let stream = Stream { name, size: None, in_place: None, depth: 1 };
            search.unpack(packing, &mut packed, &stream, true)
        }
        Kind::Tar => tarred::in_file(positioned, size, &mut search),
        Kind::Zip => zipped::in_file(&positioned, &mut search),
    };
    if let Err(error) = done {
        search.note(name, &error);
    }
    search.found
}

/// A stream of bytes within an archive.
struct Stream {
    /// Its name within the archive.
    name: Vec<u8>,
    size: Option<u64>,
    /// Where in the file it begins, where all of it lies there as it is.
    in_place: Option<u64>,
    /// In how many archives it lies.
    depth: usize,
}

/// Looking for images in one archive and in those within it.
struct Search<'a> {
    archive: Archive<'a>,
    found: Found,
    names: Names,
    /// Bytes that may still be unpacked, or walked in.
    left: &'a Cell<u64>,
    spool: &'a mut Spool,
}

/// All bytes of a member, and how many these are.
type Whole = (Box<dyn Storage>, u64);

impl Search<'_> {
    /// Takes down that something in the archive could not be looked at.
    fn note(&mut self, name: &[u8], why: &dyn std::fmt::Display) {
        let is_long = name.len() > limits::SHOWN_NAME;
        let (shown, rest) = if is_long { (&name[..limits::SHOWN_NAME], "...") } else { (name, "") };
        let problem = || format!("{}{rest}: not looked into: {why}", escaped(shown));
        self.found.problem.get_or_insert_with(problem);
    }

    /// Looks at what a stream holds, from its beginning. What is packed in it is unpacked.
    /// `is_whole` says that it is all there is in the archive.
    fn stream(&mut self, bytes: &mut dyn Read, stream: &Stream, is_whole: bool) {
        let mut start = vec![0; limits::MEMBER_START];
        let (filled, read) = fill(bytes, &mut start);
        start.truncate(filled);
        if let Err(error) = &read {
            self.note(&stream.name, error);
        }
        let likeness = likeness(&start);
        if matches!(likeness, Likeness::Qcow(_) | Likeness::QcowCut) {
            let rest = read.map(|()| bytes);
            return self.image(start, rest, likeness, stream);
        }
        let Some(kind) = Kind::of(&start) else { return };
        let mut all = start.chain(bytes);
        let done = match kind {
            _ if stream.depth >= limits::DEPTH => {
                Err(io::Error::other(format!("{} within {} archives", kind.words(), limits::DEPTH)))
            }
            Kind::Packed(packing) => {
                let name = packing.unpacked_name(&stream.name);
                let inner = Stream { name, size: None, in_place: None, depth: stream.depth + 1 };
                let mut all = BufReader::with_capacity(limits::MEMBER_START, all);
                self.unpack(packing, &mut all, &inner, is_whole)
            }
            Kind::Tar => tarred::in_stream(&mut all, stream, is_whole, self),
            Kind::Zip => Err(io::Error::other("a zip file within an archive")),
        };
        if let Err(error) = done {
            self.note(&stream.name, &error);
        }
    }

    /// Takes down an image that begins with `start`; `rest` is what comes behind, or why it cannot
    /// be read.
    fn image(
        &mut self,
        start: Vec<u8>,
        rest: io::Result<&mut dyn Read>,
        likeness: Likeness,
        stream: &Stream,
    ) {
        if self.found.members.len() >= limits::MEMBERS {
            let why = format!("more than {} images in one archive", limits::MEMBERS);
            return self.note(&stream.name, &why);
        }
        let Some(name) = self.names.told(&stream.name) else {
            let why = format!("names of images of more than {} bytes", limits::MEMBER_NAMES);
            return self.note(&stream.name, &why);
        };
        let whole = match rest {
            _ if !self.archive.is_deep => Ok(None),
            Ok(rest) => self.whole(&start, rest, stream).map(Some),
            Err(error) => Err(Unspooled::Unread(error)),
        };
        let (whole, unwalked) = match whole {
            Ok(whole) => (whole, None),
            Err(why) => (None, Some(self.unwalked(why))),
        };
        let around =
            Around { is_deep: whole.is_some(), is_cut: whole.is_none(), ..Around::default() };
        let (storage, size) = match whole {
            Some((storage, size)) => (storage, Some(size)),
            None => {
                // Of a stream that ended, all is there.
                let is_all = start.len() < limits::MEMBER_START;
                let size = stream.size.or(is_all.then_some(start.len() as u64));
                let path = path_of(stream);
                (Box::new(Start { path, bytes: start, size }) as Box<dyn Storage>, size)
            }
        };
        let mut seen = image::seen(storage, likeness, &stream.name, size, around);
        self.spool.empty();
        if let Some(why) = unwalked
            && (seen.problem.is_none() || seen.class != Class::Damaged)
        {
            seen.problem = Some(shortened(&format!("{NOT_WALKED}: {why}")));
        }
        self.found.members.push(Member { name, seen });
    }

    /// All bytes of a member: where they lie, where they lie there as they are, and otherwise
    /// unpacked.
    fn whole(
        &mut self,
        start: &[u8],
        rest: &mut dyn Read,
        stream: &Stream,
    ) -> Result<Whole, Unspooled> {
        let path = path_of(stream);
        if start.len() < limits::MEMBER_START {
            let size = as_told(stream, start.len() as u64)?;
            return Ok((Box::new(Start { path, bytes: start.to_vec(), size: Some(size) }), size));
        }
        if let (Some(start), Some(size)) = (stream.in_place, stream.size) {
            if start.checked_add(size).is_none_or(|end| end > self.archive.size) {
                return Err(Unspooled::Unread(io::ErrorKind::UnexpectedEof.into()));
            }
            let left = self.left.get().checked_sub(size);
            self.left.set(left.ok_or_else(|| Unspooled::Unread(io::Error::other(TOO_LONG)))?);
            let file = self.archive.file.try_clone().map_err(Unspooled::Unread)?;
            return Ok((Box::new(Window { path, file, start, size }), size));
        }
        if stream.size.is_some_and(|size| size > self.left.get().saturating_add(start.len() as u64))
        {
            return Err(Unspooled::Unread(io::Error::other(TOO_LONG)));
        }
        let (file, size) = self.spool.fill(start, rest)?;
        as_told(stream, size)?;
        Ok((Box::new(HostFile::new(file, path)), size))
    }

    /// Why the tables of an image were not walked.
    fn unwalked(&mut self, why: Unspooled) -> String {
        match why {
            Unspooled::Unread(error) => format!(
                "{error}: unpack the archive with its own tool, or fetch it anew where it is cut, and \
                 scan what comes of that"
            ),
            Unspooled::Beyond => format!(
                "it holds more than the {} GiB that are unpacked into a temporary file: unpack the \
                 archive, and scan what comes of that",
                limits::SPOOL >> 30
            ),
            Unspooled::Unwritten(error) => {
                self.found.is_shallow = true;
                format!(
                    "unpacking it into a temporary file: {error}: make room in the folder of \
                     temporary files, or name another one in TMPDIR"
                )
            }
        }
    }
}

fn path_of(stream: &Stream) -> PathBuf {
    Path::new(std::ffi::OsStr::from_bytes(&stream.name)).to_owned()
}

/// The length of a stream that has ended, if that is what the archive says.
fn as_told(stream: &Stream, length: u64) -> Result<u64, Unspooled> {
    match stream.size {
        Some(told) if told != length => Err(Unspooled::Unread(io::Error::other(format!(
            "it has {length} bytes, and {told} by what the archive says"
        )))),
        _ => Ok(length),
    }
}

/// How the problem of an image begins whose tables were to be walked, and could not be.
pub const NOT_WALKED: &str = "its tables were not walked";

/// What is said of what becomes too long.
const TOO_LONG: &str = "it becomes too long when it is unpacked";

/// The names under which images of one archive are told of: each once, though several may have the
/// same one.
#[derive(Default)]
struct Names {
    /// How many images had each name.
    told: HashMap<Vec<u8>, usize>,
    /// Bytes of all of them.
    length: u64,
}

impl Names {
    /// The name by which an image is told: its own, or with a number behind it where another one
    /// had it before. `None` where there are too many bytes of names.
    fn told(&mut self, name: &[u8]) -> Option<Vec<u8>> {
        let mut number = self.told.get(name).map_or(1, |count| count + 1);
        let mut told = name.to_vec();
        while number > 1 || self.told.contains_key(&told) {
            told = [name, format!("#{number}").as_bytes()].concat();
            if !self.told.contains_key(&told) {
                break;
            }
            number += 1;
        }
        self.length = self.length.saturating_add(told.len() as u64);
        if self.length > limits::MEMBER_NAMES {
            return None;
        }
        self.told.insert(name.to_vec(), number);
        self.told.entry(told.clone()).or_insert(1);
        Some(told)
    }
}

/// Bytes of which no more than so many come out.
struct Bounded<'a, R> {
    bytes: R,
    left: &'a Cell<u64>,
    /// What is said when there are more.
    most: &'static str,
    /// Why there will be no more. Who unpacks promises nothing of what comes after an error.
    failed: Option<(io::ErrorKind, String)>,
}

impl<'a, R> Bounded<'a, R> {
    fn new(bytes: R, left: &'a Cell<u64>, most: &'static str) -> Self {
        Self { bytes, left, most, failed: None }
    }

    /// Nothing is read any more behind this error.
    fn fail(&mut self, error: io::Error) -> io::Error {
        self.failed = Some((error.kind(), error.to_string()));
        error
    }
}

impl<R: Read> Read for Bounded<'_, R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if let Some((kind, why)) = &self.failed {
            return Err(io::Error::new(*kind, why.clone()));
        }
        let count = match self.bytes.read(out) {
            Ok(count) => count as u64,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Err(error),
            Err(error) => return Err(self.fail(error)),
        };
        let Some(left) = self.left.get().checked_sub(count) else {
            return Err(self.fail(io::Error::other(self.most)));
        };
        self.left.set(left);
        Ok(calve_disk::units::in_memory(count))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn behind_a_bound_nothing_is_read_however_small_the_next_piece_is() {
        let left = Cell::new(10);
        let mut bounded = Bounded::new(&[7; 100][..], &left, "too much");
        let mut out = [0; 16];
        assert_eq!(bounded.read(&mut out[..6]).expect("as many"), 6);
        for length in [16, 1, 4, 0] {
            let error = bounded.read(&mut out[..length]).expect_err("beyond the bound");
            assert_eq!(error.to_string(), "too much");
        }
        assert_eq!(left.get(), 4);
    }
}
