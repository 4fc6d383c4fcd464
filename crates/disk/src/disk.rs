//! Disk: the chain as the guest sees it.

use std::path::{Path, PathBuf};

use crate::codec::Unpacker;
use crate::error::{Error, Result};
use crate::extent::{Codec, Encoding, Extent, ExtentList, Lost, Payload, Stored};
use crate::finding::{Finding, Rule};
use crate::image::Image;
use crate::limits;
use crate::open::{FormatOrigin, Stamp};
use crate::storage::Storage;
use crate::units::{GuestOffset, GuestRange, HostOffset, SECTOR, in_memory};

/// One image of a chain, and how it came to be there.
pub struct Layer {
    /// The file as it was named, or looked up from the overlay's reference.
    pub path: PathBuf,
    /// The image.
    pub image: Box<dyn Image>,
    /// Who decided which format it is read in.
    pub format_origin: FormatOrigin,
    /// What the file looked like when it was opened.
    pub(crate) stamp: Option<Stamp>,
}

impl Layer {
    /// An image that came from no file: its storage is whatever it was opened on.
    pub fn detached(image: Box<dyn Image>) -> Self {
        let path = image.storage().path().to_owned();
        Self { path, image, format_origin: FormatOrigin::Named, stamp: None }
    }
}

/// What the guest sees: a chain of images, top first.
pub struct Disk {
    layers: Vec<Layer>,
}

impl Disk {
    /// The disk that these layers make, the first on top. The last one's backing file, if it
    /// names one, stays closed.
    ///
    /// # Panics
    /// Where there is no layer.
    pub fn of_layers(layers: Vec<Layer>) -> Self {
        assert!(!layers.is_empty(), "a disk has at least one layer");
        Self { layers }
    }

    /// The layers, top first; never empty.
    pub fn layers(&self) -> &[Layer] {
        &self.layers
    }

    /// The top layer's image.
    pub fn top(&self) -> &dyn Image {
        &*self.layers[0].image
    }

    /// The top layer's path.
    pub fn path(&self) -> &Path {
        &self.layers[0].path
    }

    /// The size of the disk in bytes.
    pub fn virtual_size(&self) -> u64 {
        self.top().facts().virtual_size
    }

    /// The whole disk as a range.
    pub fn range(&self) -> GuestRange {
        GuestRange::at(0, self.virtual_size())
    }

    /// The extents of `range`: in order, without gaps, joined. What lies behind the end of the
    /// disk is left out.
    pub fn extents(&self, range: GuestRange) -> Extents<'_> {
        self.extents_from(0, range)
    }

    /// The extents of `range` as they would be if the layers above `first` were taken away.
    pub fn extents_from(&self, first: usize, range: GuestRange) -> Extents<'_> {
        let cursors = self.layers.iter().map(|_| Cursor::default()).collect();
        Extents { disk: self, first, rest: range.clipped(self.range()), cursors, held: None }
    }

    /// Fills `out` with the bytes of `extents`, which follow one another without gaps and come
    /// from this disk.
    ///
    /// Lost bytes are zeros in `out` and are told to `lost`, also those that are found to be lost
    /// only now: a payload that does not unpack and, where `host_errors` says so, bytes that the
    /// host cannot read.
    ///
    /// # Panics
    /// Where `out` is not as long as the extents are.
    pub fn read(
        &self,
        extents: &[Extent],
        host_errors: HostErrors,
        scratch: &mut Scratch,
        out: &mut [u8],
        lost: &mut dyn FnMut(Extent),
    ) -> Result<()> {
        let Some(first) = extents.first() else { return Ok(()) };
        let length: u64 = extents.iter().map(|extent| extent.range.length).sum();
        assert_eq!(length, out.len() as u64, "the buffer is as long as the extents");
        Reading { disk: self, start: first.range.start, host_errors, out, lost }
            .run(extents, scratch)
    }

    /// As [`Disk::read`], where nothing may be lost: the first that is becomes an error.
    ///
    /// # Panics
    /// Where `out` is not as long as the extents are.
    pub fn read_whole(
        &self,
        extents: &[Extent],
        scratch: &mut Scratch,
        out: &mut [u8],
    ) -> Result<()> {
        let mut first_lost = None;
        self.read(extents, HostErrors::Fail, scratch, out, &mut |extent| {
            first_lost.get_or_insert(extent);
        })?;
        match first_lost {
            Some(Extent { range, payload: Payload::Lost(lost) }) => Err(self.broken(lost, range)),
            _ => Ok(()),
        }
    }

    /// Fills all of `out` with the disk's bytes from `at`. For a few bytes here and there;
    /// anything lost is an error.
    ///
    /// # Panics
    /// Where the range reaches behind the end of the disk.
    pub fn read_at(&self, out: &mut [u8], at: GuestOffset) -> Result<()> {
        let range = GuestRange::new(at, out.len() as u64);
        assert!(range.end() <= self.range().end(), "reads end with the disk");
        let extents = self.extents(range).collect::<Result<Vec<_>>>()?;
        self.read_whole(&extents, &mut Scratch::default(), out)
    }

    /// The error that these bytes are lost.
    pub fn broken(&self, lost: Lost, guest: GuestRange) -> Error {
        let finding = Finding::new(lost.rule).at(lost.at).guest(guest);
        Error::broken(&self.layers[lost.layer].path, finding)
    }

    /// Fails where a file of the chain is not what it was when it was opened.
    pub fn unchanged(&self) -> Result<()> {
        self.layers.iter().try_for_each(|layer| match &layer.stamp {
            Some(stamp) => stamp.still_holds(&layer.path, layer.image.storage()),
            None => Ok(()),
        })
    }

    /// Fails where a layer is encrypted and no passphrase was given for it.
    pub fn require_keys(&self) -> Result<()> {
        let missing =
            |layer: &&Layer| layer.image.facts().is_encrypted && layer.image.cipher().is_none();
        match self.layers.iter().find(missing) {
            Some(layer) => Err(missing_key(&layer.path)),
            None => Ok(()),
        }
    }
}

