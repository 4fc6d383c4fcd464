//! `rescue`: copy what is left of a damaged disk, and say of every byte what it is.

mod rebuilding;

use std::fmt::Write;
use std::path::Path;

use calve_convert::{Phase, Progress};
use calve_disk::open::shown;
use calve_disk::units::ClusterSize;
use calve_disk::{Disk, Finding, Format, folder_of};
use calve_rescue::{Control, Label, Labelled, Options, Summary, TargetFormat, Totals, rescue};
use serde_json::json;

use crate::args::{RescueArgs, Shape};
use crate::command::target;
use crate::evidence::Evidence;
use crate::exit::{Code, Failure};
use crate::progress::{self, Reporter};
use crate::secrets::Keys;
use crate::source::{self, Request};
use crate::worker::{self, Plan, Stage};
use crate::{print, signals, store};

/// The cluster size of a qcow2 target, as QEMU makes it.
const CLUSTER_BITS: u8 = 16;

pub(crate) fn run(args: &RescueArgs, program: &str, evidence: &Evidence) -> Result<Code, Failure> {
    let format = match target::format(&args.target_format)? {
        Format::Raw => TargetFormat::Raw,
        _ => {
            TargetFormat::Qcow2(ClusterSize::from_bits(CLUSTER_BITS).unwrap_or(ClusterSize::SECTOR))
        }
    };
    let map = args.map();
    let (through, account) = rebuilding::through(args)?;
    if args.open.sandbox.untrusted && (args.search.is_some() || args.passphrase_list.is_some()) {
        return Err(Failure::usage("--untrusted opens one image only, once"));
    }
    store::refuse("rescue", [Path::new(&args.file), &args.target])?;
    let mut request =
        Request::new(&args.file, args.format.as_deref(), true, &args.open)?.rescuing(through);
    progress::refuse_descriptor(&args.progress, &args.open.sandbox)?;
    let mut plan = Plan::new(program, &args.open.sandbox, evidence);
    plan.folders = [&*args.target, &*map].map(|path| folder_of(path).to_owned()).to_vec();
    (plan.is_quiet, plan.is_tidy) = (args.progress.quiet, true);
    let threshold = match worker::start(&plan, &[&request])? {
        Stage::Over(code) => return Ok(code),
        Stage::Here(threshold) => threshold,
    };
    let mut keys = Keys::new(&args.keys)?;
    request.read_secrets()?;
    threshold.cross(&mut [&mut request])?;
    if let Some(list) = &args.passphrase_list {
        rebuilding::try_passphrases(&mut request, list, program)?;
    }
    if let Some(folder) = &args.search {
        rebuilding::search(&mut request, folder, args, program)?;
    }
    let disk = evidence.opening(&mut request, |request| open(request, &mut keys, args, program))?;
    keys.finish()?;
    if !args.progress.quiet {
        source::announce(program, &request, &disk);
    }
    drop(disk);
    let account = account.get();
    let lines = account.map(|account| &account.lines[..]).unwrap_or_default();
    lines.iter().for_each(|line| print::note(program, line));
    let options = Options {
        target: args.target.clone(),
        map,
        format,
        retries: args.retries,
        suspect: account.map(|account| account.suspect.clone()).unwrap_or_default(),
    };
    let (path, again) = request.again();
    let (summary, listed) = carry_out(&|| Disk::open(&path, &again), &options, args)?;
    evidence.note("rescue", || json!({ "bytes": totals_json(&summary.totals), "rebuilt": lines }));
    if !args.progress.quiet || args.output == Shape::Json {
        tell(&summary, listed, &options, args)?;
    }
    Ok(if summary.totals.missing > 0 { Code::Losses } else { Code::Done })
}

/// Opens the image, without its bases where they cannot be had.
fn open(
    request: &mut Request,
    keys: &mut Keys,
    args: &RescueArgs,
    program: &str,
) -> Result<Disk, Failure> {
    let failure = match request.open_with_keys(keys) {
        Err(failure) => failure,
        opened => return opened,
    };
    let may_be_base = matches!(failure.code, Code::Base | Code::Damaged | Code::Unsupported);
    if !may_be_base || !args.open.base.is_empty() || !request.leave_bases() {
        return Err(failure);
    }
    match request.open_with_keys(keys) {
        Ok(disk) => {
            let text = format!("{}; its bytes are labelled missing", failure.text);
            print::note(program, &text);
            Ok(disk)
        }
        Err(_) => Err(failure),
    }
}

