//! A part of what is sent: read twice, first for its digests and then to be sent.

use std::io::{self, Read};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use calve_disk::Storage;
use calve_disk::units::{HostOffset, in_memory};
use md5::{Digest, Md5};
use sha2::Sha256;

use crate::error::{Error, Result};
use crate::signing::hex;

/// Bytes that are read at once.
const PORTION: u64 = 128 << 10;

/// A range of some storage that is to be sent.
pub(crate) struct Part<'a> {
    storage: &'a dyn Storage,
    at: u64,
    pub(crate) length: u64,
    pub(crate) sha256: String,
    md5: [u8; 16],
}

impl<'a> Part<'a> {
    /// The `length` bytes from `at`, of which the digests are taken now.
    pub(crate) fn of(storage: &'a dyn Storage, at: u64, length: u64) -> Result<Self> {
        let mut part = Self { storage, at, length, sha256: String::new(), md5: [0; 16] };
        let (mut sha256, mut md5) = (Sha256::new(), Md5::new());
        let mut reader = part.reader();
        let mut bytes = vec![0; in_memory(PORTION)];
        loop {
            let read = reader.read(&mut bytes).map_err(|error| match Error::behind(&error) {
                Some(error) => error.clone(),
                None => Error::host(storage.path(), "reading what is to be sent", &error),
            })?;
            if read == 0 {
                break;
            }
            sha256.update(&bytes[..read]);
            md5.update(&bytes[..read]);
        }
        part.sha256 = hex(&sha256.finalize());
        part.md5 = md5.finalize().into();
        Ok(part)
    }

    /// The bytes from the beginning.
    pub(crate) fn reader(&self) -> PartReader<'a> {
        PartReader { storage: self.storage, at: self.at, end: self.at + self.length }
    }

    /// The MD5 as a header has it.
    pub(crate) fn content_md5(&self) -> String {
        BASE64_STANDARD.encode(self.md5)
    }

    /// The MD5 as tags have it.
    pub(crate) fn md5_in_hex(&self) -> String {
        hex(&self.md5)
    }
}

/// The bytes of a part, one after the other.
pub(crate) struct PartReader<'a> {
    storage: &'a dyn Storage,
    at: u64,
    end: u64,
}

impl Read for PartReader<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let now = in_memory((self.end - self.at).min(PORTION)).min(out.len());
        if now > 0 {
            self.storage.read_at(&mut out[..now], HostOffset::new(self.at))?;
            self.at += now as u64;
        }
        Ok(now)
    }
}
