//! What lies in an archive beside its images.

use std::io;

use super::Site;
use super::content::Content;
use super::names::split;
use super::truth::{Alike, Base, Decoy, Entry, Producer, Stored, Version1, What};

/// Files that are no disks: name and content.
const OTHERS: [(&str, &str, &[u8]); 8] = [
    ("notes", ".txt", b"The disks of the old hosts. Nobody knows which are in use.\n"),
    ("empty", ".qcow", b""),
    ("vm", ".xml", b"<disk type='file'>\n  <driver name='qemu' type='qcow'/>\n</disk>\n"),
    ("readme", ".qcow2", b"moved to the other server\n"),
    ("make-disk", ".sh", b"#!/bin/sh\nqemu-img create -f qcow disk.qcow 10G\n"),
    ("short", ".qcow", b"QFI"),
    (".hidden", "", b"QFI is what such images begin with\n"),
    ("checksums", ".sha256", b"0000  disk.qcow\n"),
];

impl Site {
    /// Writes files that could be taken for a base that does not lie where an overlay says: one
    /// of the recorded name, one of the same length.
    pub(super) fn decoys(&mut self, base: &Entry, joined: &Base) -> io::Result<()> {
        self.lost += 1;
        // The first one has both, so that a small archive has some.
        let is_first = self.lost == 1;
        let size = base.virtual_size.unwrap_or(0);
        if is_first || self.random.once_in(3) {
            let file = joined.recorded.rsplit(['/', '\\']).next().unwrap_or_default();
            let (stem, extension) =
                file.rsplit_once('.').map_or((file, ""), |(stem, _)| (stem, &file[stem.len()..]));
            let what = match base.what {
                What::Version1(_) => {
                    let by = (Producer::Qemu, Stored::Plain);
                    What::Version1(Version1::by(by, false, &mut self.random))
                }
                ref same => same.clone(),
            };
            // A folder for each, so that the name can be that one.
            let folder = format!("backup/{:03}", self.lost);
            let path = self.taken.place(&folder, stem, extension);
            debug_assert_eq!(split(&path).1, file);
            self.decoy(path, what, size, base, Alike::Name)?;
        }
        if is_first || self.random.once_in(3) {
            let path = self.taken.place("backup/spare", "spare", ".img");
            self.decoy(path, What::Raw, size, base, Alike::Size)?;
        }
        Ok(())
    }

    fn decoy(
        &mut self,
        path: String,
        what: What,
        size: u64,
        base: &Entry,
        alike: Alike,
    ) -> io::Result<()> {
        let modified = self.time();
        let content = Content::installed(size, self.archive.seed, &mut self.random);
        let mut entry = Entry::new(path, what, modified);
        entry.virtual_size = Some(size);
        entry.decoy = Some(Decoy { of: base.path.clone(), alike });
        self.image(&entry, &content, None)?;
        entry.digest = Some(self.digests.of(&content));
        self.files.push(entry);
        Ok(())
    }

    /// Writes files that are no disks.
    pub(super) fn others(&mut self) -> io::Result<()> {
        let count = OTHERS.len().max(self.archive.images / 20);
        for number in 0..count {
            let (stem, extension, bytes) = OTHERS[number % OTHERS.len()];
            let folder = format!("rack-{}/papers", self.random.below(8));
            let path = self.taken.place(&folder, stem, extension);
            let modified = self.time();
            self.put(&path, bytes, modified)?;
            self.files.push(Entry::new(path, What::Other, modified));
        }
        Ok(())
    }
}
