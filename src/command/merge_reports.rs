//! `merge-reports`: the reports of all shards as one, and what names the images as a patch. Nothing
//! else is touched.

use std::path::PathBuf;
use std::sync::Mutex;

use calve_disk::open::shown;
use calve_migrate::shard::{Failed, Journals, Merged, merge, reports_in};
use calve_plan::Plan;
use serde_json::json;

use crate::args::{MergeArgs, Shape};
use crate::command::migrate::configurations::{self, Patch};
use crate::command::{plan, report};
use crate::exit::{Code, Failure};
use crate::print;

pub(crate) fn run(args: &MergeArgs, program: &str) -> Result<Code, Failure> {
    let mut paths: Vec<PathBuf> = Vec::new();
    for named in &args.reports {
        match named.is_dir() {
            true => paths.extend(reports_in(named)?),
            false => paths.push(named.clone()),
        }
    }
    let plan = args.plan.as_deref().map(plan::read_whole).transpose()?;
    let merged = merge(&paths, plan.as_ref().map(|(plan, digest)| (plan, &**digest)))?;
    let patch = match &plan {
        Some((plan, digest)) => patch(args, (plan, digest), program)?,
        None => None,
    };
    match args.output {
        Shape::Json => {
            let mut document = document(&merged);
            if let Some(patch) = &patch {
                document["patch"] = patch.json();
            }
            print::json(&document)?;
        }
        Shape::Human if args.quiet => {}
        Shape::Human => {
            let mut text = text(&merged);
            if let Some(patch) = &patch {
                text.push_str(&patch.text(""));
            }
            print::out(&text)?;
        }
    }
    if merged.has_mismatch() {
        return Err(Failure::new(Code::Mismatch, "a result did not read as its source")
            .next("test the machine of that worker before anything else"));
    }
    if !merged.is_whole() {
        let text = incomplete(&merged).join("; ");
        return Err(Failure::new(Code::Later, text)
            .next("run their workers again, then this; calve work goes on where it was"));
    }
    if !merged.stuck.is_empty() {
        let text = match merged.total.stuck {
            1 => "1 family stays half way until its cause is removed".to_owned(),
            count => format!("{count} families stay half way until their causes are removed"),
        };
        return Err(Failure::new(Code::Partly, text)
            .next("nothing is lost; remove the cause that is told, then run the worker again"));
    }
    Ok(match (merged.total.failed, merged.total.missing) {
        (0, 0) => Code::Done,
        (0, _) => Code::Losses,
        _ => Code::Partly,
    })
}

/// Writes what has to change in configurations, where some were named, for all families that are
/// migrated by now: those are told by the journals.
fn patch(
    args: &MergeArgs,
    (plan, digest): (&Plan, &str),
    program: &str,
) -> Result<Option<Patch>, Failure> {
    let folder = match &*args.reports {
        _ if args.configs.is_empty() => return Ok(None),
        [folder] if folder.is_dir() => folder,
        _ => return Err(Failure::usage("with --configs, name the folder of the shards alone")),
    };
    let how = (program, args.quiet);
    let found = configurations::find(&args.configs, plan, how)?;
    let (Some(found), Some(file)) = (found, &args.plan) else { return Ok(None) };
    let journals = Journals::of(folder).map_err(report::at_work)?;
    if journals.agreed.plan_digest != digest {
        let text = format!("{}: is of another plan", shown(folder));
        return Err(Failure::new(Code::Refused, text));
    }
    let journal = (&Mutex::new(journals.journal), Journals::RUN);
    configurations::write_patch((args.patches.as_deref(), file), &found, journal).map(Some)
}

/// What is not there, for people.
fn incomplete(merged: &Merged) -> Vec<String> {
    let mut lines = Vec::new();
    let list = |numbers: &mut dyn Iterator<Item = u64>| {
        numbers.map(|number| number.to_string()).collect::<Vec<_>>().join(", ")
    };
    let (missing, of) = (&merged.missing, merged.shards);
    if !missing.is_empty() {
        let numbers = list(&mut missing.iter().copied());
        lines.push(format!("{} of {of} shards have no report: {numbers}", missing.len()));
    }
    let unfinished = &merged.unfinished;
    if !unfinished.is_empty() {
        let numbers = list(&mut unfinished.iter().map(|(shard, _)| *shard));
        lines.push(format!("{} of {of} shards are not finished: {numbers}", unfinished.len()));
    }
    lines
}

fn text(merged: &Merged) -> String {
    let total = &merged.total;
    let mut text = format!(
        "{}: {} of {} migrated, {}\n",
        print::count(merged.shards, "shard", "shards"),
        print::families(total.done),
        print::images(total.images),
        print::size(total.bytes)
    );
    for (count, what) in [
        (total.failed, "failed, and as before"),
        (total.stuck, "half way until its cause is removed"),
        (total.left, "left"),
    ] {
        if count > 0 {
            text.push_str(&format!("{what}: {}\n", print::families(count)));
        }
    }
    if total.missing > 0 {
        text.push_str(&format!("missing of rescued disks: {} bytes\n", total.missing));
    }
    for failed in &merged.failed {
        let problem = calve_disk::open::escaped(failed.problem.as_bytes());
        let cause = calve_disk::open::escaped(failed.cause.as_bytes());
        let (shard, family) = (failed.shard, failed.family);
        text.push_str(&format!("shard {shard}, family {family}: {cause}: {problem}\n"));
    }
    for open in merged.open.iter().chain(&merged.stuck) {
        let problem = match &*open.problem {
            "" => "its worker was ended in the middle of it".into(),
            problem => calve_disk::open::escaped(problem.as_bytes()),
        };
        let (shard, family) = (open.shard, open.family);
        text.push_str(&format!("shard {shard}, family {family}: is half way: {problem}\n"));
    }
    for (shard, why) in &merged.unfinished {
        let why = why.as_deref().unwrap_or("its worker was not heard of since it began");
        let why = calve_disk::open::escaped(why.as_bytes());
        text.push_str(&format!("shard {shard} is not finished: {why}\n"));
    }
    text
}

fn document(merged: &Merged) -> serde_json::Value {
    let list = |families: &[Failed]| {
        let families = families.iter().map(|failed| {
            json!({
                "shard": failed.shard, "family": failed.family, "cause": failed.cause,
                "problem": failed.problem,
            })
        });
        families.collect::<Vec<_>>()
    };
    let unfinished = merged.unfinished.iter();
    let unfinished = unfinished.map(|(shard, why)| json!({ "shard": shard, "why": why }));
    json!({
        "plan-digest": merged.plan_digest, "shards": merged.shards, "is-whole": merged.is_whole(),
        "missing-shards": merged.missing, "unfinished-shards": unfinished.collect::<Vec<_>>(),
        "total": merged.total, "failed": list(&merged.failed), "open": list(&merged.open),
        "stuck": list(&merged.stuck),
    })
}
