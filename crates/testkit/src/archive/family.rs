//! Families of an archive, written.

use std::io;

use super::content::{Content, Written};
use super::names::{self, relative, split};
use super::plan::Member;
use super::truth::{Base, Damage, Entry, Found, Producer, Stored, Version1, What};
use super::version1::{Header, OVERLAYS, ROOTS};
use super::{Site, qcow2};
use crate::planted::Kind;

const PASSPHRASES: [&str; 5] =
    ["password", "letmein", "correct horse battery", "Geheim-2006", "s3cr3t"];

/// How overlays lead to their bases, one after the other.
const FOUND: [Found; 17] = {
    use Found::{HardLink, Moved, Name, Renamed, Symlink};
    [
        Name, Name, Moved, Name, Name, Renamed, Name, Name, HardLink, Name, Name, Moved, Name,
        Symlink, Name, Renamed, Name,
    ]
};

/// An image of a family as it is being made.
struct Made {
    entry: Entry,
    content: Content,
    is_there: bool,
    /// Whether all of its bases are there.
    is_whole: bool,
}

impl Site {
    /// Writes a family.
    pub(super) fn family(&mut self, number: usize, members: &[Member]) -> io::Result<()> {
        let folder = format!("rack-{}/customer-{number:03}", self.random.below(8));
        let mut family: Vec<Made> = Vec::new();
        for member in members {
            let made = match member.base {
                None => self.root(number, &folder, *member, members.len() > 1)?,
                Some(base) => self.overlay(number, &folder, *member, &mut family[base])?,
            };
            family.push(made);
        }
        for made in &mut family {
            if made.is_there && self.random.once_in(24) {
                self.hard_link(&mut made.entry)?;
            }
            if made.is_there && self.random.once_in(24) {
                self.symlink(&mut made.entry)?;
            }
        }
        let there = family.into_iter().filter(|made| made.is_there);
        self.files.extend(there.map(|made| made.entry));
        Ok(())
    }

    fn root(
        &mut self,
        number: usize,
        folder: &str,
        member: Member,
        has_overlays: bool,
    ) -> io::Result<Made> {
        let what = match self.random.below(20) {
            _ if !member.is_there => What::Raw,
            0..=7 if has_overlays => What::Raw,
            17.. => What::Qcow2 { version: 2 },
            _ => {
                self.roots += 1;
                let by = ROOTS[(self.roots - 1) % ROOTS.len()];
                What::Version1(Version1::by(by, false, &mut self.random))
            }
        };
        let folder = if has_overlays && self.random.once_in(2) {
            format!("{folder}/templates")
        } else {
            folder.to_owned()
        };
        let size = self.disk_size();
        let content = Content::installed(size, self.archive.seed, &mut self.random);
        let (path, modified) = (self.path(number, &folder, &what), self.time());
        let entry = Entry::new(path, what, modified);
        let mut made =
            Made { entry, content, is_there: member.is_there, is_whole: member.is_there };
        if made.is_there {
            self.finish(number, member, &mut made, None)?;
        }
        Ok(made)
    }

    fn overlay(
        &mut self,
        number: usize,
        folder: &str,
        member: Member,
        base: &mut Made,
    ) -> io::Result<Made> {
        let what = if self.random.once_in(7) {
            What::Qcow2 { version: 3 }
        } else {
            self.overlays += 1;
            let by = OVERLAYS[(self.overlays - 1) % OVERLAYS.len()];
            What::Version1(Version1::by(by, true, &mut self.random))
        };
        let folder = match self.random.below(5) {
            0 | 1 => split(&base.entry.path).0.to_owned(),
            2 => format!("shelf/customer-{number:03}"),
            _ => format!("{folder}/vm-{}", self.random.below(4)),
        };
        let path = self.path(number, &folder, &what);
        let mut content = base.content.clone();
        if self.random.once_in(8) {
            content.size += 512 * self.random.below(4096);
        }
        let written = content.written(&mut self.random);
        let modified = base.entry.modified
            + 1000
            + u32::try_from(self.random.below(10_000_000)).expect("below");
        let mut entry = Entry::new(path, what, modified);
        entry.base = Some(self.join(&entry, base)?);
        let mut made = Made { entry, content, is_there: true, is_whole: base.is_whole };
        self.finish(number, member, &mut made, Some(&written))?;
        Ok(made)
    }

    fn path(&mut self, number: usize, folder: &str, what: &What) -> String {
        let stem = names::stem(number, &mut self.random);
        let extension = names::extension(what, &mut self.random);
        self.taken.place(folder, &stem, extension)
    }

