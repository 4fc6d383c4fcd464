//! DFXML: a layout as byte runs, one file object for each label.

use std::io::{self, Write};

use calve_disk::Result;
use quick_xml::Writer;
use quick_xml::events::{BytesDecl, BytesEnd, BytesStart, BytesText, Event};

use super::{Report, unwritten};
use crate::layout::{Label, Region, Totals, layout};

const NAMESPACE: &str = "http://www.forensicswiki.org/wiki/Category:Digital_Forensics_XML";

/// Writes a layout as Digital Forensics XML: `file_offset` is the place in the image's file,
/// `img_offset` that on the disk, where there is one.
///
/// Walks the image once for each label that it has, and once before that: the runs of a label
/// stand together, and there may be more of them than memory holds.
///
/// # Errors
/// As of [`layout`], and where `out` fails.
pub fn write_dfxml(report: &Report, out: &mut dyn Write) -> Result<()> {
    let totals = layout(report.image, &mut |_| Ok(()))?;
    let mut xml = Writer::new_with_indent(io::BufWriter::new(out), b' ', 1);
    head(report, &totals, &mut xml).map_err(unwritten)?;
    for label in Label::ALL.into_iter().filter(|label| totals.of(*label) > 0) {
        begin(label, totals.of(label), &mut xml).map_err(unwritten)?;
        layout(report.image, &mut |region| match region.label == label {
            true => run(region, &mut xml).map_err(unwritten),
            false => Ok(()),
        })?;
        for name in ["byte_runs", "fileobject"] {
            xml.write_event(Event::End(BytesEnd::new(name))).map_err(unwritten)?;
        }
    }
    xml.write_event(Event::End(BytesEnd::new("dfxml"))).map_err(unwritten)?;
    let out = xml.get_mut();
    out.write_all(b"\n").and_then(|()| out.flush()).map_err(unwritten)
}

fn head<W: Write>(report: &Report, totals: &Totals, xml: &mut Writer<W>) -> io::Result<()> {
    xml.write_event(Event::Decl(BytesDecl::new("1.0", Some("UTF-8"), None)))?;
    let root = BytesStart::new("dfxml").with_attributes([
        ("version", "1.2.0"),
        ("xmlns", NAMESPACE),
        ("xmlns:dc", "http://purl.org/dc/elements/1.1/"),
    ]);
    xml.write_event(Event::Start(root))?;
    xml.create_element("metadata").write_inner_content(|xml| {
        xml.create_element("dc:type")
            .write_text_content(BytesText::new("Disk image layout"))
            .map(drop)
    })?;
    xml.create_element("creator").write_inner_content(|xml| {
        element("program", "calve", xml)?;
        element("version", report.version, xml)
    })?;
    xml.create_element("source").write_inner_content(|xml| {
        element("image_filename", &text(&report.name()), xml)?;
        element("image_size", &totals.file_size.to_string(), xml)
    })?;
    Ok(())
}

fn begin<W: Write>(label: Label, bytes: u64, xml: &mut Writer<W>) -> io::Result<()> {
    xml.write_event(Event::Start(BytesStart::new("fileobject")))?;
    element("filename", label.words(), xml)?;
    element("filesize", &bytes.to_string(), xml)?;
    xml.write_event(Event::Start(BytesStart::new("byte_runs")))
}

fn run<W: Write>(region: &Region, xml: &mut Writer<W>) -> io::Result<()> {
    let mut run = BytesStart::new("byte_run");
    run.push_attribute(("file_offset", region.at.get().to_string().as_str()));
    if !region.guest.is_empty() {
        run.push_attribute(("img_offset", region.guest.start.get().to_string().as_str()));
    }
    run.push_attribute(("len", region.length.to_string().as_str()));
    xml.write_event(Event::Empty(run))
}

fn element<W: Write>(name: &str, content: &str, xml: &mut Writer<W>) -> io::Result<()> {
    xml.create_element(name).write_text_content(BytesText::new(content)).map(drop)
}

/// Text without the two characters that are neither control characters nor allowed in XML.
pub(super) fn text(text: &str) -> String {
    text.replace(['\u{FFFE}', '\u{FFFF}'], "\u{FFFD}")
}
