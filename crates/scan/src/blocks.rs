//! Blocks: where a file lies on its device, and how much of that it shares with other files. The
//! kernel is asked (`FIEMAP`); nothing of the file is read, and nothing of it is believed.
//!
//! Of what was written to shared blocks and is not on the device yet, the kernel tells the old
//! place. A file that would be told as a copy is therefore asked about once more with
//! `FIEMAP_FLAG_SYNC`, which has the kernel write first what others have written to that file and it
//! still holds in memory. That brings forward what would be done within seconds anyway, and
//! changes neither the file's bytes nor its times.

use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;

use fiemap::{Fiemap, FiemapExtentFlags as Flag, FiemapFlags};

use crate::limits;

/// What stands in the place of a digest's first bytes: a way of counting that changes is another.
const DOMAIN: &[u8] = b"calve layout 1";

/// Extents whose place is not told, or does not say which bytes lie there: blocks not chosen yet,
/// small files within the file system's own, packed or encrypted by it.
const VAGUE: Flag = Flag::UNKNOWN
    .union(Flag::DELALLOC)
    .union(Flag::ENCODED)
    .union(Flag::DATA_ENCRYPTED)
    .union(Flag::NOT_ALIGNED)
    .union(Flag::DATA_INLINE)
    .union(Flag::DATA_TAIL);

/// What the host says of the blocks of a file at the moment it is asked.
///
/// Nothing of it is in a [`crate::Stamp`]: a file that is copied by sharing its blocks, or that is
/// moved about by its file system, has the times that it had.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Blocks {
    /// Bytes that the file takes on its device, shared ones among them.
    pub on_disk: u64,
    /// How many bytes of the file lie in blocks that other files have too. `None` where the file
    /// system does not tell. Of a file that it packs these are bytes as they are read.
    pub shared: Option<u64>,
    /// Whether the file has more than [`limits::EXTENTS`] extents: `shared` counts those, and it
    /// is not known whether it is a copy.
    pub is_cut: bool,
    /// Of a file that shares blocks or not: a digest of its length and of the places of all its
    /// bytes. Two files on one device of which it is the same one are the same blocks. `None`
    /// where the file system does not tell of all of them, and of a file without any.
    pub layout: Option<[u8; 16]>,
    /// Whether all of its blocks are shared.
    pub is_all_shared: bool,
}

impl Blocks {
    /// What the host says of an open file.
    ///
    /// # Errors
    /// Where it does not even tell its length. That it tells nothing of extents is no error.
    pub fn of(file: &File) -> io::Result<Self> {
        Self::settled(|flags| {
            let metadata = file.metadata()?;
            let on_disk = metadata.blocks().saturating_mul(512);
            Ok(Self::told(on_disk, metadata.size(), extents(file, flags)))
        })
    }

    /// What is told once everything that was written has a place, where that matters: of a file
    /// that would be a copy by what is told before.
    fn settled(ask: impl Fn(FiemapFlags) -> io::Result<Self>) -> io::Result<Self> {
        let first = ask(FiemapFlags::empty())?;
        if !first.is_all_shared {
            return Ok(first);
        }
        let settled = ask(FiemapFlags::SYNC)?;
        Ok(match settled.shared {
            Some(_) => settled,
            // What cannot be written has no place, and the file may be no copy.
            None => Self { layout: None, is_all_shared: false, ..first },
        })
    }

    fn told(on_disk: u64, length: u64, extents: impl Iterator<Item = io::Result<Extent>>) -> Self {
        let unknown =
            Self { on_disk, shared: None, is_cut: false, layout: None, is_all_shared: false };
        let (mut layout, mut shared, mut all) = (Layout::new(length), 0_u64, 0_u64);
        // A network file system that answers tells each byte's place in the file as its place on
        // the device (CIFS does), and what is shared there it does not know.
        let mut is_placed = false;
        for (number, extent) in extents.enumerate() {
            // Most file systems that cannot tell say so at once, and none is at fault for it.
            let Ok(extent) = extent else { return unknown };
            if number >= limits::EXTENTS {
                return Self { shared: Some(shared), is_cut: true, ..unknown };
            }
            is_placed |= extent.physical != extent.logical;
            all = all.saturating_add(extent.length);
            if extent.flags.contains(Flag::SHARED) {
                shared = shared.saturating_add(extent.length);
            }
            layout.add(&extent);
        }
        if all > 0 && !is_placed {
            return unknown;
        }
        let layout = layout.digest();
        Self { shared: Some(shared), layout, is_all_shared: all > 0 && shared == all, ..unknown }
    }
}

