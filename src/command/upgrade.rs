//! `upgrade`: a version 1 image becomes qcow2 where it lies, and back.

mod object;
mod repack;
mod told;

use std::fmt::Write;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use calve_disk::open::{escaped, shown};
use calve_disk::{Disk, Format, OpenOptions};
use calve_upgrade::{InPlace, Options, Plan, Recovered, State, Verify};
use serde_json::json;

use self::told::{Told, report, tell};
use crate::args::{UpgradeArgs, VerifyHow};
use crate::exit::{self, Code, Failure};
use crate::{print, signals, store};

pub(crate) fn run(args: &UpgradeArgs, program: &str) -> Result<Code, Failure> {
    let action = &args.action;
    if store::is_object(&args.file) {
        if args.chain {
            return Err(Failure::usage("--chain upgrades files alone")
                .next("upgrade the objects one by one, bases first"));
        }
        let [image] = &images(args, program)?[..] else { return Ok(Code::Done) };
        let told = object::run(image, args, program)?;
        return tell(args, &[told]).map(|()| Code::Done);
    }
    store::refuse("--reflink-to of a file", action.reflink_to.as_deref())?;
    let images = images(args, program)?;
    let done = if action.undo {
        each(images.iter().rev(), |image| undo(image, args))
    } else if action.recover {
        each(images.iter(), |image| recover(image, program, args))
    } else if action.release {
        each(images.iter(), release)
    } else if let Some(target) = &action.reflink_to {
        each(images.iter(), |image| reflink(image, target, args))
    } else {
        upgrade(&images, args, program)
    }?;
    tell(args, &done)?;
    Ok(Code::Done)
}

fn each<'a>(
    images: impl Iterator<Item = &'a Image>,
    work: impl Fn(&'a Image) -> Result<Told, Failure>,
) -> Result<Vec<Told>, Failure> {
    images.map(work).collect()
}

/// An image to be upgraded, and the format of the file behind it.
struct Image {
    path: PathBuf,
    backing_format: Option<String>,
}

impl Image {
    fn name(&self) -> String {
        shown(&self.path)
    }

    fn options(&self, args: &UpgradeArgs) -> Result<Options, Failure> {
        Ok(Options {
            backing_format: self.backing_format.clone(),
            backing_name: None,
            holds: args.hold,
            verify: match args.verify {
                VerifyHow::Tables => Verify::Tables,
                VerifyHow::Full => Verify::Full,
            },
            time: args.preserve.then(|| calve_upgrade::written(&self.path)).transpose()?,
        })
    }

    fn told(&self, done: &str, text: &str) -> Told {
        let name = self.name();
        Told {
            text: format!("{name}: {text}\n"),
            document: json!({ "filename": name, "done": done }),
        }
    }
}

/// The images that are meant, bases first.
fn images(args: &UpgradeArgs, program: &str) -> Result<Vec<Image>, Failure> {
    if args.chain {
        return chain(args);
    }
    let format = args.backing_format.as_deref().map(exit::format_named).transpose()?;
    let action = &args.action;
    let needs_base = !(action.undo || action.recover || action.release);
    let backing_format = match format {
        Some(format) => Some(format.name().to_owned()),
        None if needs_base => base_format(args, program)?,
        None => None,
    };
    Ok(vec![Image { path: args.file.clone(), backing_format }])
}

fn open_chain(args: &UpgradeArgs) -> Result<Disk, Failure> {
    let options = OpenOptions {
        with_bases: true,
        base_roots: args.base_root.clone(),
        elsewhere: store::elsewhere(),
        ..OpenOptions::default()
    };
    Disk::open(&args.file, &options).map_err(|error| {
        let failure = Failure::from(error);
        match failure.code {
            Code::Base => failure.next("name the base's format with --backing-format"),
            _ => failure,
        }
    })
}

