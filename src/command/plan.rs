//! `plan`: what is to be done with each version 1 image of a catalogue. Nothing is touched.

mod bases;
mod shard;
mod survey;
mod table;

use std::fs::File;
use std::io::{BufReader, Write};
use std::path::Path;

use calve_disk::open::shown;
use calve_disk::{Named, PendingFile};
use calve_fleet::{Catalogue, ContentVotes, Hints, Votes};
use calve_plan::{Damaged, Kept, PathText, Plan, Rate, Reading, Way, Window, Wishes};

use crate::args::{DamagedWord, PlanAction, PlanArgs, PlanShape, WayWord};
use crate::command::scan;
use crate::exit::{Code, Failure};
use crate::reading::Unmixed;
use crate::{print, signals, size};

pub(crate) fn run(args: &PlanArgs, program: &str) -> Result<Code, Failure> {
    match &args.action {
        Some(PlanAction::Show { plan }) => {
            print::out(&table::of(&read(plan)?))?;
            return Ok(Code::Done);
        }
        Some(PlanAction::Shard(args)) => return shard::run(args),
        None => {}
    }
    let Some(catalogue) = &args.catalogue else {
        return Err(Failure::usage("name the catalogue of a scan"));
    };
    let plan = make(args, catalogue)?;
    if let Some(path) = &args.save {
        save(&plan, path)?;
    }
    match args.output {
        PlanShape::Jsonl => {
            let mut text = Vec::new();
            calve_plan::write(&plan, &mut text).map_err(|error| not_written("the plan", &error))?;
            print::out(&String::from_utf8_lossy(&text))?;
        }
        PlanShape::Human if args.progress.quiet => {}
        PlanShape::Human => print::out(&table::of(&plan))?,
    }
    let left = plan.total.version1 - plan.total.migrated;
    if left > 0 && !args.progress.quiet {
        let text = match left {
            1 => "1 version 1 image is left as it is".into(),
            left => format!("{left} version 1 images are left as they are"),
        };
        print::note(program, &text);
    }
    Ok(Code::Done)
}

/// Reads a plan, and says the BLAKE3 of what was read.
pub(crate) fn read_whole(path: &Path) -> Result<(Plan, String), Failure> {
    let bytes = std::fs::read(path)
        .map_err(|error| Failure::from(calve_disk::Error::host("reading the plan", path, error)))?;
    let digest = blake3::hash(&bytes).to_hex().to_string();
    Ok((calve_plan::read(path, &mut &*bytes)?, digest))
}

/// Reads a plan.
pub(crate) fn read(path: &Path) -> Result<Plan, Failure> {
    let file = File::open(path)
        .map_err(|error| Failure::from(calve_disk::Error::host("opening", path, error)))?;
    Ok(calve_plan::read(path, &mut BufReader::new(file))?)
}

fn make(args: &PlanArgs, catalogue: &Path) -> Result<Plan, Failure> {
    let wishes = wishes(args)?;
    let confirmed = bases::named(args)?;
    let jobs = scan::jobs(args.jobs.as_deref())?;
    if !catalogue.exists() {
        let text = format!("{}: there is no such catalogue", shown(catalogue));
        return Err(
            Failure::new(Code::Failed, text).next("calve scan --catalogue FILE FOLDER makes one")
        );
    }
    let catalogue = catalogue.canonicalize().map_err(|error| {
        Failure::from(calve_disk::Error::host("looking for it", catalogue, error))
    })?;
    let read = Unmixed::of(&catalogue)?;
    let catalogue = Catalogue::open_for_reading(&catalogue)?;
    if catalogue.last_scan()?.is_none() {
        let text = format!("{}: no scan into it was ended", shown(catalogue.path()));
        return Err(Failure::new(Code::Refused, text).next("run the scan to its end first"));
    }
    let flags = signals::install()?;
    let votes = ContentVotes::default();
    let votes = args.guess_bases.then_some(&votes as &dyn Votes);
    let hints = Hints { votes, confirmed: &confirmed };
    let surveyor = survey::Anywhere(Reading { stop: &flags.stop });
    let plan = calve_plan::make(&catalogue, &wishes, &hints, &surveyor, (jobs, &flags.stop))?;
    read.assert()?;
    Ok(plan)
}

fn wishes(args: &PlanArgs) -> Result<Wishes, Failure> {
    let max_extra =
        args.max_extra.as_deref().map(|text| size::parse("--max-extra", text)).transpose()?;
    let window = args.window.as_deref().map(str::parse::<Window>).transpose();
    let window = window.map_err(|error| Failure::usage(format!("--window: {error}")))?;
    Ok(Wishes {
        way: match args.way {
            WayWord::Upgrade => Way::Upgrade,
            WayWord::Reflink => Way::Reflink,
            WayWord::Convert => Way::Convert,
            WayWord::Flatten => Way::Flatten,
        },
        damaged: match args.damaged {
            DamagedWord::Leave => Damaged::Leave,
            DamagedWord::Rescue => Damaged::Rescue,
            DamagedWord::Quarantine => Damaged::Quarantine,
        },
        kept: kept(&args.keep_originals)?,
        max_extra,
        window,
        rate: rate(&args.rate)?,
    })
}

fn kept(text: &str) -> Result<Kept, Failure> {
    let days = text.strip_suffix('d').and_then(|days| days.parse().ok());
    Ok(match (text, days) {
        ("beside", _) => Kept::Beside,
        ("none", _) => Kept::None,
        (_, Some(days)) => Kept::Days(days),
        (folder, None) => {
            let folder = Path::new(folder).canonicalize().ok().filter(|folder| folder.is_dir());
            let Some(folder) = folder else {
                let text = format!("--keep-originals: '{text}' is no folder, beside, none or days");
                return Err(Failure::usage(text).next("make the folder first, or say 30d"));
            };
            Kept::Folder(PathText(folder))
        }
    })
}

fn rate(text: &str) -> Result<Rate, Failure> {
    let (least, most) = text.split_once('-').unwrap_or((text, text));
    let rate = Rate { least: size::parse("--rate", least)?, most: size::parse("--rate", most)? };
    if rate.least == 0 || rate.least > rate.most {
        let text = format!("--rate: '{text}' is not from a smaller number to a larger one");
        return Err(Failure::usage(text));
    }
    Ok(rate)
}

/// Writes a plan to a new file, which bears its name when it is whole.
fn save(plan: &Plan, path: &Path) -> Result<(), Failure> {
    let (file, pending) = PendingFile::create(path, false, 0o666)?;
    let mut out = std::io::BufWriter::new(file);
    calve_plan::write(plan, &mut out)
        .and_then(|()| out.flush())
        .and_then(|()| out.get_ref().sync_all())
        .map_err(|error| not_written(&shown(path), &error))?;
    match pending.take_name(true)? {
        Named::Yes => Ok(()),
        Named::Taken => {
            let text = format!("{}: exists already", shown(path));
            Err(Failure::new(Code::Refused, text).next("name another file with --save"))
        }
    }
}

fn not_written(what: &str, error: &std::io::Error) -> Failure {
    Failure::host(format!("{what}: writing: {error}"), error)
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    #[test]
    fn originals_are_kept_as_the_word_says() {
        assert_eq!(kept("none").ok(), Some(Kept::None));
        assert_eq!(kept("beside").ok(), Some(Kept::Beside));
        assert_eq!(kept("30d").ok(), Some(Kept::Days(30)));
        assert_eq!(kept("/").ok(), Some(Kept::Folder(PathText(PathBuf::from("/")))));
        assert!(kept("no such folder").is_err());
    }
}
