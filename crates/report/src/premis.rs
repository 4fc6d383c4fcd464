//! PREMIS 3: an object for each image, and the events that it has been through.

use std::io::{BufWriter, Write};

use calve_plan::Strategy;
use quick_xml::Writer;
use quick_xml::events::{BytesDecl, BytesEnd, BytesStart, BytesText, Event};

use crate::error::Result;
use crate::report::Report;
use crate::row::{Outcome, Row};
use crate::text;

const NAMESPACE: &str = "http://www.loc.gov/premis/v3";
const SCHEMA: &str = "http://www.loc.gov/premis/v3 https://www.loc.gov/standards/premis/premis.xsd";

type Xml<'a> = Writer<BufWriter<&'a mut dyn Write>>;

/// Writes the document: objects first, then events, then the program, as the schema wants it.
///
/// # Errors
/// What `out` says, and the journal.
pub fn write_premis(report: &Report<'_>, out: &mut dyn Write) -> Result<()> {
    let mut xml = Writer::new_with_indent(BufWriter::new(out), b' ', 1);
    xml.write_event(Event::Decl(BytesDecl::new("1.0", Some("UTF-8"), None)))?;
    let root = BytesStart::new("premis").with_attributes([
        ("xmlns", NAMESPACE),
        ("xmlns:xsi", "http://www.w3.org/2001/XMLSchema-instance"),
        ("xsi:schemaLocation", SCHEMA),
        ("version", "3.0"),
    ]);
    xml.write_event(Event::Start(root))?;
    let (mut objects, mut events) = (0_u64, 0_u64);
    report.rows(|row| {
        objects += 1;
        Ok(object(report, row, &mut xml)?)
    })?;
    report.rows(|row| {
        for event in events_of(row) {
            events += 1;
            write_event(report, row, &event, &mut xml)?;
        }
        Ok(())
    })?;
    // The schema wants an object; and without an event the program did nothing.
    if objects == 0 {
        empty(report, &mut xml)?;
    }
    if events > 0 {
        agent(report, &mut xml)?;
    }
    xml.write_event(Event::End(BytesEnd::new("premis")))?;
    let out = xml.get_mut();
    out.write_all(b"\n")?;
    Ok(out.flush()?)
}

