//! What follows an upgrade with `--then-repack`: larger clusters.

use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use calve_convert::{
    Base, Cache, Control, Copying, Options as ConvertOptions, Placement, Qcow2Options, Salvage,
    TargetFormat,
};
use calve_disk::open::shown;
use calve_disk::{Disk, Format, OpenOptions};
use calve_upgrade::Plan;

use super::Image;
use crate::args::UpgradeArgs;
use crate::command::target;
use crate::exit::{Code, Failure};
use crate::{signals, source, threads};

/// What a repack cannot do is known before the upgrade.
pub(super) fn refuse(image: &Image) -> Result<(), Failure> {
    let disk = Disk::open(&image.path, &OpenOptions::default())?;
    if !disk.top().facts().is_encrypted {
        return Ok(());
    }
    let text = format!("{}: is encrypted, and a repacked image would not be", image.name());
    Err(Failure::new(Code::Unsupported, text)
        .next("upgrade it without --then-repack, or convert it, which asks for the passphrase"))
}

/// Converts the upgraded image to clusters of 64 KiB, in its own place.
pub(super) fn run(image: &Image, plan: &Plan, args: &UpgradeArgs) -> Result<(), Failure> {
    let open = OpenOptions {
        format: Some(Format::Qcow2),
        with_bases: true,
        base_roots: args.base_root.clone(),
        ..OpenOptions::default()
    };
    // A link stays one: what it leads to is replaced.
    let path = image
        .path
        .canonicalize()
        .map_err(|error| Failure::new(Code::Failed, format!("{}: {error}", shown(&image.path))))?;
    let disk = Disk::open(&image.path, &open)?;
    let base = match &plan.backing {
        None => None,
        Some(backing) => {
            let name = Path::new(std::ffi::OsStr::from_bytes(&backing.name));
            let base = source::beside(&image.path, name);
            let format = Format::from_name(&backing.format);
            Some(Base {
                name: backing.name.clone(),
                format: backing.format.clone(),
                disk: Disk::open(&base, &OpenOptions { format, ..open })?,
                layer: Some(1),
            })
        }
    };
    let options = ConvertOptions {
        format: TargetFormat::Qcow2(Qcow2Options {
            cluster_size: target::default_cluster_size(),
            compress: plan.packed > 0,
            base,
        }),
        sparse_size: 4096,
        placement: Placement::ReplaceSource,
        cache: Cache::Writeback,
        salvage: Salvage::Refuse,
        copying: Copying::Read,
        verify: true,
        threads: threads::of(None, [])?,
        pace: std::sync::Arc::default(),
    };
    let flags = signals::install()?;
    let control = Control { stop: &flags.stop, progress: &|_| {} };
    calve_convert::convert(vec![disk], &path, &options, &control).map_err(|error| {
        Failure::from(error).next("the image is upgraded all the same, and was not repacked")
    })?;
    calve_upgrade::forget(&image.path)?;
    Ok(())
}
