//! `plan shard`: which families each of so many workers gets.

use std::fmt::Write;

use calve_plan::{MOST_SHARDS, shards};
use serde_json::json;

use super::read;
use crate::args::{Shape, ShardArgs};
use crate::exit::{Code, Failure};
use crate::print;

pub(super) fn run(args: &ShardArgs) -> Result<Code, Failure> {
    let plan = read(&args.plan)?;
    if !(1..=MOST_SHARDS).contains(&args.shards) {
        return Err(Failure::usage(format!("-n: not a number from 1 to {MOST_SHARDS}")));
    }
    let count = usize::try_from(args.shards).unwrap_or(usize::MAX);
    let (mut text, mut documents) = (String::new(), Vec::new());
    for (number, places) in shards(&plan, count, args.by.into()).iter().enumerate() {
        let families = places.iter().map(|place| &plan.families[*place]);
        let bytes: u64 = families.clone().map(calve_plan::Family::bytes).sum();
        let images: usize = families.clone().map(|family| family.images.len()).sum();
        let numbers: Vec<u64> = families.map(|family| family.number).collect();
        let _ = writeln!(
            text,
            "shard {number}: {}, {}, {}",
            print::families(numbers.len() as u64),
            print::images(images as u64),
            print::size(bytes)
        );
        documents.push(json!({
            "shard": number, "families": numbers, "images": images, "bytes": bytes,
        }));
    }
    match args.output {
        Shape::Human => print::out(&text)?,
        Shape::Json => print::json(&json!(documents))?,
    }
    Ok(Code::Done)
}
