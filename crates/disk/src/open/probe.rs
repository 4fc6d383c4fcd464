//! Which format a file is in, by its magic and version and never by its name.

use crate::error::{Error, Result};
use crate::formats::Format;
use crate::storage::Storage;
use crate::units::{HostOffset, in_memory};

/// What other tools' files begin with. Taking one of them for a raw disk would copy the
/// container instead of what it contains.
const OTHERS: &[(u64, &[u8], &str)] = &[
    (0, b"KDMV", "a VMware disk (VMDK)"),
    (0, b"COWD", "a VMware ESX disk (VMDK)"),
    (0, b"# Disk DescriptorFile", "a VMware disk descriptor (VMDK)"),
    (64, b"\x7F\x10\xDA\xBE", "a VirtualBox disk (VDI)"),
    (0, b"vhdxfile", "a Hyper-V disk (VHDX)"),
    (0, b"conectix", "a Virtual PC disk (VHD)"),
    (0, b"cxsparse", "a Virtual PC disk (VHD)"),
    (0, b"QED\0", "a QED image"),
    (0, b"WithoutFreeSpace", "a Parallels disk"),
    (0, b"WithouFreSpacExt", "a Parallels disk"),
    (0, b"Bochs Virtual HD Image", "a Bochs disk"),
    (0, b"OOOM", "a User-mode Linux COW file"),
    (0, b"EVF\x09\x0D\x0A\xFF\0", "an Expert Witness file (E01)"),
    (0, b"\x1F\x8B", "a gzip file: unpack it first"),
    (0, b"BZh", "a bzip2 file: unpack it first"),
    (0, b"\xFD7zXZ\0", "an xz file: unpack it first"),
    (0, b"\x28\xB5\x2F\xFD", "a Zstandard file: unpack it first"),
    (0, b"PK\x03\x04", "a zip file: unpack it first"),
    (0, b"7z\xBC\xAF\x27\x1C", "a 7-Zip file: unpack it first"),
];

const QCOW_MAGIC: &[u8] = b"QFI\xFB";
const LOOKED_AT: u64 = 512;

/// What a file's first bytes resemble.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Likeness {
    /// QCOW of this version, which may not exist.
    Qcow(u32),
    /// QCOW that ends inside its magic and version.
    QcowCut,
    /// Another format, with its article: "a VMware disk (VMDK)". Archives are among them.
    Other(&'static str),
    /// Nothing that is known, as a raw disk may begin.
    Nothing,
}

/// What a file resembles that begins with `start`, of which the first 512 bytes are looked at.
pub fn likeness(start: &[u8]) -> Likeness {
    if let Some(rest) = start.strip_prefix(QCOW_MAGIC) {
        return match rest.first_chunk() {
            Some(version) => Likeness::Qcow(u32::from_be_bytes(*version)),
            None => Likeness::QcowCut,
        };
    }
    let is_there = |(at, magic, _): &&(u64, &[u8], &str)| {
        start.get(in_memory(*at)..).is_some_and(|rest| rest.starts_with(magic))
    };
    match OTHERS.iter().find(is_there) {
        Some((_, _, name)) => Likeness::Other(name),
        None => Likeness::Nothing,
    }
}

/// The format of what is stored here. Whatever resembles nothing is raw.
pub(super) fn format_of(storage: &dyn Storage) -> Result<Format> {
    let size = storage
        .size()
        .map_err(|source| Error::host("asking for the file's size", storage.path(), source))?;
    let mut start = vec![0; in_memory(size.min(LOOKED_AT))];
    storage.read_at(&mut start, HostOffset::new(0)).map_err(|source| {
        Error::io("reading the first bytes", storage, HostOffset::new(0), source)
    })?;
    let looks_like = |resembles: String| {
        Err(Error::NotThisFormat {
            path: storage.path().to_owned(),
            expected: "a QCOW version 1, qcow2 or raw image",
            resembles: format!("it is {resembles}; where it is a raw disk after all, say -f raw"),
        })
    };
    match likeness(&start) {
        Likeness::Qcow(1) => Ok(Format::Qcow1),
        Likeness::Qcow(2 | 3) => Ok(Format::Qcow2),
        Likeness::Qcow(other) => {
            looks_like(format!("marked as QCOW version {other}, which does not exist"))
        }
        Likeness::QcowCut => {
            looks_like("a QCOW image that ends inside its magic and version".into())
        }
        Likeness::Other(name) => looks_like(name.to_owned()),
        Likeness::Nothing => Ok(Format::Raw),
    }
}
