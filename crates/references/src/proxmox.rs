//! Virtual machines of Proxmox VE: the lines of their drives, also in snapshots and in what waits
//! for the next start.

mod storages;

use std::ffi::OsStr;
use std::ops::Range;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use calve_disk::Format;
use calve_disk::open::escaped;

use crate::mention::mention;
use crate::splices::Splices;
use crate::{Change, Changes, Rewritten};
pub use storages::Storages;
use storages::{Image, Volume};

/// What the keys of drives begin with, before their number.
const DRIVES: [&[u8]; 7] =
    [b"ide", b"sata", b"scsi", b"virtio", b"efidisk", b"tpmstate", b"unused"];

/// Whether this is such a configuration: by its name, and by a drive that it has.
pub(crate) fn is_machine(path: &Path, bytes: &[u8]) -> bool {
    path.extension() == Some(OsStr::new("conf"))
        && lines(bytes).any(|line| {
            let drive = line.drive(bytes);
            drive.is_some_and(|drive| drive.volume(bytes).is_some_and(|(_, name)| is_named(name)))
        })
}

/// Whether the name is one of a volume or a path.
fn is_named(name: &[u8]) -> bool {
    name.starts_with(b"/") || Volume::parse(name).is_some()
}

/// What the configuration has to be.
pub(crate) fn rewrite(bytes: &[u8], changes: &Changes, storages: &Storages) -> Rewritten {
    let mut out = Splices::new(bytes);
    for line in lines(bytes) {
        if let Some(drive) = line.drive(bytes) {
            drive.settle(bytes, changes, storages, &mut out);
        } else if &bytes[line.key.clone()] == b"args" {
            let text = String::from_utf8_lossy(&bytes[line.value.clone()]);
            if let Some(what) = mention(&text, changes) {
                out.note(line.key.start, format!("has arguments for QEMU about {what}, and stays"));
            }
        }
    }
    out.finish()
}

/// A key and its value.
struct Line {
    key: Range<usize>,
    value: Range<usize>,
}

/// All lines that have a key; those of comments and sections have none.
fn lines(bytes: &[u8]) -> impl Iterator<Item = Line> {
    let mut next = 0;
    bytes.split_inclusive(|byte| *byte == b'\n').filter_map(move |line| {
        let start = next;
        next += line.len();
        let colon = line.iter().position(|byte| *byte == b':')?;
        let is_key =
            |byte: &u8| byte.is_ascii_lowercase() || *byte == b'_' || byte.is_ascii_digit();
        if colon == 0 || !line[..colon].iter().all(is_key) {
            return None;
        }
        let value = &line[colon + 1..];
        let blanks = value.len() - value.trim_ascii_start().len();
        let from = start + colon + 1 + blanks;
        Some(Line { key: start..start + colon, value: from..from + value.trim_ascii().len() })
    })
}

impl Line {
    /// The drive, where it is the line of one.
    fn drive(&self, bytes: &[u8]) -> Option<Drive> {
        let key = &bytes[self.key.clone()];
        let digits = key.iter().rev().take_while(|byte| byte.is_ascii_digit()).count();
        let is_drive = digits > 0 && DRIVES.contains(&&key[..key.len() - digits]);
        is_drive.then(|| Drive { value: self.value.clone() })
    }
}

/// The value of a drive: what it is on, and options, with commas between.
struct Drive {
    value: Range<usize>,
}

