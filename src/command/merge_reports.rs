//! `merge-reports`: the reports of all shards as one. Nothing is touched.

use std::path::PathBuf;

use calve_migrate::shard::{Failed, Merged, merge, reports_in};
use serde_json::json;

use crate::args::{MergeArgs, Shape};
use crate::command::plan;
use crate::exit::{Code, Failure};
use crate::print;

pub(crate) fn run(args: &MergeArgs) -> Result<Code, Failure> {
    let mut paths: Vec<PathBuf> = Vec::new();
    for named in &args.reports {
        match named.is_dir() {
            true => paths.extend(reports_in(named)?),
            false => paths.push(named.clone()),
        }
    }
    let plan = args.plan.as_deref().map(plan::read_whole).transpose()?;
    let merged = merge(&paths, plan.as_ref().map(|(plan, digest)| (plan, &**digest)))?;
    match args.output {
        Shape::Json => print::json(&document(&merged))?,
        Shape::Human if args.quiet => {}
        Shape::Human => print::out(&text(&merged))?,
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
        "{} shards: {} families of {} images migrated, {}\n",
        merged.shards,
        total.done,
        total.images,
        print::size(total.bytes)
    );
    for (count, what) in [
        (total.failed, "families failed and are as they were"),
        (total.stuck, "families stay half way"),
        (total.left, "families are left"),
        (total.missing, "bytes of rescued disks are missing"),
    ] {
        if count > 0 {
            text.push_str(&format!("{count} {what}\n"));
        }
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
