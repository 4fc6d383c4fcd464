//! Sectors: one bit for each sector of a file, and what a scan finds in them.

use calve_disk::units::{HostOffset, SECTOR, in_memory};
use calve_disk::{Error, Result, Storage};

use crate::patched::Patched;
use crate::shape::{Entry, Shape, words};

/// The longest file that is searched for tables: three bits are kept for each sector of it,
/// 96 MiB together.
pub const LONGEST_SCANNED: u64 = 128 << 30;

/// One bit for each sector.
pub(crate) struct Sectors(Vec<u64>);

impl Sectors {
    pub(crate) fn new(size: u64) -> Self {
        Self(vec![0; in_memory(size.div_ceil(SECTOR).div_ceil(64))])
    }

    pub(crate) fn set(&mut self, sector: u64) {
        if let Some(word) = self.0.get_mut(in_memory(sector / 64)) {
            *word |= 1 << (sector % 64);
        }
    }

    pub(crate) fn has(&self, sector: u64) -> bool {
        self.0.get(in_memory(sector / 64)).is_some_and(|word| word >> (sector % 64) & 1 == 1)
    }

    /// Sets all sectors that `length` bytes from `at` touch, as far as the file goes.
    pub(crate) fn set_bytes(&mut self, at: u64, length: u64) {
        let last = (self.0.len() as u64) * 64;
        (at / SECTOR..(at + length).div_ceil(SECTOR).min(last)).for_each(|sector| self.set(sector));
    }

    /// Whether any sector that `length` bytes from `at` touch is set.
    pub(crate) fn has_bytes(&self, at: u64, length: u64) -> bool {
        let last = (self.0.len() as u64) * 64;
        (at / SECTOR..(at + length).div_ceil(SECTOR).min(last)).any(|sector| self.has(sector))
    }
}

/// What the sectors of a file can be.
pub(crate) struct Scanned {
    /// Nothing but zeros and entries that can be, and at least one of those.
    pub(crate) entries: Sectors,
    /// Something else, or what the host cannot read.
    pub(crate) others: Sectors,
}

/// Bytes that are read at once.
const CHUNK: u64 = 1 << 20;

/// Bytes that are given up together where the host cannot read.
const UNREADABLE: u64 = 4096;

/// Looks at every sector of the file, holes left out.
pub(crate) fn scan(source: &Patched, shape: Shape) -> Result<Scanned> {
    let size = source.length();
    require_scannable(source)?;
    let mut scanned = Scanned { entries: Sectors::new(size), others: Sectors::new(size) };
    let mut at = 0;
    while at < size {
        let place = HostOffset::new(at);
        let region = source
            .region(place)
            .map_err(|failed| Error::io("looking for data and holes", source, place, failed))?;
        let end = at + region.length.clamp(1, size - at);
        if !region.is_hole {
            let first = at / SECTOR * SECTOR;
            let mut from = first;
            while from < end {
                let length = CHUNK.min(size - from).min((end - from).next_multiple_of(SECTOR));
                scanned.look_at(source, shape, from, length);
                from += length;
            }
        }
        at = end;
    }
    Ok(scanned)
}

pub(crate) fn require_scannable(source: &Patched) -> Result<()> {
    if source.length() <= LONGEST_SCANNED {
        return Ok(());
    }
    let why = format!("files of more than {} GiB are not searched", LONGEST_SCANNED >> 30);
    Err(Error::Refused { path: source.path().to_owned(), why })
}

impl Scanned {
    fn look_at(&mut self, source: &Patched, shape: Shape, at: u64, length: u64) {
        let mut bytes = vec![0; in_memory(length)];
        if source.read_at(&mut bytes, HostOffset::new(at)).is_ok() {
            self.note(shape, at, &bytes, source.length());
            return;
        }
        for start in (at..at + length).step_by(in_memory(UNREADABLE)) {
            let piece = &mut bytes[..in_memory(UNREADABLE.min(at + length - start))];
            match source.read_at(piece, HostOffset::new(start)) {
                Ok(()) => self.note(shape, start, piece, source.length()),
                Err(_) => self.others.set_bytes(start, piece.len() as u64),
            }
        }
    }

    fn note(&mut self, shape: Shape, at: u64, bytes: &[u8], size: u64) {
        for (number, sector) in (at / SECTOR..).zip(bytes.chunks(in_memory(SECTOR))) {
            let mut has_entry = false;
            let fits = words(sector).all(|word| {
                has_entry |= word != 0;
                shape.entry(word, size) != Entry::Bad
            });
            if !fits {
                self.others.set(number);
            } else if has_entry {
                self.entries.set(number);
            }
        }
    }
}
