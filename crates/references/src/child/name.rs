//! The name of a base as overlays record it: from their own folder, or from the root.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use calve_disk::folder_of;
use calve_disk::open::escaped;

use crate::changes::normalised;
use crate::{Change, Changes};

/// What QEMU takes away from the front of a name.
const FILE: &[u8] = b"file:";

/// The change of the base of that name, and the name that it has then, as it is meant by an
/// overlay at `places`; or why it cannot be told.
pub(super) fn follow<'c>(
    name: &[u8],
    places: &[PathBuf],
    changes: &'c Changes,
) -> Result<Option<(&'c Change, Vec<u8>)>, String> {
    let bare = name.strip_prefix(FILE).unwrap_or(name);
    if is_protocol(bare) {
        let mut names = changes.names().filter_map(Path::file_name);
        let is_meant = names.any(|file| has(name, file.as_bytes()));
        let why =
            || format!("names its base by a protocol, which is not followed: {}", escaped(name));
        return if is_meant { Err(why()) } else { Ok(None) };
    }
    let path = Path::new(OsStr::from_bytes(bare));
    for folder in places.iter().map(|place| folder_of(place)) {
        let Some(change) = changes.of(&folder.join(path)) else { continue };
        let prefix = &name[..name.len() - bare.len()];
        let new = match change.moves() {
            false => bare.to_vec(),
            true => new_name(path, folder, change),
        };
        return Ok(Some((change, [prefix, &new].concat())));
    }
    Ok(None)
}

/// The new name: as the old one is written, where that leads there.
fn new_name(old: &Path, folder: &Path, change: &Change) -> Vec<u8> {
    let beside = change.new.file_name().map(|file| old.with_file_name(file));
    let beside = beside.filter(|name| {
        normalised(&folder.join(name)).as_ref() == Some(&change.new)
            && !is_protocol(name.as_os_str().as_bytes())
    });
    beside.unwrap_or_else(|| change.new.clone()).into_os_string().into_encoded_bytes()
}

/// Whether QEMU takes the name for something other than a path.
fn is_protocol(name: &[u8]) -> bool {
    name.split(|byte| *byte == b'/').next().is_some_and(|start| start.contains(&b':'))
}

fn has(bytes: &[u8], part: &[u8]) -> bool {
    !part.is_empty() && bytes.windows(part.len()).any(|window| window == part)
}

#[cfg(test)]
mod tests {
    use calve_disk::Format;

    use super::*;

    #[test]
    fn names_are_followed_as_they_are_written() {
        let mut changes = Changes::new();
        let mut add = |old: &str, new: &str| {
            let change = Change { old: old.into(), new: new.into(), format: Format::Qcow2 };
            changes.add(change).unwrap();
        };
        add("/i/base.qcow", "/i/base.qcow2");
        add("/i/same", "/i/same");
        add("/far/x", "/near/x:y");
        add("/i/colon", "/i/a:b");
        let link = (Path::new("/link"), Path::new("/far/x"));
        changes.also_called(link.0, link.1).unwrap();
        let places = ["/i/o/top".into(), "/i/real".into()];
        let new = |name: &str| {
            let found = follow(name.as_bytes(), &places, &changes)?;
            Ok(found.map(|(_, name)| String::from_utf8(name).unwrap()))
        };
        for (old, expected) in [
            ("../base.qcow", Some("../base.qcow2")),
            ("..//o/../base.qcow", Some("..//o/../base.qcow2")),
            ("base.qcow", Some("base.qcow2")),
            ("file:base.qcow", Some("file:base.qcow2")),
            ("/i/base.qcow", Some("/i/base.qcow2")),
            ("same", Some("same")),
            ("./same", Some("./same")),
            ("../../far/x", Some("/near/x:y")),
            ("/link", Some("/near/x:y")),
            ("colon", Some("/i/a:b")),
            ("base.qcow2", None),
            ("nbd://host/2", None),
            ("json:{\"file\":\"other\"}", None),
        ] {
            assert_eq!(new(old), Ok(expected.map(str::to_owned)), "{old}");
        }
        let json: Result<_, String> = new("json:{\"filename\":\"/i/base.qcow\"}");
        assert!(json.is_err());
    }
}
