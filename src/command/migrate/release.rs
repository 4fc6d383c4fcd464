//! `migrate --release`: ways back are given up.

use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use calve_disk::open::shown;
use calve_migrate::{FamilyState, Journal};
use calve_plan::Strategy;
use serde_json::json;

use super::{Held, journal_of, lock_run};
use crate::args::{MigrateArgs, Shape};
use crate::exit::{Code, Failure};
use crate::{print, store};

pub(super) fn run(args: &MigrateArgs, number: i64, program: &str) -> Result<Code, Failure> {
    let Held { journal, shard, _lock } = journal_of(args)?;
    let journal = Mutex::new(journal);
    let _plan = lock_run(&journal, number, shard.is_some())?;
    let released = calve_migrate::release((&journal, &store::stores()), number, args.force)?;
    let aside = PutAside::of(&journal, number)?;
    for why in &released.failed {
        print::note(program, &format!("not released: {why}"));
    }
    if released.waiting > 0 && !args.carry.quiet {
        let text = format!("kept for some more days: {}", print::images(released.waiting));
        print::note(program, &text);
    }
    if let Some(first) = aside.first.filter(|_| !args.carry.quiet) {
        let (count, first) = (print::images(aside.there), shown(&first));
        let of_several = if aside.there > 1 { " is the first" } else { "" };
        let text = format!(
            "put aside, and never removed by calve: {count}: look at them, and remove them by hand: \
             {first}{of_several}"
        );
        print::note(program, &text);
    }
    match args.carry.output {
        Shape::Json => print::json(&json!({
            "run": number, "images": released.images, "freed-bytes": released.bytes,
            "waiting": released.waiting, "put-aside": aside.there, "failed": released.failed,
        }))?,
        Shape::Human if args.carry.quiet => {}
        Shape::Human => {
            let bytes = print::size(released.bytes);
            let images = print::images(released.images);
            let text = format!("run {number}: {images} released, {bytes} free");
            print::out(&format!("{text}\n"))?;
        }
    }
    let is_all = released.failed.is_empty() && released.waiting == 0;
    Ok(if is_all { Code::Done } else { Code::Partly })
}

/// Images of a run that were put aside, which nobody but a person removes.
#[derive(Default)]
struct PutAside {
    /// Those that are where they were put.
    there: u64,
    /// The first of these.
    first: Option<PathBuf>,
}

impl PutAside {
    fn of(journal: &Mutex<Journal>, run: i64) -> Result<Self, Failure> {
        let journal = journal.lock().unwrap_or_else(PoisonError::into_inner);
        let mut found = Self::default();
        let mut families = journal.families(run)?;
        families.retain(|family| family.state == FamilyState::Done);
        for family in families {
            let mut images = journal.images(run, family.number)?;
            images.retain(|image| image.strategy == Strategy::Quarantine);
            for image in images {
                let kept = image.kept.filter(|kept| kept.symlink_metadata().is_ok());
                found.there += u64::from(kept.is_some());
                found.first = found.first.or(kept);
            }
        }
        Ok(found)
    }
}
