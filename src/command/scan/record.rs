//! Rows and families as JSON, and rows as CSV.

use calve_disk::open::{escaped, shown};
use calve_fleet::{Broken, Candidate, Edge, Evidence, Family, How, Member, Row, Why};
use calve_scan::{Counted, ImageFacts};
use serde_json::{Map, Value, json};

use crate::command::info::counts_json;
use crate::print::{put_bytes, put_path};

/// Whether it is a version 1 image that the scan `known`, and those before, did not know as one.
fn is_new(row: &Row, known: i64) -> bool {
    row.version1_since.is_some_and(|since| since > known)
}

/// A row as an object. `known` is the last scan before this one that was ended.
pub(super) fn of_row(row: &Row, known: i64) -> Map<String, Value> {
    let mut object = Map::new();
    put_path(&mut object, "filename", &row.path);
    if let Some(member) = &row.member {
        put_bytes(&mut object, "member", member);
    }
    let mut set = |key: &str, value: Value| object.insert(key.into(), value);
    set("class", json!(row.seen.class.word()));
    set("file-size", json!(row.seen.size));
    if let Some(resembles) = &row.seen.resembles {
        set("resembles", json!(resembles));
    }
    if let Some(problem) = &row.seen.problem {
        set("problem", json!(escaped(problem.as_bytes())));
    }
    set("undo-record", json!(row.has_undo_record));
    set("name-of", json!(row.name_of));
    set("reflink-of", json!(row.reflink_of));
    if let Some(blocks) = &row.blocks {
        set("on-disk", json!(blocks.on_disk));
        set("shared", json!(blocks.shared));
        set("shared-is-cut", json!(blocks.is_cut));
    }
    set("id", json!(row.id));
    set("device", json!(row.stamp.device));
    set("inode", json!(row.stamp.inode));
    set("modified", json!(row.stamp.modified));
    set("first-seen", json!(row.first_seen));
    set("new-version1", json!(is_new(row, known)));
    let findings = row.seen.findings.iter().map(finding).collect();
    set("findings", Value::Array(findings));
    if let Some(image) = &row.seen.image {
        put_image(&mut object, image);
    }
    object
}

fn finding(finding: &Counted) -> Value {
    let mut object = json!({ "rule": finding.rule, "count": finding.count });
    if let Some(at) = finding.at {
        object["host-offset"] = json!(at);
    }
    if let Some(rule) = finding.rule() {
        object["weight"] = json!(rule.weight().word());
        object["statement"] = json!(rule.statement());
    }
    object
}

fn put_image(object: &mut Map<String, Value>, image: &ImageFacts) {
    let mut set = |key: &str, value: Value| object.insert(key.into(), value);
    set("format", json!(image.format));
    set("virtual-size", json!(image.virtual_size));
    set("cluster-bits", json!(image.cluster_bits));
    set("encrypted", json!(image.is_encrypted));
    if image.is_version1() {
        set("l2-bits", json!(image.l2_bits));
        set("dialect", json!(image.dialect));
        set("producer", json!(image.producer));
    }
    if let Some(time) = image.backing_time {
        set("backing-mtime", json!(time));
    }
    if let Some(format) = &image.backing_format {
        set("backing-filename-format", json!(escaped(format.as_bytes())));
    }
    if let Some(survey) = image.survey {
        set("survey", counts_json(&survey));
    }
    if let Some(name) = &image.backing_name {
        put_bytes(object, "backing-filename", name);
    }
}

/// A family as an object.
pub(super) fn of_family(family: &Family) -> Map<String, Value> {
    let array = |values: Vec<Value>| Value::Array(values);
    let mut object = Map::new();
    object.insert("members".into(), array(family.members.iter().map(member).collect()));
    object.insert("edges".into(), array(family.edges.iter().map(edge).collect()));
    object.insert("broken".into(), array(family.broken.iter().map(broken).collect()));
    object.insert("loops".into(), json!(family.loops));
    object
}

fn member(member: &Member) -> Value {
    let mut object = Map::new();
    put_path(&mut object, "filename", &member.path);
    if let Some(inside) = &member.member {
        put_bytes(&mut object, "member", inside);
    }
    let mut set = |key: &str, value: Value| object.insert(key.into(), value);
    set("id", json!(member.row));
    set("class", json!(member.class.word()));
    set("format", json!(member.format));
    set("virtual-size", json!(member.virtual_size));
    set("file-size", json!(member.file_size));
    let name = |path: &std::path::PathBuf| {
        let mut name = Map::new();
        put_path(&mut name, "filename", path);
        Value::Object(name)
    };
    set("names", Value::Array(member.names.iter().map(name).collect()));
    Value::Object(object)
}

