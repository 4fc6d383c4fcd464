//! The report as one JSON document, whose images are written one after the other.

use std::io::{BufWriter, Write};

use serde_json::{Map, Value, json};

use crate::error::Result;
use crate::report::{Report, Sum};
use crate::row::{Row, WayBack};
use crate::table::way_back;
use crate::text;

/// The version of the shape.
const VERSION: u32 = 1;

/// Writes the document.
///
/// # Errors
/// What `out` says, and the journal.
pub fn write_json(report: &Report<'_>, out: &mut dyn Write) -> Result<()> {
    let mut out = BufWriter::new(out);
    writeln!(out, "{{")?;
    for (key, value) in head(report) {
        writeln!(out, "{}: {value},", json!(key))?;
    }
    write!(out, "\"images\": [")?;
    let mut separator = "\n";
    report.rows(|row| {
        let object = Value::Object(image(row));
        Ok(write!(out, "{}{object}", std::mem::replace(&mut separator, ",\n"))?)
    })?;
    writeln!(out, "\n]\n}}")?;
    Ok(out.flush()?)
}

fn head(report: &Report<'_>) -> Map<String, Value> {
    let mut head = Map::new();
    let mut set = |key: &str, of: Value| head.insert(key.into(), of);
    let (plan, problem) = report.plan();
    set("version", json!(VERSION));
    set("calve", json!(report.version));
    set("made", json!(text::time(report.made)));
    set("catalogue", json!(text::name(report.catalogue())));
    set("plan", json!(plan.map(text::name)));
    set("plan-problem", json!(problem));
    set("run", run(report));
    set("inventory", inventory(report));
    set(
        "results",
        Value::Object(
            report.outcomes.iter().map(|(outcome, it)| (outcome.word().into(), sum(*it))).collect(),
        ),
    );
    let formats = report.formats.iter().map(|(format, [before, now])| {
        (format.clone(), json!({ "before": sum(*before), "now": sum(*now) }))
    });
    set("formats", Value::Object(formats.collect()));
    set(
        "space",
        json!({
            "migrated-bytes-before": report.space.before,
            "migrated-bytes-now": report.space.now,
            "migrated-allocated-now": report.space.spent,
            "originals": sum(report.originals.files),
            "undo-records": report.originals.undo,
            "given-up": report.originals.released,
            "missing-bytes": report.missing,
        }),
    );
    let until = report.originals.until;
    set(
        "originals-kept-until",
        json!(until.map(|(first, last)| json!({
            "first": text::time(first), "last": text::time(last),
        }))),
    );
    set("failed", failed(report));
    set("left", left(report));
    set("certificate", certificate(report));
    head
}

fn sum(sum: Sum) -> Value {
    json!({ "count": sum.count, "bytes": sum.bytes })
}

fn run(report: &Report<'_>) -> Value {
    report.run().map_or(Value::Null, |run| {
        json!({
            "number": run.number, "plan-blake3": run.digest, "keeps": run.kept,
            "began": text::time(run.began), "ended": run.ended.map(text::time),
            "undone": run.undone.map(text::time),
        })
    })
}

fn inventory(report: &Report<'_>) -> Value {
    let counted = report.inventory.iter().map(|it| {
        json!({
            "class": it.class.word(), "format": it.format, "count": it.count, "bytes": it.bytes,
        })
    });
    counted.collect()
}

fn failed(report: &Report<'_>) -> Value {
    let failed = report.failed.iter().map(|failed| {
        let families = failed.families.iter().map(|(number, path, problem)| {
            let problem = calve_disk::open::escaped(problem.as_bytes());
            json!({ "family": number, "filename": text::name(path), "problem": problem })
        });
        json!({
            "cause": failed.cause, "next": failed.next.words, "command": failed.next.command,
            "families": families.collect::<Value>(),
        })
    });
    failed.collect()
}

fn left(report: &Report<'_>) -> Value {
    let left = report.left.iter().map(|(reason, left)| {
        json!({ "reason": reason, "count": left.sum.count, "bytes": left.sum.bytes })
    });
    left.collect()
}

fn certificate(report: &Report<'_>) -> Value {
    let certificate = &report.certificate;
    let scans = certificate.rests_on.iter().map(|it| {
        let troubles = it.troubles.iter();
        let troubles =
            troubles.map(|it| json!({ "filename": text::name(&it.path), "what": it.what }));
        json!({
            "scan": it.scan.number, "began": text::time(it.scan.began),
            "ended": text::time(it.scan.ended), "deep": it.scan.is_deep,
            "archives": it.scan.with_archives, "one-file-system": it.scan.is_one_file_system,
            "roots": it.roots.iter().map(|root| text::name(root)).collect::<Value>(),
            "troubles": troubles.collect::<Value>(),
        })
    });
    let remaining = certificate.remaining.iter().map(|it| {
        let mut object = json!({
            "reason": it.reason.word(), "filename": text::name(&it.path), "run": it.run,
        });
        if let Some(member) = &it.member {
            object["member"] = json!(calve_disk::open::escaped(member));
        }
        if let Some(hex) = text::hex(&it.path) {
            object["filename-hex"] = json!(hex);
        }
        object
    });
    let next = certificate.groups().into_keys().map(|reason| {
        let next = report.next(reason);
        (reason.word().to_owned(), json!({ "next": next.words, "command": next.command }))
    });
    json!({
        "given": certificate.is_given(),
        "verdict": report.verdict(),
        "basis": report.basis(),
        "does-not-say": report.limits(),
        "looked": certificate.looked,
        "in-use": certificate.in_use,
        "version1": certificate.count_version1(),
        "scans": scans.collect::<Value>(),
        "remaining": remaining.collect::<Value>(),
        "next": Value::Object(next.collect()),
    })
}

fn image(row: &Row<'_>) -> Map<String, Value> {
    let mut object = Map::new();
    let mut set = |key: &str, of: Value| object.insert(key.into(), of);
    let (family, order) = row.number();
    set("family", json!(family));
    set("order", json!(order));
    set("filename", json!(text::name(row.path())));
    if let Some(hex) = text::hex(row.path()) {
        set("filename-hex", json!(hex));
    }
    set("strategy", json!(row.strategy().word()));
    set("result", json!(row.outcome().word()));
    if let Some(why) = row.why() {
        set("why", json!(calve_disk::open::escaped(why.as_bytes())));
    }
    if let Some(image) = row.planned {
        set("class", json!(image.class));
        set("encrypted", json!(image.encrypted));
        set("dialect", json!(image.dialect));
        set("producer", json!(image.producer));
    }
    set("before", json!({ "format": row.format_before(), "bytes": row.size_before() }));
    set(
        "now",
        json!(row.now.map(|now| json!({
            "format": now.found.word(), "bytes": now.size, "allocated": now.spent,
            "in-use": now.is_in_use, "written-since": row.is_written_since(),
        }))),
    );
    set("disk-blake3", json!(row.digest()));
    set("missing-bytes", json!(row.missing()));
    set("began", json!(row.began().map(text::time)));
    set("ended", json!(row.ended().map(text::time)));
    set("way-back", json!(way_back(row)));
    if let WayBack::Original(path) = row.way_back() {
        set("original", json!(text::name(path)));
        if let Some(hex) = text::hex(path) {
            set("original-hex", json!(hex));
        }
    }
    set("kept-until", json!(row.kept_until().map(text::time)));
    object
}
