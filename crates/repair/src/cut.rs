//! Whether the file ends inside of something: what is missing of it would read as zeros if the
//! file became longer.

use calve_disk::codec::Unpacker;
use calve_disk::units::{ClusterSize, HostOffset, in_memory};
use calve_disk::{Claim, Codec, Error, Owner, Result, Storage};

/// Looks at the claims of a file.
pub(crate) struct Cut<'a> {
    storage: &'a dyn Storage,
    file_size: u64,
    cluster: Vec<u8>,
    unpacker: Unpacker,
    /// The last payload that was looked at.
    seen: Option<HostOffset>,
    is_found: bool,
}

impl<'a> Cut<'a> {
    pub(crate) fn new(storage: &'a dyn Storage, file_size: u64, cluster: ClusterSize) -> Self {
        let cluster = vec![0; in_memory(cluster.bytes())];
        Self {
            storage,
            file_size,
            cluster,
            unpacker: Unpacker::default(),
            seen: None,
            is_found: false,
        }
    }

    /// Whether one of the claims is cut. Of plain clusters and L2 tables their entries tell.
    pub(crate) fn is_found(&self) -> bool {
        self.is_found
    }

    pub(crate) fn add(&mut self, claim: &Claim) -> Result<()> {
        let runs_over = claim.at.get() < self.file_size && claim.end() > self.file_size;
        self.is_found |= match claim.owner {
            Owner::L1 => claim.end() > self.file_size,
            Owner::Packed if runs_over && !self.is_found => !self.unpacks(claim.at)?,
            _ => false,
        };
        Ok(())
    }

    /// Whether a payload makes a cluster of what the file has of it: then nothing is missing, and
    /// what it claims beyond that is no more than a limit.
    fn unpacks(&mut self, at: HostOffset) -> Result<bool> {
        if self.seen.replace(at) == Some(at) {
            return Ok(true);
        }
        let mut packed = vec![0; in_memory(self.file_size - at.get())];
        self.storage
            .read_at(&mut packed, at)
            .map_err(|source| Error::io("reading a packed cluster", self.storage, at, source))?;
        Ok(self.unpacker.fill(Codec::Deflate, &packed, &mut self.cluster).is_some())
    }
}