fn edge(edge: &Edge) -> Value {
    let mut object = Map::new();
    object.insert("overlay".into(), json!(edge.overlay));
    object.insert("base".into(), json!(edge.base));
    put_path(&mut object, "found-as", &edge.path);
    let how = match edge.how {
        How::Name => "name",
        How::Moved => "moved",
        How::Content => "content",
        How::Confirmed => "confirmed",
    };
    object.insert("found-by".into(), json!(how));
    object.insert("evidence".into(), evidence(&edge.evidence));
    Value::Object(object)
}

fn broken(broken: &Broken) -> Value {
    let mut object = Map::new();
    object.insert("overlay".into(), json!(broken.overlay));
    put_bytes(&mut object, "backing-filename", &broken.name);
    let why = match broken.why {
        Why::Missing => "missing",
        Why::Protocol => "protocol",
    };
    object.insert("why".into(), json!(why));
    let candidates = broken.candidates.iter().map(candidate).collect();
    object.insert("candidates".into(), Value::Array(candidates));
    Value::Object(object)
}

fn candidate(candidate: &Candidate) -> Value {
    let mut object = Map::new();
    put_path(&mut object, "filename", &candidate.path);
    if let Some(member) = &candidate.member {
        put_bytes(&mut object, "member", member);
    }
    object.insert("id".into(), json!(candidate.row));
    object.insert("score".into(), json!(candidate.score));
    object.insert("evidence".into(), evidence(&candidate.evidence));
    Value::Object(object)
}

fn evidence(evidence: &[Evidence]) -> Value {
    let mut object = Map::new();
    for one in evidence {
        match one {
            Evidence::Path { parts } => object.insert("path-parts".into(), json!(parts)),
            Evidence::Size { is_same } => object.insert("same-size".into(), json!(is_same)),
            Evidence::Time { is_same } => object.insert("same-time".into(), json!(is_same)),
            Evidence::Content { same, of } => {
                let sectors = json!({ "same": same, "of": of });
                object.insert("sectors".into(), sectors)
            }
        };
    }
    Value::Object(object)
}

/// The columns of CSV.
pub(super) const COLUMNS: &str = "filename,member,class,format,dialect,producer,virtual-size,\
     file-size,cluster-bits,encrypted,undo-record,backing-filename,findings,problem,new-version1,\
     id,name-of,reflink-of,on-disk,shared,shared-is-cut";

/// A row as a line of CSV, without its end. `known` is as of [`of_row`].
pub(super) fn csv_of(row: &Row, known: i64) -> String {
    let image = row.seen.image.as_ref();
    let bytes = |bytes: Option<&Vec<u8>>| bytes.map(|bytes| escaped(bytes)).unwrap_or_default();
    let number = |number: Option<u64>| number.map(|it| it.to_string()).unwrap_or_default();
    let place = |id: Option<i64>| id.map(|it| it.to_string()).unwrap_or_default();
    let text = |text: Option<&String>| text.cloned().unwrap_or_default();
    let findings: Vec<String> =
        row.seen.findings.iter().map(|it| format!("{} {}", it.rule, it.count)).collect();
    let fields = [
        shown(&row.path),
        bytes(row.member.as_ref()),
        row.seen.class.word().to_owned(),
        text(image.map(|image| &image.format)),
        text(image.and_then(|image| image.dialect.as_ref())),
        text(image.and_then(|image| image.producer.as_ref())),
        number(image.and_then(|image| image.virtual_size)),
        number(row.seen.size),
        number(image.and_then(|image| image.cluster_bits).map(u64::from)),
        image.map(|image| image.is_encrypted.to_string()).unwrap_or_default(),
        row.has_undo_record.to_string(),
        bytes(image.and_then(|image| image.backing_name.as_ref())),
        findings.join("; "),
        row.seen.problem.as_ref().map(|it| escaped(it.as_bytes())).unwrap_or_default(),
        is_new(row, known).to_string(),
        row.id.to_string(),
        place(row.name_of),
        place(row.reflink_of),
        number(row.blocks.map(|blocks| blocks.on_disk)),
        number(row.blocks.and_then(|blocks| blocks.shared)),
        row.blocks.map(|blocks| blocks.is_cut.to_string()).unwrap_or_default(),
    ];
    fields.map(|field| quoted(&field)).join(",")
}

/// A field, in quotes where it needs them.
fn quoted(field: &str) -> String {
    match field.contains([',', '"', '\n']) {
        true => format!("\"{}\"", field.replace('"', "\"\"")),
        false => field.to_owned(),
    }
}
