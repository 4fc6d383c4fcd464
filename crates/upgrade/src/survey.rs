//! The survey: a walk over all tables that proves what an upgrade needs, and tells what it would
//! do. Nothing is written.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use calve_disk::formats::qcow1::Qcow1Image;
use calve_disk::formats::qcow2::{AdoptedImage, RecordedBacking};
use calve_disk::units::{ClusterSize, GuestRange, HostOffset, SECTOR, in_memory};
use calve_disk::{
    Disk, Error as DiskError, Extent, Finding, Image, Layer, Payload, Rule, Storage, StorageMut,
};

use crate::contents;
use crate::counters::{Conflict, Counters, WINDOW};
use crate::error::{Error, Result};
use crate::fates::{self, Shared, StoredRun, Unfit};
use crate::layout::Layout;
use crate::view::View;
use crate::{Options, Verify};

/// What an upgrade would do, in numbers.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The cluster size, which stays.
    pub cluster_size: ClusterSize,
    /// The disk's size in bytes before.
    pub old_virtual_size: u64,
    /// The disk's size in bytes afterwards: rounded up to whole sectors.
    pub virtual_size: u64,
    /// The file's length in bytes before.
    pub old_file_size: u64,
    /// The file's length in bytes afterwards.
    pub file_size: u64,
    /// Clusters that stay where they are.
    pub staying: u64,
    /// Those of them that are packed.
    pub packed: u64,
    /// Clusters that are copied because they do not begin at a multiple of the cluster size.
    pub misaligned: u64,
    /// Clusters that are copied because another cluster owns the bytes.
    pub shared: u64,
    /// Packed clusters that are copied because they lie beside the header.
    pub beside_header: u64,
    /// Bytes of the new L2 tables.
    pub l2_bytes: u64,
    /// Bytes of the new L1 table.
    pub l1_bytes: u64,
    /// Bytes of the reference counts and their table.
    pub refcount_bytes: u64,
    /// Bytes of L2 tables that a guest which reads all over the disk needs in memory.
    pub l2_cache: u64,
    /// Whether the disk is encrypted, and stays so.
    pub is_encrypted: bool,
    /// The backing file and its format, as they will be recorded.
    pub backing: Option<RecordedBacking>,
}

impl Plan {
    /// Bytes that are appended to the file.
    pub fn appended(&self) -> u64 {
        self.file_size - self.old_file_size
    }

    /// Clusters that are copied to the end of the file.
    pub fn moving(&self) -> u64 {
        self.misaligned + self.shared + self.beside_header
    }
}

/// The plan and what is needed to carry it out.
pub(crate) struct Surveyed {
    pub(crate) plan: Plan,
    pub(crate) image: AdoptedImage,
    pub(crate) layout: Layout,
    pub(crate) shared: Shared,
    pub(crate) old: Disk,
    pub(crate) old_start: Vec<u8>,
    pub(crate) old_tables: String,
    pub(crate) contents: Option<blake3::Hash>,
    /// The counts of the last window, which are those of most files.
    pub(crate) last_window: Option<Counters>,
}

/// L2 tables whose places are compared with one another: 32 MiB of places. A disk with more of
/// them has 8 TiB in QEMU's geometry.
const MAX_TABLES: usize = 4 << 20;

/// Bytes that make a digest quick.
const HASHED_AT_ONCE: usize = 256 << 10;

/// Clusters with two owners that are copied: 8 MiB of numbers.
const MAX_SHARED: usize = 1 << 20;

/// Surveys the image in `storage`.
pub(crate) fn run(
    storage: &Arc<dyn StorageMut>,
    options: &Options,
    stop: &AtomicBool,
) -> Result<Surveyed> {
    let path = storage.path().to_owned();
    let file_size = calve_inplace::size_of(&**storage)?;
    let old_start = start_of(&**storage, file_size)?;
    let image = Qcow1Image::open(View::plain(storage, file_size), None)?;
    let facts = image.facts().clone();
    if let Some(lost) = facts.findings.iter().find(|it| it.rule == Rule::BackingNamePlace) {
        return Err(DiskError::broken(&path, *lost).into());
    }
    let backing = backing(&facts, options, &path)?;
    let cluster_size = facts.cluster_size.unwrap_or(ClusterSize::SECTOR);
    let adopted = AdoptedImage::new(
        &path,
        facts.virtual_size,
        cluster_size,
        facts.is_encrypted,
        backing.as_ref(),
    )?;
    let old_tables = tables_digest(&image, &path)?;
    let old = Disk::of_layers(vec![Layer::detached(Box::new(image))]);
    let base = cluster_size.count(file_size);
    if base > adopted.max_clusters() {
        return Err(too_long(&path, &adopted));
    }
    let Counted { tally, shared, old_blocks, last_window } =
        count(&old, &adopted, file_size, options.holds, stop)?;
    let Tally { staying, packed, misaligned, beside_header, l2_tables, .. } = tally;
    let moved = misaligned + beside_header + shared.count() as u64;
    let layout = Layout::new(&adopted, base, moved, l2_tables, &old_blocks);
    if layout.end() > adopted.max_clusters() {
        return Err(too_long(&path, &adopted));
    }
    let contents = match options.verify {
        Verify::Full => Some(contents::digest(&old, old.range(), &**storage, stop)?),
        Verify::Tables => None,
    };
    let bytes = |clusters: u64| clusters << cluster_size.bits();
    let plan = Plan {
        cluster_size,
        old_virtual_size: facts.virtual_size,
        virtual_size: adopted.virtual_size(),
        old_file_size: file_size,
        file_size: layout.file_size(),
        staying: staying - shared.count() as u64,
        packed,
        misaligned,
        shared: shared.count() as u64,
        beside_header,
        l2_bytes: bytes(l2_tables),
        l1_bytes: bytes(layout.l1_clusters),
        refcount_bytes: bytes(layout.blocks.len() as u64 + layout.table_clusters),
        l2_cache: bytes(adopted.virtual_size().div_ceil(adopted.l2_span())),
        is_encrypted: facts.is_encrypted,
        backing,
    };
    Ok(Surveyed {
        plan,
        image: adopted,
        layout,
        shared,
        old,
        old_start,
        old_tables,
        contents,
        last_window,
    })
}

