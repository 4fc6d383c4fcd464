//! Where a backing file may be found: the name comes out of an image, and images come from
//! strangers.

use std::ffi::OsStr;
use std::fs::File;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use super::file;
use crate::error::{Error, Result};
use crate::pending::folder_of;

/// A name out of an image, made harmless: control bytes, bytes that are no UTF-8, characters that
/// turn the direction of writing and what is no character become escapes.
pub fn escaped(name: &[u8]) -> String {
    let mut text = String::new();
    for chunk in name.utf8_chunks() {
        for character in chunk.valid().chars() {
            let turns = matches!(character, '\u{200E}'..='\u{200F}' | '\u{202A}'..='\u{202E}'
                | '\u{2028}'..='\u{2029}' | '\u{2066}'..='\u{2069}' | '\u{061C}');
            // What Unicode has set aside for no character: XML and HTML know none of these.
            let number = u32::from(character);
            let is_none = number & 0xFFFE == 0xFFFE || matches!(number, 0xFDD0..=0xFDEF);
            if character.is_control() || turns || is_none {
                text.extend(character.escape_default());
            } else {
                text.push(character);
            }
        }
        for byte in chunk.invalid() {
            text.push_str(&format!("\\x{byte:02x}"));
        }
    }
    text
}

/// A path as it stands in whatever is told of a file: harmless as [`escaped`] makes it, and so that names
/// that differ in bytes that are no text can be told apart.
pub fn shown(path: &Path) -> String {
    escaped(path.as_os_str().as_bytes())
}

/// Where one overlay's base is looked for.
pub(super) struct Search<'a> {
    /// The top image, whose folder is allowed.
    pub(super) top: &'a Path,
    /// The overlay that names the base, from whose folder the name is looked up.
    pub(super) overlay: &'a Path,
    /// Further allowed folders.
    pub(super) roots: &'a [PathBuf],
}

impl Search<'_> {
    /// Opens the base of this name, without following it out of the allowed folders.
    pub(super) fn open(&self, name: &[u8]) -> Result<(File, PathBuf)> {
        let name = self.file_name(name)?;
        let folder = folder_of(self.overlay);
        // Said as a user would say it: without the folder one is in.
        let wanted = if folder == Path::new(".") { name.to_owned() } else { folder.join(name) };
        let mut outcome = Outcome::Outside;
        for root in std::iter::once(folder_of(self.top)).chain(self.roots.iter().map(|r| &**r)) {
            for inside in relative_to(&wanted, root) {
                match open_beneath(root, &inside) {
                    Ok(file) => return Ok((file, wanted)),
                    Err(Errno::NOENT) => outcome = Outcome::Missing,
                    // The name leads out of this folder; another one may hold it.
                    Err(Errno::XDEV) => {}
                    Err(error) => return Err(self.error(name, &failure(error))),
                }
            }
        }
        Err(self.error(
            name,
            match outcome {
                Outcome::Missing => "does not exist",
                Outcome::Outside => "lies outside the folders where bases may be",
            },
        ))
    }

    /// The name as a path, where it is one.
    fn file_name<'n>(&self, name: &'n [u8]) -> Result<&'n Path> {
        let path = name.strip_prefix(b"file:").unwrap_or(name);
        let before_slash = path.split(|byte| *byte == b'/').next().unwrap_or_default();
        if before_slash.contains(&b':') {
            return Err(self.error(
                Path::new(OsStr::from_bytes(name)),
                "is no file but a protocol, which is never followed",
            ));
        }
        Ok(Path::new(OsStr::from_bytes(path)))
    }

    fn error(&self, name: &Path, fact: &str) -> Error {
        let name = shown(name);
        Error::Base {
            overlay: self.overlay.to_owned(),
            why: format!("its backing file {name} {fact}"),
        }
    }
}

/// Why no folder had the base.
enum Outcome {
    Outside,
    Missing,
}

fn failure(error: Errno) -> String {
    format!("cannot be opened: {}", std::io::Error::from(error))
}

/// The ways in which `path` can be spelled from inside `root`: as it is written, with the links
/// of both folders resolved, and with all links resolved.
fn relative_to(path: &Path, root: &Path) -> Vec<PathBuf> {
    let mut spelled = Vec::new();
    let mut add = |path: &Path, root: &Path| {
        if let Ok(inside) = path.strip_prefix(root)
            && !spelled.iter().any(|known| known == inside)
        {
            spelled.push(inside.to_owned());
        }
    };
    add(path, root);
    add(&tidied(path), &tidied(root));
    let Ok(root) = root.canonicalize() else { return spelled };
    if let (Some(name), Ok(folder)) = (path.file_name(), folder_of(path).canonicalize()) {
        add(&folder.join(name), &root);
    }
    if let Ok(path) = path.canonicalize() {
        add(&path, &root);
    }
    spelled
}

/// The path without `.` and with `..` taken back, as it is written.
fn tidied(path: &Path) -> PathBuf {
    let mut tidy = PathBuf::new();
    for component in path.components() {
        match component {
            Component::CurDir => {}
            Component::ParentDir if tidy.file_name().is_some() => {
                tidy.pop();
            }
            other => tidy.push(other),
        }
    }
    tidy
}

fn open_beneath(root: &Path, inside: &Path) -> std::result::Result<File, Errno> {
    let folder =
        rustix::fs::open(root, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
    let open = |flags| rustix::fs::openat2(&folder, inside, flags, Mode::empty(), resolve);
    file::open_quietly(open).map(File::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_from_images_are_made_harmless() {
        assert_eq!(escaped(b"base.img"), "base.img");
        assert_eq!(escaped(b"a\x1b[2Jb\nc"), "a\\u{1b}[2Jb\\nc");
        assert_eq!(escaped(b"caf\xe9"), "caf\\xe9");
        assert_eq!(escaped("x\u{202E}gmi".as_bytes()), "x\\u{202e}gmi");
        assert_eq!(escaped("\u{FFFE}\u{FDD0}".as_bytes()), "\\u{fffe}\\u{fdd0}");
    }

    #[test]
    fn a_path_is_spelled_from_inside_a_folder_or_not_at_all() {
        assert!(relative_to(Path::new("/a/b/c"), Path::new("/a")).contains(&"b/c".into()));
        assert!(relative_to(Path::new("/a/x/../b"), Path::new("/a")).contains(&"b".into()));
        assert!(relative_to(Path::new("/etc/passwd"), Path::new("/a")).is_empty());
    }
}
