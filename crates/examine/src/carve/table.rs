//! Tables: whether bytes can be an L2 table of this very file.

use std::collections::HashSet;

use calve_disk::units::{ClusterSize, SECTOR};
use calve_disk::{Image, Specific};
use serde_json::{Value, json};

/// What tables and clusters of a file are like.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shape {
    /// Bytes of a cluster.
    pub(super) cluster: u64,
    cluster_bits: u8,
    /// Bytes of an L2 table.
    pub(super) table: u64,
    /// Bytes of the file.
    file_size: u64,
    /// No cluster lies before this place.
    first: u64,
}

/// Bytes of the header, before which there is no cluster.
const HEADER: u64 = 48;

/// The flag of a packed cluster in an entry.
const PACKED: u64 = 1 << 63;

impl Shape {
    pub(super) fn of(image: &dyn Image) -> Option<Self> {
        let facts = image.facts();
        let Specific::Qcow1(qcow1) = &facts.specific else { return None };
        Some(Self {
            cluster: facts.cluster_size.map_or(SECTOR, ClusterSize::bytes),
            cluster_bits: qcow1.cluster_bits,
            table: 8 << qcow1.l2_bits,
            file_size: facts.file_size,
            first: HEADER,
        })
    }

    /// Where an entry leads to, and for a packed cluster how long it is; `None` for an entry that
    /// this file cannot have.
    fn target(self, raw: u64) -> Option<(u64, Option<u64>)> {
        let is_inside = |at: u64| at >= self.first && at < self.file_size;
        if raw & PACKED == 0 {
            return (raw.is_multiple_of(SECTOR) && is_inside(raw)).then_some((raw, None));
        }
        let offset_bits = 63 - self.cluster_bits;
        let at = raw & ((1 << offset_bits) - 1);
        let length = (raw & !PACKED) >> offset_bits;
        let is_whole = length > 0 && at.saturating_add(length) <= self.file_size;
        (is_whole && is_inside(at)).then_some((at, Some(length)))
    }

    /// How many entries that are not 0 these bytes have as a table; `None` where they are none.
    ///
    /// A table has at least one, all of them lead to where this file can have a cluster, and most
    /// of them lead to places of their own.
    pub(super) fn table_entries(self, bytes: &[u8]) -> Option<usize> {
        if bytes.len() as u64 != self.table {
            return None;
        }
        let mut places = HashSet::new();
        let mut count = 0;
        for raw in raw_entries(bytes).filter(|raw| *raw != 0) {
            places.insert(self.target(raw)?.0);
            count += 1;
        }
        (count > 0 && places.len() * 2 > count).then_some(count)
    }
}

fn raw_entries(bytes: &[u8]) -> impl Iterator<Item = u64> {
    bytes.as_chunks::<8>().0.iter().map(|raw| u64::from_be_bytes(*raw))
}

/// The entries of a table that are not 0, by their number.
pub(super) fn entries(bytes: &[u8], shape: Shape) -> Vec<Value> {
    let all = raw_entries(bytes).enumerate().filter(|(_, raw)| *raw != 0);
    let told = all.filter_map(|(number, raw)| {
        let (at, length) = shape.target(raw)?;
        let mut entry = json!({ "index": number, "host-offset": at });
        if let Some(length) = length {
            entry["packed-length"] = length.into();
        }
        Some(entry)
    });
    told.collect()
}