/// The format of what is behind the image, if anything is.
fn base_format(args: &UpgradeArgs, program: &str) -> Result<Option<String>, Failure> {
    let alone = OpenOptions { elsewhere: store::elsewhere(), ..OpenOptions::default() };
    let alone = Disk::open(&args.file, &alone)?;
    if alone.top().facts().backing.is_none() {
        return Ok(None);
    }
    drop(alone);
    let disk = open_chain(args)?;
    let base = disk.layers().get(1);
    if let Some(base) = base.filter(|base| base.image.facts().format == Format::Raw)
        && !args.quiet
    {
        let text = format!(
            "{}: its backing file {} has no known format and is recorded as raw; -F says so",
            shown(&args.file),
            shown(&base.path)
        );
        print::note(program, &text);
    }
    Ok(base.map(|base| base.image.facts().format.name().to_owned()))
}

/// The version 1 images of a chain, bases first.
fn chain(args: &UpgradeArgs) -> Result<Vec<Image>, Failure> {
    let disk = open_chain(args)?;
    let going_back = args.action.undo || args.action.release || args.action.recover;
    let mut images = Vec::new();
    let mut behind: Option<Format> = None;
    for layer in disk.layers().iter().rev() {
        let facts = layer.image.facts();
        let recorded = facts.backing.as_ref().and_then(|backing| backing.format.as_deref());
        if facts.format == Format::Qcow2 && recorded == Some("qcow") && !going_back {
            let name = shown(&layer.path);
            let text = format!("{name}: records that its backing file is version 1");
            return Err(Failure::new(Code::Refused, text).next(
                "upgrade the base alone, then qemu-img rebase -u -F qcow2 -b BASE what records it",
            ));
        }
        let is_meant = match going_back {
            true => calve_upgrade::state_of(&layer.path)?.is_some(),
            false => facts.format == Format::Qcow1,
        };
        if is_meant {
            let backing_format = behind.map(|format| format.name().to_owned());
            images.push(Image { path: layer.path.clone(), backing_format });
        }
        // By the time that the next one is upgraded this one was.
        behind = Some(if facts.format == Format::Qcow1 { Format::Qcow2 } else { facts.format });
    }
    if images.is_empty() {
        let what = if going_back { "undo record" } else { "version 1 image" };
        let text = format!("{}: its chain has no {what}", shown(&args.file));
        return Err(Failure::new(Code::Refused, text).next("there is nothing to do"));
    }
    Ok(images)
}

fn upgrade(images: &[Image], args: &UpgradeArgs, program: &str) -> Result<Vec<Told>, Failure> {
    let flags = signals::install()?;
    for image in images {
        settle_first(image, args, program)?;
    }
    // All of a chain has to be fit before any of it is changed.
    let is_dry = args.action.dry_run;
    let mut told = Vec::new();
    if is_dry || images.len() > 1 {
        for image in images {
            let plan =
                InPlace::open_for_reading(&image.path)?.plan(&image.options(args)?, &flags.stop)?;
            told.push(report(image, &plan, "would be upgraded"));
        }
    }
    if is_dry {
        return Ok(told);
    }
    if args.action.then_repack {
        repack::refuse(&images[0])?;
    }
    told.clear();
    for image in images {
        let options = image.options(args)?;
        let plan = InPlace::open(&image.path)?.upgrade(&options, &flags.stop).map_err(|error| {
            let failure = Failure::from(error);
            match told.is_empty() {
                true => failure,
                false => failure.next("the images behind it were upgraded, and can be used"),
            }
        })?;
        note(program, args, image, &plan);
        let mut report = report(image, &plan, "upgraded to qcow2");
        if args.action.then_repack {
            repack::run(image, &plan, args)?;
            if let Some(time) = options.time {
                calve_upgrade::set_written(&image.path, time)?;
            }
            let _ = writeln!(report.text, "  repacked to clusters of 64 KiB, verified");
            report.document["repacked"] = json!(true);
        }
        told.push(report);
    }
    Ok(told)
}

/// What an earlier run left behind is settled before another one begins.
fn settle_first(image: &Image, args: &UpgradeArgs, program: &str) -> Result<(), Failure> {
    match calve_upgrade::state_of(&image.path)? {
        Some(State::Interrupted) if !args.action.dry_run => {
            let told = recover(image, program, args)?;
            print::note(program, told.text.trim_end());
            Ok(())
        }
        Some(State::Upgraded) => Err(upgraded_already(image)),
        Some(State::Written) => Err(written_since(image)),
        _ => Ok(()),
    }
}