/// What the kernel says of a part of a file.
#[derive(Clone, Copy)]
struct Extent {
    logical: u64,
    physical: u64,
    length: u64,
    flags: Flag,
}

fn extents(file: &File, flags: FiemapFlags) -> impl Iterator<Item = io::Result<Extent>> {
    Fiemap::with_flags(file, flags).map(|extent| {
        extent.map(|extent| Extent {
            logical: extent.fe_logical,
            physical: extent.fe_physical,
            length: extent.fe_length,
            flags: extent.fe_flags,
        })
    })
}

/// A run of blocks that are one behind the other on the device and in the file, and all written
/// or all not.
#[derive(Clone, Copy)]
struct Run {
    logical: u64,
    physical: u64,
    length: u64,
    is_unwritten: bool,
}

/// A digest of extents in the making. How a file system cuts a run into extents is not in it.
struct Layout {
    hasher: blake3::Hasher,
    run: Option<Run>,
    is_vague: bool,
}

impl Layout {
    fn new(length: u64) -> Self {
        let mut hasher = blake3::Hasher::new();
        hasher.update(DOMAIN);
        hasher.update(&length.to_be_bytes());
        Self { hasher, run: None, is_vague: false }
    }

    fn add(&mut self, extent: &Extent) {
        self.is_vague |= extent.flags.intersects(VAGUE);
        let next = Run {
            logical: extent.logical,
            physical: extent.physical,
            length: extent.length,
            is_unwritten: extent.flags.contains(Flag::UNWRITTEN),
        };
        match &mut self.run {
            Some(run)
                if run.logical.checked_add(run.length) == Some(next.logical)
                    && run.physical.checked_add(run.length) == Some(next.physical)
                    && run.is_unwritten == next.is_unwritten =>
            {
                run.length = run.length.saturating_add(next.length);
            }
            _ => {
                self.end_run();
                self.run = Some(next);
            }
        }
    }

    fn end_run(&mut self) {
        if let Some(run) = self.run {
            for number in [run.logical, run.physical, run.length, run.is_unwritten.into()] {
                self.hasher.update(&number.to_be_bytes());
            }
        }
    }