/// What a walk over all windows finds.
struct Counted {
    tally: Tally,
    shared: Shared,
    /// The refcount blocks that count anything of the old image.
    old_blocks: Vec<u64>,
    last_window: Option<Counters>,
}

fn count(
    old: &Disk,
    image: &AdoptedImage,
    file_size: u64,
    holds: bool,
    stop: &AtomicBool,
) -> Result<Counted> {
    let (size, path) = (image.cluster_size(), old.path());
    let base = size.count(file_size);
    let mut counted = Counted {
        tally: Tally::new(image, file_size),
        shared: Shared::default(),
        old_blocks: Vec::new(),
        last_window: None,
    };
    for first in (0..base).step_by(in_memory(WINDOW)) {
        if stop.load(Ordering::Relaxed) {
            return Err(Error::Stopped);
        }
        let clusters = first..base.min(first + WINDOW);
        let mut each = |run: &StoredRun| match first {
            0 => counted.tally.add(run, path),
            _ => Ok(()),
        };
        let counters = window(old, size, clusters, path, &mut counted.shared, &mut each)?;
        used_blocks(&counters, base, image, holds, &mut counted.old_blocks);
        counted.last_window = Some(counters);
    }
    counted.shared.sort();
    Ok(counted)
}

/// The first sector, or all of a file that is shorter.
pub(crate) fn start_of(storage: &dyn Storage, file_size: u64) -> Result<Vec<u8>> {
    let mut start = vec![0; in_memory(file_size.min(SECTOR))];
    let at = HostOffset::new(0);
    storage
        .read_at(&mut start, at)
        .map_err(|source| DiskError::io("reading the header", storage, at, source))?;
    Ok(start)
}

fn backing(
    facts: &calve_disk::Facts,
    options: &Options,
    path: &Path,
) -> Result<Option<RecordedBacking>> {
    let Some(reference) = &facts.backing else {
        return match &options.backing_format {
            None => Ok(None),
            Some(_) => Err(Error::Refused {
                path: path.to_owned(),
                why: "has no backing file, whose format was named".into(),
                next: "leave out --backing-format",
            }),
        };
    };
    match &options.backing_format {
        Some(format) => {
            let name = options.backing_name.as_ref().unwrap_or(&reference.name).clone();
            Ok(Some(RecordedBacking { name, format: format.clone() }))
        }
        None => Err(Error::Refused {
            path: path.to_owned(),
            why: "has a backing file whose format is not known".into(),
            next: "name it with --backing-format",
        }),
    }
}

fn too_long(path: &Path, image: &AdoptedImage) -> Error {
    let what = format!(
        "a qcow2 file with clusters of {} bytes has at most {} bytes, tables included, and this \
         one would have more; convert it instead, to larger clusters",
        image.cluster_size().bytes(),
        image.max_clusters() << image.cluster_size().bits()
    );
    DiskError::Unsupported { path: path.to_owned(), what }.into()
}

/// Digest of the places and entries of all tables of a version 1 image. Two L1 entries with one
/// L2 table, or with tables that overlap, are refused on the way.
pub(crate) fn tables_digest(image: &Qcow1Image, path: &Path) -> Result<String> {
    let (mut hasher, mut bytes, mut places) = (blake3::Hasher::new(), Vec::new(), Vec::new());
    let mut length = 0;
    image.visit_tables(&mut |table| {
        bytes.extend_from_slice(&table.at.get().to_be_bytes());
        bytes.extend(table.entries.iter().flat_map(|entry| entry.to_be_bytes()));
        if bytes.len() >= HASHED_AT_ONCE {
            hasher.update(&bytes);
            bytes.clear();
        }
        if table.is_l2 && places.len() <= MAX_TABLES {
            length = table.entries.len() as u64 * 8;
            places.push(table.at.get());
        }
    })?;
    if places.len() > MAX_TABLES {
        let what = format!("has more than {MAX_TABLES} L2 tables; convert it instead");
        return Err(DiskError::Unsupported { path: path.to_owned(), what }.into());
    }
    hasher.update(&bytes);
    places.sort_unstable();
    let neighbours = places.iter().zip(places.iter().skip(1));
    if let Some((_, second)) =
        neighbours.into_iter().find(|(first, second)| **second < **first + length)
    {
        let finding = Finding::new(Rule::L2Shared).at(HostOffset::new(*second));
        return Err(DiskError::broken(path, finding).into());
    }
    Ok(hasher.finalize().to_hex().to_string())
}

