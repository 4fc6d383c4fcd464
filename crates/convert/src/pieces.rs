//! Pieces: what becomes of each part of a batch, and the room that is reserved for it.

use std::ops::Range;

use calve_disk::units::{GuestOffset, GuestRange, HostOffset, in_memory};
use calve_disk::{Form, Placed, Target};

use crate::run::InTurn;

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
    pub(crate) fn continues(&self, next: &Write) -> bool {
        self.is_packed == next.is_packed
            && self.from.end == next.from.start
            && self.at + self.from.len() as u64 == next.at
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
                writes.extend(places.iter().map(|place| {
                    let from = in_memory(place.range.start - start);
                    let from = from..from + in_memory(place.range.length);
                    Write { at: place.at, from, is_packed: false }
                }));
            }
            Fate::Packed(payload) => {
                let form = Form::Packed { length: payload.len() as u64 };
                target.place(range, form, &mut places)?;
                state.stored += length;
                writes.extend(places.iter().map(|place| Write {
                    at: place.at,
                    from: payload.clone(),
                    is_packed: true,
                }));
            }
        }
    }
    Ok(())
}
