//! Images in archives: found by what the members hold. Memory is bounded, as is what is unpacked,
//! whatever an archive claims.

mod packed;
mod tarred;
mod zipped;

use std::cell::Cell;
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use calve_disk::open::{Likeness, escaped, likeness};

use crate::image::{self, Around};
use crate::limits;
use crate::sighting::Member;
use crate::start::{Positioned, Start, fill};

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
}

/// Looks for images in an archive, a file of this length and name.
pub(crate) fn look_into(file: &File, size: u64, kind: Kind, name: &[u8]) -> Found {
    let most = limits::UNPACKED.saturating_add(size.saturating_mul(limits::UNPACKED_FOR_EACH));
    let left = Cell::new(most);
    let mut search = Search { found: Found::default(), left: &left };
    let positioned = Positioned::new(file, size);
    let done = match kind {
        Kind::Packed(packing) => {
            let mut packed = BufReader::with_capacity(limits::MEMBER_START, positioned);
            let stream = Stream { name: packing.unpacked_name(name), size: None, depth: 1 };
            search.unpack(packing, &mut packed, &stream, true)
        }
        Kind::Tar => tarred::in_file(positioned, &mut search),
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
    /// In how many archives it lies.
    depth: usize,
}

/// Looking for images in one archive and in those within it.
struct Search<'a> {
    found: Found,
    /// Bytes that may still be unpacked.
    left: &'a Cell<u64>,
}

impl Search<'_> {
    /// Takes down that something in the archive could not be looked at.
    fn note(&mut self, name: &[u8], why: &dyn std::fmt::Display) {
        let problem = || format!("{}: not looked into: {why}", escaped(name));
        self.found.problem.get_or_insert_with(problem);
    }

    /// Looks at what a stream holds, from its beginning. What is packed in it is unpacked.
    /// `is_whole` says that it is all there is in the archive.
    fn stream(&mut self, bytes: &mut dyn Read, stream: &Stream, is_whole: bool) {
        let mut start = vec![0; limits::MEMBER_START];
        let (filled, read) = fill(bytes, &mut start);
        start.truncate(filled);
        if let Err(error) = read {
            self.note(&stream.name, &error);
        }
        let likeness = likeness(&start);
        if matches!(likeness, Likeness::Qcow(_) | Likeness::QcowCut) {
            return self.image(start, likeness, stream);
        }
        let Some(kind) = Kind::of(&start) else { return };
        let mut all = start.chain(bytes);
        let done = match kind {
            _ if stream.depth >= limits::DEPTH => {
                Err(io::Error::other(format!("{} within {} archives", kind.words(), limits::DEPTH)))
            }
            Kind::Packed(packing) => {
                let name = packing.unpacked_name(&stream.name);
                let inner = Stream { name, size: None, depth: stream.depth + 1 };
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

    fn image(&mut self, bytes: Vec<u8>, likeness: Likeness, stream: &Stream) {
        if self.found.members.len() >= limits::MEMBERS {
            let why = format!("more than {} images in one archive", limits::MEMBERS);
            return self.note(&stream.name, &why);
        }
        // Of a stream that ended, all is there.
        let is_all = bytes.len() < limits::MEMBER_START;
        let size = stream.size.or(is_all.then_some(bytes.len() as u64));
        let path = Path::new(std::ffi::OsStr::from_bytes(&stream.name)).to_owned();
        let storage = Box::new(Start { path, bytes, size });
        let around = Around { is_member: true, ..Around::default() };
        let seen = image::seen(storage, likeness, &stream.name, size, around);
        self.found.members.push(Member { name: stream.name.clone(), seen });
    }
}

/// Bytes of which no more than so many come out.
struct Bounded<'a, R> {
    bytes: R,
    left: &'a Cell<u64>,
    /// What is said when there are more.
    most: &'static str,
}

impl<R: Read> Read for Bounded<'_, R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let count = self.bytes.read(out)? as u64;
        let Some(left) = self.left.get().checked_sub(count) else {
            return Err(io::Error::other(self.most));
        };
        self.left.set(left);
        Ok(calve_disk::units::in_memory(count))
    }
}
