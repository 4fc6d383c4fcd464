//! QCOW version 2 and 3. `docs/qcow2-read.md` (V numbers) and `docs/qcow2-written.md` are the
//! documents behind this folder.

mod adopted;
mod entry;
mod header;
mod map;
mod references;
mod survey;
mod target;

pub use adopted::{AdoptedImage, TablePlaces};
pub use references::Reference;
pub use target::{Qcow2Target, Qcow2TargetOptions, RecordedBacking};

use std::path::Path;

use crate::codec::aes::{Passphrase, SectorCipher};
use crate::error::{Error, Result};
use crate::extent::{Codec, ExtentList};
use crate::finding::Finding;
use crate::formats::Format;
use crate::image::{BackingReference, Facts, Image, Specific, Survey};
use crate::pages::Pages;
use crate::storage::Storage;
use crate::units::{GuestRange, HostOffset, in_memory};
use header::{HEADER_LENGTH, Header, Objection};

/// What a qcow2 image has to tell beyond [`crate::Facts`].
#[derive(Clone, Debug)]
pub struct Qcow2Facts {
    /// 2 or 3.
    pub version: u32,
    /// How clusters are packed, where they are.
    pub codec: Codec,
    /// Whether entries speak of subclusters.
    pub has_extended_l2: bool,
    /// Whether reference counts may be put off.
    pub has_lazy_refcounts: bool,
    /// Whether it was marked corrupt.
    pub is_corrupt: bool,
    /// Whether it was not closed properly.
    pub is_dirty: bool,
    /// Bits of a reference count.
    pub refcount_bits: u32,
    /// How many internal snapshots it has. They are not part of the disk that is read.
    pub snapshots: u32,
    /// The name of its external data file as it stands in the image, if it has one.
    pub data_file: Option<Vec<u8>>,
    /// Whether that file is a raw disk of its own.
    pub is_data_file_raw: bool,
}

/// A version 2 or 3 image.
pub struct Qcow2Image {
    header: Header,
    pages: Pages,
    data_file: Option<Box<dyn Storage>>,
    /// The length in bytes of the file in which plain clusters are.
    data_size: u64,
    cipher: Option<SectorCipher>,
    facts: Facts,
}

impl Qcow2Image {
    /// Opens a qcow2 image. `data_file` is the external data file, where it has one;
    /// `passphrase` is used where the image has the encryption that version 1 had, and whether it
    /// is the right one, that cannot tell.
    ///
    /// # Errors
    /// [`Error::Broken`] where a number of the header is impossible; [`Error::Unsupported`] for
    /// other encryption and for every incompatible feature that is not known, by name; and
    /// [`Error::Refused`] where the image has an external data file that was not given: its name
    /// comes out of the image, and is not followed.
    pub fn open(
        storage: Box<dyn Storage>,
        data_file: Option<Box<dyn Storage>>,
        passphrase: Option<&Passphrase>,
    ) -> Result<Self> {
        let path = storage.path().to_owned();
        let file_size = size_of(&*storage)?;
        let mut start = vec![0; in_memory(file_size.min(HEADER_LENGTH.into()))];
        read(&*storage, &mut start)?;
        let cluster = header::first_cluster(&start);
        start.resize(in_memory(file_size.min(cluster.max(HEADER_LENGTH.into()))), 0);
        read(&*storage, &mut start)?;
        let header = header::parse(&start).map_err(|objection| error(&path, objection))?;
        check_data_file(&path, &header, data_file.as_deref())?;
        let data_size = data_file.as_deref().map_or(Ok(file_size), size_of)?;
        let facts = facts(&header, file_size);
        let cipher = passphrase.filter(|_| header.is_encrypted).map(SectorCipher::new);
        let pages = Pages::new(storage, file_size);
        Ok(Self { header, pages, data_file, data_size, cipher, facts })
    }
}

impl Image for Qcow2Image {
    fn facts(&self) -> &Facts {
        &self.facts
    }

    fn storage(&self) -> &dyn Storage {
        &*self.pages.storage
    }

    fn data_storage(&self) -> &dyn Storage {
        self.data_file.as_deref().unwrap_or(&*self.pages.storage)
    }

    fn map(&self, within: GuestRange, found: &mut ExtentList) -> Result<()> {
        map::Walk::new(self, within, found).run()
    }

    fn cipher(&self) -> Option<&SectorCipher> {
        self.cipher.as_ref()
    }

    fn limit_tables(&self, bytes: usize) {
        self.pages.limit(bytes);
    }

    fn survey(&self, report: &mut dyn FnMut(Finding)) -> Result<Survey> {
        survey::run(self, report)
    }
}

fn size_of(storage: &(dyn Storage + 'static)) -> Result<u64> {
    storage
        .size()
        .map_err(|source| Error::host("asking for the file's size", storage.path(), source))
}

fn read(storage: &dyn Storage, start: &mut [u8]) -> Result<()> {
    let at = HostOffset::new(0);
    storage
        .read_at(start, at)
        .map_err(|source| Error::io("reading the header", storage, at, source))
}

fn error(path: &Path, objection: Objection) -> Error {
    let path = path.to_owned();
    match objection {
        Objection::NotQcow2(resembles) => {
            Error::NotThisFormat { path, expected: "a qcow2 image", resembles }
        }
        Objection::Broken(finding) => Error::Broken { path, finding },
        Objection::Unsupported(what) => Error::Unsupported { path, what },
    }
}

fn check_data_file(path: &Path, header: &Header, given: Option<&dyn Storage>) -> Result<()> {
    let why = match (header.has_data_file, given) {
        (true, None) => {
            let name = header.data_file.as_deref().map(crate::open::escaped);
            let name = name.unwrap_or_else(|| "whose name is not recorded".into());
            format!("its data is in another file, {name}, which has to be named (--data-file)")
        }
        (false, Some(_)) => "a data file was named, but its data is in the image itself".into(),
        _ => return Ok(()),
    };
    Err(Error::Refused { path: path.to_owned(), why })
}

fn facts(header: &Header, file_size: u64) -> Facts {
    let backing = header.backing_name.clone();
    Facts {
        format: Format::Qcow2,
        virtual_size: header.size,
        file_size,
        cluster_size: Some(header.cluster_size),
        backing: backing
            .map(|name| BackingReference { name, format: header.backing_format.clone() }),
        is_encrypted: header.is_encrypted,
        specific: Specific::Qcow2(Qcow2Facts {
            version: header.version,
            codec: header.codec,
            has_extended_l2: header.has_extended_l2,
            has_lazy_refcounts: header.has_lazy_refcounts,
            is_corrupt: header.is_corrupt,
            is_dirty: header.is_dirty,
            refcount_bits: header.refcount_bits,
            snapshots: header.snapshots,
            data_file: header.data_file.clone(),
            is_data_file_raw: header.is_data_file_raw,
        }),
        findings: header.findings.clone(),
    }
}
