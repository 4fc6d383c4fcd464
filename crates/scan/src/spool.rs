//! The spool: what is packed is unpacked into it where all of it is asked for, as the tables of an
//! image may lie anywhere. It is one file without a name, used again and again, and sparse where
//! the bytes are zero.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;

use crate::limits;
use crate::sighting::shortened;
use crate::start::fill;

/// Bytes that are read at once.
const AT_ONCE: usize = 64 << 10;

/// Zeros that are not written, where they fill blocks of this length.
const BLOCK: usize = 4 << 10;

static ZEROS: [u8; BLOCK] = [0; BLOCK];

/// A temporary file for the members of archives. It takes [`limits::SPOOL`] bytes at most, and never
/// more than what it leaves free beside it: half of the room that one spool alone finds.
#[derive(Debug)]
pub struct Spool {
    state: State,
    /// Bytes that are written to it at most.
    most: u64,
    /// Bytes that are free beside it; `None` where the host does not say.
    room: Room,
}

/// Asks how many bytes are free where a file lies.
type Room = fn(&File) -> Option<u64>;

#[derive(Debug)]
enum State {
    Unmade,
    Made(File),
    Missing(String),
}

/// Why something is not in the spool.
#[derive(Debug)]
pub(crate) enum Unspooled {
    /// What was to be unpacked cannot be read.
    Unread(io::Error),
    /// The spool did not take it.
    Unwritten(io::Error),
    /// It is more than a spool takes, today and tomorrow.
    Beyond,
}

impl Spool {
    /// A spool that is made in the folder of temporary files, `TMPDIR`, when something is spooled
    /// for the first time.
    pub fn when_needed() -> Self {
        Self::new(State::Unmade)
    }

    fn new(state: State) -> Self {
        Self { state, most: limits::SPOOL, room }
    }

    /// A spool that was made already: an open file for reading and writing, that nobody else uses.
    pub fn of(file: File) -> Self {
        Self::new(State::Made(file))
    }

    /// No spool, and why: whatever would need one is told as not looked into.
    pub fn missing(why: &str) -> Self {
        Self::new(State::Missing(shortened(why)))
    }

    fn file(&mut self) -> io::Result<&File> {
        if matches!(self.state, State::Unmade) {
            self.state = State::Made(tempfile::tempfile()?);
        }
        match &self.state {
            State::Made(file) => Ok(file),
            State::Missing(why) => Err(io::Error::other(why.clone())),
            State::Unmade => Err(io::ErrorKind::NotFound.into()),
        }
    }

    /// Unpacks all bytes of a stream, of which `start` was read already: the file that holds them
    /// now and nothing else, and how many there are.
    pub(crate) fn fill(
        &mut self,
        start: &[u8],
        rest: &mut dyn Read,
    ) -> Result<(File, u64), Unspooled> {
        let (most, room) = (self.most, self.room);
        let file = self.file().map_err(Unspooled::Unwritten)?;
        file.set_len(0).map_err(Unspooled::Unwritten)?;
        let mut bytes = start.chain(rest);
        let mut buffer = vec![0; AT_ONCE];
        let (mut at, mut taken, mut looked) = (0, 0_u64, 0_u64);
        loop {
            let (filled, read) = fill(&mut bytes, &mut buffer);
            read.map_err(Unspooled::Unread)?;
            taken += write_sparsely(file, &buffer[..filled], at).map_err(Unspooled::Unwritten)?;
            if taken > most {
                return Err(Unspooled::Beyond);
            }
            if taken - looked >= limits::SPOOL_LOOK {
                looked = taken;
                if room(file).is_some_and(|left| left < taken) {
                    let why = "less room would be left there than it takes";
                    return Err(Unspooled::Unwritten(io::Error::new(
                        io::ErrorKind::StorageFull,
                        why,
                    )));
                }
            }
            at += filled as u64;
            if filled < buffer.len() {
                break;
            }
        }
        file.set_len(at).map_err(Unspooled::Unwritten)?;
        Ok((file.try_clone().map_err(Unspooled::Unwritten)?, at))
    }

    /// Gives back the room that it takes.
    pub(crate) fn empty(&mut self) {
        if let State::Made(file) = &self.state {
            // What cannot be given back now is given back when it is closed.
            let _ = file.set_len(0);
        }
    }
}

/// Bytes that are free where a file lies.
fn room(file: &File) -> Option<u64> {
    let told = rustix::fs::fstatvfs(file).ok()?;
    told.f_bavail.checked_mul(told.f_frsize)
}

