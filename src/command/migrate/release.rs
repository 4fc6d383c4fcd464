//! `migrate --release`: ways back are given up.

use std::sync::Mutex;

use calve_disk::open::shown;
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
    for why in &released.failed {
        print::note(program, &format!("not released: {why}"));
    }
    if released.waiting > 0 && !args.carry.quiet {
        let text = format!("kept for some more days: {}", print::images(released.waiting));
        print::note(program, &text);
    }
    if let Some(first) = released.first_aside.filter(|_| !args.carry.quiet) {
        let (count, first) = (print::images(released.aside), shown(&first));
        let of_several = if released.aside > 1 { " is the first" } else { "" };
        let text = format!(
            "put aside, and never removed by calve: {count}: look at them, and remove them by hand: \
             {first}{of_several}"
        );
        print::note(program, &text);
    }
    match args.carry.output {
        Shape::Json => print::json(&json!({
            "run": number, "images": released.images, "freed-bytes": released.bytes,
            "waiting": released.waiting, "put-aside": released.aside, "failed": released.failed,
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
