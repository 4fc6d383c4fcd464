//! Values of attributes, and where they stand.

use std::ops::Range;

use quick_xml::XmlVersion;
use quick_xml::events::attributes::Attribute;

/// The value of an attribute.
pub(super) struct Value {
    /// Where it stands in the document, without its quotes.
    pub(super) range: Range<usize>,
    /// What it means; `None` where it has an entity that is not XML's own.
    pub(super) text: Option<String>,
}

impl Value {
    /// The value of an attribute that was read of `document`.
    pub(super) fn of(attribute: &Attribute, document: &str) -> Result<Self, String> {
        let raw = &*attribute.value;
        // The reader lends parts of the document, and says nowhere which.
        let start = raw.as_ptr().addr().checked_sub(document.as_ptr().addr());
        let range = start.map(|start| start..start + raw.len());
        let range = range.filter(|range| document.get(range.clone()) == Some(raw));
        let range = range.ok_or("has an attribute of which the place is not known")?;
        let text = attribute.normalized_value(XmlVersion::Implicit1_0).ok();
        Ok(Self { range, text: text.map(|text| text.into_owned()) })
    }
}

/// A text as it stands in an attribute, whatever its quotes are; `None` where XML cannot say it.
pub(super) fn encoded(text: &str) -> Option<String> {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '\'' => out.push_str("&apos;"),
            '"' => out.push_str("&quot;"),
            '\t' => out.push_str("&#9;"),
            '\n' => out.push_str("&#10;"),
            '\r' => out.push_str("&#13;"),
            '\0'..'\u{20}' | '\u{FFFE}' | '\u{FFFF}' => return None,
            _ => out.push(character),
        }
    }
    Some(out)
}
