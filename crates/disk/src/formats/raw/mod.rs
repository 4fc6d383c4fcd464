//! Raw: guest bytes and nothing else. Holes of the file are zeros.

mod target;

pub use target::RawTarget;

use crate::error::{Error, Result};
use crate::extent::{Encoding, ExtentList, Payload, Stored};
use crate::finding::Finding;
use crate::formats::Format;
use crate::image::{Facts, Image, Specific, Survey};
use crate::storage::Storage;
use crate::units::{GuestRange, HostOffset};

/// A raw image.
pub struct RawImage {
    storage: Box<dyn Storage>,
    facts: Facts,
}

impl RawImage {
    /// Takes every storage there is: raw has no rule that could be broken.
    pub fn open(storage: Box<dyn Storage>) -> Result<Self> {
        let size = storage
            .size()
            .map_err(|source| Error::host("asking for the file's size", storage.path(), source))?;
        let facts = Facts {
            format: Format::Raw,
            virtual_size: size,
            file_size: size,
            cluster_size: None,
            backing: None,
            is_encrypted: false,
            specific: Specific::Raw,
            findings: Vec::new(),
        };
        Ok(Self { storage, facts })
    }
}

impl Image for RawImage {
    fn facts(&self) -> &Facts {
        &self.facts
    }

    fn storage(&self) -> &dyn Storage {
        &*self.storage
    }

    fn map(&self, within: GuestRange, found: &mut ExtentList) -> Result<()> {
        let at = HostOffset::new(within.start.get());
        let region = self.storage.region(at).map_err(|source| {
            Error::io("looking for data and holes", &*self.storage, at, source)
        })?;
        // A region of no length means that the file became shorter: what was promised is then
        // asked for by reading, which fails.
        let length = if region.length == 0 { within.length } else { region.length };
        let length = length.min(within.length);
        let payload = if region.is_hole {
            Payload::Zero { layer: 0, at: Some(at) }
        } else {
            Payload::Stored(Stored { layer: 0, at, length, encoding: Encoding::Plain })
        };
        found.push(length, payload);
        Ok(())
    }

    fn survey(&self, _report: &mut dyn FnMut(Finding)) -> Result<Survey> {
        Ok(Survey::default())
    }
}
