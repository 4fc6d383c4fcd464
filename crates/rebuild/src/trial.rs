//! Trial: how well a geometry and a place of the L1 table explain a file.

use calve_disk::codec::{Filled, Unpacker};
use calve_disk::units::{HostOffset, in_memory};
use calve_disk::{Codec, Result};

use crate::bytes::read_up_to;
use crate::patched::Patched;
use crate::shape::{Entry, Shape, is_table_place, words};

/// Bytes of an L1 table that are looked at in the search for one.
const L1_LOOKED_AT: u64 = 8 << 20;
/// L2 tables that one trial looks into.
const TABLES_TRIED: usize = 16;
/// Packed clusters that one trial unpacks.
const UNPACKED: u64 = 12;

/// What may be an L1 table.
pub(crate) struct L1Found {
    pub(crate) at: u64,
    /// Entries with something in them: their numbers and values, in order.
    pub(crate) used: Vec<(u64, u64)>,
}

/// What a trial found.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Trial {
    pub(crate) shape: Shape,
    /// Host bytes explained, less those that have two owners or none that can be.
    pub(crate) score: i64,
    pub(crate) tables: u64,
    pub(crate) clusters: u64,
    pub(crate) unpacked: u64,
    failed: u64,
    bad: u64,
}

impl Trial {
    /// Whether what was found hangs together.
    pub(crate) fn is_sound(&self) -> bool {
        self.score > 0 && self.bad * 8 <= self.clusters && self.failed <= self.unpacked
    }
}

/// Reads an L1 table whose length is not known: it ends before the first thing that it leads to,
/// and with the first number that is no place of a table. `decode` knows the order of bytes.
pub(crate) fn read_l1(source: &Patched, at: u64) -> Result<L1Found> {
    let size = source.length();
    let bytes = read_up_to(source, at, L1_LOOKED_AT)?;
    let (mut end, mut used) = (size, Vec::new());
    for (index, word) in (0u64..).zip(words(&bytes)) {
        if at + index * 8 + 8 > end {
            break;
        }
        if word == 0 {
            continue;
        }
        // Xen's tapdisk wrote the table in the order of its host.
        let places = [word, word.swap_bytes()];
        let Some(place) = places.into_iter().find(|place| is_table_place(*place, size)) else {
            break;
        };
        if place < at + index * 8 + 8 {
            break;
        }
        end = end.min(place);
        used.push((index, place));
    }
    Ok(L1Found { at, used })
}

/// Tries one geometry on what may be an L1 table.
pub(crate) fn try_shape(source: &Patched, shape: Shape, l1: &L1Found) -> Result<Trial> {
    let size = source.length();
    let mut trial =
        Trial { shape, score: 0, tables: 0, clusters: 0, unpacked: 0, failed: 0, bad: 0 };
    let (mut tables, mut claims) = (Vec::new(), Vec::new());
    let mut unpacker = Unpacker::default();
    for (_, at) in l1.used.iter().take(TABLES_TRIED) {
        trial.tables += 1;
        let bytes = read_up_to(source, *at, shape.table_length())?;
        tables.push((*at, at + shape.table_length()));
        // Zeros behind the last entry may be the table's or padding: they explain nothing.
        let last = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last as u64 + 1);
        claims.push((*at, at + last));
        for word in words(&bytes) {
            match shape.entry(word, size) {
                Entry::Empty => {}
                Entry::Bad => trial.bad += 1,
                Entry::Plain(at) => {
                    trial.clusters += 1;
                    claims.push((at, at + shape.cluster()));
                }
                Entry::Packed { at, length } => {
                    trial.clusters += 1;
                    claims.push((at, at + length));
                    trial.unpack(source, &mut unpacker, at, length)?;
                }
            }
        }
    }
    let (claimed, _) = explained(&mut claims, size);
    claims.append(&mut tables);
    let (_, doubled) = explained(&mut claims, size);
    trial.score = claimed.saturating_sub(doubled.saturating_mul(2));
    Ok(trial)
}

impl Trial {
    fn unpack(
        &mut self,
        source: &Patched,
        unpacker: &mut Unpacker,
        at: u64,
        length: u64,
    ) -> Result<()> {
        if self.unpacked + self.failed >= UNPACKED {
            return Ok(());
        }
        match is_one_cluster(source, unpacker, self.shape, at, length)? {
            true => self.unpacked += 1,
            false => self.failed += 1,
        }
        Ok(())
    }

    /// Whether this explains clearly more than `held`, which came first.
    pub(crate) fn is_better_than(&self, held: &Trial) -> bool {
        match (self.is_sound(), held.is_sound()) {
            (true, true) => self.score - self.score / 16 > held.score,
            (is_sound, _) => is_sound,
        }
    }
}

/// Whether a payload unpacks to exactly one cluster.
pub(crate) fn is_one_cluster(
    source: &Patched,
    unpacker: &mut Unpacker,
    shape: Shape,
    at: u64,
    length: u64,
) -> Result<bool> {
    let stream = read_up_to(source, at, length)?;
    let mut cluster = vec![0; in_memory(shape.cluster())];
    let filled = unpacker.fill(Codec::Deflate, &stream, &mut cluster);
    Ok(matches!(filled, Some(Filled::Exactly { .. })))
}

/// Bytes that somebody claims, and those that two claim or that are not there. The very same claim
/// made twice is odd, but no sign of a wrong geometry; and so is a claim's beginning, which is a
/// table's part in use.
fn explained(claims: &mut [(u64, u64)], size: u64) -> (i64, i64) {
    claims.sort_unstable();
    let claims = claims.chunk_by(|one, other| one.0 == other.0).filter_map(<[_]>::last);
    let (mut reached, mut claimed, mut doubled) = (0, 0, 0);
    for (start, end) in claims.copied() {
        doubled += reached.min(end).saturating_sub(start) + end.saturating_sub(size.max(start));
        claimed += end.min(size).saturating_sub(reached.max(start));
        reached = reached.max(end);
    }
    (i64::try_from(claimed).unwrap_or(i64::MAX), i64::try_from(doubled).unwrap_or(i64::MAX))
}

/// A host offset for reports.
pub(crate) fn first_table(l1: &L1Found) -> HostOffset {
    HostOffset::new(l1.used.iter().map(|(_, at)| *at).min().unwrap_or_default())
}
