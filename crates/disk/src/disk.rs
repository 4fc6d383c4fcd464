//! Disk: the chain as the guest sees it.

mod reading;

use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::extent::{Extent, ExtentList, Lost, Payload};
use crate::finding::Finding;
use crate::image::{Facts, Image};
use crate::limits;
use crate::open::{Elsewhere, FormatOrigin, Stamp, has_lost_name};
use crate::units::{GuestOffset, GuestRange};
use reading::Reading;
pub use reading::{Found, HostErrors, Scratch};

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
    /// When the file was last written, in seconds since 1970, if it is a file.
    pub fn modified(&self) -> Option<i64> {
        self.stamp.as_ref().map(Stamp::modified)
    }

    /// An image that came from no file: its storage is whatever it was opened on.
    pub fn detached(image: Box<dyn Image>) -> Self {
        let path = image.storage().path().to_owned();
        Self { path, image, format_origin: FormatOrigin::Named, stamp: None }
    }
}

/// What the guest sees: a chain of images, top first.
pub struct Disk {
    layers: Vec<Layer>,
    elsewhere: Elsewhere,
}

impl Disk {
    /// The disk that these layers make, the first on top. The last one's backing file, if it
    /// names one, stays closed.
    ///
    /// # Panics
    /// Where there is no layer.
    pub fn of_layers(layers: Vec<Layer>) -> Self {
        assert!(!layers.is_empty(), "a disk has at least one layer");
        let share = limits::TABLE_CACHE / layers.len();
        for layer in &layers {
            layer.image.limit_tables(share.max(limits::LEAST_TABLE_CACHE));
        }
        Self { layers, elsewhere: Elsewhere::default() }
    }

    /// The same, where images were looked for elsewhere too.
    pub(crate) fn opened(self, elsewhere: &Elsewhere) -> Self {
        Self { elsewhere: elsewhere.clone(), ..self }
    }

    /// Where images may be beside the host's files, for whoever opens one of these again.
    pub fn elsewhere(&self) -> &Elsewhere {
        &self.elsewhere
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

    /// Fills `out` with the bytes of `extents`, which are of this disk and in order. What `out`
    /// has between them stays as it is.
    ///
    /// Lost bytes are zeros in `out` and are told to `found`, also those that are found to be lost
    /// only now: a payload that does not unpack and, where `host_errors` says so, bytes that the
    /// host cannot read. Packed clusters are told of too, in no order.
    ///
    /// # Panics
    /// Where `out` does not begin with the first extent and end with the last.
    pub fn read(
        &self,
        extents: &[Extent],
        host_errors: HostErrors,
        scratch: &mut Scratch,
        out: &mut [u8],
        found: &mut dyn FnMut(Found),
    ) -> Result<()> {
        let (Some(first), Some(last)) = (extents.first(), extents.last()) else { return Ok(()) };
        let length = last.range.end() - first.range.start;
        assert_eq!(length, out.len() as u64, "the buffer is as long as the extents");
        Reading { disk: self, start: first.range.start, host_errors, out, found }
            .run(extents, scratch)
    }

    /// As [`Disk::read`], where nothing may be lost: the first that is becomes an error.
    ///
    /// # Panics
    /// As [`Disk::read`].
    pub fn read_whole(
        &self,
        extents: &[Extent],
        scratch: &mut Scratch,
        out: &mut [u8],
    ) -> Result<()> {
        let mut first_lost = None;
        self.read(extents, HostErrors::Fail, scratch, out, &mut |found| {
            if let Found::Lost(extent) = found {
                first_lost.get_or_insert(extent);
            }
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

/// Whether an image says that it has a base, though it may not be known which.
fn names_base(facts: &Facts) -> bool {
    facts.backing.is_some() || has_lost_name(facts)
}

fn missing_key(path: &Path) -> Error {
    Error::Key {
        path: path.to_owned(),
        why: "the image is encrypted and needs a passphrase".into(),
    }
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
            if number + 1 == layers.len() && !names_base(layer.image.facts()) {
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
