//! What it takes: bytes, and a range of seconds.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::plan::{Image, Strategy};
use crate::room::{self, NewFile};
use crate::survey::Tables;

/// How many bytes a second are expected.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rate {
    /// At least.
    pub least: u64,
    /// At most.
    pub most: u64,
}

impl Default for Rate {
    /// From a disk that turns and does other things too, to a fast one.
    fn default() -> Self {
        Self { least: 50 << 20, most: 1 << 30 }
    }
}

/// Seconds that an image takes beside its bytes, at least and at most: opening, syncing, naming.
const EACH: [f64; 2] = [0.005, 0.25];

/// A qcow2 header: all that a rebase touches.
const HEADER: u64 = 64 << 10;

/// What a part of an object has at least, with which its header is sent.
const FIRST_PART: u64 = 5 << 20;

/// Bytes that are read, written, and at most taken up beside what is used now, until originals are given
/// up; `new` is the file that is to be made, where one is.
pub(crate) fn bytes(
    strategy: Strategy,
    (path, size): (&Path, u64),
    tables: Option<&Tables>,
    new: Option<&NewFile>,
) -> [u64; 3] {
    let appended = tables.map_or(size / 128, |tables| tables.appended);
    let is_packed = tables.is_some_and(|tables| tables.is_packed);
    let (written, taken) =
        new.map_or((size, size), |new| (new.written(is_packed), new.takes(path, is_packed)));
    match strategy {
        // Once before and once after, so that the contents can be compared.
        Strategy::Upgrade => [size * 2 + appended, appended, room::of_upgrade(appended)],
        Strategy::Reflink => [size * 2 + appended, appended, room::of_clone(size, appended)],
        // Once to copy; the result once to verify, beside the source.
        Strategy::Convert | Strategy::Flatten => [size * 3, written, taken],
        Strategy::Rescue => {
            let map = new.map_or(0, NewFile::map);
            [size * 3, written, taken.saturating_add(map)]
        }
        Strategy::Rebase => [HEADER, HEADER, 0],
        Strategy::Quarantine | Strategy::Leave => [0; 3],
    }
}

/// The same of an object: what comes from its store, what goes there, and what lies there beside.
pub(crate) fn of_object(strategy: Strategy, size: u64, tables: Option<&Tables>) -> [u64; 3] {
    let appended = tables.map_or(size / 128, |tables| tables.appended);
    let first = size.min(FIRST_PART);
    match strategy {
        // The tables to survey, to upgrade, and of what the store made of it; the old object is there
        // until the new one is.
        Strategy::Upgrade => [3 * appended + first, appended + first, size + appended],
        // The result too is read from its store. The original and the result are there beside the image.
        Strategy::Convert | Strategy::Flatten => [size * 2, size, size * 2],
        Strategy::Rebase => [2 * first, first, size],
        _ => [0; 3],
    }
}

/// Seconds that an image may take, at least and at most.
#[expect(clippy::cast_precision_loss, reason = "a range of times needs no 53 bits")]
pub(crate) fn seconds(image: &Image, rate: Rate) -> [f64; 2] {
    if image.strategy == Strategy::Leave {
        return [0.0; 2];
    }
    let bytes = (image.read + image.write) as f64;
    let round = |seconds: f64| (seconds * 1000.0).round() / 1000.0;
    [
        round(EACH[0] + bytes / rate.most.max(1) as f64),
        round(EACH[1] + bytes / rate.least.max(1) as f64),
    ]
}
