//! `convert`: copy disks to a new image.

mod object;
mod untrusted;

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{ErrorKind, Write};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use calve_convert::{
    Base, Cache, Control, Copying, Filled, Loss, Options, Pace, Placement, Qcow2Options, Salvage,
    Summary, TargetFormat,
};
use calve_disk::open::shown;
use calve_disk::{Disk, Format, OpenOptions};
use serde_json::{Value, json};

use crate::args::{ConvertArgs, CopyHow, SalvageWith, Shape};
use crate::command::convert::object::ObjectTarget;
use crate::command::target::{self, Backing, NewImage};
use crate::evidence::Evidence;
use crate::exit::{Code, Failure};
use crate::progress::Reporter;
use crate::secrets::Keys;
use crate::source::{self, Request};
use crate::worker::{self, Death, Stage};
use crate::{print, signals, size, store, threads, writing};

pub(crate) fn run(args: &ConvertArgs, program: &str, evidence: &Evidence) -> Result<Code, Failure> {
    let format = target::format(&args.target_format)?;
    if let Some(printed) = target::help(format, &args.options) {
        return printed.map(|()| Code::Done);
    }
    check(args, format)?;
    let numbers = Numbers::of(args)?;
    let Some((target, sources)) = args.files.split_last() else {
        return Err(Failure::usage("name a source and a target"));
    };
    let target = Path::new(target);
    let new = NewImage::new(
        format,
        &args.options,
        args.backing.as_deref(),
        args.target_backing_format.as_deref(),
    )?;
    object::check(target, args)?;
    let mut requests = requests(sources, args)?;
    let new_map = args.map.as_deref().filter(|map| map.symlink_metadata().is_err());
    let died = |death: &Death| untrusted::tell_death(target, new_map, death);
    let plan = untrusted::plan(target, args, program, evidence, &died)?;
    let threshold = match worker::start(&plan, &requests.iter().collect::<Vec<_>>())? {
        Stage::Over(code) => return Ok(code),
        Stage::Here(threshold) => threshold,
    };
    let mut keys = Keys::new(&args.keys)?;
    requests.iter_mut().try_for_each(Request::read_secrets)?;
    threshold.cross(&mut requests.iter_mut().collect::<Vec<_>>())?;
    let sources = open(&mut requests, &mut keys, evidence)?;
    if !args.progress.quiet {
        for (request, disk) in requests.iter().zip(&sources) {
            source::announce(program, request, disk);
        }
    }
    let was_encrypted = sources
        .iter()
        .any(|disk| disk.layers().iter().any(|layer| layer.image.facts().is_encrypted));
    let base = new.backing.as_ref().map(|backing| base(backing, target, &sources, args));
    let base = base.transpose()?;
    base.as_ref().map_or(Ok(()), |base| evidence.opened(&base.disk))?;
    let options = options(args, &numbers, &new, base);
    let map = args.map.as_deref().map(|path| MapFile::create(path, args.force)).transpose()?;
    let object = ObjectTarget::of(target, &sources, args, program)?;
    let summary = convert(sources, target, object.as_ref(), options, args, evidence)?;
    evidence.note("target", || summary_json(&summary));
    if let Some(map) = map {
        map.write(&summary)?;
    }
    tell(program, args, &summary, was_encrypted, object.as_ref())?;
    Ok(if summary.losses.is_empty() { Code::Done } else { Code::Losses })
}

fn check(args: &ConvertArgs, format: Format) -> Result<(), Failure> {
    if args.compress && format == Format::Raw {
        return Err(Failure::new(Code::Unsupported, "a raw image has no packed clusters")
            .next("write -O qcow2, or leave out -c"));
    }
    if args.copy == CopyHow::Clone && (args.compress || args.salvage.is_some()) {
        return Err(Failure::usage(
            "--copy clone shares blocks that nobody looks into, and -c and --salvage look into all of them",
        ));
    }
    if args.no_create && !args.options.is_empty() {
        return Err(Failure::usage("-o says how to make an image, and with -n none is made"));
    }
    if args.no_create && args.backing.is_some() {
        return Err(Failure::usage("-B makes an overlay, and with -n no image is made"));
    }
    Ok(())
}

fn requests(names: &[OsString], args: &ConvertArgs) -> Result<Vec<Request>, Failure> {
    let request = |name: &OsString| {
        Request::new(name, args.format.as_deref(), true, &args.open)?.reading(&args.source_cache)
    };
    names.iter().map(request).collect()
}

fn open(
    requests: &mut [Request],
    keys: &mut Keys,
    evidence: &Evidence,
) -> Result<Vec<Disk>, Failure> {
    let open = |request| evidence.opening(request, |request| request.open_with_keys(keys));
    let disks = requests.iter_mut().map(open).collect::<Result<_, _>>()?;
    keys.finish()?;
    Ok(disks)
}

/// The numbers and modes among the options, which can be wrong before any file is opened.
struct Numbers {
    sparse_size: u64,
    cache: Cache,
    threads: NonZeroUsize,
    rate_limit: Option<u64>,
}

