//! The little XML in which stores answer and are told.

use std::fmt::Write;

use quick_xml::Reader;
use quick_xml::escape::escape;
use quick_xml::events::Event;

/// The text of the first element of this name, where the document has it.
pub(crate) fn first(text: &str, name: &str) -> Option<String> {
    let mut reader = Reader::from_str(text);
    let mut found: Option<String> = None;
    loop {
        match reader.read_event().ok()? {
            Event::Start(start) if start.local_name().as_ref() == name => {
                found = Some(String::new());
            }
            Event::End(end) if end.local_name().as_ref() == name => return found,
            Event::Text(text) => {
                if let Some(found) = &mut found {
                    found.push_str(&text);
                }
            }
            Event::GeneralRef(reference) => {
                if let Some(found) = &mut found {
                    let whole = format!("&{};", &*reference);
                    found.push_str(&quick_xml::escape::unescape(&whole).ok()?);
                }
            }
            Event::Eof => return None,
            _ => {}
        }
    }
}

/// Whether the document tells of a failure: some answers begin well before they are known.
pub(crate) fn is_error(text: &str) -> bool {
    let mut reader = Reader::from_str(text);
    loop {
        match reader.read_event() {
            Ok(Event::Start(start)) => return start.local_name().as_ref() == "Error",
            Ok(Event::Eof) | Err(_) => return true,
            Ok(_) => {}
        }
    }
}

/// The list of parts that makes an object of them.
pub(crate) fn parts(tags: &[String]) -> String {
    let mut text = String::from("<CompleteMultipartUpload>");
    for (number, tag) in (1..).zip(tags) {
        let number: u32 = number;
        let _ = write!(
            text,
            "<Part><PartNumber>{number}</PartNumber><ETag>{}</ETag></Part>",
            escape(tag)
        );
    }
    text.push_str("</CompleteMultipartUpload>");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_of_a_name_is_found_whatever_stands_around_it() {
        let text =
            "<?xml version=\"1.0\"?><R xmlns=\"x\"><A>1</A><ETag>&quot;a&amp;b&quot;</ETag></R>";
        assert_eq!(first(text, "ETag").as_deref(), Some("\"a&b\""));
        assert_eq!(first(text, "A").as_deref(), Some("1"));
        assert_eq!(first(text, "B"), None);
        assert_eq!(first("<A>1", "A"), None);
        assert_eq!(first("not < xml", "A"), None);
        assert!(!is_error(text));
        assert!(is_error("<?xml version=\"1.0\"?><Error><Code>X</Code></Error>"));
        assert!(is_error("") && is_error("<"));
    }

    #[test]
    fn parts_are_numbered_from_one() {
        let text = parts(&["\"a\"".into(), "b<".into()]);
        assert!(text.contains("<PartNumber>2</PartNumber><ETag>b&lt;</ETag>"), "{text}");
    }
}