    fn digest(mut self) -> Option<[u8; 16]> {
        self.run.filter(|_| !self.is_vague)?;
        self.end_run();
        let mut digest = [0; 16];
        self.hasher.finalize_xof().fill(&mut digest);
        Some(digest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn extent(logical: u64, physical: u64, length: u64, flags: Flag) -> Extent {
        Extent { logical, physical, length, flags }
    }

    fn told(length: u64, extents: &[Extent]) -> Blocks {
        Blocks::told(1 << 20, length, extents.iter().map(|extent| Ok(*extent)))
    }

    #[test]
    fn the_same_places_have_the_same_digest_however_they_are_cut() {
        let whole = told(9000, &[extent(0, 4096, 12288, Flag::SHARED)]);
        let cut = told(
            9000,
            &[extent(0, 4096, 4096, Flag::SHARED), extent(4096, 8192, 8192, Flag::LAST)],
        );
        assert!(whole.layout.is_some());
        assert_eq!(whole.layout, cut.layout);
        assert_eq!((whole.shared, whole.is_all_shared), (Some(12288), true));
        assert_eq!((cut.shared, cut.is_all_shared), (Some(4096), false));
        for other in [
            told(9001, &[extent(0, 4096, 12288, Flag::SHARED)]),
            told(9000, &[extent(0, 8192, 12288, Flag::SHARED)]),
            told(9000, &[extent(8192, 4096, 12288, Flag::SHARED)]),
            told(9000, &[extent(0, 4096, 8192, Flag::SHARED)]),
            told(9000, &[extent(0, 4096, 12288, Flag::SHARED | Flag::UNWRITTEN)]),
            told(
                9000,
                &[extent(0, 4096, 4096, Flag::SHARED), extent(8192, 8192, 8192, Flag::SHARED)],
            ),
            told(
                9000,
                &[extent(0, 4096, 4096, Flag::SHARED), extent(4096, 12288, 8192, Flag::SHARED)],
            ),
        ] {
            assert!(other.layout.is_some() && other.layout != whole.layout);
        }
    }

    #[test]
    fn places_that_do_not_say_which_bytes_lie_there_have_no_digest() {
        for flag in VAGUE.iter() {
            let blocks =
                told(9000, &[extent(0, 4096, 4096, Flag::SHARED), extent(4096, 8192, 4096, flag)]);
            assert_eq!((blocks.layout, blocks.shared), (None, Some(4096)));
        }
        let empty = told(0, &[]);
        assert_eq!((empty.layout, empty.shared, empty.is_all_shared), (None, Some(0), false));
    }

    #[test]
    fn who_would_be_a_copy_is_asked_again_when_all_is_written() {
        let copy = told(4096, &[extent(0, 4096, 4096, Flag::SHARED)]);
        let alone = told(4096, &[extent(0, 8192, 4096, Flag::LAST)]);
        let refused = Blocks::told(0, 0, [Err(io::ErrorKind::Other.into())].into_iter());
        let asked = |before: Blocks, after: Blocks| {
            let is_synced = |flags: FiemapFlags| flags.contains(FiemapFlags::SYNC);
            Blocks::settled(|flags| Ok(if is_synced(flags) { after } else { before }))
                .expect("told")
        };
        assert_eq!(asked(copy, alone), alone);
        assert_eq!(asked(copy, copy), copy);
        assert_eq!(asked(alone, copy), alone, "a file is written that is no copy");
        let unsettled = asked(copy, refused);
        assert_eq!((unsettled.shared, unsettled.layout), (Some(4096), None));
        assert!(!unsettled.is_all_shared);
    }

    #[test]
    fn places_that_are_those_in_the_file_are_none() {
        for flags in [Flag::LAST, Flag::SHARED] {
            let pieces = [extent(0, 0, 4096, flags), extent(8192, 8192, 4096, flags)];
            let blocks = told(12288, &pieces);
            assert_eq!((blocks.shared, blocks.layout, blocks.is_all_shared), (None, None, false));
            // One that lies elsewhere shows that they are places, and chance.
            let placed = told(12288, &[pieces[0], extent(8192, 4096, 4096, flags)]);
            assert!(placed.shared.is_some() && placed.layout.is_some());
        }
    }

    #[test]
    fn who_cannot_tell_is_not_believed_in_part() {
        let broken =
            [Ok(extent(0, 4096, 4096, Flag::SHARED)), Err(io::ErrorKind::Unsupported.into())];
        let blocks = Blocks::told(4096, 4096, broken.into_iter());
        assert_eq!((blocks.shared, blocks.layout, blocks.on_disk), (None, None, 4096));
    }

    #[test]
    fn a_file_in_endless_pieces_is_looked_at_up_to_the_limit() {
        let piece = |number: u64| extent(number * 8192, number * 16384, 4096, Flag::SHARED);
        let most = limits::EXTENTS as u64;
        let blocks = Blocks::told(0, 0, (0..most).map(|number| Ok(piece(number))));
        assert_eq!((blocks.is_cut, blocks.shared), (false, Some(most * 4096)));
        let blocks = Blocks::told(0, 0, (0..).map(|number| Ok(piece(number))));
        assert_eq!((blocks.is_cut, blocks.shared, blocks.layout), (true, Some(most * 4096), None));
        assert!(!blocks.is_all_shared);
    }
}
