//! The conversion from end to end: look first, write under another name, name it last.

use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::AtomicU64;

use calve_disk::formats::qcow2::{Qcow2Target, Qcow2TargetOptions, RecordedBacking};
use calve_disk::formats::raw::RawTarget;
use calve_disk::units::in_memory;
use calve_disk::{
    Codec, Disk, Error as DiskError, Finish, Format, HostFile, Storage, StorageMut, Target,
};

use crate::batches::{BATCH, Batches};
use crate::blank::{self, Existing};
use crate::digest::Tree;
use crate::error::{Error, Result};
use crate::losses::Losses;
use crate::moves::Mover;
use crate::options::{
    Base, Cache, Control, EmptyFormat, Options, Phase, Placement, Progress, Qcow2Options, Summary,
    TargetFormat,
};
use crate::output::Output;
use crate::run::{InTurn, Plan, Run};
use crate::source::Source;
use crate::turnstile::Turnstile;
use crate::{prescan, verify};

/// The longest batch of nothing, where nothing has to be done for it.
const LONGEST_VOID: u64 = 1 << 62;

/// The longest batch of nothing, where each of its clusters means work or memory.
const LONGEST_WORKED_VOID: u64 = 64 * BATCH;

/// A result that is whole and, unless the options said otherwise, on the medium, and has no name
/// yet. It goes away where it gets none, except where [`Placement::Existing`] made it be written
/// into what was there. The sources are still open.
pub struct Unnamed {
    output: Output,
    cache: Cache,
    summary: Summary,
    _sources: Source,
}

impl Unnamed {
    /// Its bytes.
    pub fn file(&self) -> &HostFile {
        &self.output.file
    }

    /// What was done, of a result that is to get no name.
    pub fn summary(&self) -> &Summary {
        &self.summary
    }

    /// Gives it its name.
    pub fn take_name(self) -> Result<Summary> {
        self.output.commit(self.cache)?;
        Ok(self.summary)
    }
}

/// Converts the disks, one behind the other, to a new image at `target`.
///
/// The target bears its name only when it is whole and, unless `options` say otherwise, on the
/// medium; whatever fails before leaves nothing behind, except where [`Placement::Existing`] made
/// it write into what was there. The sources are only read, and a change of one during the run
/// is an error.
pub fn convert(
    sources: Vec<Disk>,
    target: &Path,
    options: &Options,
    control: &Control,
) -> Result<Summary> {
    convert_unnamed(sources, target, options, control)?.take_name()
}

/// As [`convert`], for a caller who has to look at something else before the target gets its name.
pub fn convert_unnamed(
    sources: Vec<Disk>,
    target: &Path,
    options: &Options,
    control: &Control,
) -> Result<Unnamed> {
    let source = Source::new(sources);
    for disk in source.disks() {
        disk.require_keys()?;
    }
    let base = base_of(&options.format);
    let mut read: Vec<&Disk> = source.disks().collect();
    read.extend(base.map(|(disk, _)| disk));
    let output = Output::open(target, options.placement, options.cache, &read)?;
    let total = prescan::run(&source, options.salvage, control)?;
    let place = target_for(source.size(), options, &output)?;
    blank::begin(&output.file, options)?;
    let plan = plan(options, &*place);
    let mover = Mover::new(&source, &output, options, place.cluster_size().bytes())?;
    let is_worked = plan.digest || plan.sparse == 0 || base.is_some();
    let longest_void = if is_worked { LONGEST_WORKED_VOID } else { LONGEST_VOID };
    let in_turn =
        InTurn { target: place, losses: Losses::default(), tree: Tree::default(), stored: 0 };
    let run = Run {
        source: &source,
        base,
        options,
        plan,
        file: &output.file,
        control,
        pace: &options.pace,
        mover,
        batches: Mutex::new(Batches::of(&source, longest_void, options.salvage)),
        placed: Turnstile::new(in_turn),
        done: AtomicU64::new(0),
        cloned: AtomicU64::new(0),
        total,
    };
    run.run()?;
    let cloned = run.cloned.into_inner();
    let InTurn { target: mut place, losses, tree, stored } = run.placed.into_inner();
    let progress = Progress { phase: Phase::Syncing, done: total, total };
    (control.progress)(progress);
    let finish = place.finish()?;
    let file_size = write_finish(&output.file, finish, options.placement, options.cache)?;
    source.unchanged()?;
    if let Some((base, _)) = base {
        base.unchanged()?;
    }
    let blake3 = match options.verify {
        true => {
            let digest = tree.finish();
            verify::run(&source, &output, options, &digest, control)?;
            Some(digest.to_hex().to_string())
        }
        false => None,
    };
    if control.stop.load(std::sync::atomic::Ordering::Relaxed) {
        return Err(Error::Stopped);
    }
    let summary = Summary {
        target: target.to_owned(),
        virtual_size: place.virtual_size(),
        source_size: source.size(),
        file_size,
        stored,
        cloned,
        losses: losses.into_list(),
        blake3,
    };
    Ok(Unnamed { output, cache: options.cache, summary, _sources: source })
}

