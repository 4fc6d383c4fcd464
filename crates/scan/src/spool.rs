//! The spool: what is packed is unpacked into it where all of it is asked for, as the tables of an
//! image may lie anywhere. It is one file without a name, used again and again, and sparse where
//! the bytes are zero.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;

use crate::sighting::shortened;
use crate::start::fill;

/// Bytes that are read at once.
const AT_ONCE: usize = 64 << 10;

/// Zeros that are not written, where they fill blocks of this length.
const BLOCK: usize = 4 << 10;

static ZEROS: [u8; BLOCK] = [0; BLOCK];

/// A temporary file for the members of archives.
#[derive(Debug, Default)]
pub struct Spool(State);

#[derive(Debug, Default)]
enum State {
    #[default]
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
}

impl Spool {
    /// A spool that is made in the folder of temporary files, `TMPDIR`, when something is spooled
    /// for the first time.
    pub fn when_needed() -> Self {
        Self::default()
    }

    /// A spool that was made already: an open file for reading and writing, that nobody else uses.
    pub fn of(file: File) -> Self {
        Self(State::Made(file))
    }

    /// No spool, and why: whatever would need one is told as not looked into.
    pub fn missing(why: &str) -> Self {
        Self(State::Missing(shortened(why)))
    }

    fn file(&mut self) -> io::Result<&File> {
        if matches!(self.0, State::Unmade) {
            self.0 = State::Made(tempfile::tempfile()?);
        }
        match &self.0 {
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
        let file = self.file().map_err(Unspooled::Unwritten)?;
        file.set_len(0).map_err(Unspooled::Unwritten)?;
        let mut bytes = start.chain(rest);
        let mut buffer = vec![0; AT_ONCE];
        let mut at = 0;
        loop {
            let (filled, read) = fill(&mut bytes, &mut buffer);
            read.map_err(Unspooled::Unread)?;
            write_sparsely(file, &buffer[..filled], at).map_err(Unspooled::Unwritten)?;
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
        if let State::Made(file) = &self.0 {
            // What cannot be given back now is given back when it is closed.
            let _ = file.set_len(0);
        }
    }
}

/// Writes bytes to a file that has none there, but for whole blocks of zeros.
fn write_sparsely(file: &File, bytes: &[u8], mut at: u64) -> io::Result<()> {
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
        rest = behind;
    }
    Ok(())
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