    /// Decides what an overlay records of its base, and how that leads there.
    fn join(&mut self, overlay: &Entry, base: &mut Made) -> io::Result<Base> {
        let found = if base.is_there {
            self.joined += 1;
            FOUND[(self.joined - 1) % FOUND.len()]
        } else {
            Found::Missing
        };
        let from = split(&overlay.path).0;
        let (place, file) = split(&base.entry.path);
        let recorded = match found {
            Found::Name | Found::Missing => relative(from, &base.entry.path),
            Found::HardLink => relative(from, &self.hard_link(&mut base.entry)?),
            Found::Symlink => relative(from, &self.symlink(&mut base.entry)?),
            Found::Moved => match self.random.below(4) {
                0 => format!("../former/{file}"),
                1 => format!("/var/lib/xen/former/{file}"),
                2 => format!("C:\\former\\{file}"),
                _ => format!("/home/former/vm/{}/{file}", split(place).1),
            },
            Found::Renamed => {
                let name = format!("{place}/former-{}.img", self.random.below(1000));
                relative(from, &name)
            }
        };
        let records_time = match &overlay.what {
            What::Version1(version1) => version1.records_time(),
            _ => false,
        };
        let there = base.is_there.then(|| base.entry.path.clone());
        let recorded_time = records_time.then_some(base.entry.modified);
        let joined = Base { recorded, recorded_time, path: there, found };
        if matches!(found, Found::Moved | Found::Renamed) {
            self.decoys(&base.entry, &joined)?;
        }
        Ok(joined)
    }

    /// Writes an image, and tells what is known of it now.
    fn finish(
        &mut self,
        number: usize,
        member: Member,
        made: &mut Made,
        written: Option<&Written>,
    ) -> io::Result<()> {
        let entry = &mut made.entry;
        entry.family = Some(number);
        entry.depth = member.depth;
        entry.virtual_size = Some(made.content.size);
        if matches!(&entry.what, What::Version1(it) if it.stored == Stored::Encrypted) {
            entry.passphrase = Some(self.random.one_of(&PASSPHRASES).to_owned());
        }
        self.image(entry, &made.content, written)?;
        if made.is_whole {
            entry.digest = Some(self.digests.of(&made.content));
        }
        Ok(())
    }

    /// Writes the file of an entry.
    pub(super) fn image(
        &self,
        entry: &Entry,
        content: &Content,
        written: Option<&Written>,
    ) -> io::Result<()> {
        let base = entry.base.as_ref();
        let name = base.map_or("", |base| &base.recorded);
        let bytes = match &entry.what {
            What::Version1(version1) => {
                let time = match version1.producer {
                    Producer::Aaru => Some(entry.modified),
                    _ => base.and_then(|base| base.recorded_time),
                };
                let header = Header {
                    base: name,
                    time: time.unwrap_or(0),
                    passphrase: entry.passphrase.as_deref(),
                };
                version1.file(content, written, &header)
            }
            What::Qcow2 { version } => qcow2::file(*version, content, written, name),
            What::Raw | What::Other => return self.put_raw(&entry.path, content, entry.modified),
        };
        self.put(&entry.path, &bytes, entry.modified)
    }

    /// Writes a damaged image, a family of its own.
    pub(super) fn damaged(&mut self, number: usize, kind: usize) -> io::Result<()> {
        let kind = Kind::ALL[kind % Kind::ALL.len()];
        let planted = kind.planted(self.random.number());
        let head = &planted.sound[..52];
        let is_encrypted = head[39] == 1;
        let version1 = Version1 {
            producer: match &head[48..] {
                b"XEN\xFB" => Producer::XenLittleEndian,
                _ => Producer::Other,
            },
            stored: if is_encrypted { Stored::Encrypted } else { Stored::Packed },
            cluster_bits: planted.image[32],
            l2_bits: planted.image[33],
        };
        let what = What::Version1(version1);
        let folder = format!("rack-{}/customer-{number:03}", self.random.below(8));
        let (path, modified) = (self.path(number, &folder, &what), self.time());
        let mut entry = Entry::new(path, what, modified);
        entry.family = Some(number);
        entry.passphrase = is_encrypted.then(|| "password".to_owned());
        entry.damage = Some(Damage {
            kind: kind.name.to_owned(),
            rules: kind.rules.iter().map(|rule| (*rule).to_owned()).collect(),
        });
        self.put(&entry.path, &planted.image, modified)?;
        self.files.push(entry);
        Ok(())
    }
}
