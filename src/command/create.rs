//! `create`: an empty raw or qcow2 image.

use std::path::Path;

use calve_convert::{Cache, EmptyFormat, Placement};
use calve_disk::formats::qcow2::RecordedBacking;
use calve_disk::open::shown;
use calve_disk::{Disk, Format, OpenOptions};

use crate::args::CreateArgs;
use crate::command::target::{self, Backing, NewImage};
use crate::exit::{Code, Failure};
use crate::{print, size, source, store};

pub(crate) fn run(args: &CreateArgs, _program: &str) -> Result<Code, Failure> {
    let format = target::format(&args.format)?;
    if let Some(printed) = target::help(format, &args.options) {
        return printed.map(|()| Code::Done);
    }
    let new = NewImage::new(
        format,
        &args.options,
        args.backing.as_deref(),
        args.backing_format.as_deref(),
    )?;
    let path = Path::new(&args.file);
    store::refuse("create", [path])?;
    let base_size = match &new.backing {
        Some(backing) if !args.backing_unsafe => Some(base_size(path, backing)?),
        _ => None,
    };
    let asked = args.size.as_deref().map(|text| size::parse("the size", text)).transpose()?;
    let Some(size) = asked.or(new.size).or(base_size) else {
        return Err(Failure::usage("the size is missing").next("name one, such as 10G"));
    };
    let empty = match format {
        Format::Qcow2 => EmptyFormat::Qcow2 {
            cluster_size: new.cluster_size,
            backing: new.backing.as_ref().map(|backing| RecordedBacking {
                name: backing.name.clone().into_bytes(),
                format: backing.format.name().to_owned(),
            }),
        },
        _ => EmptyFormat::Raw,
    };
    let placement = if args.force { Placement::Replace } else { Placement::New };
    let size = calve_convert::create(path, size, &empty, placement, Cache::Writeback)
        .map_err(|error| hinted(error.into()))?;
    if args.quiet {
        return Ok(Code::Done);
    }
    print::out(&line(&shown(Path::new(&args.file)), &new, size))?;
    Ok(Code::Done)
}

fn hinted(failure: Failure) -> Failure {
    if failure.text.ends_with("exists already") {
        return failure.next("name another file, or replace it with --force");
    }
    failure
}

fn base_size(path: &Path, backing: &Backing) -> Result<u64, Failure> {
    let base = source::beside(path, Path::new(&backing.name));
    let options = OpenOptions { format: Some(backing.format), ..OpenOptions::default() };
    Ok(Disk::open(&base, &options)?.virtual_size())
}

/// What was made, as `qemu-img` tells it.
fn line(name: &str, new: &NewImage, size: u64) -> String {
    let name = calve_disk::open::escaped(name.as_bytes());
    if new.format != Format::Qcow2 {
        return format!("Formatting '{name}', fmt=raw size={size}\n");
    }
    let backing = new.backing.as_ref().map(|backing| {
        let name = calve_disk::open::escaped(backing.name.as_bytes());
        format!(" backing_file={name} backing_fmt={}", backing.format)
    });
    format!(
        "Formatting '{name}', fmt=qcow2 cluster_size={} extended_l2=off compression_type=zlib \
         size={size}{} lazy_refcounts=off refcount_bits=16\n",
        new.cluster_size.bytes(),
        backing.unwrap_or_default()
    )
}
