//! Converting images from strangers.

use std::path::Path;

use calve_disk::{PendingFile, folder_of};

use crate::args::ConvertArgs;
use crate::evidence::Evidence;
use crate::exit::{Code, Failure};
use crate::progress;
use crate::worker::{self, Death, Plan};

/// How a worker converts. It may make files in the target's folder, and in that of the map.
pub(super) fn plan<'a>(
    target: &Path,
    args: &'a ConvertArgs,
    program: &'a str,
    evidence: &'a Evidence<'a>,
    died: &'a dyn Fn(&Death) -> Result<Code, Failure>,
) -> Result<Plan<'a>, Failure> {
    progress::refuse_descriptor(&args.progress, &args.open.sandbox)?;
    let mut plan = Plan::new(program, &args.open.sandbox, evidence);
    let folders = std::iter::once(target).chain(args.map.as_deref()).map(folder_of);
    plan.folders = folders.map(Path::to_owned).collect();
    (plan.is_quiet, plan.is_tidy, plan.died) = (args.progress.quiet, true, died);
    if args.open.sandbox.untrusted && args.no_create {
        return Err(Failure::usage(
            "--untrusted makes a new target, and -n writes into an old one",
        )
        .next("convert to a file first, then that file with -n"));
    }
    if args.open.sandbox.untrusted && args.backing.is_some() {
        return Err(Failure::usage("--untrusted opens no base, and -B makes an overlay over one"));
    }
    Ok(plan)
}

/// Tells of a worker that died, and takes away what it left of the files it made: the target
/// under its temporary name, and the `map`, where there was none before.
pub(super) fn tell_death(
    target: &Path,
    map: Option<&Path>,
    death: &Death,
) -> Result<Code, Failure> {
    PendingFile::remove_leftovers(target);
    if let Some(map) = map {
        // Best effort: it may not have come to making one.
        let _ = std::fs::remove_file(map);
    }
    worker::told(death)
}
