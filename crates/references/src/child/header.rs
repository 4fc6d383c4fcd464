//! The first cluster of a qcow2 image: where it says what the image lies on, and what it is when
//! it says something else. Whatever else stands there stays, to the byte.

use std::ops::Range;

use calve_disk::limits::MAX_BACKING_NAME;

use super::Backing;

/// Why a header is not changed, and what to do instead.
#[derive(Debug)]
pub(super) struct Objection {
    pub(super) why: String,
    pub(super) next: &'static str,
}

type Outcome<T> = Result<T, Objection>;

fn objection<T>(why: impl Into<String>, next: &'static str) -> Outcome<T> {
    Err(Objection { why: why.into(), next })
}

fn damaged<T>(why: &str) -> Outcome<T> {
    objection(why, "look at it with `qemu-img check`")
}

/// Where the extensions of version 2 begin.
const V2_LENGTH: usize = 72;
/// The shortest header of version 3.
const V3_LENGTH: usize = 104;
/// Bytes in front of an extension's data: its kind and its length.
const EXTENSION: usize = 8;

const END: u32 = 0;
const BACKING_FORMAT: u32 = 0xE279_2ACA;
const BITMAPS: u32 = 0x2385_2875;
const LUKS: u32 = 0x0537_BE77;

/// Incompatible features that are known: all bits below.
const KNOWN_INCOMPATIBLE: u64 = 0b1_1111;
const DIRTY: u64 = 1 << 0;
const CORRUPT: u64 = 1 << 1;
/// Bitmaps, and a raw external data file.
const KNOWN_AUTOCLEAR: u64 = 0b11;
const RAW_DATA_FILE: u64 = 1 << 1;

/// A header, and where its parts are in the first cluster.
pub(super) struct Header<'c> {
    cluster: &'c [u8],
    /// All extensions, from the first one to the last one or to the mark of their end.
    extensions: Vec<Extension>,
    /// Where extensions begin.
    start: usize,
    /// Where the mark of their end is, if there is one.
    end_mark: Option<usize>,
    /// The name of the base.
    name: Range<usize>,
}

struct Extension {
    kind: u32,
    /// With its kind, its length and what fills it up.
    whole: Range<usize>,
    value: Range<usize>,
}

/// How long the first cluster is, by the first 24 bytes of the file; `None` where it is no image
/// of qcow2.
pub(super) fn cluster_length(start: &[u8]) -> Option<usize> {
    let is_ours = start.get(..4)? == b"QFI\xFB" && matches!(u32_at(start, 4)?, 2 | 3);
    let bits = u32_at(start, 20)?;
    (is_ours && (9..=21).contains(&bits)).then(|| 1 << bits)
}

impl<'c> Header<'c> {
    /// Takes a first cluster apart.
    pub(super) fn parse(cluster: &'c [u8]) -> Outcome<Self> {
        let Some((version, length)) = version_and_length(cluster) else {
            return damaged("has a header of no possible length");
        };
        if version > 2 {
            require_features(cluster)?;
        }
        let Some(name) = name_of(cluster) else {
            return damaged("has the name of its base outside its first cluster");
        };
        if name.start == 0 {
            return objection("lies on no base", "look at which images lie on which");
        }
        if name.is_empty() || name.len() as u64 > MAX_BACKING_NAME || name.start < length {
            return damaged("has a name of its base that cannot be one");
        }
        let mut header =
            Self { cluster, extensions: Vec::new(), start: length, end_mark: None, name };
        header.find_extensions()?;
        header.require_nothing_else()?;
        Ok(header)
    }

    fn find_extensions(&mut self) -> Outcome<()> {
        let mut at = self.start;
        while let Some((kind, length)) = extension_at(&self.cluster[..self.name.start], at) {
            if kind == END {
                self.end_mark = Some(at);
                break;
            }
            let start = at + EXTENSION;
            let padded = usize::try_from(length).ok().map(|length| length.next_multiple_of(8));
            let end = padded.and_then(|padded| start.checked_add(padded));
            let Some(end) = end.filter(|end| *end <= self.name.start) else {
                return damaged("has an extension that reaches into the name of its base");
            };
            // It fits, so that it is short.
            let value = start..start + usize::try_from(length).unwrap_or_default();
            self.extensions.push(Extension { kind, whole: at..end, value });
            at = end;
        }
        match self.extensions.iter().filter(|one| one.kind == BACKING_FORMAT).count() {
            0 | 1 => Ok(()),
            _ => damaged("records the format of its base twice"),
        }
    }

    /// Refuses where something other than the header would be in the first cluster.
    fn require_nothing_else(&self) -> Outcome<()> {
        let bytes = self.cluster;
        let place = |at, count_at| match u32_at(bytes, count_at) {
            Some(0) | None => None,
            Some(_) => u64_at(bytes, at),
        };
        let mut places = vec![place(40, 36), place(48, 56), place(64, 60)];
        for extension in &self.extensions {
            places.push(match extension.kind {
                LUKS => u64_at(&bytes[extension.value.clone()], 0),
                BITMAPS => u64_at(&bytes[extension.value.clone()], 16),
                _ => None,
            });
        }
        match places.into_iter().flatten().all(|place| place >= bytes.len() as u64) {
            true => Ok(()),
            false => damaged("has tables or keys in its first cluster, where only its header is"),
        }
    }

    /// What it says of the base.
    pub(super) fn backing(&self) -> Backing {
        let mut extensions = self.extensions.iter();
        let format = extensions.find(|extension| extension.kind == BACKING_FORMAT);
        Backing {
            name: self.cluster[self.name.clone()].to_vec(),
            format: format.map(|format| self.cluster[format.value.clone()].to_vec()),
        }
    }