fn missing_key(path: &Path) -> Error {
    Error::Key {
        path: path.to_owned(),
        why: "the image is encrypted and needs a passphrase".into(),
    }
}

/// What to do where the host cannot read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum HostErrors {
    /// Fail with the host's error.
    Fail,
    /// Take the sectors that cannot be read as lost.
    Lose,
}

/// The extents of a range of a disk, in order, without gaps, joined.
pub struct Extents<'a> {
    disk: &'a Disk,
    first: usize,
    rest: GuestRange,
    cursors: Vec<Cursor>,
    held: Option<Extent>,
}

/// What one layer last said, and how far that was used.
#[derive(Default)]
struct Cursor {
    said: ExtentList,
    used: usize,
}

impl Cursor {
    /// What the layer said of `start`, if it said something of it.
    fn find(&mut self, start: GuestOffset) -> Option<Extent> {
        let said = self.said.as_slice();
        while let Some(extent) = said.get(self.used) {
            if start < extent.range.end() {
                return extent.range.contains(start).then_some(*extent);
            }
            self.used += 1;
        }
        None
    }
}

impl Extents<'_> {
    /// The extent at the start of `within` as layer number `layer` alone has it.
    fn look_up(&mut self, layer: usize, within: GuestRange) -> Result<Extent> {
        let cursor = &mut self.cursors[layer];
        if let Some(extent) = cursor.find(within.start) {
            return Ok(extent.clipped(within));
        }
        let image = &self.disk.layers[layer].image;
        // All that is left of the walk is asked for, so that a layer below a fragmented one is
        // not asked anew for each fragment.
        let size = GuestOffset::new(image.facts().virtual_size);
        let asked = GuestRange::between(within.start, self.rest.end().min(size));
        cursor.said.restart(within.start);
        cursor.used = 0;
        image.map(asked, &mut cursor.said)?;
        let answered = cursor.said.next();
        assert!(
            within.start < answered && answered <= asked.end(),
            "an image answers at least the first byte it was asked for and none behind the last"
        );
        let extent = cursor.find(within.start).expect("the answer begins where it was asked to");
        Ok(extent.clipped(within))
    }

    fn resolve(&mut self, mut within: GuestRange) -> Result<Extent> {
        let layers = &self.disk.layers;
        for (number, layer) in layers.iter().enumerate().skip(self.first) {
            let size = GuestRange::at(0, layer.image.facts().virtual_size);
            if within.start >= size.end() {
                // A base that is shorter than its overlay.
                let payload = Payload::Hole { layer: number.saturating_sub(1).max(self.first) };
                return Ok(Extent { range: within, payload });
            }
            let extent = self.look_up(number, within.clipped(size))?;
            if extent.payload != Payload::Backing {
                return Ok(extent.in_layer(number));
            }
            within = extent.range;
            if number + 1 == layers.len() && layer.image.facts().backing.is_none() {
                return Ok(Extent { range: within, payload: Payload::Hole { layer: number } });
            }
        }
        Ok(Extent { range: within, payload: Payload::Backing })
    }

    fn next_unjoined(&mut self) -> Option<Result<Extent>> {
        if self.rest.is_empty() {
            return None;
        }
        let extent = self.resolve(self.rest);
        if let Ok(extent) = &extent {
            self.rest = GuestRange::between(extent.range.end(), self.rest.end());
        } else {
            self.rest.length = 0;
        }
        Some(extent)
    }
}