fn carry_out(
    open: &dyn Fn() -> calve_disk::Result<Disk>,
    options: &Options,
    args: &RescueArgs,
) -> Result<(Summary, Listed), Failure> {
    let flags = signals::install()?;
    let reporter = Reporter::new(&args.progress, flags)?;
    let progress = |calve_rescue::Progress { done, total, .. }: calve_rescue::Progress| {
        reporter.tell(Progress { phase: Phase::Copying, done, total });
    };
    let mut listed = Listed { is_json: args.output == Shape::Json, ..Listed::default() };
    let mut control = Control {
        stop: &flags.stop,
        progress: &progress,
        label: &mut |labelled| listed.add(&labelled),
    };
    let done = rescue(open, options, &mut control);
    reporter.finish(done.is_ok());
    Ok((done?, listed))
}

/// The ranges as they will be told.
#[derive(Default)]
struct Listed {
    is_json: bool,
    text: String,
    lines: u64,
}

/// Ranges that are told to people one by one; the map has all.
const TOLD: u64 = 20;

impl Listed {
    fn add(&mut self, labelled: &Labelled) {
        let range = labelled.range;
        if self.is_json {
            let mut value = json!({
                "start": range.start.get(),
                "length": range.length,
                "label": labelled.label.word(),
            });
            if let Some(lost) = labelled.lost {
                value["rule"] = json!(lost.rule.number());
                value["layer"] = json!(lost.layer);
                value["host-offset"] = json!(lost.at.get());
            }
            // Writing to a string cannot fail.
            let _ = write!(self.text, "{}{value}", if self.lines > 0 { ",\n" } else { "" });
            self.lines += 1;
        } else if matches!(labelled.label, Label::Missing | Label::Suspect) {
            self.lines += 1;
            if self.lines <= TOLD {
                let word = labelled.label.word();
                let _ = match labelled.lost {
                    Some(lost) => {
                        let finding = Finding::new(lost.rule).at(lost.at).guest(range);
                        writeln!(self.text, "{word}: {finding}")
                    }
                    None => writeln!(
                        self.text,
                        "{word}: guest bytes {} to {}",
                        range.start,
                        range.end()
                    ),
                };
            }
        }
    }
}

fn totals_json(totals: &Totals) -> serde_json::Value {
    json!({
        "good": totals.good,
        "zero": totals.zero,
        "base": totals.base,
        "missing": totals.missing,
        "suspect": totals.suspect,
    })
}

fn tell(
    summary: &Summary,
    listed: Listed,
    options: &Options,
    args: &RescueArgs,
) -> Result<(), Failure> {
    let totals = &summary.totals;
    if listed.is_json {
        let head = json!({
            "filename": shown(Path::new(&args.file)),
            "target": shown(&options.target),
            "map": shown(&options.map),
            "virtual-size": summary.virtual_size,
            "resumed": summary.is_resumed,
            "bytes": totals_json(totals),
        });
        let head = head.to_string();
        let head = head.strip_suffix('}').unwrap_or(&head);
        print::out(&format!("{head},\"ranges\":[\n"))?;
        print::out(&listed.text)?;
        return print::out("\n]}\n");
    }
    let mut text = listed.text;
    if listed.lines > TOLD {
        let _ = writeln!(text, "and {} more ranges, which the map has", listed.lines - TOLD);
    }
    for (word, bytes) in [
        ("good", totals.good),
        ("zero", totals.zero),
        ("base", totals.base),
        ("missing", totals.missing),
        ("suspect", totals.suspect),
    ] {
        let _ = writeln!(text, "{word:<8} {bytes:>20} bytes ({})", print::size(bytes));
    }
    let _ = writeln!(text, "map: {}", shown(&options.map));
    print::out(&text)
}
