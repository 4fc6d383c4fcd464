//! `check`: everything that can be told to be wrong with an image, one line each.

mod mend;
mod repair;
mod report;

use std::num::NonZeroUsize;
use std::path::Path;

use calve_convert::{Phase, Progress};
use calve_disk::{CheckOptions, Disk, Error as DiskError, Finding, Format};

use crate::args::{CheckArgs, SandboxMode, Shape};
use crate::evidence::Evidence;
use crate::exit::{Code, Failure};
use crate::progress::{self, Reporter};
use crate::signals::{self, Flags};
use crate::source::{self, Request};
use crate::threads;
use crate::worker::{self, Death, Output, Plan};
use report::Report;

pub(crate) fn run(args: &CheckArgs, program: &str, evidence: &Evidence) -> Result<Code, Failure> {
    let threads = threads::of(args.parallel.as_deref(), [Path::new(&args.file)])?;
    refuse_progress(args)?;
    if let Some(what) = args.repair {
        return repair::run(args, what, threads);
    }
    let request = Request::new(&args.file, args.format.as_deref(), args.backing_chain, &args.open)?;
    let mut request = request.past_host_errors();
    let died = |death: &Death| tell_death(args, death);
    let mut plan = Plan::usual(program, &args.open.sandbox, evidence, &died);
    plan.is_usual = !args.backing_chain;
    (plan.is_quiet, plan.is_tidy) = (args.progress.quiet, true);
    if args.progress.show {
        plan.output = Output::Streamed;
    }
    if let Some(code) = worker::enter(&plan, &mut request)? {
        return Ok(code);
    }
    // Nothing has to be tidied up: signals end it at once.
    let flags = signals::install_tell()?;
    let mut broken = None;
    let opened = evidence.opening(&mut request, |request| {
        open(request).map_err(|error| {
            if let DiskError::Broken { path, finding } = &error {
                broken = Some((path.clone(), *finding));
            }
            error.into()
        })
    });
    let disk = match (opened, broken) {
        (Ok(disk), _) => disk,
        (Err(_), Some((path, finding))) => return tell_broken(args, &path, finding),
        (Err(failure), None) => return Err(failure),
    };
    if !args.progress.quiet {
        source::announce_upgrades(program, &request, &disk);
    }
    let mut report = Report::new(args);
    report.begin();
    check(args, &disk, threads, flags, report)
}

/// Opens what can be checked.
fn open(request: &Request) -> Result<Disk, DiskError> {
    let disk = request.open_without_keys()?;
    if disk.top().facts().format == Format::Raw {
        return Err(DiskError::Unsupported {
            path: request.path.clone(),
            what: "raw does not support checks: nothing in it says what it should hold".into(),
        });
    }
    Ok(disk)
}

/// Progress is for whoever reads standard output, or gets a descriptor; both may be somebody
/// else's.
fn refuse_progress(args: &CheckArgs) -> Result<(), Failure> {
    if args.open.sandbox.sandbox != SandboxMode::Off && !args.backing_chain {
        progress::refuse_any_descriptor(&args.progress, "check")?;
    }
    match args.output {
        Shape::Json => progress::refuse_mixed(&args.progress, "--output json: the document"),
        Shape::Human => Ok(()),
    }
}

/// Checks all layers that were opened, one after the other.
fn check(
    args: &CheckArgs,
    disk: &Disk,
    threads: NonZeroUsize,
    flags: &'static Flags,
    mut report: Report<'_>,
) -> Result<Code, Failure> {
    let reporter = Reporter::new(&args.progress, flags)?;
    let progress = |done, total| reporter.tell(Progress { phase: Phase::Checking, done, total });
    let options =
        CheckOptions { is_deep: args.deep, threads, stop: &flags.stop, progress: &progress };
    let mut worst = Code::Done;
    for (number, layer) in disk.layers().iter().enumerate() {
        let facts = layer.image.facts();
        report.begin_image(&layer.path, facts.format.name(), facts.file_size);
        let done = disk.check(number, &options, &mut |finding| report.find(&finding));
        report.end_image(facts, done.as_ref().ok());
        if let Err(error) = done {
            report.end()?;
            return Err(error.into());
        }
        worst = worse(worst, report.code());
    }
    reporter.finish(true);
    report.end()?;
    Ok(worst)
}

/// Of two images the worse code.
fn worse(one: Code, other: Code) -> Code {
    match (one, other) {
        (Code::Corruption, _) | (_, Code::Corruption) => Code::Corruption,
        (Code::Leaks, _) | (_, Code::Leaks) => Code::Leaks,
        _ => Code::Done,
    }
}

/// The report on an image that cannot be opened because of what stands in it.
fn tell_broken(args: &CheckArgs, path: &Path, finding: Finding) -> Result<Code, Failure> {
    let format = match finding.rule.number().starts_with('V') {
        true => Format::Qcow2,
        false => Format::Qcow1,
    };
    let mut report = Report::new(args);
    report.begin();
    report.begin_image(path, format.name(), 0);
    report.find(&finding);
    report.end_unopened(None);
    report.end()?;
    Ok(Code::Corruption)
}

/// The report on an image whose worker died: all that is known of it.
fn tell_death(args: &CheckArgs, death: &Death) -> Result<Code, Failure> {
    let mut report = Report::new(args);
    report.begin();
    report.begin_image(&death.path, args.format.as_deref().unwrap_or("unknown"), 0);
    report.find(&Death::FINDING);
    report.end_unopened(Some(&death.how));
    report.end()?;
    Ok(Code::Corruption)
}
