//! Source: one disk, or several one behind the other.

use calve_disk::units::{GuestOffset, GuestRange, SECTOR};
use calve_disk::{Disk, Extent, Extents, Payload};

use crate::error::Result;

/// What is converted.
pub(crate) struct Source {
    parts: Vec<Part>,
    size: u64,
}

/// One of the disks, and where in the result it stands.
pub(crate) struct Part {
    pub(crate) disk: Disk,
    /// Its first byte in the result.
    pub(crate) start: u64,
    /// How much of the result it fills: of several disks each is rounded up to whole sectors.
    length: u64,
}

impl Source {
    pub(crate) fn new(disks: Vec<Disk>) -> Self {
        let is_one = disks.len() == 1;
        let mut size = 0;
        let mut parts = Vec::new();
        for disk in disks {
            let exact = disk.virtual_size();
            let length = if is_one { exact } else { exact.next_multiple_of(SECTOR) };
            parts.push(Part { disk, start: size, length });
            size += length;
        }
        Self { parts, size }
    }

    /// The size that the parts have together, in bytes.
    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    pub(crate) fn disk(&self, part: usize) -> &Disk {
        &self.parts[part].disk
    }

    pub(crate) fn disks(&self) -> impl Iterator<Item = &Disk> {
        self.parts.iter().map(|part| &part.disk)
    }

    /// A range of a part's disk as a range of the result.
    pub(crate) fn in_result(&self, part: usize, range: GuestRange) -> GuestRange {
        GuestRange::new(range.start + self.parts[part].start, range.length)
    }

    /// Fails where a file changed since it was opened.
    pub(crate) fn unchanged(&self) -> Result<()> {
        Ok(self.disks().try_for_each(Disk::unchanged)?)
    }

    /// All extents, in the order of the result.
    pub(crate) fn walk(&self) -> Walk<'_> {
        Walk { source: self, part: 0, extents: None, reached: GuestOffset::default(), held: None }
    }
}

/// A walk over the extents of all disks that takes them in measured portions.
pub(crate) struct Walk<'a> {
    source: &'a Source,
    part: usize,
    extents: Option<Extents<'a>>,
    /// How far the part's disk was walked.
    reached: GuestOffset,
    held: Option<Extent>,
}

impl Walk<'_> {
    /// What comes next and of which part it is, without taking it; `None` at the end.
    ///
    /// Behind a disk that ends inside a sector comes a hole, which no layer knows of.
    pub(crate) fn peek(&mut self) -> Result<Option<(usize, Extent)>> {
        while let Some(part) = self.source.parts.get(self.part) {
            if let Some(extent) = self.held {
                return Ok(Some((self.part, extent)));
            }
            let extents = match &mut self.extents {
                Some(extents) => extents,
                none => none.insert(part.disk.extents(part.disk.range())),
            };
            let padding = GuestRange::between(self.reached, GuestOffset::new(part.length));
            if let Some(extent) = extents.next() {
                self.hold(extent?);
            } else if padding.is_empty() {
                (self.extents, self.reached) = (None, GuestOffset::default());
                self.part += 1;
            } else {
                self.hold(Extent { range: padding, payload: Payload::Hole { layer: 0 } });
            }
        }
        Ok(None)
    }

    fn hold(&mut self, extent: Extent) {
        self.reached = extent.range.end();
        self.held = Some(extent);
    }

    /// Takes the first `length` bytes of what comes next, or all of it where it is shorter.
    pub(crate) fn take(&mut self, length: u64) {
        if let Some(extent) = self.held.take()
            && length < extent.range.length
        {
            let rest = GuestRange::between(extent.range.start + length, extent.range.end());
            self.held = Some(extent.clipped(rest));
        }
    }
}
