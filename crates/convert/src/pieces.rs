//! Pieces: what becomes of each part of a batch, and the room that is reserved for it.

use std::ops::Range;

use calve_disk::units::{GuestOffset, GuestRange, HostOffset, in_memory};
use calve_disk::{Form, Placed, Target};

use crate::error::Result;
use crate::run::{InTurn, Run};

/// What becomes of a part of a batch, which begins and ends at clusters of the target.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Piece {
    /// Bytes of the batch.
    pub(crate) part: Range<usize>,
    pub(crate) fate: Fate,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Fate {
    /// Nothing is stored: it reads right without.
    Absent,
    /// Reads as zeros, whatever lies behind.
    Zero,
    /// Stored as it is.
    Plain,
    /// Stored packed; the payload is this part of the packed bytes.
    Packed(Range<usize>),
}

/// A write: part of the guest bytes or of the packed ones, and its place.
pub(crate) struct Write {
    pub(crate) at: HostOffset,
    pub(crate) from: Range<usize>,
    pub(crate) is_packed: bool,
}

/// Adds a piece; one that continues the last and shares its fate becomes part of it. Packed
/// pieces stay apart: each is one cluster.
pub(crate) fn push(pieces: &mut Vec<Piece>, part: Range<usize>, fate: Fate) {
    match pieces.last_mut() {
        Some(last) if last.fate == fate && !matches!(fate, Fate::Packed(_)) => {
            last.part.end = part.end;
        }
        _ => pieces.push(Piece { part, fate }),
    }
}

impl Write {
    fn continues(&self, next: &Write) -> bool {
        self.is_packed == next.is_packed
            && self.from.end == next.from.start
            && self.at + self.from.len() as u64 == next.at
    }
}

/// Adds a write; one that continues the last in the buffer and in the result becomes part of it.
fn push_write(writes: &mut Vec<Write>, next: Write) {
    match writes.last_mut() {
        Some(last) if last.continues(&next) => last.from.end = next.from.end,
        _ => writes.push(next),
    }
}

/// Bytes that lie together in the result and are written at once, wherever they come from.
pub(crate) struct Together<'b, 'a> {
    run: &'b Run<'a>,
    /// Where the first begins.
    at: HostOffset,
    length: u64,
    parts: Vec<&'b [u8]>,
}

impl<'b, 'a> Together<'b, 'a> {
    pub(crate) fn new(run: &'b Run<'a>) -> Self {
        Self { run, at: HostOffset::default(), length: 0, parts: Vec::new() }
    }

    /// Adds bytes; where they do not lie right behind the others, those are written first.
    pub(crate) fn add(&mut self, bytes: &'b [u8], at: HostOffset) -> Result<()> {
        if self.at + self.length != at {
            self.write()?;
            self.at = at;
        }
        self.length += bytes.len() as u64;
        self.parts.push(bytes);
        Ok(())
    }

    /// Writes what was added.
    pub(crate) fn write(&mut self) -> Result<()> {
        if !self.parts.is_empty() {
            self.run.write(&self.parts, self.at)?;
        }
        self.parts.clear();
        self.at = self.at + std::mem::take(&mut self.length);
        Ok(())
    }
}

/// Reserves room for the pieces of a batch, in order.
pub(crate) fn place(
    state: &mut InTurn,
    start: GuestOffset,
    pieces: &[Piece],
    writes: &mut Vec<Write>,
) -> calve_disk::Result<()> {
    let mut places: Vec<Placed> = Vec::new();
    for piece in pieces {
        let length = piece.part.len() as u64;
        let range = GuestRange::new(start + piece.part.start as u64, length);
        let target: &mut dyn Target = &mut *state.target;
        places.clear();
        match &piece.fate {
            Fate::Absent => {}
            Fate::Zero => target.zero(range)?,
            Fate::Plain => {
                target.place(range, Form::Plain, &mut places)?;
                state.stored += length;
                for place in &places {
                    let from = in_memory(place.range.start - start);
                    let from = from..from + in_memory(place.range.length);
                    push_write(writes, Write { at: place.at, from, is_packed: false });
                }
            }
            Fate::Packed(payload) => {
                let form = Form::Packed { length: payload.len() as u64 };
                target.place(range, form, &mut places)?;
                state.stored += length;
                for place in &places {
                    let from = payload.clone();
                    push_write(writes, Write { at: place.at, from, is_packed: true });
                }
            }
        }
    }
    Ok(())
}
