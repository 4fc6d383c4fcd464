//! Scan: a range that nothing refers to, taken apart from front to back.
//!
//! Writers append, so what comes next is expected where the last thing ended, or at the next
//! sector: there a stream of any length is believed. Anywhere else bytes that unpack by chance are
//! too likely, and a stream has to be followed by what follows streams.

use calve_disk::codec::{Filled, Unpacker};
use calve_disk::units::SECTOR;
use calve_disk::{Codec, Result};

use super::Kind;
use super::grid::Grid;
use super::table::Shape;
use super::window::Window;

/// The longest range of which, where no stream was found in it, every byte is tried as the first
/// of one.
const TRIED_BYTE_BY_BYTE: u64 = 1 << 20;

/// Bytes of a stream that can be zeros before one is not.
const ZEROS_OF_A_STREAM: u64 = 5;

/// Something found; the bytes from the last one to it are zeros.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Piece {
    pub(super) kind: Kind,
    pub(super) at: u64,
    pub(super) length: u64,
}

/// Takes a range apart.
pub(super) struct Scan<'a> {
    window: Window<'a>,
    shape: Shape,
    grid: Grid,
    unpacker: &'a mut Unpacker,
    unpacked: &'a mut Vec<u8>,
    /// Everything before this place was found or is zeros.
    at: u64,
    /// Whether every byte is tried.
    is_thorough: bool,
    /// What was found together with something that comes before it.
    next: Option<Piece>,
}

impl<'a> Scan<'a> {
    pub(super) fn new(
        window: Window<'a>,
        shape: Shape,
        grid: Grid,
        unpacker: &'a mut Unpacker,
        unpacked: &'a mut Vec<u8>,
    ) -> Result<Self> {
        let (start, length) = (window.start, window.end - window.start);
        let mut scan = Self {
            window,
            shape,
            grid,
            unpacker,
            unpacked,
            at: start,
            is_thorough: false,
            next: None,
        };
        if length <= TRIED_BYTE_BY_BYTE {
            let mut has_stream = false;
            while let Some(piece) = scan.next()? {
                has_stream |= piece.kind == Kind::Packed;
            }
            (scan.at, scan.is_thorough) = (start, !has_stream);
        }
        Ok(scan)
    }

    pub(super) fn shape(&self) -> Shape {
        self.shape
    }

    /// What the packed cluster that was found last unpacks to.
    pub(super) fn unpacked(&self) -> &[u8] {
        self.unpacked
    }

    /// Bytes of the range, at most as many as are looked at together.
    pub(super) fn bytes(&mut self, at: u64, length: u64) -> Result<&[u8]> {
        self.window.bytes(at, length)
    }

    /// The next find.
    pub(super) fn next(&mut self) -> Result<Option<Piece>> {
        let piece = match self.next.take() {
            Some(piece) => {
                if piece.kind == Kind::Packed {
                    self.stream(piece.at)?;
                }
                Some(piece)
            }
            None => self.search()?,
        };
        if let Some(piece) = piece {
            self.at = piece.at + piece.length;
        }
        Ok(piece)
    }

    fn search(&mut self) -> Result<Option<Piece>> {
        let from = self.at;
        let Some(first) = self.window.not_zero(from)? else { return Ok(None) };
        if let Some(table) = self.table(from, first)? {
            return Ok(Some(table));
        }
        let sector = (first / SECTOR * SECTOR).max(from);
        for at in [from, sector] {
            if first - at < ZEROS_OF_A_STREAM
                && let Some(length) = self.stream(at)?
            {
                return Ok(Some(Piece { kind: Kind::Packed, at, length }));
            }
        }
        let (kind, at, to) = self.block(from, first);
        self.split(kind, at, to).map(Some)
    }

    /// A table that begins at `from` or behind it, and not behind `first`, before which all is zeros.
    ///
    /// Its first entries may be 0, so that it may begin at several places: the one with the most
    /// entries is the one that is not cut.
    fn table(&mut self, from: u64, first: u64) -> Result<Option<Piece>> {
        let lowest = from.max((first + 1).saturating_sub(self.shape.table));
        let mut at = self.grid.ceil(lowest);
        let mut best = None;
        while at <= first {
            let bytes = self.window.bytes(at, self.shape.table)?;
            if let Some(count) = self.shape.table_entries(bytes)
                && best.is_none_or(|(most, _)| count > most)
            {
                best = Some((count, at));
            }
            at += self.grid.step;
        }
        Ok(best.map(|(_, at)| Piece { kind: Kind::Table, at, length: self.shape.table }))
    }

    /// The cluster in which the byte `first` would lie, or else what is left to the next place where
    /// a cluster may begin.
    fn block(&self, from: u64, first: u64) -> (Kind, u64, u64) {
        let (cluster, end) = (self.shape.cluster, self.window.end);
        // Where clusters begin at any sector they are counted from where the last thing ended.
        let start = match self.grid.step == cluster {
            true => self.grid.floor(first).unwrap_or(0),
            false => {
                let from = from.next_multiple_of(SECTOR);
                first.checked_sub(from).map_or(0, |after| from + after / cluster * cluster)
            }
        };
        if start >= from && start + cluster <= end && first >= start && self.grid.has(start) {
            return (Kind::Cluster, start, start + cluster);
        }
        let next = self.grid.ceil(first + 1).min(end);
        (Kind::Rest, first, next)
    }

    /// The piece from `at` to `to`, or where a stream begins in it, what lies before that.
    fn split(&mut self, kind: Kind, at: u64, to: u64) -> Result<Piece> {
        let step = if self.is_thorough { 1 } else { SECTOR };
        let mut place = (at + 1).next_multiple_of(step);
        while place < to {
            if let Some(length) = self.followed_stream(place)? {
                self.next = Some(Piece { kind: Kind::Packed, at: place, length });
                let length = place - at;
                return Ok(Piece { kind: Kind::Rest, at, length });
            }
            place += step;
        }
        Ok(Piece { kind, at, length: to - at })
    }

    /// The length of a stream at `at` that unpacks to exactly one cluster.
    fn stream(&mut self, at: u64) -> Result<Option<u64>> {
        // The length has to fit into an entry, and so is shorter than a cluster.
        let packed = self.window.bytes(at, self.shape.cluster - 1)?;
        let filled = self.unpacker.fill(Codec::Deflate, packed, self.unpacked);
        Ok(match filled {
            Some(Filled::Exactly { length }) => Some(length as u64),
            _ => None,
        })
    }

    /// As [`Scan::stream`], where it ends with the range, or with zeros up to the next sector, or
    /// with another stream.
    fn followed_stream(&mut self, at: u64) -> Result<Option<u64>> {
        let Some(length) = self.stream(at)? else { return Ok(None) };
        let end = at + length;
        let sector = end.next_multiple_of(SECTOR).min(self.window.end);
        let is_padded = sector - end >= ZEROS_OF_A_STREAM && self.window.is_zero(end, sector)?;
        let is_followed = end == self.window.end || is_padded || self.stream(end)?.is_some();
        Ok(is_followed.then_some(length))
    }
}
