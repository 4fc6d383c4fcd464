//! Marked: a file of which a map tells what could not be read when it was copied.

use std::io;
use std::ops::Range;
use std::path::Path;

use calve_disk::units::HostOffset;
use calve_disk::{Region as HostRegion, Storage};

use crate::map::{MapFile, Status};

/// A file whose bytes count only where a map of ddrescue's says that they were copied. All others
/// are filling of that program, and reading them fails as reading the medium would.
pub struct Marked {
    inner: Box<dyn Storage>,
    /// What was not copied, in order.
    bad: Vec<Range<u64>>,
}

impl Marked {
    /// The file `inner` as `map`, which was made when it was copied, has it. What lies behind the
    /// map's end counts.
    pub fn new(inner: Box<dyn Storage>, map: &MapFile) -> Self {
        let mut bad: Vec<Range<u64>> = Vec::new();
        for region in map.regions.iter().filter(|region| region.status != Status::Finished) {
            match bad.last_mut() {
                Some(last) if last.end == region.range.start => last.end = region.range.end,
                _ => bad.push(region.range.clone()),
            }
        }
        Self { inner, bad }
    }
}

impl Storage for Marked {
    fn path(&self) -> &Path {
        self.inner.path()
    }

    fn size(&self) -> io::Result<u64> {
        self.inner.size()
    }

    fn read_at(&self, out: &mut [u8], at: HostOffset) -> io::Result<()> {
        let (start, end) = (at.get(), at.get().saturating_add(out.len() as u64));
        let behind = self.bad.partition_point(|range| range.end <= start);
        if self.bad.get(behind).is_some_and(|range| range.start < end) {
            return Err(io::Error::other("was not copied from its medium, as its map says"));
        }
        self.inner.read_at(out, at)
    }

    /// What was not copied may lie in a hole, and is none.
    fn region(&self, at: HostOffset) -> io::Result<HostRegion> {
        if self.bad.is_empty() {
            return self.inner.region(at);
        }
        let length = self.size()?.saturating_sub(at.get());
        Ok(HostRegion { length, is_hole: false })
    }

    fn will_read(&self, at: HostOffset, length: u64) {
        self.inner.will_read(at, length);
    }

    fn is_far(&self) -> bool {
        self.inner.is_far()
    }
}
