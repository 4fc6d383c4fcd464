//! Names as overlays record them, as places in the catalogue.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use super::Member;

/// Whether a name is no file name: `nbd:`, `json:` and what else has a colon before any slash, but
/// for `file:` and the drives of Windows.
pub(super) fn is_protocol(overlay: &Path, name: &[u8]) -> bool {
    let path = without_protocol(name);
    if bucket(overlay).is_some() {
        // An object's names are keys, and no other kind of name leads to one.
        return name.split(|byte| *byte == b'/').next().unwrap_or_default().contains(&b':');
    }
    let before_slash = path.split(|byte| *byte == b'/').next().unwrap_or_default();
    before_slash.contains(&b':') && !is_of_windows(path)
}

fn without_protocol(name: &[u8]) -> &[u8] {
    name.strip_prefix(b"file:").unwrap_or(name)
}

/// `C:\disks\base.img`
fn is_of_windows(path: &[u8]) -> bool {
    matches!(path, [drive, b':', b'\\' | b'/', ..] if drive.is_ascii_alphabetic())
}

/// The bucket of an object, by which no other one is reached; none of a file.
pub(super) fn bucket(path: &Path) -> Option<&[u8]> {
    let name = path.as_os_str().as_bytes().strip_prefix(b"s3://")?;
    name.split(|byte| *byte == b'/').next()
}

/// Where an object lies that the one at `overlay` records by this name: in the same bucket. None
/// where it leads out of that, or means a file of some host.
fn object_of(overlay: &Path, name: &[u8]) -> Option<PathBuf> {
    if name.starts_with(b"/") {
        return None;
    }
    let mut parts: Vec<&[u8]> =
        overlay.as_os_str().as_bytes().split(|byte| *byte == b'/').collect();
    // The scheme, nothing, and the bucket stay.
    let least = 3;
    parts.pop();
    for part in name.split(|byte| *byte == b'/') {
        match part {
            b"" | b"." => {}
            b".." if parts.len() <= least => return None,
            b".." => _ = parts.pop(),
            part => parts.push(part),
        }
    }
    Some(PathBuf::from(OsStr::from_bytes(&parts.join(&b'/'))))
}

/// The parts of a recorded name, the last first.
pub(super) fn parts(name: &[u8]) -> impl Iterator<Item = &[u8]> {
    let is_windows = is_of_windows(without_protocol(name));
    let is_between = move |byte: &u8| *byte == b'/' || (is_windows && *byte == b'\\');
    without_protocol(name).rsplit(is_between).filter(|part| !part.is_empty())
}

/// Where the base of this name would be: a path, and a name within the archive there. None where
/// that cannot be said.
pub(super) fn place_of(overlay: &Member, name: &[u8]) -> Option<(PathBuf, Vec<u8>)> {
    if bucket(&overlay.path).is_some() {
        return object_of(&overlay.path, name).map(|path| (path, Vec::new()));
    }
    let name = without_protocol(name);
    if is_of_windows(name) {
        return None;
    }
    let name = Path::new(OsStr::from_bytes(name));
    match &overlay.member {
        None => {
            let folder = overlay.path.parent()?;
            Some((tidied(&folder.join(name)), Vec::new()))
        }
        // In an archive all names are below its root.
        Some(_) if name.is_absolute() => None,
        Some(inside) => {
            let folder = Path::new(OsStr::from_bytes(inside)).parent()?;
            let inside = tidied(&folder.join(name)).as_os_str().as_bytes().to_vec();
            Some((overlay.path.clone(), inside))
        }
    }
}

/// The path without `.` and with `..` taken back, as it is written.
fn tidied(path: &Path) -> PathBuf {
    let mut tidy = PathBuf::new();
    for component in path.components() {
        match component {
            Component::CurDir => {}
            Component::ParentDir if tidy.file_name().is_some() => _ = tidy.pop(),
            other => tidy.push(other),
        }
    }
    tidy
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn protocols_are_told_from_names_and_drives() {
        for name in ["nbd:host:10809", "json:{}", "file:nbd:x"] {
            assert!(is_protocol(Path::new("/x"), name.as_bytes()), "{name}");
        }
        for name in ["base.img", "file:base.img", "a/b:c", "C:\\vm\\base.img", "./x:y"] {
            assert!(!is_protocol(Path::new("/x"), name.as_bytes()), "{name}");
        }
    }

    #[test]
    fn an_object_lies_on_objects_of_its_bucket() {
        let overlay = Path::new("s3://b/dir/top.qcow");
        let base = |name: &str| object_of(overlay, name.as_bytes());
        for (name, place) in [
            ("base.qcow", Some("s3://b/dir/base.qcow")),
            ("./x//../y", Some("s3://b/dir/y")),
            ("../up", Some("s3://b/up")),
            ("../../out", None),
            ("/dir/base.qcow", None),
        ] {
            assert_eq!(base(name), place.map(PathBuf::from), "{name}");
        }
        for name in ["s3://b/x", "file:x", "C:\\x", "nbd:x"] {
            assert!(is_protocol(overlay, name.as_bytes()), "{name}");
        }
        assert!(!is_protocol(overlay, b"a/b:c"));
        assert_eq!(bucket(overlay), Some(&b"b"[..]));
        assert_eq!(bucket(Path::new("/s3://b")), None);
    }

    #[test]
    fn parts_come_last_first_and_windows_has_its_own_slash() {
        let parts = |name: &str| -> Vec<String> {
            let all = super::parts(name.as_bytes());
            all.map(|part| String::from_utf8_lossy(part).into_owned()).collect()
        };
        assert_eq!(parts("file:/a/b.img"), ["b.img", "a"]);
        assert_eq!(parts("C:\\vm\\b.img"), ["b.img", "vm", "C:"]);
        assert_eq!(parts("a\\b.img"), ["a\\b.img"]);
    }
}