/// Makes an empty image of `size` bytes at `target`, and says what virtual size it has.
///
/// As with [`convert`], the target bears its name only when it is whole.
pub fn create(
    target: &Path,
    size: u64,
    format: &EmptyFormat,
    placement: Placement,
    cache: Cache,
) -> Result<u64> {
    let output = Output::open(target, placement, cache, &[])?;
    let mut place = target_of(format, size, &output)?;
    let finish = place.finish()?;
    write_finish(&output.file, finish, placement, cache)?;
    output.commit(cache)?;
    Ok(place.virtual_size())
}

fn base_of(format: &TargetFormat) -> Option<(&Disk, Option<usize>)> {
    match format {
        TargetFormat::Qcow2(Qcow2Options { base: Some(base), .. }) => {
            Some((&base.disk, base.layer))
        }
        _ => None,
    }
}

/// The target for a source of `source` bytes, as large as what is there already where that is
/// written into.
fn target_for(source: u64, options: &Options, output: &Output) -> Result<Box<dyn Target>> {
    let is_existing = matches!(options.placement, Placement::Existing { .. });
    let mut size = source;
    let format = match &options.format {
        TargetFormat::Raw => {
            if is_existing {
                size = output.file.size().map_err(|source| {
                    DiskError::host("asking for the target's size", &output.path, source)
                })?;
            }
            EmptyFormat::Raw
        }
        TargetFormat::Qcow2(qcow2) => {
            let mut cluster_size = qcow2.cluster_size;
            if is_existing {
                Existing { virtual_size: size, cluster_size } = blank::existing(output)?;
            }
            let recorded = |base: &Base| RecordedBacking {
                name: base.name.clone(),
                format: base.format.clone(),
            };
            EmptyFormat::Qcow2 { cluster_size, backing: qcow2.base.as_ref().map(recorded) }
        }
    };
    if size < source {
        return Err(Error::Target {
            path: output.path.clone(),
            why: format!("has room for {size} bytes, and the disk has {source}"),
        });
    }
    target_of(&format, size, output)
}

fn target_of(format: &EmptyFormat, size: u64, output: &Output) -> Result<Box<dyn Target>> {
    Ok(match format {
        EmptyFormat::Raw => Box::new(RawTarget::new(size)),
        EmptyFormat::Qcow2 { cluster_size, backing } => {
            let options = Qcow2TargetOptions {
                virtual_size: size,
                cluster_size: *cluster_size,
                backing: backing.clone(),
            };
            Box::new(Qcow2Target::new(output.file.path(), &options)?)
        }
    })
}

fn plan(options: &Options, target: &dyn Target) -> Plan {
    let (is_raw, compress) = match &options.format {
        TargetFormat::Raw => (true, false),
        TargetFormat::Qcow2(qcow2) => (false, qcow2.compress),
    };
    Plan {
        is_raw,
        cluster: in_memory(target.cluster_size().bytes()),
        compress,
        keeps: compress && target.keeps(Codec::Deflate),
        sparse: in_memory(options.sparse_size.min(BATCH)),
        reads_zeros: match options.placement {
            Placement::Existing { is_zero } => is_zero,
            Placement::New | Placement::Replace | Placement::ReplaceSource => true,
        },
        digest: options.verify,
    }
}

/// Writes what is left when all ranges are placed: the last tables, then what makes it an image.
fn write_finish(
    file: &HostFile,
    finish: Finish,
    placement: Placement,
    cache: Cache,
) -> Result<u64> {
    let write = |table: &calve_disk::TableWrite| {
        file.write_at(&table.bytes, table.at)
            .map_err(|source| DiskError::io("writing a table", file, table.at, source))
    };
    let sync = || {
        if cache == Cache::Unsafe {
            return Ok(());
        }
        file.sync().map_err(|source| DiskError::host("syncing", file.path(), source))
    };
    finish.tables.iter().try_for_each(write)?;
    // A raw disk in an existing file keeps what lies behind it, and a device has the size it has.
    if !matches!(placement, Placement::Existing { .. }) {
        file.set_size(finish.file_size)
            .map_err(|source| DiskError::host("setting the file's size", file.path(), source))?;
    }
    sync()?;
    if let Some(header) = &finish.header {
        write(header)?;
        sync()?;
    }
    if cache == Cache::None
        && let Some(file) = file.as_file()
    {
        // What was written is on the medium: the cache is given back.
        let advice = rustix::fs::Advice::DontNeed;
        let _ = rustix::fs::fadvise(file, 0, None, advice);
    }
    Ok(finish.file_size)
}

/// How a result is opened again.
pub(crate) fn format_of(options: &Options) -> Format {
    match options.format {
        TargetFormat::Raw => Format::Raw,
        TargetFormat::Qcow2(_) => Format::Qcow2,
    }
}
