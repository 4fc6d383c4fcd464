//! Text for people and JSON for programs.

use std::io::{self, Write};
use std::path::Path;

use calve_disk::open::escaped;
use serde_json::{Map, Value, json};

use crate::exit::{Code, Failure};

/// A number of something, as people say it.
pub(crate) fn count(number: u64, one: &str, many: &str) -> String {
    format!("{number} {}", if number == 1 { one } else { many })
}

/// So many images.
pub(crate) fn images(number: u64) -> String {
    count(number, "image", "images")
}

/// So many families.
pub(crate) fn families(number: u64) -> String {
    count(number, "family", "families")
}

/// Writes to standard output. A reader who has gone away has seen enough.
pub(crate) fn out(text: &str) -> Result<(), Failure> {
    let mut stdout = anstream::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Failure::not_printed(&error))
        }
        _ => Ok(()),
    }
}

/// Writes what a library writes to standard output. A reader who has gone away has seen enough, and
/// ends it.
pub(crate) fn report(
    write: impl FnOnce(&mut dyn Write) -> calve_disk::Result<()>,
) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    match write(&mut stdout) {
        Err(calve_disk::Error::Io { source, .. }) if source.kind() == io::ErrorKind::BrokenPipe => {
            Ok(())
        }
        done => Ok(done?),
    }
}

/// Writes a document to standard output, indented as `qemu-img` does it.
pub(crate) fn json(value: &Value) -> Result<(), Failure> {
    let mut bytes = Vec::new();
    let formatter = serde_json::ser::PrettyFormatter::with_indent(b"    ");
    let mut serializer = serde_json::Serializer::with_formatter(&mut bytes, formatter);
    serde::Serialize::serialize(value, &mut serializer)
        .map_err(|error| Failure::new(Code::Failed, error.to_string()))?;
    out(&format!("{}\n", String::from_utf8_lossy(&bytes)))
}

/// Bytes as text, and where that loses something also as they are, in hexadecimal.
pub(crate) fn put_bytes(object: &mut Map<String, Value>, key: &str, bytes: &[u8]) {
    let text = escaped(bytes);
    if text.as_bytes() != bytes {
        let digits: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        object.insert(format!("{key}-hex"), json!(digits));
    }
    object.insert(key.into(), json!(text));
}

/// A path as text, as [`put_bytes`] has it.
pub(crate) fn put_path(object: &mut Map<String, Value>, key: &str, path: &Path) {
    put_bytes(object, key, path.as_os_str().as_encoded_bytes());
}

/// An object whose first key says what it is of.
pub(crate) fn of_kind(kind: &str, object: Map<String, Value>) -> Value {
    let mut all = Map::from_iter([("kind".to_owned(), json!(kind))]);
    all.extend(object);
    Value::Object(all)
}

/// Tells of something that is worth knowing and keeps nothing from being done.
pub(crate) fn note(program: &str, text: &str) {
    line(&format!("{program}: note: {}", escaped(text.as_bytes())));
}

/// Tells what did not work.
pub(crate) fn failure(program: &str, failure: &Failure) {
    for place in &failure.places {
        line(&format!("{program}: {}", escaped(place.as_bytes())));
    }
    let next = failure.next.as_ref().map(|next| format!("; {next}")).unwrap_or_default();
    line(&format!("{program}: {}{}", escaped(failure.text.as_bytes()), escaped(next.as_bytes())));
}

/// Writes text to standard error, as it is. Where that is closed there is nobody to tell.
pub(crate) fn err(text: &str) {
    if !text.is_empty() {
        let _ = anstream::stderr().lock().write_all(text.as_bytes());
    }
}

/// Writes one line to standard error. Where that is closed there is nobody to tell.
pub(crate) fn line(text: &str) {
    let _ = writeln!(anstream::stderr().lock(), "{text}");
}

/// A number of bytes with three digits and a unit, as `qemu-img` prints it.
pub(crate) fn size(bytes: u64) -> String {
    const UNITS: [&str; 7] = ["", "K", "M", "G", "T", "P", "E"];
    #[expect(clippy::cast_precision_loss, reason = "three digits are printed")]
    let mut value = bytes as f64;
    let mut unit = 0;
    // 1000 KiB are printed as 0.977 MiB, so that three digits always do.
    while value >= 1000.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    let digits = match value {
        value if value < 1.0 => 3,
        value if value < 10.0 => 2,
        value if value < 100.0 => 1,
        _ => 0,
    };
    let text = format!("{value:.digits$}");
    let text = match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => text,
    };
    match UNITS[unit] {
        "" => format!("{text} B"),
        unit => format!("{text} {unit}iB"),
    }
}

/// The width that tables keep to, but for names.
const WIDTH: usize = 60;

/// Words in lines of at most [`WIDTH`] columns, all of them indented. A longer word has a line of
/// its own.
pub(crate) fn wrapped(words: &str, indent: usize) -> String {
    let mut text = String::new();
    let mut line = String::new();
    for word in words.split(' ') {
        let length = indent + line.chars().count() + 1 + word.chars().count();
        if !line.is_empty() && length > WIDTH {
            text.push_str(&format!("{:indent$}{line}\n", ""));
            line.clear();
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
    }
    text + &format!("{:indent$}{line}\n", "")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_printed_as_qemu_img_does() {
        for (bytes, text) in [
            (0, "0 B"),
            (512, "512 B"),
            (84992, "83 KiB"),
            (3_328_000, "3.17 MiB"),
            (3_268_608, "3.12 MiB"),
            (64 << 20, "64 MiB"),
            (1000 << 10, "0.977 MiB"),
            (1 << 40, "1 TiB"),
        ] {
            assert_eq!(size(bytes), text);
        }
    }

    #[test]
    fn words_are_wrapped_and_none_is_cut() {
        assert_eq!(wrapped("a b", 2), "  a b\n");
        let long = "x".repeat(70);
        let text = wrapped(&format!("some words and {long} and more"), 4);
        assert_eq!(text, format!("    some words and\n    {long}\n    and more\n"));
        assert!(wrapped(&"word ".repeat(40), 26).lines().all(|line| line.len() <= WIDTH));
    }
}
