//! Reading: from extents to the guest's bytes, with as few and as long reads as they allow.

use super::{Disk, missing_key};
use crate::codec::{Filled, Unpacker};
use crate::error::{Error, Result};
use crate::extent::{Codec, Encoding, Extent, Lost, Payload, Stored};
use crate::finding::Rule;
use crate::limits;
use crate::storage::Storage;
use crate::units::{GuestOffset, GuestRange, HostOffset, SECTOR, in_memory};

/// What to do where the host cannot read.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum HostErrors {
    /// Fail with the host's error.
    #[default]
    Fail,
    /// Take the sectors that cannot be read as lost.
    Lose,
    /// Take all that was read together as lost where any of it cannot be read, and do not look
    /// closer: a medium that fails is slow to say so.
    LoseAtOnce,
}

/// What reading finds out beside the bytes.
pub enum Found<'a> {
    /// Bytes that are lost: known from the tables, or found out only now, because a payload does
    /// not unpack or the host cannot read.
    Lost(Extent),
    /// A whole packed cluster, and the stream of which it was made: one that ends, as its format
    /// wants it, with the cluster's last byte.
    Packed {
        /// The cluster.
        range: GuestRange,
        /// How the stream is packed.
        codec: Codec,
        /// The stream, without anything that follows it in the file.
        stream: &'a [u8],
    },
}

/// Buffers and decoders of one worker, kept from read to read.
#[derive(Default)]
pub struct Scratch {
    unpacker: Unpacker,
    host: Vec<u8>,
    cluster: Vec<u8>,
    requests: Vec<Request>,
}

/// Stored bytes that an extent needs.
#[derive(Clone, Copy)]
struct Request {
    range: GuestRange,
    stored: Stored,
    /// The host bytes to read: for encrypted bytes whole sectors.
    at: HostOffset,
    length: u64,
}

impl Request {
    fn new(range: GuestRange, stored: Stored) -> Self {
        let (mut at, mut length) = (stored.at, stored.length);
        if stored.encoding == Encoding::Encrypted {
            let before = range.start.get() % SECTOR;
            at = HostOffset::new(at.get().saturating_sub(before));
            length = (before + length).next_multiple_of(SECTOR);
        }
        Self { range, stored, at, length }
    }

    fn end(&self) -> u64 {
        self.at.get() + self.length
    }

    /// Whether the host bytes may be read straight to where the guest bytes belong.
    fn is_in_place(&self) -> bool {
        self.stored.encoding.is_same_length() && self.length == self.range.length
    }
}

/// A plain run of this length is read to its place at once; shorter ones are gathered.
const LONG_RUN: u64 = 32 << 10;

pub(super) struct Reading<'a> {
    pub(super) disk: &'a Disk,
    pub(super) start: GuestOffset,
    pub(super) host_errors: HostErrors,
    pub(super) out: &'a mut [u8],
    pub(super) found: &'a mut dyn FnMut(Found),
}

