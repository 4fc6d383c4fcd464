//! Where tables belong, by what the clusters behind them say of themselves.

use std::collections::BTreeMap;

use calve_disk::formats::qcow1::Qcow1Image;
use calve_disk::units::{GuestOffset, GuestRange, HostOffset, SECTOR, in_memory};
use calve_disk::{Disk, HostErrors, Layer, Payload, Result, Scratch};

use crate::guest::{Sighting, gpt_starts, look};
use crate::header::put;
use crate::layout::Layout;
use crate::patched::{Patched, Patches};
use crate::step::{Confidence, Evidence};

/// Bytes that are read at once.
const CHUNK: u64 = 1 << 20;
/// Sightings that are remembered; a disk has a few hundred.
const MOST_SIGHTINGS: usize = 1 << 16;
/// Bytes of a GPT's entries that are looked at.
const GPT_ENTRIES: u64 = 16 << 10;
/// Where partitions begin where no table says it: none, of today, of the time of cylinders.
const USUAL_STARTS: [u64; 3] = [0, 1 << 20, 63 * SECTOR];

/// What was seen behind one table.
struct Seen {
    table: usize,
    /// Bytes from the first one that the table covers.
    within: u64,
    sighting: Sighting,
}

/// The L1 entry of a table, and why.
pub(super) type Belongs = BTreeMap<usize, (u64, Confidence, Evidence)>;

/// Where those of `tables` belong that something behind them tells of. `first` is the table of
/// the first L1 entry, where that is known.
pub(super) fn look_behind(
    source: &Patched,
    layout: &Layout,
    tables: &[u64],
    first: Option<u64>,
) -> Result<Belongs> {
    if tables.is_empty() || layout.is_encrypted {
        return Ok(Belongs::new());
    }
    let all: Vec<u64> = tables.iter().copied().chain(first).collect();
    let coverage = layout.shape.coverage();
    let Some(disk) = disk_of(source, layout, &all)? else { return Ok(Belongs::new()) };
    let seen = walk(&disk, coverage)?;
    let mut starts = Vec::new();
    for seen in &seen {
        match &seen.sighting {
            Sighting::PartitionTable { starts: told, .. } if seen.within == 0 => {
                starts.extend_from_slice(told);
            }
            Sighting::Gpt { lba: 1, .. } if seen.within == SECTOR => {
                let mut entries = vec![0; in_memory(GPT_ENTRIES.min(coverage - 2 * SECTOR))];
                let at = seen.table as u64 * coverage + 2 * SECTOR;
                if disk.read_at(&mut entries, GuestOffset::new(at)).is_ok() {
                    starts.extend(gpt_starts(&entries));
                }
            }
            _ => {}
        }
    }
    Ok(judge(layout, &seen, &starts, tables.len()))
}

/// A disk that has behind its L1 entries just these tables.
fn disk_of(source: &Patched, layout: &Layout, tables: &[u64]) -> Result<Option<Disk>> {
    let mut header = [0; 48];
    let at = source.length().next_multiple_of(4096);
    let Some(size) = layout.shape.coverage().checked_mul(tables.len() as u64) else {
        return Ok(None);
    };
    header[..8].copy_from_slice(b"QFI\xFB\0\0\0\x01");
    header[24..32].copy_from_slice(&size.to_be_bytes());
    (header[32], header[33]) = (layout.shape.cluster_bits, layout.shape.l2_bits);
    header[40..].copy_from_slice(&at.to_be_bytes());
    let mut patches = Patches::default();
    put(source, &mut patches, 0, &header)?;
    let l1: Vec<u8> = tables.iter().flat_map(|table| table.to_be_bytes()).collect();
    put(source, &mut patches, at, &l1)?;
    let source = Box::new(source.with(&patches)?);
    let image = Qcow1Image::open_with(source, None, HostErrors::Lose);
    Ok(image.ok().map(|image| Disk::of_layers(vec![Layer::detached(Box::new(image))])))
}

