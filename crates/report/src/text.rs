//! Text of what a report tells: names without harm, sizes, times.

use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use calve_disk::open::shown;
use jiff::Timestamp;

/// A path as text that turns nothing round and hides nothing: control bytes, bytes that are no
/// UTF-8 and what turns the direction of writing are escapes.
pub(crate) fn name(path: &Path) -> String {
    shown(path)
}

/// The bytes of a path in hexadecimal, where its text does not say which they are.
pub(crate) fn hex(path: &Path) -> Option<String> {
    let bytes = path.as_os_str().as_bytes();
    let is_told = path.to_str().is_some_and(|text| text == name(path));
    (!is_told).then(|| bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Seconds since 1970 as RFC 3339 has them, in universal time.
pub(crate) fn time(seconds: i64) -> String {
    Timestamp::from_second(seconds).map(|time| time.to_string()).unwrap_or_default()
}

/// The day of these seconds since 1970, in universal time.
pub(crate) fn day(seconds: i64) -> String {
    time(seconds).split('T').next().unwrap_or_default().to_owned()
}

/// The same for people: minutes are enough.
pub(crate) fn moment(seconds: i64) -> String {
    let time = time(seconds);
    let (day, rest) = time.split_once('T').unwrap_or((&time, ""));
    format!("{day} {} UTC", rest.get(..5).unwrap_or(rest))
}

/// A number of bytes with three digits and a unit.
pub(crate) fn size(bytes: u64) -> String {
    const UNITS: [&str; 7] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    #[expect(clippy::cast_precision_loss, reason = "three digits are told")]
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 1000.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    let digits = match value {
        _ if unit == 0 => 0,
        value if value < 10.0 => 2,
        value if value < 100.0 => 1,
        _ => 0,
    };
    format!("{value:.digits$} {}", UNITS[unit])
}

/// A number and its noun.
pub(crate) fn count(number: u64, one: &str, many: &str) -> String {
    format!("{number} {}", if number == 1 { one } else { many })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_sizes_are_those_that_people_know() {
        assert_eq!(time(1_700_000_000), "2023-11-14T22:13:20Z");
        assert_eq!(day(1_700_000_000), "2023-11-14");
        assert_eq!(moment(1_700_000_000), "2023-11-14 22:13 UTC");
        assert_eq!(time(i64::MAX), "");
        assert_eq!(size(0), "0 B");
        assert_eq!(size(999), "999 B");
        assert_eq!(size(1536), "1.50 KiB");
        assert_eq!(size(u64::MAX), "16.0 EiB");
        assert_eq!(count(1, "image", "images"), "1 image");
    }

    #[test]
    fn names_that_are_no_text_have_their_bytes_too() {
        use std::ffi::OsStr;
        let path = |bytes: &'static [u8]| Path::new(OsStr::from_bytes(bytes));
        assert_eq!(hex(path(b"/a b")), None);
        assert_eq!(name(path(b"/\xff")), "/\\xff");
        assert_eq!(hex(path(b"/\xff")).as_deref(), Some("2fff"));
        assert_eq!(name(path("/a\u{202e}b\n".as_bytes())), "/a\\u{202e}b\\n");
        assert!(hex(path("/a\u{202e}b".as_bytes())).is_some());
    }
}
