//! `compare`: whether two disks hold the same, in the words and codes of `qemu-img`.

use calve_convert::{CompareOptions, Comparison, Control};
use calve_disk::Disk;
use serde_json::json;

use crate::args::{CompareArgs, Shape};
use crate::command::convert::threads;
use crate::exit::{Code, Failure};
use crate::progress::Reporter;
use crate::secrets::Keys;
use crate::source::{self, Request};
use crate::{print, signals};

pub(crate) fn run(args: &CompareArgs, program: &str) -> Result<Code, Failure> {
    let (first, second) = open(args).map_err(|failure| match failure.code {
        Code::Usage => failure,
        _ => failure.with_code(Code::NotOpened),
    })?;
    if !args.progress.quiet {
        [&first, &second].into_iter().for_each(|disk| source::announce(program, disk));
    }
    let sizes = [first.virtual_size(), second.virtual_size()];
    let flags = signals::install()?;
    let reporter = Reporter::new(&args.progress, flags)?;
    let progress = |progress| reporter.tell(progress);
    let control = Control { stop: &flags.stop, progress: &progress };
    let options = CompareOptions { strict: args.strict, threads: threads(None)? };
    let done = calve_convert::compare(first, second, options, &control);
    reporter.finish(done.is_ok());
    let comparison = done?;
    print_result(args, comparison, sizes)?;
    Ok(if comparison == Comparison::Identical { Code::Done } else { Code::Failed })
}

fn open(args: &CompareArgs) -> Result<(Disk, Disk), Failure> {
    let mut keys = Keys::new(&args.keys)?;
    let mut open = |file, format: &Option<String>| {
        let request = Request::new(file, format.as_deref(), true, &args.open)?;
        request.reading(&args.source_cache)?.open_with_keys(&mut keys)
    };
    let first = open(&args.first, &args.first_format)?;
    let second = open(&args.second, &args.second_format)?;
    keys.finish()?;
    Ok((first, second))
}

fn print_result(
    args: &CompareArgs,
    comparison: Comparison,
    sizes: [u64; 2],
) -> Result<(), Failure> {
    let sizes_differ = sizes[0] != sizes[1];
    let (result, offset) = match comparison {
        Comparison::Identical => ("identical", None),
        Comparison::SizesDiffer => ("size-mismatch", None),
        Comparison::BytesDiffer { at } => ("content-mismatch", Some(at.get())),
        Comparison::AllocationDiffers { at } => ("status-mismatch", Some(at.get())),
    };
    if args.output == Shape::Json {
        return print::json(&json!({
            "result": result,
            "offset": offset,
            "virtual-sizes": sizes,
            "sizes-differ": sizes_differ,
        }));
    }
    if args.progress.quiet {
        return Ok(());
    }
    let offset = offset.unwrap_or_default();
    let warning = match sizes_differ && !args.strict {
        true => "Warning: Image size mismatch!\n",
        false => "",
    };
    let verdict = match comparison {
        Comparison::Identical => "Images are identical.".to_owned(),
        Comparison::SizesDiffer => "Strict mode: Image size mismatch!".to_owned(),
        Comparison::BytesDiffer { .. } => format!("Content mismatch at offset {offset}!"),
        Comparison::AllocationDiffers { .. } => {
            format!("Strict mode: Offset {offset} block status mismatch!")
        }
    };
    print::out(&format!("{warning}{verdict}\n"))
}