/// Looks at every sector that is stored.
fn walk(disk: &Disk, coverage: u64) -> Result<Vec<Seen>> {
    let (mut seen, mut scratch) = (Vec::new(), Scratch::default());
    let mut bytes = Vec::new();
    for extent in disk.extents(disk.range()) {
        let extent = extent?;
        if !matches!(extent.payload, Payload::Stored(_)) {
            continue;
        }
        let (mut at, end) = (extent.range.start.get(), extent.range.end().get());
        while at < end {
            let length = CHUNK.min(end - at);
            bytes.resize(in_memory(length), 0);
            let part = extent.clipped(GuestRange::at(at, length));
            disk.read(&[part], HostErrors::Lose, &mut scratch, &mut bytes, &mut |_| {})?;
            for (place, sector) in (at..).step_by(512).zip(bytes.chunks(512)) {
                let Some(sighting) = look(sector) else { continue };
                let table = in_memory(place / coverage);
                seen.push(Seen { table, within: place % coverage, sighting });
            }
            if seen.len() >= MOST_SIGHTINGS {
                return Ok(seen);
            }
            at += length;
        }
    }
    Ok(seen)
}

/// The first `count` tables' places. Two sightings that contradict each other count for nothing.
fn judge(layout: &Layout, seen: &[Seen], starts: &[u64], count: usize) -> Belongs {
    let coverage = layout.shape.coverage();
    let is_first =
        |seen: &&Seen| seen.within == 0 && matches!(seen.sighting, Sighting::PartitionTable { .. });
    let has_one_first = seen.iter().filter(is_first).count() == 1;
    let mut belongs: BTreeMap<usize, Option<(u64, Confidence, Evidence)>> = BTreeMap::new();
    for seen in seen.iter().filter(|seen| seen.table < count) {
        for (at, sure, evidence) in places(seen, starts, has_one_first) {
            if at % coverage != seen.within || at >= layout.size {
                continue;
            }
            let told = (at / coverage, sure, evidence);
            belongs
                .entry(seen.table)
                .and_modify(|held| match held {
                    Some(held_one) if held_one.0 == told.0 => {
                        if held_one.1 < told.1 {
                            *held_one = told;
                        }
                    }
                    // What is sure stands against what is not.
                    Some(held_one) if held_one.1 < told.1 => *held_one = told,
                    Some(held_one) if held_one.1 > told.1 => {}
                    _ => *held = None,
                })
                .or_insert(Some(told));
        }
    }
    without_doubles(belongs.into_iter().filter_map(|(table, told)| Some((table, told?))).collect())
}

/// Two tables that want one place have it neither of them.
fn without_doubles(belongs: Belongs) -> Belongs {
    let mut wanted: BTreeMap<u64, usize> = BTreeMap::new();
    belongs.values().for_each(|(slot, ..)| *wanted.entry(*slot).or_default() += 1);
    belongs.into_iter().filter(|(_, (slot, ..))| wanted.get(slot) == Some(&1)).collect()
}

/// Where on the disk a sector can belong that says something of itself.
fn places(seen: &Seen, starts: &[u64], has_one_first: bool) -> Vec<(u64, Confidence, Evidence)> {
    let mut places = Vec::new();
    match &seen.sighting {
        Sighting::PartitionTable { .. } if has_one_first => {
            places.push((0, Confidence::Strong, Evidence::PartitionTable));
        }
        Sighting::PartitionTable { .. } => {}
        Sighting::Gpt { lba, .. } => {
            places.push((lba * SECTOR, Confidence::Strong, Evidence::Gpt { lba: *lba }));
        }
        Sighting::Boot { start, copy, .. } => {
            for at in [*start, start.saturating_add(*copy)] {
                let evidence = Evidence::BootSector { lba: at / SECTOR };
                places.push((at, Confidence::Strong, evidence));
            }
            places.dedup();
        }
        Sighting::Ext { group, within, .. } => {
            let sure = if starts.is_empty() { Confidence::Likely } else { Confidence::Strong };
            let starts = if starts.is_empty() { &USUAL_STARTS[..] } else { starts };
            let evidence = Evidence::ExtSuperblock { group: *group };
            let told = starts.iter().map(|start| start.saturating_add(*within));
            places.extend(told.map(|at| (at, sure, evidence)));
        }
    }
    places
}

/// A host offset, for the list of what has no place.
pub(super) fn offsets(tables: impl IntoIterator<Item = u64>) -> Vec<HostOffset> {
    tables.into_iter().map(HostOffset::new).collect()
}
