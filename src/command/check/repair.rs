//! `check -r`: what can be mended is, where the image lies; then it is checked.

use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::Arc;

use calve_disk::open::shown;
use calve_disk::{Format, StorageMut};
use calve_inplace::FileJournal;
use calve_repair::{RECORD, Scope};
use calve_upgrade::FoundRecord;

use super::report::Report;
use super::{check, open};
use crate::args::{CheckArgs, Repair, SandboxMode};
use crate::exit::{Code, Failure};
use crate::source::Request;
use crate::{signals, store};

pub(super) fn run(args: &CheckArgs, what: Repair, threads: NonZeroUsize) -> Result<Code, Failure> {
    let path = Path::new(&args.file);
    refuse(args, path)?;
    let flags = signals::install()?;
    let (file, real) = calve_inplace::open_for_writing(path)
        .map_err(|error| Failure::from(error).next("nothing was changed"))?;
    let storage = Arc::new(file) as Arc<dyn StorageMut>;
    let scope = match what {
        Repair::Leaks => Scope::Leaks,
        Repair::All => Scope::All,
    };
    let mut report = Report::new(args);
    report.begin();
    report.begin_repair(path, Format::Qcow1.name());
    let tell = &mut |mend: &_| report.mend(mend);
    let journal = FileJournal::of(&real, RECORD);
    let mended = calve_repair::repair(&storage, &journal, scope, &flags.stop, tell);
    report.end_repair(mended.as_ref().ok());
    if let Err(error) = mended {
        report.print();
        return Err(error.into());
    }
    // Its locks would keep this very process out.
    drop(storage);
    let request = Request::new(&args.file, args.format.as_deref(), false, &args.open)?;
    let disk = open(&request.past_host_errors())?;
    check(args, &disk, threads, flags, report)
}

/// Refuses what is not done in place, before anything is written.
fn refuse(args: &CheckArgs, path: &Path) -> Result<(), Failure> {
    store::refuse("check -r", [path])?;
    if args.open.sandbox.sandbox == SandboxMode::Require {
        return Err(Failure::usage("check -r writes, which no worker may")
            .next("check without -r first; --sandbox=require goes with that"));
    }
    let request = Request::new(&args.file, args.format.as_deref(), false, &args.open)?;
    let format = open(&request)?.top().facts().format;
    if format != Format::Qcow1 {
        let text = format!("{}: {format} is not repaired here", shown(path));
        return Err(Failure::new(Code::Unsupported, text).next("qemu-img check -r does that"));
    }
    if FoundRecord::beside(path).is_some() {
        let text = format!("{}: an upgrade of it is not settled", shown(path));
        return Err(Failure::new(Code::Refused, text)
            .next("calve upgrade --recover, --undo or --release settles it"));
    }
    Ok(())
}
