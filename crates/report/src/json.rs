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
    failed(report, &mut out)?;
    certificate(report, &mut out)?;
    write!(out, "\"images\": [")?;
    let mut list = List::default();
    report.rows(|row| list.put(&mut out, &Value::Object(image(row))))?;
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
    set("left", left(report));
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

/// Separates the items of a list that is written one by one, each on a line of its own.
#[derive(Default)]
struct List {
    is_begun: bool,
}

impl List {
    fn put(&mut self, out: &mut dyn Write, item: &Value) -> Result<()> {
        let separator = if std::mem::replace(&mut self.is_begun, true) { ",\n" } else { "\n" };
        Ok(write!(out, "{separator}{item}")?)
    }
}

fn failed(report: &Report<'_>, out: &mut dyn Write) -> Result<()> {
    write!(out, "\"failed\": [")?;
    for (place, failed) in report.failed.iter().enumerate() {
        let separator = if place == 0 { "" } else { "," };
        let (cause, next) = (json!(failed.cause), &failed.next);
        write!(
            out,
            "{separator}\n{{\"cause\":{cause},\"next\":{},\"command\":{},\"families\":[",
            json!(next.words),
            json!(next.command)
        )?;
        let mut list = List::default();
        report.failed_families(&failed.cause, |family| {
            let problem = calve_disk::open::escaped(family.problem.as_bytes());
            let name = text::name(&family.path);
            let item = json!({ "family": family.number, "filename": name, "problem": problem });
            list.put(out, &item)
        })?;
        write!(out, "]}}")?;
    }
    Ok(writeln!(out, "],")?)
}

fn left(report: &Report<'_>) -> Value {
    let left = report.left.iter().map(
        |(reason, left)| json!({ "reason": reason, "count": left.count, "bytes": left.bytes }),
    );
    left.collect()
}

/// What it says, what it rests on, and at its end what speaks against it.
fn certificate(report: &Report<'_>, out: &mut dyn Write) -> Result<()> {
    writeln!(out, "\"certificate\": {{")?;
    for (key, value) in statements(report)? {
        writeln!(out, "{}: {value},", json!(key))?;
    }
    write!(out, "\"remaining\": [")?;
    let mut list = List::default();
    for (reason, _) in &report.certificate.remaining {
        report.remaining(*reason, |it| {
            let mut object = json!({
                "reason": it.reason.word(), "filename": text::name(&it.path), "run": it.run,
            });
            if let Some(member) = &it.member {
                object["member"] = json!(calve_disk::open::escaped(member));
            }
            if let Some(hex) = text::hex(&it.path) {
                object["filename-hex"] = json!(hex);
            }
            list.put(out, &object)
        })?;
    }
    Ok(writeln!(out, "]\n}},")?)
}

fn statements(report: &Report<'_>) -> Result<Map<String, Value>> {
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
    let next = certificate.remaining.iter().map(|(reason, _)| {
        let (next, _) = report.next(*reason)?;
        let next = json!({ "next": next.words, "command": next.command });
        Ok((reason.word().to_owned(), next))
    });
    Ok(Map::from_iter([
        ("given".to_owned(), json!(certificate.is_given())),
        ("verdict".to_owned(), json!(report.verdict())),
        ("basis".to_owned(), json!(report.basis())),
        ("does-not-say".to_owned(), json!(report.limits())),
        ("looked".to_owned(), json!(certificate.looked)),
        ("in-use".to_owned(), json!(certificate.in_use)),
        ("removed-on-purpose".to_owned(), json!(certificate.removed)),
        ("version1".to_owned(), json!(certificate.count_version1())),
        ("scans".to_owned(), scans.collect::<Value>()),
        ("next".to_owned(), Value::Object(next.collect::<Result<_>>()?)),
    ]))
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
