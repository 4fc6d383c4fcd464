//! A room full of disks, made from a seed, of which everything is known.
//!
//! ```no_run
//! # use calve_testkit::archive::Archive;
//! # let folder = std::path::Path::new("folder");
//! let archive = Archive { images: 60, families: 12, disk: 8 << 20, ..Archive::default() };
//! let truth = archive.write(folder).expect("written");
//! ```
//!
//! What a guest's disk holds is decided first, and written in some format then; the truth tells
//! of what was decided. No reader of the product has a part in it.

mod content;
mod digest;
mod extras;
mod family;
mod names;
mod plan;
mod qcow2;
mod truth;
mod version1;

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

pub use truth::{
    Alike, Base, Damage, Decoy, Entry, Found, Producer, Stored, Truth, Version1, What,
};

use crate::random::Random;
use content::Content;
use digest::Digests;
use names::Taken;

/// What an archive is made from: the same gives the same files, byte for byte and second for
/// second.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Archive {
    /// Where chance begins.
    pub seed: u64,
    /// Disks in families: version 1, qcow2, and raw ones on which others lie. Decoys, other
    /// files and further names are more.
    pub images: usize,
    /// Families, every fourth of one image, every sixth of one damaged image. Some have lost
    /// their root: their overlays are of one family though nothing in the archive joins them.
    pub families: usize,
    /// Bytes of a disk, roughly: disks have a quarter of it to twice as many.
    pub disk: u64,
}

impl Default for Archive {
    /// 1 TiB of disks, which take a gigabyte or two.
    fn default() -> Self {
        Self { seed: 0, images: 2000, families: 300, disk: 512 << 20 }
    }
}

impl Archive {
    /// Writes all files below a folder, which is made where it is missing, and says what is true
    /// of them.
    ///
    /// # Errors
    /// Where the host does.
    ///
    /// # Panics
    /// Where there are fewer images than families, no family, or disks of less than 1 MiB.
    pub fn write(&self, folder: &Path) -> io::Result<Truth> {
        assert!(self.families > 0 && self.images >= self.families && self.disk >= 1 << 20);
        let mut site = Site::new(*self, folder);
        for (number, family) in plan::families(self, &mut site.random).iter().enumerate() {
            match family {
                plan::Family::Sound(members) => site.family(number, members)?,
                plan::Family::Damaged(kind) => site.damaged(number, *kind)?,
            }
        }
        site.others()?;
        let mut files = site.files;
        files.sort_by(|one, other| one.path.cmp(&other.path));
        Ok(Truth { archive: *self, files })
    }
}

/// An archive that is being written.
struct Site {
    archive: Archive,
    folder: PathBuf,
    random: Random,
    digests: Digests,
    taken: Taken,
    files: Vec<Entry>,
    /// Roots and overlays in version 1 so far. What there is comes one after the other, so that
    /// small archives have all of it.
    roots: usize,
    overlays: usize,
    /// Overlays so far whose base is there.
    joined: usize,
    /// Bases so far that do not lie where they should.
    lost: usize,
}

impl Site {
    fn new(archive: Archive, folder: &Path) -> Self {
        Self {
            archive,
            folder: folder.to_owned(),
            random: Random::new(archive.seed),
            digests: Digests::default(),
            taken: Taken::default(),
            files: Vec::new(),
            roots: 0,
            overlays: 0,
            joined: 0,
            lost: 0,
        }
    }

    /// Bytes of a new disk, most of them no multiple of a large cluster.
    fn disk_size(&mut self) -> u64 {
        let quarters = self.random.one_of(&[1, 2, 3, 4, 4, 5, 6, 8]);
        let size = self.archive.disk / 4 * quarters / 4096 * 4096;
        if self.random.once_in(2) { size } else { size - 512 * self.random.below(128) }
    }

    /// A time in the years of version 1.
    fn time(&mut self) -> u32 {
        1_100_000_000 + u32::try_from(self.random.below(200_000_000)).expect("below")
    }

    fn create(&self, path: &str) -> io::Result<File> {
        let path = self.folder.join(path);
        fs::create_dir_all(path.parent().unwrap_or(&self.folder))?;
        File::create_new(path)
    }

    /// Writes a file without what is zero.
    fn put(&self, path: &str, bytes: &[u8], modified: u32) -> io::Result<()> {
        let file = self.create(path)?;
        file.set_len(bytes.len() as u64)?;
        for (at, block) in (0..).step_by(4096).zip(bytes.chunks(4096)) {
            if block.iter().any(|byte| *byte != 0) {
                file.write_all_at(block, at)?;
            }
        }
        file.set_modified(UNIX_EPOCH + Duration::from_secs(modified.into()))
    }

    /// Writes a disk as it is.
    fn put_raw(&self, path: &str, content: &Content, modified: u32) -> io::Result<()> {
        let file = self.create(path)?;
        file.set_len(content.size)?;
        for (page, bytes) in content.pages() {
            let at = page * content::PAGE;
            let length = (content.size - at).min(content::PAGE);
            file.write_all_at(&bytes[..content::small(length)], at)?;
        }
        file.set_modified(UNIX_EPOCH + Duration::from_secs(modified.into()))
    }

    /// Gives a file a further name beside it.
    fn hard_link(&mut self, entry: &mut Entry) -> io::Result<String> {
        let (stem, extension) = names::parts(&entry.path);
        let folder = names::split(&entry.path).0;
        let name = self.taken.place(folder, &format!("{stem}-link"), extension);
        fs::hard_link(self.folder.join(&entry.path), self.folder.join(&name))?;
        entry.hard_links.push(name.clone());
        Ok(name)
    }

    /// Makes a symbolic link to a file beside it.
    fn symlink(&mut self, entry: &mut Entry) -> io::Result<String> {
        let (folder, file) = names::split(&entry.path);
        let name = self.taken.place(folder, "current", names::parts(&entry.path).1);
        std::os::unix::fs::symlink(file, self.folder.join(&name))?;
        entry.symlinks.push(name.clone());
        Ok(name)
    }
}