/// What stays, what is moved, and how many tables name it.
struct Tally {
    cluster_size: ClusterSize,
    /// Guest clusters that one L2 table maps.
    in_table: u64,
    file_size: u64,
    /// The number of the first L2 table that is not counted yet.
    next_table: u64,
    staying: u64,
    packed: u64,
    misaligned: u64,
    beside_header: u64,
    l2_tables: u64,
}

impl Tally {
    fn new(image: &AdoptedImage, file_size: u64) -> Self {
        Self {
            cluster_size: image.cluster_size(),
            in_table: image.l2_span() >> image.cluster_size().bits(),
            file_size,
            next_table: 0,
            staying: 0,
            packed: 0,
            misaligned: 0,
            beside_header: 0,
            l2_tables: 0,
        }
    }

    /// Adds the next run; refuses one that the end of the file cuts.
    fn add(&mut self, run: &StoredRun, path: &Path) -> Result<()> {
        let size = self.cluster_size;
        let first = run.first / self.in_table;
        let end = (run.first + run.count).div_ceil(self.in_table);
        self.l2_tables += end - first.max(self.next_table);
        self.next_table = end;
        let is_packed = !run.stored.encoding.is_same_length();
        match fates::unfit(&run.stored, size) {
            Some(Unfit::Misaligned) => self.misaligned += run.count,
            Some(Unfit::BesideHeader) => self.beside_header += run.count,
            None => {
                self.staying += run.count;
                self.packed += if is_packed { run.count } else { 0 };
            }
        }
        if is_packed || run.stored.at.get() + (run.count << size.bits()) <= self.file_size {
            return Ok(());
        }
        let guest = GuestRange::at(run.first << size.bits(), run.stored.length);
        let finding = Finding::new(Rule::LastClusterShort).at(run.stored.at);
        Err(DiskError::broken(path, finding.guest(guest)).into())
    }
}

/// Counts the references to the host clusters of a window, and adds to `shared` what has another
/// owner there. Tells `each` of all runs, and refuses what is lost.
fn window(
    old: &Disk,
    size: ClusterSize,
    clusters: std::ops::Range<u64>,
    path: &Path,
    shared: &mut Shared,
    each: &mut dyn FnMut(&StoredRun) -> Result<()>,
) -> Result<Counters> {
    let mut counters = Counters::new(size, clusters.start, clusters.end);
    counters.add_table(0, 1);
    let mut other = |extent: &Extent| match extent.payload {
        Payload::Lost(lost) => {
            let finding = Finding::new(lost.rule).at(lost.at).guest(extent.range);
            Err(DiskError::broken(path, finding).into())
        }
        _ => Ok(()),
    };
    fates::walk(old, size, &mut other, &mut |run| {
        each(run)?;
        if fates::unfit(&run.stored, size).is_some() {
            return Ok(());
        }
        let (mut overlaps, already) = (false, shared.count());
        counters.add(&run.stored, &mut |conflict| match conflict {
            Conflict::Owned(number) if shared.count() <= MAX_SHARED => {
                shared.add(run.first + number);
            }
            Conflict::Owned(_) | Conflict::Packed => overlaps = true,
        });
        if overlaps || (shared.count() > already && shared.count() > MAX_SHARED) {
            let range = GuestRange::at(run.first << size.bits(), run.count << size.bits());
            let finding = Finding::new(Rule::ClusterShared).at(run.stored.at).guest(range);
            return Err(DiskError::broken(path, finding).into());
        }
        Ok(())
    })?;
    Ok(counters)
}

/// Counts a window again, after the survey: what is shared is known by now.
pub(crate) fn count_again(
    surveyed: &Surveyed,
    clusters: std::ops::Range<u64>,
    path: &Path,
) -> Result<Counters> {
    let size = surveyed.image.cluster_size();
    window(&surveyed.old, size, clusters, path, &mut Shared::default(), &mut |_| Ok(()))
}

/// The blocks among those of this window that count anything.
fn used_blocks(
    counters: &Counters,
    base: u64,
    image: &AdoptedImage,
    holds: bool,
    blocks: &mut Vec<u64>,
) {
    let in_block = image.clusters_in_block();
    let end = base.min(counters.first() + WINDOW);
    for first in (counters.first()..end).step_by(in_memory(in_block)) {
        let mut clusters = first..end.min(first + in_block);
        if holds || clusters.any(|cluster| counters.of(cluster) > 0) {
            blocks.push(first / in_block);
        }
    }
}
