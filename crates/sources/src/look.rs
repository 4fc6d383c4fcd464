//! One file: whether it is text, of what kind, and what it says.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};

use crate::finding::{Finding, Looked, Unread, shown};
use crate::kind::Kind;
use crate::lines::Lines;
use crate::rule::Rule;
use crate::words::tokens;
use crate::{commands, limits, markup, settings};

/// Looks into an open file, which stands at its beginning, under its name without folders. What
/// is no text says nothing.
///
/// # Errors
/// [`Unread`], where it was not looked into, or not into all of it.
pub fn look(file: &File, name: &OsStr) -> Result<Looked, Unread> {
    let length = file.metadata()?.len();
    let mut reader = BufReader::with_capacity(limits::LINE, file);
    let mut start = Vec::with_capacity(limits::START);
    reader.by_ref().take(limits::START as u64).read_to_end(&mut start)?;
    if start.starts_with(b"\xFF\xFE") || start.starts_with(b"\xFE\xFF") {
        return Err(Unread::Utf16);
    }
    if start.contains(&0) {
        return Ok(Looked::default());
    }
    if length > limits::FILE {
        return Err(Unread::TooLong);
    }
    let kind = Kind::of(name);
    // A file that grows is read no further than it was long: what writes to it may be a log of this.
    // Those of /proc say that they have no length.
    let longest = if length > 0 { length } else { limits::FILE };
    let left = longest.saturating_sub(start.len() as u64);
    let mut reader = reader.take(left);
    if kind == Kind::Xml || is_markup(&start) {
        let room = (limits::XML - start.len()) as u64 + 1;
        reader.by_ref().take(room).read_to_end(&mut start)?;
        let found = (start.len() <= limits::XML).then(|| markup::find(&start)).flatten();
        if let Some(found) = found {
            return Ok(placed(&start, found));
        }
    }
    by_line(start.chain(reader), kind)
}

/// Whether a text begins as XML does, under whatever name.
fn is_markup(start: &[u8]) -> bool {
    let start = start.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(start).trim_ascii_start();
    let begins: [&[u8]; 6] = [b"<?xml", b"<domain", b"<volume", b"<disk", b"<pool", b"<network"];
    begins.iter().any(|begin| start.starts_with(begin))
}

/// Findings in a document that is at hand.
fn placed(document: &[u8], mut found: Vec<(Rule, usize)>) -> Looked {
    let mut looked = Looked::default();
    settle(&mut found);
    let (mut line, mut start) = (1, 0);
    for (rule, at) in found {
        let passed = &document[start..at];
        line += passed.iter().filter(|byte| **byte == b'\n').count() as u64;
        start = passed.iter().rposition(|byte| *byte == b'\n').map_or(start, |end| start + end + 1);
        let text = document[start..].split(|byte| *byte == b'\n').next().unwrap_or_default();
        let text = shown(text, at - start);
        looked.add(Finding { line, column: (at - start) as u64 + 1, rule, text });
    }
    looked
}

fn by_line(reader: impl BufRead, kind: Kind) -> Result<Looked, Unread> {
    let mut looked = Looked::default();
    let mut lines = Lines::new(reader, kind);
    while let Some(line) = lines.next()? {
        // Nearly all lines say nothing, and need not be taken apart.
        if !has_name(&line.bytes) {
            continue;
        }
        let tokens = tokens(&line.bytes, kind.has_hashes());
        let mut found = Vec::new();
        commands::find(&tokens, kind, &mut found);
        settings::find(&tokens, kind, &mut found);
        settle(&mut found);
        for (rule, at) in found {
            let (number, column, text, within) = line.place(at);
            looked.add(Finding { line: number, column, rule, text: shown(text, within) });
        }
    }
    Ok(looked)
}

fn has_name(line: &[u8]) -> bool {
    line.windows(4).any(|window| window.eq_ignore_ascii_case(b"qcow"))
}

/// Puts findings in order, and leaves one for each word.
fn settle(found: &mut Vec<(Rule, usize)>) {
    // In the order of rules: what was found by a command comes before a setting.
    found.sort_by_key(|(rule, at)| (*at, *rule));
    found.dedup_by_key(|(_, at)| *at);
}