impl Numbers {
    fn of(args: &ConvertArgs) -> Result<Self, Failure> {
        let sparse_size = size::parse("-S", &args.sparse_size)?;
        if !sparse_size.is_multiple_of(512) || sparse_size > 16 << 20 {
            return Err(Failure::usage(format!("-S: {sparse_size} cannot be had"))
                .next("write a multiple of 512 up to 16M, or 0"));
        }
        let sources = args.files.split_last().map_or(&[][..], |(_, sources)| sources);
        let rate = args.rate_limit.as_deref().map(|rate| size::parse("-r", rate));
        Ok(Self {
            sparse_size,
            cache: target::cache(&args.target_cache)?,
            threads: threads::of(args.parallel.as_deref(), sources.iter().map(Path::new))?,
            rate_limit: rate.transpose()?,
        })
    }
}

fn options(args: &ConvertArgs, numbers: &Numbers, new: &NewImage, base: Option<Base>) -> Options {
    Options {
        format: match new.format {
            Format::Qcow2 => TargetFormat::Qcow2(Qcow2Options {
                cluster_size: new.cluster_size,
                compress: args.compress,
                base,
            }),
            _ => TargetFormat::Raw,
        },
        sparse_size: numbers.sparse_size,
        placement: match (args.no_create, args.force) {
            (true, _) => Placement::Existing { is_zero: args.target_is_zero },
            (false, true) => Placement::Replace,
            (false, false) => Placement::New,
        },
        cache: numbers.cache,
        salvage: match args.salvage {
            None => Salvage::Refuse,
            Some(SalvageWith::Base) => Salvage::FromBase,
            Some(SalvageWith::Zeros) => Salvage::Zeros,
        },
        copying: match args.copy {
            CopyHow::Auto => Copying::Auto,
            CopyHow::Kernel => Copying::Kernel,
            CopyHow::Clone => Copying::Clone,
            CopyHow::Read => Copying::Read,
        },
        verify: args.verify,
        threads: numbers.threads,
        pace: Arc::new(Pace::new(numbers.rate_limit)),
    }
}

/// Opens the base of a thin overlay, and finds it among the files of the source.
fn base(
    backing: &Backing,
    target: &Path,
    sources: &[Disk],
    args: &ConvertArgs,
) -> Result<Base, Failure> {
    let [source] = sources else {
        return Err(Failure::usage("an overlay is made of one source, not of several"));
    };
    let path = source::beside(target, Path::new(&backing.name));
    let options = OpenOptions {
        format: Some(backing.format),
        with_bases: true,
        base_roots: args.open.base_root.clone(),
        force_share: args.open.force_share,
        elsewhere: store::elsewhere(),
        ..OpenOptions::default()
    };
    let disk = Disk::open(&path, &options)?;
    if disk.require_keys().is_err() {
        let text = format!("{}: is encrypted, or its own base is", shown(&path));
        return Err(Failure::new(Code::Unsupported, text)
            .next("migrate it first, or convert without -B: the result then holds all of it"));
    }
    let is_base = |layer: &calve_disk::Layer| {
        let base = &disk.layers()[0];
        let is_same = match (layer.identity(), base.identity()) {
            // Objects are known by their names.
            (None, None) => layer.path == base.path,
            (layer, base) => layer == base,
        };
        is_same && layer.image.facts().format == backing.format
    };
    let layer = source.layers().iter().position(is_base).filter(|layer| *layer > 0);
    Ok(Base {
        name: backing.name.clone().into_bytes(),
        format: backing.format.name().to_owned(),
        disk,
        layer,
    })
}

fn convert(
    sources: Vec<Disk>,
    target: &Path,
    object: Option<&ObjectTarget>,
    mut options: Options,
    args: &ConvertArgs,
    evidence: &Evidence,
) -> Result<Summary, Failure> {
    let flags = signals::install()?;
    let reporter = Reporter::new(&args.progress, flags)?;
    let progress = |progress| reporter.tell(progress);
    let control = Control { stop: &flags.stop, progress: &progress };
    let spool = object.map(ObjectTarget::spool);
    if object.is_some() {
        // It goes away when it is sent.
        (options.placement, options.cache) = (Placement::New, Cache::Unsafe);
    }
    let path = spool.as_deref().unwrap_or(target);
    let done = calve_convert::convert_unnamed(sources, path, &options, &control);
    reporter.pause();
    let told = |error| told(error, path, args);
    let done = done.map_err(told).and_then(|unnamed| {
        evidence.unchanged()?;
        match object {
            None => unnamed.take_name().map_err(told),
            Some(object) => {
                let tell = |done, total| reporter.tell_sent(done, total);
                object.publish(&unnamed, &flags.stop, &tell)
            }
        }
    });
    reporter.pause();
    reporter.finish(done.is_ok());
    done
}

fn told(error: calve_convert::Error, target: &Path, args: &ConvertArgs) -> Failure {
    match error {
        error @ calve_convert::Error::Target { .. } => {
            let is_there = target.symlink_metadata().is_ok() && !args.no_create && !args.force;
            let failure = Failure::from(error);
            if is_there && failure.text.ends_with("exists already") {
                failure.next("name another target, or replace it with --force")
            } else {
                failure
            }
        }
        error => {
            let failure = Failure::from(error);
            match failure.code {
                Code::Unsupported if args.copy == CopyHow::Clone => {
                    failure.next("leave out --copy clone, and what can be shared is")
                }
                _ => failure,
            }
        }
    }
}