/// An element with elements in it.
fn within(
    name: &str,
    xml: &mut Xml<'_>,
    inner: impl FnOnce(&mut Xml<'_>) -> std::io::Result<()>,
) -> std::io::Result<()> {
    xml.create_element(name).write_inner_content(inner).map(drop)
}

/// An element with text in it.
fn leaf(name: &str, content: &str, xml: &mut Xml<'_>) -> std::io::Result<()> {
    xml.create_element(name).write_text_content(BytesText::new(content)).map(drop)
}

/// An identifier that is good within this document.
fn identifier(what: &str, value: &str, xml: &mut Xml<'_>) -> std::io::Result<()> {
    within(&format!("{what}Identifier"), xml, |xml| {
        leaf(&format!("{what}IdentifierType"), "local", xml)?;
        leaf(&format!("{what}IdentifierValue"), value, xml)
    })
}

fn number(report: &Report<'_>, row: &Row<'_>) -> String {
    let (family, place) = row.number();
    let run = report.run().map_or(0, |run| run.number);
    format!("run-{run}-family-{family}-image-{place}")
}

/// The file; and, where its digest is known, the disk in it. PREMIS counts what is encoded in
/// something as a level of its composition: the disk is level 0, the image file that it is in is
/// level 1.
fn object(report: &Report<'_>, row: &Row<'_>, xml: &mut Xml<'_>) -> std::io::Result<()> {
    let start = BytesStart::new("object").with_attributes([("xsi:type", "file")]);
    xml.write_event(Event::Start(start))?;
    identifier("object", &number(report, row), xml)?;
    let (format, size) = match row.now {
        Some(now) if now.size > 0 => (now.found.word(), now.size),
        _ => (row.format_before(), row.size_before()),
    };
    if let Some(digest) = row.digest() {
        within("objectCharacteristics", xml, |xml| {
            leaf("compositionLevel", "0", xml)?;
            within("fixity", xml, |xml| {
                leaf("messageDigestAlgorithm", "BLAKE3", xml)?;
                leaf("messageDigest", digest, xml)?;
                leaf("messageDigestOriginator", &program(report), xml)
            })?;
            format_of("raw", xml)
        })?;
    }
    within("objectCharacteristics", xml, |xml| {
        leaf("compositionLevel", if row.digest().is_some() { "1" } else { "0" }, xml)?;
        leaf("size", &size.to_string(), xml)?;
        format_of(format, xml)
    })?;
    leaf("originalName", &text::name(row.path()), xml)?;
    if let Some(hex) = text::hex(row.path()) {
        within("storage", xml, |xml| {
            within("contentLocation", xml, |xml| {
                leaf("contentLocationType", "path, bytes in hexadecimal", xml)?;
                leaf("contentLocationValue", &hex, xml)
            })
        })?;
    }
    xml.write_event(Event::End(BytesEnd::new("object")))
}

fn format_of(format: &str, xml: &mut Xml<'_>) -> std::io::Result<()> {
    let (name, version) = match format {
        "qcow" => ("QEMU copy-on-write disk image (qcow)", Some("1")),
        "qcow2" => ("QEMU copy-on-write disk image (qcow2)", None),
        "raw" => ("raw disk image", None),
        _ => ("unknown", None),
    };
    within("format", xml, |xml| {
        within("formatDesignation", xml, |xml| {
            leaf("formatName", name, xml)?;
            version.map_or(Ok(()), |version| leaf("formatVersion", version, xml))
        })
    })
}

/// The catalogue, where there is no image to tell of.
fn empty(report: &Report<'_>, xml: &mut Xml<'_>) -> std::io::Result<()> {
    let start = BytesStart::new("object").with_attributes([("xsi:type", "file")]);
    xml.write_event(Event::Start(start))?;
    identifier("object", "catalogue", xml)?;
    within("objectCharacteristics", xml, |xml| {
        within("format", xml, |xml| {
            within("formatDesignation", xml, |xml| leaf("formatName", "SQLite database", xml))
        })
    })?;
    leaf("originalName", &text::name(report.catalogue()), xml)?;
    xml.write_event(Event::End(BytesEnd::new("object")))
}

/// Something that an image has been through.
struct Happened {
    /// A word of the vocabulary of the Library of Congress, where it has one.
    kind: &'static str,
    detail: String,
    outcome: &'static str,
    note: Option<String>,
    time: i64,
}

fn events_of(row: &Row<'_>) -> Vec<Happened> {
    let Some(time) = row.ended() else { return Vec::new() };
    let strategy = row.strategy();
    let detail = format!("{}: {} to qcow2", strategy.word(), row.format_before());
    let happened = |kind, detail, outcome, note| Happened { kind, detail, outcome, note, time };
    match (row.outcome(), strategy) {
        (Outcome::Failed, _) => {
            let why = row.why().map(|why| calve_disk::open::escaped(why.as_bytes()));
            vec![happened("migration", detail, "failure", why)]
        }
        (Outcome::Migrated, Strategy::Rebase) => {
            let detail = "rebase: the name and format of the base that is recorded".into();
            vec![happened("metadata modification", detail, "success", None)]
        }
        (Outcome::Migrated, Strategy::Quarantine) => {
            let detail = "quarantine: put aside under another name".into();
            vec![happened("quarantine", detail, "success", None)]
        }
        (Outcome::Migrated, Strategy::Rescue) => {
            let note = format!("{} bytes of the disk are missing", row.missing());
            vec![happened("migration", detail, "success", Some(note))]
        }
        (Outcome::Migrated, _) => {
            let checked = "the result was read again and compared with the source, before it took \
                           the image's place or the way back was given up";
            vec![
                happened("migration", detail, "success", None),
                happened("validation", checked.into(), "success", None),
            ]
        }
        (Outcome::Undone, _) => {
            let detail = "taken back: the image is what it was before its migration".into();
            vec![happened("migration", detail, "undone", None)]
        }
        _ => Vec::new(),
    }
}

fn write_event(
    report: &Report<'_>,
    row: &Row<'_>,
    event: &Happened,
    xml: &mut Xml<'_>,
) -> std::io::Result<()> {
    let object = number(report, row);
    within("event", xml, |xml| {
        let value = format!("{object}-{}", event.kind.replace(' ', "-"));
        identifier("event", &value, xml)?;
        leaf("eventType", event.kind, xml)?;
        leaf("eventDateTime", &text::time(event.time), xml)?;
        within("eventDetailInformation", xml, |xml| leaf("eventDetail", &event.detail, xml))?;
        within("eventOutcomeInformation", xml, |xml| {
            leaf("eventOutcome", event.outcome, xml)?;
            event.note.as_ref().map_or(Ok(()), |note| {
                within("eventOutcomeDetail", xml, |xml| leaf("eventOutcomeDetailNote", note, xml))
            })
        })?;
        within("linkingAgentIdentifier", xml, |xml| {
            leaf("linkingAgentIdentifierType", "local", xml)?;
            leaf("linkingAgentIdentifierValue", "calve", xml)
        })?;
        within("linkingObjectIdentifier", xml, |xml| {
            leaf("linkingObjectIdentifierType", "local", xml)?;
            leaf("linkingObjectIdentifierValue", &object, xml)
        })
    })
}

fn program(report: &Report<'_>) -> String {
    format!("calve {}", report.version)
}

fn agent(report: &Report<'_>, xml: &mut Xml<'_>) -> std::io::Result<()> {
    within("agent", xml, |xml| {
        identifier("agent", "calve", xml)?;
        leaf("agentName", "calve", xml)?;
        leaf("agentType", "software", xml)?;
        leaf("agentVersion", report.version, xml)?;
        leaf("agentNote", "This is the version that made this document.", xml)
    })
}
