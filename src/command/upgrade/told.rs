//! What an upgrade tells, for people and for programs.

use std::fmt::Write;

use calve_disk::open::escaped;
use calve_upgrade::Plan;
use serde_json::{Value, json};

use super::Image;
use crate::args::{Shape, UpgradeArgs};
use crate::command::target;
use crate::exit::Failure;
use crate::print;

/// What was done to one image: a line for people, a document for programs.
pub(super) struct Told {
    pub(super) text: String,
    pub(super) document: Value,
}

pub(super) fn tell(args: &UpgradeArgs, done: &[Told]) -> Result<(), Failure> {
    match args.output {
        Shape::Json => {
            let documents: Vec<&Value> = done.iter().map(|told| &told.document).collect();
            match &documents[..] {
                [document] if !args.chain => print::json(document),
                _ => print::json(&json!(documents)),
            }
        }
        Shape::Human if args.quiet => Ok(()),
        Shape::Human => {
            let texts: Vec<&str> = done.iter().map(|told| &*told.text).collect();
            print::out(&texts.concat())
        }
    }
}

/// What QEMU gives an image for its L2 tables unless it is told otherwise.
const USUAL_L2_CACHE: u64 = 32 << 20;

pub(super) fn report(image: &Image, plan: &Plan, done: &str) -> Told {
    let mut text = format!("{}: {done}\n", image.name());
    let cluster = plan.cluster_size.bytes();
    let mut line = |line: String| {
        let _ = writeln!(text, "  {line}");
    };
    line(format!(
        "{} clusters of {cluster} bytes stay where they are ({} packed)",
        plan.staying, plan.packed
    ));
    for (count, why) in [
        (plan.misaligned, "do not begin at a multiple of the cluster size"),
        (plan.shared, "are where another one is"),
        (plan.beside_header, "lie beside the header"),
    ] {
        if count > 0 {
            line(format!("{count} clusters are copied: they {why}"));
        }
    }
    line(format!(
        "{} appended: L2 tables {}, L1 table {}, reference counts {}",
        print::size(plan.appended()),
        print::size(plan.l2_bytes),
        print::size(plan.l1_bytes),
        print::size(plan.refcount_bytes)
    ));
    let enough = if plan.l2_cache > USUAL_L2_CACHE {
        format!(", more than the {} that QEMU gives", print::size(USUAL_L2_CACHE))
    } else {
        String::new()
    };
    line(format!(
        "a busy guest wants an L2 cache of {} for all of the disk{enough}",
        print::size(plan.l2_cache)
    ));
    let larger = target::default_cluster_size();
    if plan.cluster_size < larger && !plan.is_encrypted {
        let clusters = plan.virtual_size.div_ceil(larger.bytes());
        line(format!(
            "with clusters of {}, which --then-repack or a later convert makes, {} would do",
            print::size(larger.bytes()),
            print::size(clusters * 8)
        ));
    }
    Told { text, document: document(image, plan) }
}

fn document(image: &Image, plan: &Plan) -> Value {
    let mut document = json!({
        "filename": image.name(),
        "cluster-size": plan.cluster_size.bytes(),
        "virtual-size": plan.virtual_size,
        "old-virtual-size": plan.old_virtual_size,
        "file-length": plan.file_size,
        "old-file-length": plan.old_file_size,
        "appended-bytes": plan.appended(),
        "l2-bytes": plan.l2_bytes,
        "l1-bytes": plan.l1_bytes,
        "refcount-bytes": plan.refcount_bytes,
        "staying-clusters": plan.staying,
        "packed-clusters": plan.packed,
        "moving-clusters": plan.moving(),
        "misaligned-clusters": plan.misaligned,
        "shared-clusters": plan.shared,
        "clusters-beside-header": plan.beside_header,
        "l2-cache-bytes": plan.l2_cache,
        "encrypted": plan.is_encrypted,
    });
    if let Some(backing) = &plan.backing {
        document["backing-filename"] = json!(escaped(&backing.name));
        document["backing-filename-format"] = json!(backing.format);
    }
    document
}
