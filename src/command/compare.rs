//! `compare`: whether two disks hold the same, in the words and codes of `qemu-img`.

use std::ffi::OsStr;
use std::path::Path;

use calve_convert::{CompareOptions, Comparison, Control};
use calve_disk::Disk;
use serde_json::{Value, json};

use crate::args::{CompareArgs, Shape};
use crate::evidence::Evidence;
use crate::exit::{Code, Failure};
use crate::progress::Reporter;
use crate::secrets::Keys;
use crate::source::{self, Request};
use crate::worker::{self, Output, Plan, Stage};
use crate::{print, progress, signals, threads};

pub(crate) fn run(args: &CompareArgs, program: &str, evidence: &Evidence) -> Result<Code, Failure> {
    let images = [&args.first, &args.second].map(Path::new);
    let options = CompareOptions { strict: args.strict, threads: threads::of(None, images)? };
    progress::refuse_descriptor(&args.progress, &args.open.sandbox)?;
    let mut requests = [
        request(args, &args.first, args.first_format.as_deref())?,
        request(args, &args.second, args.second_format.as_deref())?,
    ];
    let mut plan = Plan::new(program, &args.open.sandbox, evidence);
    (plan.is_quiet, plan.is_tidy) = (args.progress.quiet, true);
    if evidence.is_asked() && !args.progress.show && args.progress.progress.is_none() {
        // Nothing is said before the sources were looked at again.
        plan.output = Output::Held;
    }
    plan.not_opened = Some(Code::Corruption);
    let threshold = match worker::start(&plan, &requests.each_ref())? {
        Stage::Over(code) => return Ok(code),
        Stage::Here(threshold) => threshold,
    };
    let mut keys = keys(args, &mut requests).map_err(not_opened)?;
    let [first, second] = &mut requests;
    threshold.cross(&mut [first, second])?;
    let [first, second] = open(&mut requests, &mut keys, evidence).map_err(not_opened)?;
    if !args.progress.quiet {
        for (request, disk) in requests.iter().zip([&first, &second]) {
            source::announce(program, request, disk);
        }
    }
    let sizes = [first.virtual_size(), second.virtual_size()];
    let flags = signals::install()?;
    let reporter = Reporter::new(&args.progress, flags)?;
    let progress = |progress| reporter.tell(progress);
    let control = Control { stop: &flags.stop, progress: &progress };
    let done = calve_convert::compare(first, second, options, &control);
    reporter.pause();
    let done = done.map_err(Failure::from);
    let done = done.and_then(|comparison| evidence.unchanged().map(|()| comparison));
    reporter.finish(done.is_ok());
    let comparison = done?;
    evidence.note("comparison", || comparison_json(comparison, sizes));
    print_result(args, comparison, sizes)?;
    Ok(if comparison == Comparison::Identical { Code::Done } else { Code::Failed })
}

fn request(args: &CompareArgs, file: &OsStr, format: Option<&str>) -> Result<Request, Failure> {
    Request::new(file, format, true, &args.open)?.reading(&args.source_cache)
}

/// What keeps an image from being opened has a code of its own here.
fn not_opened(failure: Failure) -> Failure {
    match failure.code {
        Code::Usage | Code::Signal(_) => failure,
        _ => failure.with_code(Code::Corruption),
    }
}

/// All passphrases that were given, read.
fn keys(args: &CompareArgs, requests: &mut [Request]) -> Result<Keys, Failure> {
    requests.iter_mut().try_for_each(Request::read_secrets)?;
    Keys::new(&args.keys)
}

fn open(
    requests: &mut [Request; 2],
    keys: &mut Keys,
    evidence: &Evidence,
) -> Result<[Disk; 2], Failure> {
    let [first, second] = requests;
    let mut open = |request| evidence.opening(request, |request| request.open_with_keys(keys));
    let disks = [open(first)?, open(second)?];
    keys.finish()?;
    Ok(disks)
}

fn print_result(
    args: &CompareArgs,
    comparison: Comparison,
    sizes: [u64; 2],
) -> Result<(), Failure> {
    if args.output == Shape::Json {
        return print::json(&comparison_json(comparison, sizes));
    }
    if args.progress.quiet {
        return Ok(());
    }
    let warning = match sizes[0] != sizes[1] && !args.strict {
        true => "Warning: Image size mismatch!\n",
        false => "",
    };
    let verdict = match comparison {
        Comparison::Identical => "Images are identical.".to_owned(),
        Comparison::SizesDiffer => "Strict mode: Image size mismatch!".to_owned(),
        Comparison::BytesDiffer { at } => format!("Content mismatch at offset {}!", at.get()),
        Comparison::AllocationDiffers { at } => {
            format!("Strict mode: Offset {} block status mismatch!", at.get())
        }
    };
    print::out(&format!("{warning}{verdict}\n"))
}

fn comparison_json(comparison: Comparison, sizes: [u64; 2]) -> Value {
    let (result, offset) = match comparison {
        Comparison::Identical => ("identical", None),
        Comparison::SizesDiffer => ("size-mismatch", None),
        Comparison::BytesDiffer { at } => ("content-mismatch", Some(at.get())),
        Comparison::AllocationDiffers { at } => ("status-mismatch", Some(at.get())),
    };
    json!({
        "result": result,
        "offset": offset,
        "virtual-sizes": sizes,
        "sizes-differ": sizes[0] != sizes[1],
    })
}
