//! Verification: the result is opened afresh, read by the code that reads every image, and
//! compared with what was read of the source.

use std::num::NonZeroUsize;
use std::sync::atomic::Ordering;

use calve_disk::units::{GuestOffset, GuestRange, in_memory};
use calve_disk::{Disk, Error as DiskError, Extent, HostErrors, OpenOptions, Payload, Scratch};

use crate::convert::format_of;
use crate::crew;
use crate::digest::{self, LEAF, Tree};
use crate::error::{Error, Result};
use crate::options::{Control, Options, Phase, Progress, Qcow2Options, TargetFormat};
use crate::output::Output;
use crate::source::Source;
use crate::turnstile::Turnstile;
use crate::zeros::is_zero;

/// Fails where the result's bytes are not those of the digest.
pub(crate) fn run(
    source: &Source,
    output: &Output,
    options: &Options,
    expected: &blake3::Hash,
    control: &Control,
) -> Result<()> {
    let disk = open(output, options)?;
    let size = source.size();
    let mismatch = |at| Error::Mismatch {
        path: calve_disk::Storage::path(&output.file).to_owned(),
        at: GuestOffset::new(at),
    };
    if disk.virtual_size() < size {
        return Err(mismatch(disk.virtual_size()));
    }
    if digest(&disk, size, options.threads, control)? != *expected {
        return Err(mismatch(first_difference(source, &disk)?));
    }
    match rest_is_zero(&disk, size, options)? {
        true => Ok(()),
        false => Err(mismatch(size)),
    }
}

fn open(output: &Output, options: &Options) -> Result<Disk> {
    let mut open = OpenOptions {
        format: Some(format_of(options)),
        with_bases: true,
        // The lock on it is ours.
        force_share: true,
        ..OpenOptions::default()
    };
    if let TargetFormat::Qcow2(Qcow2Options { base: Some(base), .. }) = &options.format {
        let layers = base.disk.layers();
        open.bases = layers.iter().map(|layer| layer.path.clone()).collect();
        open.elsewhere = base.disk.elsewhere().clone();
        open.base_formats = layers.iter().map(|layer| layer.image.facts().format).collect();
    }
    Ok(Disk::open(&output.path, &open)?)
}

/// BLAKE3 of the first `size` bytes of a disk: what `b3sum` says of the raw disk. What lies behind
/// the disk's end is zeros.
///
/// # Errors
/// [`Error::Disk`] where bytes are lost or cannot be read; [`Error::Stopped`].
pub fn digest(
    disk: &Disk,
    size: u64,
    threads: NonZeroUsize,
    control: &Control,
) -> Result<blake3::Hash> {
    let next = std::sync::atomic::AtomicU64::new(0);
    let leaves = size.div_ceil(LEAF);
    let tree = Turnstile::new(Tree::default());
    let work = || {
        let mut scratch = Scratch::default();
        let mut data = Vec::new();
        loop {
            let turn = next.fetch_add(1, Ordering::Relaxed);
            if turn >= leaves {
                return Ok(());
            }
            if control.stop.load(Ordering::Relaxed) {
                return Err(Error::Stopped);
            }
            let start = turn * LEAF;
            let range = GuestRange::at(start, LEAF.min(size - start));
            let extents = extents(disk, range)?;
            let leaf = if extents
                .iter()
                .all(|extent| matches!(extent.payload, Payload::Zero { .. } | Payload::Hole { .. }))
            {
                digest::empty_leaf(start, range.length, size)
            } else {
                data.resize(in_memory(range.length), 0);
                disk.read_whole(&extents, &mut scratch, &mut data)?;
                digest::leaf(&data, start, size)
            };
            if tree.enter(turn, |tree| tree.push(leaf)).is_none() {
                return Ok(());
            }
            let done = range.end().get();
            (control.progress)(Progress { phase: Phase::Verifying, done, total: size });
        }
    };
    crew::run(threads, || tree.close(), work)?;
    Ok(tree.into_inner().finish())
}

/// Reads a range; anything lost in it is an error.
fn read(disk: &Disk, range: GuestRange, scratch: &mut Scratch, data: &mut Vec<u8>) -> Result<()> {
    data.resize(in_memory(range.length), 0);
    Ok(disk.read_whole(&extents(disk, range)?, scratch, data)?)
}

fn extents(disk: &Disk, range: GuestRange) -> Result<Vec<Extent>> {
    Ok(disk.extents(range).collect::<calve_disk::Result<_>>()?)
}

/// Where the result begins to differ, to within a leaf; the digests have told that it does.
fn first_difference(source: &Source, disk: &Disk) -> Result<u64> {
    let (mut scratch, mut mine, mut its) = (Scratch::default(), Vec::new(), Vec::new());
    let mut at = 0;
    for part in source.disks() {
        let size = part.virtual_size();
        for start in (0..size).step_by(in_memory(LEAF)) {
            let length = LEAF.min(size - start);
            mine.resize(in_memory(length), 0);
            let extents = part
                .extents(GuestRange::at(start, length))
                .collect::<calve_disk::Result<Vec<_>>>()?;
            part.read(&extents, HostErrors::Lose, &mut scratch, &mut mine, &mut |_| {})?;
            read(disk, GuestRange::at(at + start, length), &mut scratch, &mut its)?;
            if mine != its {
                return Ok(at + start);
            }
        }
        at += size;
    }
    Ok(source.size())
}

/// Whether what the result has behind the source's end reads as zeros, as far as it was made.
fn rest_is_zero(disk: &Disk, size: u64, options: &Options) -> Result<bool> {
    if matches!(options.placement, crate::Placement::Existing { .. }) {
        return Ok(true);
    }
    let (mut scratch, mut data) = (Scratch::default(), Vec::new());
    let range = GuestRange::between(GuestOffset::new(size), disk.range().end());
    if range.length > LEAF {
        return Err(DiskError::Unsupported {
            path: disk.path().to_owned(),
            what: "the result is longer than it was made".into(),
        }
        .into());
    }
    read(disk, range, &mut scratch, &mut data)?;
    Ok(is_zero(&data))
}
