//! A change as a patch, for whoever would rather look at it and apply it himself.

use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use similar::TextDiff;

use crate::changes::normalised;

/// The difference between what the file at `path` is and what it becomes, as `patch -p1` and
/// `git apply` take it from the root folder (or, for a relative path, from the folder that it is
/// relative to). Nothing where there is none. These are bytes, since the file's own stand in it.
pub fn patch(path: &Path, old: &[u8], new: &[u8]) -> Vec<u8> {
    let (old, new) = (lines(old), lines(new));
    let mut out = Vec::new();
    // Files end their lines as they like; lines end where `patch` takes them to end.
    let diff = TextDiff::configure().newline_terminated(true).diff_slices(&old, &new);
    for hunk in diff.unified_diff().iter_hunks() {
        if out.is_empty() {
            out.extend(b"--- ");
            out.extend(named(b"a", path));
            out.extend(b"\n+++ ");
            out.extend(named(b"b", path));
            out.push(b'\n');
        }
        out.extend(hunk.header().to_string().into_bytes());
        out.push(b'\n');
        for change in hunk.iter_changes() {
            out.extend(change.tag().to_string().into_bytes());
            out.extend(change.value());
            if !change.value().ends_with(b"\n") {
                out.extend(b"\n\\ No newline at end of file\n");
            }
        }
    }
    out
}

fn lines(bytes: &[u8]) -> Vec<&[u8]> {
    bytes.split_inclusive(|byte| *byte == b'\n').collect()
}

/// A path below `side`, in quotes as git writes them where it has odd bytes.
fn named(side: &[u8], path: &Path) -> Vec<u8> {
    let path = normalised(path).unwrap_or_else(|| path.to_owned());
    let path = path.as_os_str().as_bytes();
    let path = [side, b"/", path.strip_prefix(b"/").unwrap_or(path)].concat();
    let is_odd = |byte: &u8| matches!(byte, 0..b' ' | b'"' | b'\\' | 0x7F..);
    // A blank may end a name that has no quotes.
    if !path.iter().any(|byte| *byte == b' ' || is_odd(byte)) {
        return path;
    }
    let mut quoted = b"\"".to_vec();
    for byte in path {
        match byte {
            b'\n' => quoted.extend(b"\\n"),
            b'\t' => quoted.extend(b"\\t"),
            b'"' | b'\\' => quoted.extend([b'\\', byte]),
            byte if is_odd(&byte) => quoted.extend(format!("\\{byte:03o}").into_bytes()),
            byte => quoted.push(byte),
        }
    }
    quoted.push(b'"');
    quoted
}