impl Drive {
    /// The parts, as a key, which the first may lack, and the place of a value.
    fn parts<'b>(&self, bytes: &'b [u8]) -> impl Iterator<Item = (&'b [u8], Range<usize>)> {
        let mut next = self.value.start;
        bytes[self.value.clone()].split(|byte| *byte == b',').map(move |part| {
            let start = next;
            next += part.len() + 1;
            match part.iter().position(|byte| *byte == b'=') {
                Some(at) => (&part[..at], start + at + 1..start + part.len()),
                None => (&b"file"[..], start..start + part.len()),
            }
        })
    }

    fn volume<'b>(&self, bytes: &'b [u8]) -> Option<(Range<usize>, &'b [u8])> {
        let mut parts = self.parts(bytes);
        let (_, place) = parts.find(|(key, _)| matches!(*key, b"file" | b"volume"))?;
        Some((place.clone(), &bytes[place]))
    }

    fn settle(&self, bytes: &[u8], changes: &Changes, storages: &Storages, out: &mut Splices) {
        let Some((place, name)) = self.volume(bytes) else { return };
        let (path, volume) = match Volume::parse(name) {
            None => (PathBuf::from(OsStr::from_bytes(name)), None),
            Some(volume) => match storages.path(&volume.storage, &volume.image) {
                Some(path) => (path, Some(volume)),
                None => return note_unknown(&volume, place.start, changes, out),
            },
        };
        let change = changes.of(&path);
        if let Some(change) = change {
            self.settle_format(bytes, change, volume.is_some(), out);
        }
        let new = match &volume {
            None => Ok(change.map(|change| change.new.clone().into_os_string())),
            Some(volume) => storages.moved(volume, changes).map(|new| new.map(Into::into)),
        };
        let new = match new {
            Ok(Some(new)) => new,
            Ok(None) => return,
            Err(why) => return out.note(place.start, why),
        };
        if change.is_some_and(|change| !change.moves()) && volume.is_none() || new == *name_of(name)
        {
            return;
        }
        match new.to_str().filter(|new| is_writable(new)) {
            Some(new) => {
                let image = change.map_or(&path, |change| &change.old);
                out.replace(place, new.into(), ("volume", image), escaped(name), new);
            }
            None => out.note(place.start, "stays, since a comma or the like is in the new name"),
        }
    }

    fn settle_format(&self, bytes: &[u8], change: &Change, is_volume: bool, out: &mut Splices) {
        let new = change.format.name();
        let mut formats = self.parts(bytes).filter(|(key, _)| *key == b"format").peekable();
        if formats.peek().is_none() && !is_volume {
            let why = format!("names no format: Proxmox takes it for raw, and it becomes {new}");
            out.note(self.value.start, why);
        }
        for (_, place) in formats {
            match &bytes[place.clone()] {
                old if old == Format::Qcow1.name().as_bytes() => {
                    let what = ("format", &*change.old);
                    out.replace(place, new.into(), what, Format::Qcow1.name(), new);
                }
                old if old == new.as_bytes() => {}
                other => {
                    let why = "not qcow: it stays, and is";
                    let why = format!("has format {}, {why} {new} now", escaped(other));
                    out.note(place.start, why);
                }
            }
        }
        if is_volume && change.new.extension() != Some(OsStr::new(new)) {
            let why = format!(
                "is a volume, of which Proxmox takes the format from the end of its name; that \
                 should be .{new}"
            );
            out.note(self.value.start, why);
        }
    }
}

fn name_of(name: &[u8]) -> &OsStr {
    OsStr::from_bytes(name)
}

/// Whether a value may stand between commas.
fn is_writable(name: &str) -> bool {
    let is_odd = |character: char| matches!(character, ',' | '=') || character.is_control();
    !name.contains(is_odd) && name.trim() == name
}

/// A volume of a storage that is not known may be an image that changes, if it is called so.
fn note_unknown(volume: &Volume, at: usize, changes: &Changes, out: &mut Splices) {
    let names = [Some(&volume.image), volume.base.as_ref()];
    let is_called = |image: &Image| {
        let name = Some(OsStr::from_bytes(&image.name));
        changes.iter().any(|change| change.old.file_name() == name)
    };
    if names.into_iter().flatten().any(is_called) {
        let storage = escaped(&volume.storage);
        let why = format!("is on storage {storage}, of which no folder is known, and stays");
        out.note(at, why);
    }
}
