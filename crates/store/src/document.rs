//! The little XML in which stores answer and are told.

use std::fmt::Write;

use percent_encoding::percent_decode_str;
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
                    found.push_str(&referred(&reference)?);
                }
            }
            Event::Eof => return None,
            _ => {}
        }
    }
}

/// A page of a list of objects.
#[derive(Default, Debug)]
pub(crate) struct Page {
    pub(crate) entries: Vec<Entry>,
    /// Whether there are more, where it says so.
    pub(crate) is_cut: Option<bool>,
    /// What the next page is asked for with.
    pub(crate) token: Option<String>,
}

/// An object in a list.
#[derive(Default, PartialEq, Eq, Debug)]
pub(crate) struct Entry {
    pub(crate) key: String,
    pub(crate) size: u64,
    pub(crate) tag: String,
    /// As it stands there.
    pub(crate) modified: String,
}

/// An upload that was begun and is not over.
#[derive(Default, PartialEq, Eq, Debug)]
pub(crate) struct Pending {
    pub(crate) key: String,
    pub(crate) id: String,
}

/// The uploads that a document lists, where it is a list of uploads, and whole.
pub(crate) fn uploads(text: &str) -> Option<Vec<Pending>> {
    let (mut all, mut pending, mut is_escaped) = (Vec::new(), Pending::default(), false);
    list(text, ("ListMultipartUploadsResult", "Upload"), |place, name, word| {
        match (place, name) {
            (Place::List, "Upload") => all.push(std::mem::take(&mut pending)),
            (Place::List, "EncodingType") => is_escaped = word.trim() == "url",
            (Place::Entry, "Key") => pending.key = word,
            (Place::Entry, "UploadId") => pending.id = word,
            _ => {}
        }
        Some(())
    })?;
    for pending in all.iter_mut().filter(|_| is_escaped) {
        pending.key = unescaped(&pending.key)?;
    }
    let is_whole = all.iter().all(|pending| !pending.key.is_empty() && !pending.id.is_empty());
    is_whole.then_some(all)
}

/// What a reference in the text stands for.
fn referred(reference: &str) -> Option<String> {
    let whole = format!("&{reference};");
    quick_xml::escape::unescape(&whole).ok().map(std::borrow::Cow::into_owned)
}

/// A key of a list whose keys are escaped. A blank is written as in forms, and a plus never as itself.
fn unescaped(key: &str) -> Option<String> {
    let key = key.replace('+', " ");
    percent_decode_str(&key).decode_utf8().ok().map(std::borrow::Cow::into_owned)
}

/// The page that a document is, or the rule that it breaks. What S3 has beside that may lack, and
/// what it does not know is passed over.
pub(crate) fn page(text: &str) -> Result<Page, &'static str> {
    let (mut page, mut entry, mut is_escaped) = (Page::default(), Entry::default(), false);
    let (mut has_size, mut broken) = (false, None);
    let read = list(text, ("ListBucketResult", "Contents"), |place, name, word| {
        match (place, name) {
            (Place::List, "Contents") => {
                if entry.key.is_empty() {
                    broken = Some("each object in a list has a Key");
                } else if !std::mem::take(&mut has_size) {
                    broken = Some("each object in a list has its length in Size");
                }
                page.entries.push(std::mem::take(&mut entry));
            }
            (Place::List, "IsTruncated") => page.is_cut = truth(&word),
            (Place::List, "NextContinuationToken") => {
                page.token = Some(word).filter(|token| !token.is_empty());
            }
            (Place::List, "EncodingType") => is_escaped = word.trim() == "url",
            (Place::Entry, "Key") => entry.key = word,
            (Place::Entry, "Size") => {
                let size = word.trim().parse().ok();
                has_size = size.is_some();
                entry.size = size.unwrap_or_default();
            }
            (Place::Entry, "ETag") => entry.tag = word,
            (Place::Entry, "LastModified") => entry.modified = word,
            _ => {}
        }
        Some(())
    });
    read.ok_or("a list is a whole document, of a ListBucketResult")?;
    for entry in page.entries.iter_mut().filter(|_| is_escaped) {
        let key = unescaped(&entry.key);
        entry.key = key.ok_or("keys of a list whose EncodingType is url are escaped UTF-8")?;
    }
    broken.map_or(Ok(page), Err)
}

fn truth(word: &str) -> Option<bool> {
    let is = |other: &str| word.trim().eq_ignore_ascii_case(other);
    match (is("true"), is("false")) {
        (true, _) => Some(true),
        (_, true) => Some(false),
        _ => None,
    }
}

/// Where an element of a list stands.
enum Place {
    /// It is one of the list's own, or one of its entries.
    List,
    /// It is one of an entry's.
    Entry,
}