fn upgraded_already(image: &Image) -> Failure {
    let text = format!("{}: was upgraded already", shown(&image.path));
    Failure::new(Code::Refused, text)
        .next("--undo takes that back, and --release removes the undo record")
}

fn written_since(image: &Image) -> Failure {
    let text =
        format!("{}: has an undo record, and is not as that record left it", shown(&image.path));
    Failure::new(Code::Refused, text)
        .next("--release removes the record, or remove it yourself where it is another file's")
}

/// Tells what the user should know of the result.
fn note(program: &str, args: &UpgradeArgs, image: &Image, plan: &Plan) {
    if args.quiet {
        return;
    }
    let name = shown(&image.path);
    let names = std::fs::metadata(&image.path).map_or(1, |metadata| metadata.nlink());
    if names > 1 {
        let text = format!("{name}: has {names} names, and the undo record is beside this one");
        print::note(program, &text);
    }
    if plan.virtual_size != plan.old_virtual_size {
        print::note(
            program,
            &format!(
                "{name}: has whole sectors: the disk's {} bytes became {}",
                plan.old_virtual_size, plan.virtual_size
            ),
        );
    }
    if plan.is_encrypted {
        let text = format!(
            "{name}: stays encrypted as it was: QEMU's tools read that, and no guest starts from \
             it since QEMU 2.7; convert makes an image that is not encrypted"
        );
        print::note(program, &text);
    }
    if let Some(backing) = &plan.backing
        && backing.format == Format::Qcow1.name()
    {
        let base = escaped(&backing.name);
        print::note(
            program,
            &format!("{name}: is over the version 1 image {base}; --chain upgrades both"),
        );
    }
}

fn undo(image: &Image, args: &UpgradeArgs) -> Result<Told, Failure> {
    InPlace::open(&image.path)?.undo(args.force)?;
    Ok(image.told("undone", "is what it was before its upgrade"))
}

fn recover(image: &Image, program: &str, args: &UpgradeArgs) -> Result<Told, Failure> {
    Ok(recovered(image, InPlace::open(&image.path)?.recover()?, args, program))
}

fn recovered(image: &Image, outcome: Recovered, args: &UpgradeArgs, program: &str) -> Told {
    let (done, text) = match outcome {
        Recovered::RolledBack => ("rolled-back", "is version 1, as it was before its upgrade"),
        Recovered::Kept => {
            ("kept", "is version 1, and was written to since its upgrade was interrupted")
        }
        Recovered::Finished => ("finished", "is upgraded, and was verified"),
        Recovered::InUse => ("in-use", "is upgraded, and was written to since"),
    };
    if outcome == Recovered::Kept && !args.quiet {
        let name = shown(&image.path);
        print::note(program, &format!("{name}: what the upgrade appended stays in it, unused"));
    }
    image.told(done, text)
}

fn release(image: &Image) -> Result<Told, Failure> {
    let freed = InPlace::open(&image.path)?.release().map_err(|error| {
        let failure = Failure::from(error);
        match failure.code {
            Code::Unsupported => failure.next(
                "qemu-img check -r leaks frees as much; then remove the undo record yourself",
            ),
            _ => failure,
        }
    })?;
    Ok(released(image, freed))
}

fn released(image: &Image, freed: u64) -> Told {
    let text = format!("can no longer be undone; {} became free in it", print::size(freed));
    let mut told = image.told("released", &text);
    told.document["freed-bytes"] = json!(freed);
    told
}

fn reflink(image: &Image, target: &Path, args: &UpgradeArgs) -> Result<Told, Failure> {
    let flags = signals::install()?;
    let source = Disk::open(&image.path, &OpenOptions::default())?;
    let plan = calve_upgrade::reflink_to(&source, target, &image.options(args)?, &flags.stop)?;
    let clone = Image { path: target.to_owned(), backing_format: None };
    Ok(report(&clone, &plan, &format!("qcow2, shares its clusters with {}", image.name())))
}