    /// The first cluster when it says that of the base.
    pub(super) fn saying(&self, name: &[u8], format: &[u8]) -> Outcome<Vec<u8>> {
        let has_format = self.extensions.iter().any(|one| one.kind == BACKING_FORMAT);
        let mut extensions = if has_format { Vec::new() } else { format_extension(format) };
        for extension in &self.extensions {
            match extension.kind {
                BACKING_FORMAT => extensions.extend(format_extension(format)),
                _ => extensions.extend_from_slice(&self.cluster[extension.whole.clone()]),
            }
        }
        let old_length: usize = self.extensions.iter().map(|one| one.whole.len()).sum();
        match self.end_mark {
            Some(at) => extensions.extend_from_slice(&self.cluster[at..at + EXTENSION]),
            // The name ends them too, where it comes at once.
            None if extensions.len() == old_length => {}
            None => extensions.extend([0; EXTENSION]),
        }
        let behind = self.start + extensions.len();
        let place = self.place_of_name(name, behind)?;
        let mut new = self.cluster.to_vec();
        new[self.start..self.end()].fill(0);
        new[self.name.clone()].fill(0);
        new[self.start..behind].copy_from_slice(&extensions);
        new[place..place + name.len()].copy_from_slice(name);
        new[8..16].copy_from_slice(&(place as u64).to_be_bytes());
        // At most 1023, as the name is not longer.
        let length = u32::try_from(name.len()).unwrap_or_default();
        new[16..20].copy_from_slice(&length.to_be_bytes());
        self.require_room(&new)?;
        Ok(new)
    }

    /// Where the extensions and the mark of their end are over.
    fn end(&self) -> usize {
        let last = self.extensions.last().map_or(self.start, |last| last.whole.end);
        self.end_mark.map_or(last, |at| at + EXTENSION)
    }

    /// Where a name can be: where the old one is, or right behind the extensions.
    fn place_of_name(&self, name: &[u8], behind: usize) -> Outcome<usize> {
        if name.is_empty() || name.len() as u64 > MAX_BACKING_NAME || name.contains(&0) {
            let why = format!("cannot have a base whose name has {} bytes", name.len());
            return objection(why, "choose a shorter name");
        }
        let room = self.cluster.len().saturating_sub(name.len());
        let old = Some(self.name.start).filter(|old| *old >= behind && *old <= room);
        match old.or(Some(behind).filter(|behind| *behind <= room)) {
            Some(place) => Ok(place),
            None => {
                let why = "has no room in its first cluster for the name and format of its base";
                objection(why, "choose a shorter name, or convert it to larger clusters")
            }
        }
    }

    /// Refuses where something would be lost that stands behind what the header is known to be: an
    /// image that was upgraded where it lies keeps its old tables there.
    fn require_room(&self, new: &[u8]) -> Outcome<()> {
        let is_known = |at: usize| at < self.end() || self.name.contains(&at);
        let mut bytes = self.cluster.iter().zip(new).enumerate();
        match bytes.any(|(at, (old, new))| old != new && *old != 0 && !is_known(at)) {
            false => Ok(()),
            true => objection(
                "has something in its first cluster behind its header, where there should be room",
                "choose a name that is no longer than the old one, or convert it",
            ),
        }
    }
}

/// Which version it is, and where its extensions begin.
fn version_and_length(cluster: &[u8]) -> Option<(u32, usize)> {
    let version = u32_at(cluster, 4)?;
    let length = match version {
        2 => V2_LENGTH,
        _ => usize::try_from(u32_at(cluster, 100)?).ok()?,
    };
    let is_possible = version == 2 || length >= V3_LENGTH && length.is_multiple_of(8);
    (is_possible && length <= cluster.len()).then_some((version, length))
}

fn require_features(cluster: &[u8]) -> Outcome<()> {
    let (incompatible, autoclear) = (u64_at(cluster, 72), u64_at(cluster, 88));
    let (incompatible, autoclear) = (incompatible.unwrap_or(0), autoclear.unwrap_or(0));
    if incompatible & !KNOWN_INCOMPATIBLE != 0 || autoclear & !KNOWN_AUTOCLEAR != 0 {
        let why = "has features that are not known, which may forbid that its header is changed";
        return objection(why, "change its base with `qemu-img rebase -u`");
    }
    if incompatible & (DIRTY | CORRUPT) != 0 {
        let why = "was not closed, or is marked as corrupt";
        return objection(why, "mend it with `qemu-img check -r all` first");
    }
    if autoclear & RAW_DATA_FILE != 0 {
        let why = "has a raw external data file, which is no disk over a base";
        return objection(why, "look at it with `qemu-img info`");
    }
    Ok(())
}

fn name_of(cluster: &[u8]) -> Option<Range<usize>> {
    let start = usize::try_from(u64_at(cluster, 8)?).ok()?;
    let end = start.checked_add(usize::try_from(u32_at(cluster, 16)?).ok()?)?;
    (end <= cluster.len()).then_some(start..end)
}

fn format_extension(format: &[u8]) -> Vec<u8> {
    // Names of formats are short.
    let length = u32::try_from(format.len()).unwrap_or_default();
    let mut bytes = [&BACKING_FORMAT.to_be_bytes()[..], &length.to_be_bytes(), format].concat();
    bytes.resize(bytes.len().next_multiple_of(8), 0);
    bytes
}

fn extension_at(bytes: &[u8], at: usize) -> Option<(u32, u32)> {
    Some((u32_at(bytes, at)?, u32_at(bytes, at + 4)?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|bytes| u32::from_be_bytes(*bytes))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    bytes.get(at..)?.first_chunk().map(|bytes| u64::from_be_bytes(*bytes))
}