/// Writes bytes to a file that has none there, but for whole blocks of zeros: how many.
fn write_sparsely(file: &File, bytes: &[u8], mut at: u64) -> io::Result<u64> {
    let mut taken = 0;
    let is_zero = |block: &[u8]| *block == ZEROS[..block.len()];
    let mut rest = bytes;
    while !rest.is_empty() {
        let blocks = rest.chunks(BLOCK).take_while(|block| is_zero(block)).map(<[u8]>::len);
        let (zeros, behind) = rest.split_at(blocks.sum());
        at += zeros.len() as u64;
        rest = behind;
        let blocks = rest.chunks(BLOCK).take_while(|block| !is_zero(block)).map(<[u8]>::len);
        let (written, behind) = rest.split_at(blocks.sum());
        file.write_all_at(written, at)?;
        at += written.len() as u64;
        taken += written.len() as u64;
        rest = behind;
    }
    Ok(taken)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    #[test]
    fn a_spool_holds_what_was_put_in_last_and_takes_no_room_for_zeros() {
        let mut spool = Spool::when_needed();
        spool.fill(&[9; 300_000], &mut io::empty()).expect("spooled");
        let mut bytes = vec![0; 20 << 20];
        bytes[5_000_000..5_000_003].fill(7);
        bytes.push(0);
        let (start, mut rest) = bytes.split_at(70_000);
        let (file, length) = spool.fill(start, &mut rest).expect("spooled");
        assert_eq!(length, bytes.len() as u64);
        let mut read = vec![1; bytes.len()];
        file.read_exact_at(&mut read, 0).expect("all of it");
        assert!(read == bytes, "other bytes than were put in");
        let status = file.metadata().expect("told");
        assert_eq!(status.len(), length);
        assert!(status.blocks() * 512 < 1 << 20, "{} blocks", status.blocks());
        spool.empty();
        assert_eq!(file.metadata().expect("told").len(), 0);
    }

    #[test]
    fn a_spool_takes_no_more_than_it_may_and_leaves_as_much_as_it_takes() {
        let zeros = || io::repeat(0).take(200 << 20);
        let mut spool = Spool { most: 1 << 20, ..Spool::when_needed() };
        let (_, length) = spool.fill(&[9; 1 << 20], &mut zeros()).expect("zeros take nothing");
        assert_eq!(length, 201 << 20);
        let beyond = spool.fill(&[9; (1 << 20) + 1], &mut io::empty());
        assert!(matches!(beyond, Err(Unspooled::Beyond)), "{beyond:?}");
        // 40 MiB lie there, and at the third look as much as that has to be free.
        let bytes = || io::repeat(9).take(40 << 20);
        let rooms: [(Room, bool); 3] =
            [(|_| Some(32 << 20), true), (|_| Some((32 << 20) - 1), false), (|_| None, true)];
        for (room, is_taken) in rooms {
            match (Spool { room, ..Spool::when_needed() }.fill(b"", &mut bytes()), is_taken) {
                (Ok((_, length)), true) => assert_eq!(length, 40 << 20),
                (Err(Unspooled::Unwritten(_)), false) => {}
                (other, _) => panic!("{other:?}"),
            }
        }
    }

    #[test]
    fn an_image_beyond_the_bound_is_told_with_what_to_do_and_is_no_matter_of_room() {
        let mut builder = calve_testkit::Builder::new(12, 9, 1 << 20);
        (0..40).for_each(|cluster| _ = builder.plain(cluster, &[7; 4096]));
        let mut file = tempfile::tempfile().expect("a file");
        let mut packed = flate2::write::GzEncoder::new(&mut file, flate2::Compression::fast());
        io::Write::write_all(&mut packed, &builder.build()).expect("packed");
        packed.finish().expect("packed");
        let ask = crate::Ask { is_deep: true, with_archives: true, ..crate::Ask::default() };
        let mut spool = Spool { most: 100_000, ..Spool::when_needed() };
        let look = crate::look(&file, &ask, &mut spool);
        let seen = &look.members[0].seen;
        assert_eq!((seen.class, look.is_shallow), (crate::Class::Version1, false));
        let problem = seen.problem.as_deref().expect("told");
        assert!(problem.starts_with(crate::NOT_WALKED), "{problem}");
        assert!(problem.ends_with("unpack the archive, and scan what comes of that"), "{problem}");
    }

    #[test]
    fn the_host_says_how_much_is_free() {
        assert!(room(&tempfile::tempfile().expect("a file")).is_some());
    }

    #[test]
    fn what_fails_is_told_apart() {
        struct Bad;
        impl Read for Bad {
            fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
                Err(io::ErrorKind::InvalidData.into())
            }
        }
        let unread = Spool::when_needed().fill(b"x", &mut Bad);
        assert!(matches!(unread, Err(Unspooled::Unread(_))), "{unread:?}");
        let unwritten = Spool::missing("no folder").fill(b"x", &mut io::empty());
        assert!(matches!(unwritten, Err(Unspooled::Unwritten(_))), "{unwritten:?}");
    }
}