impl Reading<'_> {
    pub(super) fn run(mut self, extents: &[Extent], scratch: &mut Scratch) -> Result<()> {
        let mut requests = std::mem::take(&mut scratch.requests);
        requests.clear();
        for extent in extents {
            match extent.payload {
                Payload::Hole { .. } | Payload::Zero { .. } => self.place(extent.range).fill(0),
                Payload::Backing => return Err(self.base_stayed_closed()),
                Payload::Lost(_) => self.lose(*extent),
                Payload::Stored(stored) => requests.push(Request::new(extent.range, stored)),
            }
        }
        requests.sort_unstable_by_key(|request| (request.stored.layer, request.at));
        let mut rest = &requests[..];
        while !rest.is_empty() {
            let is_far = self.storage(&rest[0].stored).is_far();
            let (group, others) = rest.split_at(group_length(rest, is_far));
            self.read_group(group, scratch)?;
            rest = others;
        }
        scratch.requests = requests;
        Ok(())
    }

    fn place(&mut self, range: GuestRange) -> &mut [u8] {
        let from = in_memory(range.start - self.start);
        &mut self.out[from..][..in_memory(range.length)]
    }

    fn lose(&mut self, extent: Extent) {
        self.place(extent.range).fill(0);
        (self.found)(Found::Lost(extent));
    }

    fn lose_request(&mut self, request: &Request, rule: Rule) {
        let lost = Lost { layer: request.stored.layer, rule, at: request.stored.at };
        self.lose(Extent { range: request.range, payload: Payload::Lost(lost) });
    }

    fn base_stayed_closed(&self) -> Error {
        let layer = self.disk.layers.last().expect("a disk has at least one layer");
        Error::Base {
            overlay: layer.path.clone(),
            why: "these bytes are in its backing file, which was not opened".into(),
        }
    }

    fn storage(&self, stored: &Stored) -> &dyn Storage {
        let image = &self.disk.layers[stored.layer].image;
        match stored.encoding {
            Encoding::Packed { .. } => image.storage(),
            Encoding::Plain | Encoding::Encrypted => image.data_storage(),
        }
    }

    fn read_group(&mut self, group: &[Request], scratch: &mut Scratch) -> Result<()> {
        let first = &group[0];
        if group.len() == 1 && first.is_in_place() {
            return self.read_in_place(first, scratch);
        }
        let end = group.iter().map(Request::end).max().unwrap_or_default();
        let length = in_memory(end - first.at.get());
        if scratch.host.len() < length {
            scratch.host.resize(length, 0);
        }
        let mut host = std::mem::take(&mut scratch.host);
        let read = self.storage(&first.stored).read_at(&mut host[..length], first.at);
        let done = match read {
            Ok(()) => group.iter().try_for_each(|request| {
                let from = in_memory(request.at - first.at);
                self.decode(request, &host[from..][..in_memory(request.length)], scratch)
            }),
            Err(source) if self.host_errors == HostErrors::Fail => {
                Err(self.host_failed(first, source))
            }
            Err(_) if self.host_errors == HostErrors::LoseAtOnce => {
                group.iter().for_each(|request| self.lose_request(request, Rule::Unreadable));
                Ok(())
            }
            Err(_) => self.read_one_by_one(group, &mut host, scratch),
        };
        scratch.host = host;
        done
    }

    fn read_in_place(&mut self, request: &Request, scratch: &mut Scratch) -> Result<()> {
        let from = in_memory(request.range.start - self.start);
        let length = in_memory(request.range.length);
        let image = &self.disk.layers[request.stored.layer].image;
        let read = image.data_storage().read_at(&mut self.out[from..][..length], request.at);
        match read {
            Ok(()) => self.decrypt_in_place(request),
            Err(source) if self.host_errors == HostErrors::Fail => {
                Err(self.host_failed(request, source))
            }
            Err(_) if self.host_errors == HostErrors::LoseAtOnce => {
                self.lose_request(request, Rule::Unreadable);
                Ok(())
            }
            Err(_) => self.read_sector_by_sector(request, scratch),
        }
    }

    fn decrypt_in_place(&mut self, request: &Request) -> Result<()> {
        if request.stored.encoding == Encoding::Encrypted {
            let layer = &self.disk.layers[request.stored.layer];
            let cipher = layer.image.cipher().ok_or_else(|| missing_key(&layer.path))?;
            cipher.decrypt(self.place(request.range), request.range.start);
        }
        Ok(())
    }

    fn host_failed(&self, request: &Request, source: std::io::Error) -> Error {
        Error::io("reading guest data", self.storage(&request.stored), request.at, source)
    }

    /// A merged read failed: what each request needs is read alone, so that only that is lost
    /// which really cannot be read.
    fn read_one_by_one(
        &mut self,
        group: &[Request],
        host: &mut [u8],
        scratch: &mut Scratch,
    ) -> Result<()> {
        for request in group {
            let bytes = &mut host[..in_memory(request.length)];
            if self.storage(&request.stored).read_at(bytes, request.at).is_ok() {
                self.decode(request, bytes, scratch)?;
            } else if request.stored.encoding.is_same_length() {
                self.read_sector_by_sector(request, scratch)?;
            } else {
                self.lose_request(request, Rule::Unreadable);
            }
        }
        Ok(())
    }

    /// Reads each sector of the disk by itself, also those of which only a part is wanted.
    fn read_sector_by_sector(&mut self, request: &Request, scratch: &mut Scratch) -> Result<()> {
        let whole = Extent { range: request.range, payload: Payload::Stored(request.stored) };
        let end = request.range.end();
        let mut start = request.range.start;
        while start < end {
            let next = start + (SECTOR - start.get() % SECTOR);
            let part = GuestRange::between(start, end.min(next));
            if let Payload::Stored(stored) = whole.clipped(part).payload {
                let sector = Request::new(part, stored);
                let mut host = vec![0; in_memory(sector.length)];
                match self.storage(&stored).read_at(&mut host, sector.at) {
                    Ok(()) => self.decode(&sector, &host, scratch)?,
                    Err(_) => self.lose_request(&sector, Rule::Unreadable),
                }
            }
            start = part.end();
        }
        Ok(())
    }

    /// Makes guest bytes of the host bytes of a request. Those stay as they are: another request
    /// may be for the same ones, at another place of the disk and so under another key.
    fn decode(&mut self, request: &Request, host: &[u8], scratch: &mut Scratch) -> Result<()> {
        match request.stored.encoding {
            Encoding::Plain => self.place(request.range).copy_from_slice(host),
            Encoding::Encrypted if request.is_in_place() => {
                self.place(request.range).copy_from_slice(host);
                self.decrypt_in_place(request)?;
            }
            Encoding::Encrypted => {
                let layer = &self.disk.layers[request.stored.layer];
                let cipher = layer.image.cipher().ok_or_else(|| missing_key(&layer.path))?;
                let before = request.range.start.get() % SECTOR;
                scratch.cluster.clear();
                scratch.cluster.extend_from_slice(host);
                let first = GuestOffset::new(request.range.start.get() - before);
                cipher.decrypt(&mut scratch.cluster, first);
                let wanted = &scratch.cluster[in_memory(before)..];
                let wanted = &wanted[..in_memory(request.range.length)];
                self.place(request.range).copy_from_slice(wanted);
            }
            Encoding::Packed { codec, cluster, skip } => {
                let cluster = in_memory(cluster.bytes());
                self.unpack(request, codec, cluster, skip, host, scratch);
            }
        }
        Ok(())
    }

    fn unpack(
        &mut self,
        request: &Request,
        codec: Codec,
        cluster: usize,
        skip: u32,
        packed: &[u8],
        scratch: &mut Scratch,
    ) {
        let length = in_memory(request.range.length);
        let filled = if skip == 0 && length == cluster {
            let Scratch { unpacker, .. } = scratch;
            unpacker.fill(codec, packed, self.place(request.range))
        } else {
            scratch.cluster.resize(cluster, 0);
            let filled = scratch.unpacker.fill(codec, packed, &mut scratch.cluster);
            let wanted = &scratch.cluster[in_memory(u64::from(skip))..][..length];
            self.place(request.range).copy_from_slice(wanted);
            filled
        };
        match filled {
            None => self.lose_request(request, Rule::PackedBroken),
            Some(Filled::Exactly { length: stream }) if length == cluster => {
                let stream = &packed[..stream];
                (self.found)(Found::Packed { range: request.range, codec, stream });
            }
            Some(_) => {}
        }
    }
}

/// How many of the sorted requests one read serves: neighbours in one file, close enough that
/// passing over what lies between is cheaper than asking again.
fn group_length(requests: &[Request], is_far: bool) -> usize {
    let first = &requests[0];
    let mut end = first.end();
    let (gap, most) = match is_far {
        true => (limits::FAR_GAP, limits::FAR_READ),
        false => (limits::MERGE_GAP, limits::MERGED_READ),
    };
    // Nothing is copied twice where asking costs next to nothing.
    let is_alone =
        |request: &Request| !is_far && request.is_in_place() && request.length >= LONG_RUN;
    let joins = |request: &Request, end: u64| {
        request.stored.layer == first.stored.layer
            && request.stored.encoding.is_same_length() == first.stored.encoding.is_same_length()
            && request.at.get() <= end.saturating_add(gap)
            && request.end() - first.at.get() <= most
            && !is_alone(request)
    };
    if is_alone(first) {
        return 1;
    }
    let mut count = 1;
    while let Some(request) = requests.get(count) {
        if !joins(request, end) {
            break;
        }
        end = end.max(request.end());
        count += 1;
    }
    count
}