/// Tells of each element of a list that has ended, by its name and its text. `None` where the
/// document is not the list called `root`, of entries called `entry`, or was cut; or `ended` says
/// that it makes no sense.
fn list(
    text: &str,
    (root, entry): (&str, &str),
    mut ended: impl FnMut(Place, &str, String) -> Option<()>,
) -> Option<()> {
    let mut reader = Reader::from_str(text);
    // `<Contents/>` is one that says nothing, and nothing that may be passed over.
    reader.config_mut().expand_empty_elements = true;
    let (mut depth, mut is_entry, mut word) = (0_u32, false, String::new());
    loop {
        match reader.read_event().ok()? {
            Event::Start(start) => {
                let name = start.local_name();
                if depth == 0 && name.as_ref() != root {
                    return None;
                }
                if depth == 1 {
                    is_entry = name.as_ref() == entry;
                }
                depth += 1;
                word.clear();
            }
            Event::Text(text) => word.push_str(&text),
            Event::CData(text) => word.push_str(&text),
            Event::GeneralRef(reference) => word.push_str(&referred(&reference)?),
            Event::End(end) => {
                let word = std::mem::take(&mut word);
                match depth {
                    1 => return Some(()),
                    2 => ended(Place::List, end.local_name().as_ref(), word)?,
                    3 if is_entry => ended(Place::Entry, end.local_name().as_ref(), word)?,
                    _ => {}
                }
                depth = depth.checked_sub(1)?;
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
    fn uploads_are_read_with_their_keys_and_numbers_or_not_at_all() {
        let text = "<?xml version=\"1.0\"?><ListMultipartUploadsResult xmlns=\"x\"><Bucket>b</Bucket>\
            <UploadIdMarker/><NextUploadIdMarker>no</NextUploadIdMarker><EncodingType>url</EncodingType>\
            <Upload><Key>a+b%2B.qcow</Key><UploadId>i&amp;d</UploadId><Owner><ID>x</ID></Owner></Upload>\
            <Upload><UploadId>2</UploadId><Key>c</Key></Upload></ListMultipartUploadsResult>";
        let pending = |key: &str, id: &str| Pending { key: key.into(), id: id.into() };
        assert_eq!(uploads(text), Some(vec![pending("a b+.qcow", "i&d"), pending("c", "2")]));
        let none = "<ListMultipartUploadsResult></ListMultipartUploadsResult>";
        assert_eq!(uploads(none), Some(Vec::new()));
        for other in [
            &text[..text.len() - 3],
            "<ListBucketResult></ListBucketResult>",
            "<ListMultipartUploadsResult><Upload><Key>k</Key></Upload></ListMultipartUploadsResult>",
            "",
        ] {
            assert_eq!(uploads(other), None, "{other}");
        }
    }

    #[test]
    fn a_page_is_read_as_a_whole_or_not_at_all() {
        let text = "<?xml version=\"1.0\"?><ListBucketResult xmlns=\"x\"><Name>b</Name><Prefix/>\
            <IsTruncated>true</IsTruncated><NextContinuationToken>a&amp;b=</NextContinuationToken>\
            <Contents><Key>a+b%2B%C3%BC&amp;.qcow</Key><LastModified>2020-01-02T03:04:05.000Z\
            </LastModified><ETag>&quot;t&quot;</ETag><Size>7</Size><Owner><ID>i</ID></Owner>\
            </Contents><CommonPrefixes><Prefix>p/</Prefix><Key>no</Key></CommonPrefixes>\
            <EncodingType>url</EncodingType></ListBucketResult>";
        let read = page(text).expect("a page");
        assert_eq!(read.is_cut, Some(true));
        assert_eq!(read.token.as_deref(), Some("a&b="));
        let [entry] = &read.entries[..] else { panic!("{read:?}") };
        assert_eq!(
            (&*entry.key, entry.size, &*entry.tag, &*entry.modified),
            ("a b+\u{fc}&.qcow", 7, "\"t\"", "2020-01-02T03:04:05.000Z")
        );
        let plain = page(&text.replace("url", "none")).expect("a page");
        assert_eq!(plain.entries[0].key, "a+b%2B%C3%BC&.qcow");
        for end in 0..text.len() {
            assert!(page(&text[..end]).is_err(), "{end}");
        }
        for (one, other) in [
            ("<Size>7", "<Size>-7"),
            ("<Key>a+b%2B%C3%BC&amp;.qcow", "<Key>"),
            ("%C3%BC", "%FF"),
            ("ListBucketResult", "Error"),
        ] {
            assert!(page(&text.replace(one, other)).is_err(), "{other}");
        }
    }

    #[test]
    fn parts_are_numbered_from_one() {
        let text = parts(&["\"a\"".into(), "b<".into()]);
        assert!(text.contains("<PartNumber>2</PartNumber><ETag>b&lt;</ETag>"), "{text}");
    }
}