/// The map of what was lost: made before anything else, so that a name that cannot be had is
/// found out at once, and removed again where there is nothing to put in.
struct MapFile {
    path: PathBuf,
    file: Option<File>,
}

impl MapFile {
    fn create(path: &Path, force: bool) -> Result<Self, Failure> {
        let mut options = File::options();
        options.write(true);
        match force {
            true => options.create(true).truncate(true),
            false => options.create_new(true),
        };
        let file = writing::open(&mut options, path).map_err(|error| {
            let said = error.to_string();
            let (why, next) = writing::unread(&error).unwrap_or((&said, "name another with --map"));
            let text = format!("{}: creating the map file: {why}", shown(path));
            Failure::new(Code::Refused, text).next(next)
        })?;
        Ok(Self { path: path.to_owned(), file: Some(file) })
    }

    fn write(mut self, summary: &Summary) -> Result<(), Failure> {
        let Some(file) = self.file.take() else { return Ok(()) };
        let lost = summary.losses.iter().map(|loss| loss.range);
        let text = crate::command::map::ddrescue(lost, 0, summary.source_size);
        let synced = || match file.sync_all() {
            // A pipe has no medium.
            Err(error) if error.kind() == ErrorKind::InvalidInput => Ok(()),
            done => done,
        };
        (&file).write_all(text.as_bytes()).and_then(|()| synced()).map_err(|error| {
            let text = format!("{}: writing the map file: {error}", shown(&self.path));
            Failure::host(text, &error).next("the target is complete; the losses are not listed")
        })
    }
}

impl Drop for MapFile {
    fn drop(&mut self) {
        // A pipe or a device is not of this program's making.
        let is_made = || self.path.symlink_metadata().is_ok_and(|there| there.is_file());
        if self.file.is_some() && is_made() {
            // Best effort: the conversion's own failure is what is told.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

fn tell(
    program: &str,
    args: &ConvertArgs,
    summary: &Summary,
    was_encrypted: bool,
    object: Option<&ObjectTarget>,
) -> Result<(), Failure> {
    let target = shown(&summary.target);
    let mut notes = Vec::new();
    if summary.virtual_size != summary.source_size && !args.no_create {
        notes.push(format!(
            "{target}: has whole sectors: the disk's {} bytes became {}, with zeros behind",
            summary.source_size, summary.virtual_size
        ));
    }
    if was_encrypted {
        notes.push(format!("{target}: is not encrypted, as its source was"));
    }
    for loss in &summary.losses {
        notes.push(loss_line(loss));
    }
    if let Some(object) = object {
        notes.push(format!("{target}: {}", store::traffic_words(object.traffic())));
    }
    if !args.progress.quiet {
        notes.iter().for_each(|note| print::note(program, note));
    }
    if args.output == Shape::Json {
        let mut document = summary_json(summary);
        if let Some(object) = object {
            document["traffic"] = store::traffic_json(object.traffic());
        }
        return print::json(&document);
    }
    match &summary.blake3 {
        Some(digest) if !args.progress.quiet => {
            print::out(&format!("verified: BLAKE3 of the disk's bytes {digest}\n"))
        }
        _ => Ok(()),
    }
}

fn loss_line(loss: &Loss) -> String {
    let filled = match loss.filled {
        Filled::Zeros => "zeros stand there",
        Filled::Base => "the base's bytes stand there",
    };
    let range = loss.range;
    format!(
        "lost: guest bytes {} to {}: {} (at {}) [{}]; {filled}",
        range.start,
        range.end(),
        loss.lost.rule.statement(),
        loss.lost.at,
        loss.lost.rule.number()
    )
}

fn summary_json(summary: &Summary) -> Value {
    let losses: Vec<Value> = summary.losses.iter().map(loss_json).collect();
    let lost: u64 = summary.losses.iter().map(|loss| loss.range.length).sum();
    json!({
        "filename": text(summary.target.as_os_str()),
        "virtual-size": summary.virtual_size,
        "source-size": summary.source_size,
        "file-length": summary.file_size,
        "stored-bytes": summary.stored,
        "cloned-bytes": summary.cloned,
        "lost-bytes": lost,
        "losses": losses,
        "blake3": summary.blake3,
        "verified": summary.blake3.is_some(),
    })
}

fn loss_json(loss: &Loss) -> Value {
    json!({
        "source": loss.source,
        "start": loss.range.start.get(),
        "length": loss.range.length,
        "rule": loss.lost.rule.number(),
        "statement": loss.lost.rule.statement(),
        "layer": loss.lost.layer,
        "host-offset": loss.lost.at.get(),
        "filled-with": match loss.filled { Filled::Zeros => "zeros", Filled::Base => "base" },
    })
}

/// A file name as JSON can have it.
pub(crate) fn text(name: &OsStr) -> String {
    shown(Path::new(name))
}