impl Iterator for Extents<'_> {
    type Item = Result<Extent>;

    fn next(&mut self) -> Option<Result<Extent>> {
        let mut extent = match self.held.take() {
            Some(extent) => extent,
            None => match self.next_unjoined()? {
                Ok(extent) => extent,
                Err(error) => return Some(Err(error)),
            },
        };
        while let Some(next) = self.next_unjoined() {
            let next = match next {
                Ok(next) => next,
                Err(error) => return Some(Err(error)),
            };
            match extent.joined(next) {
                Some(joined) => extent = joined,
                None => {
                    self.held = Some(next);
                    break;
                }
            }
        }
        Some(Ok(extent))
    }
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

struct Reading<'a> {
    disk: &'a Disk,
    start: GuestOffset,
    host_errors: HostErrors,
    out: &'a mut [u8],
    lost: &'a mut dyn FnMut(Extent),
}

impl Reading<'_> {
    fn run(mut self, extents: &[Extent], scratch: &mut Scratch) -> Result<()> {
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
            let (group, others) = rest.split_at(group_length(rest));
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
        (self.lost)(extent);
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
            return self.read_in_place(first);
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
            Err(_) => self.read_one_by_one(group, &mut host, scratch),
        };
        scratch.host = host;
        done
    }

    fn read_in_place(&mut self, request: &Request) -> Result<()> {
        let from = in_memory(request.range.start - self.start);
        let length = in_memory(request.range.length);
        let image = &self.disk.layers[request.stored.layer].image;
        let read = image.data_storage().read_at(&mut self.out[from..][..length], request.at);
        match read {
            Ok(()) => self.decrypt_in_place(request),
            Err(source) if self.host_errors == HostErrors::Fail => {
                Err(self.host_failed(request, source))
            }
            Err(_) => self.read_sector_by_sector(request),
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
            } else if request.is_in_place() {
                self.read_sector_by_sector(request)?;
            } else {
                self.lose_request(request, Rule::Unreadable);
            }
        }
        Ok(())
    }

    fn read_sector_by_sector(&mut self, request: &Request) -> Result<()> {
        let end = request.range.end();
        let mut start = request.range.start;
        while start < end {
            let length = SECTOR.min(end - start);
            let part = GuestRange::new(start, length);
            let whole = Extent { range: request.range, payload: Payload::Stored(request.stored) };
            if let Payload::Stored(stored) = whole.clipped(part).payload {
                let sector = Request::new(part, stored);
                let image = &self.disk.layers[stored.layer].image;
                let from = in_memory(start - self.start);
                let out = &mut self.out[from..][..in_memory(length)];
                match image.data_storage().read_at(out, stored.at) {
                    Ok(()) => self.decrypt_in_place(&sector)?,
                    Err(_) => self.lose_request(&sector, Rule::Unreadable),
                }
            }
            start = start + length;
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
        if !filled {
            self.lose_request(request, Rule::PackedBroken);
        }
    }
}

/// How many of the sorted requests one read serves: neighbours in one file, close enough that
/// passing over what lies between is cheaper than asking again.
fn group_length(requests: &[Request]) -> usize {
    let first = &requests[0];
    let mut end = first.end();
    let joins = |request: &Request, end: u64| {
        request.stored.layer == first.stored.layer
            && request.stored.encoding.is_same_length() == first.stored.encoding.is_same_length()
            && request.at.get() <= end.saturating_add(limits::MERGE_GAP)
            && request.end() - first.at.get() <= limits::MERGED_READ
            && !(request.is_in_place() && request.length >= LONG_RUN)
    };
    if first.is_in_place() && first.length >= LONG_RUN {
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
