//! libvirt's definitions as XML, where attributes may stand in several lines.

use quick_xml::Reader;
use quick_xml::events::{BytesStart, Event};

use crate::rule::Rule;
use crate::words::Word;

/// Elements within each other that are followed.
const DEPTH: usize = 256;

/// What a document says: rules, and at which of its bytes. None where it is no XML.
pub(crate) fn find(document: &[u8]) -> Option<Vec<(Rule, usize)>> {
    let document = std::str::from_utf8(document).ok()?;
    let mut reader = Reader::from_str(document);
    let mut found = Vec::new();
    // For each element that is open, whether it tells of a base.
    let mut open: Vec<bool> = Vec::new();
    loop {
        match reader.read_event().ok()? {
            Event::Start(element) => {
                let is_base = open.last().copied().unwrap_or(false);
                look(document, &element, is_base, &mut found);
                open.push(is_base || element.local_name().as_ref() == "backingStore");
                if open.len() > DEPTH {
                    return None;
                }
            }
            Event::Empty(element) => {
                look(document, &element, open.last().copied().unwrap_or(false), &mut found);
            }
            Event::End(_) => _ = open.pop(),
            Event::Eof => return Some(found),
            _ => {}
        }
    }
}

fn look(document: &str, element: &BytesStart<'_>, is_base: bool, found: &mut Vec<(Rule, usize)>) {
    let rule = match element.local_name().as_ref() {
        "driver" => Rule::LibvirtDriver,
        "format" if is_base => Rule::Base,
        "format" => Rule::LibvirtFormat,
        "source" | "path" => Rule::Name,
        _ => return,
    };
    for attribute in element.attributes().with_checks(false).flatten() {
        // What the parser lends is a part of the document.
        let at = attribute.value.as_ptr().addr().wrapping_sub(document.as_ptr().addr());
        let value = Word { text: attribute.value.as_bytes(), at, is_quoted: true, is_apart: false };
        let is_found = match (rule, attribute.key.local_name().as_ref()) {
            (Rule::Name, "file" | "name" | "dev") => value.is_qcow_file(),
            (Rule::Name, _) => false,
            (_, "type") => value.is_qcow(),
            _ => false,
        };
        if is_found && at < document.len() {
            found.push((rule, at));
        }
    }
}
