//! The names of objects: `s3://BUCKET/KEY`.

use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use crate::error::{Error, Kind, Result};
use crate::limits::LONGEST_KEY;

/// What the name of an object begins with.
const SCHEME: &str = "s3://";

/// A bucket, or what lies in one below a name: `s3://BUCKET` or `s3://BUCKET/PREFIX`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Folder {
    /// Of a whole bucket without a key.
    name: ObjectName,
}

/// The name of an object.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ObjectName {
    bucket: String,
    key: String,
}

impl ObjectName {
    /// Whether this is meant to be the name of an object. A file may be called so too, and is
    /// then named `./s3:/...`.
    pub fn is_meant_by(path: &Path) -> bool {
        path.as_os_str().as_bytes().starts_with(SCHEME.as_bytes())
    }

    /// The name that is meant by `path`.
    ///
    /// # Errors
    /// Where it is none: [`Kind::Name`].
    pub fn parse(path: &Path) -> Result<Self> {
        let wrong = |why: &str| Err(Error::new(Kind::Name, path, "the name", why));
        let Some(text) = path.to_str() else { return wrong("is not UTF-8") };
        let Some(rest) = text.strip_prefix(SCHEME) else { return wrong("begins with no s3://") };
        let Some((bucket, key)) = rest.split_once('/') else {
            return wrong("has no key behind its bucket");
        };
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b".-_".contains(&byte);
        if bucket.is_empty() || !bucket.bytes().all(is_plain) || bucket.starts_with('.') {
            return wrong("has a bucket that none can be called");
        }
        if key.is_empty() {
            return wrong("has no key behind its bucket");
        }
        if key.len() > LONGEST_KEY {
            return wrong("has a key that is longer than 1024 bytes");
        }
        // Servers and proxies shorten them, and so lead somewhere else.
        if key.split('/').any(|part| part == "." || part == "..") {
            return wrong("has a key with . or .. between slashes");
        }
        Ok(Self { bucket: bucket.to_owned(), key: key.to_owned() })
    }

    /// The bucket.
    pub fn bucket(&self) -> &str {
        &self.bucket
    }

    /// The key in that bucket.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// The bucket, as what a request is about that is about no object.
    pub(crate) fn in_bucket(&self) -> Self {
        Self { bucket: self.bucket.clone(), key: String::new() }
    }

    /// The name as a path.
    pub fn path(&self) -> PathBuf {
        PathBuf::from(self.to_string())
    }

    /// The object that is called so with `suffix` behind its key.
    #[must_use]
    pub fn with_suffix(&self, suffix: &str) -> Self {
        Self { bucket: self.bucket.clone(), key: format!("{}{suffix}", self.key) }
    }

    /// The object that `name` means, as the object of this name records it: one of the same
    /// bucket. `None` where the name leads out of it, or means no object.
    pub fn beside(&self, name: &str) -> Option<Self> {
        let mut parts: Vec<&str> = self.key.split('/').collect();
        parts.pop();
        for part in name.split('/') {
            match part {
                "" | "." => {}
                ".." => {
                    parts.pop()?;
                }
                part => parts.push(part),
            }
        }
        let name = Self { bucket: self.bucket.clone(), key: parts.join("/") };
        Self::parse(&name.path()).ok()
    }

    /// Whether it lies in `folder`, or below: `s3://BUCKET` or `s3://BUCKET/PREFIX`.
    pub fn is_in(&self, folder: &Path) -> bool {
        let Some(folder) = folder.to_str() else { return false };
        let whole = self.to_string();
        let rest = whole.strip_prefix(folder.trim_end_matches('/'));
        folder.starts_with(SCHEME) && rest.is_some_and(|rest| rest.starts_with('/'))
    }
}

impl Folder {
    /// The folder that is meant by `path`, with a slash at its end or without.
    ///
    /// # Errors
    /// Where it is none: [`Kind::Name`].
    pub fn parse(path: &Path) -> Result<Self> {
        let text = path.to_string_lossy();
        let rest = text.strip_prefix(SCHEME).unwrap_or(&text);
        let key = rest.split_once('/').map_or("", |(_, key)| key);
        let is_whole = key.is_empty() || key == "/";
        let name = match is_whole {
            // Any key shows whether the bucket is one.
            true => ObjectName::parse(Path::new(&format!("{}/k", text.trim_end_matches('/')))),
            false if path.to_str().is_some() => {
                ObjectName::parse(Path::new(text.strip_suffix('/').unwrap_or(&text)))
            }
            false => ObjectName::parse(path),
        };
        let mut name = name.map_err(|error| Error { path: path.to_owned(), ..error })?;
        if is_whole {
            name.key.clear();
        }
        Ok(Self { name })
    }

    /// The name as a path, without a slash at its end.
    pub fn path(&self) -> PathBuf {
        match self.key() {
            "" => PathBuf::from(format!("{SCHEME}{}", self.name.bucket)),
            _ => self.name.path(),
        }
    }

    /// What keys begin with before a slash; nothing where all of the bucket is meant.
    pub(crate) fn key(&self) -> &str {
        &self.name.key
    }

    /// The bucket, as what a request is about that is about no object.
    pub(crate) fn bucket(&self) -> ObjectName {
        self.name.in_bucket()
    }

    /// The object of this key in the bucket, whatever that leads to.
    pub(crate) fn path_of(&self, key: &str) -> PathBuf {
        PathBuf::from(format!("{SCHEME}{}/{key}", self.name.bucket))
    }
}

impl fmt::Display for ObjectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{SCHEME}{}/{}", self.bucket, self.key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(name: &str) -> ObjectName {
        ObjectName::parse(Path::new(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    #[test]
    fn a_name_is_a_bucket_and_a_key_or_none() {
        let name = named("s3://images/old/a b.qcow");
        assert_eq!((name.bucket(), name.key()), ("images", "old/a b.qcow"));
        assert_eq!(name.to_string(), "s3://images/old/a b.qcow");
        for wrong in [
            "s3://",
            "s3://b",
            "s3://b/",
            "s3:///k",
            "s3://b/../k",
            "s3://b/a/./k",
            "s3://b:80/k",
            "s3://u@b/k",
            "file",
        ] {
            assert!(ObjectName::parse(Path::new(wrong)).is_err(), "{wrong}");
        }
        let long = format!("s3://b/{}", "k".repeat(1025));
        assert!(ObjectName::parse(Path::new(&long)).is_err());
        assert!(!ObjectName::is_meant_by(Path::new("./s3://b/k")));
    }

    #[test]
    fn a_base_is_in_the_same_bucket() {
        let image = named("s3://b/dir/top.qcow");
        let beside = |name| image.beside(name).map(|name| name.to_string());
        assert_eq!(beside("base.qcow").as_deref(), Some("s3://b/dir/base.qcow"));
        assert_eq!(beside("./x/../y").as_deref(), Some("s3://b/dir/y"));
        assert_eq!(beside("../up").as_deref(), Some("s3://b/up"));
        assert_eq!(beside("../../out"), None);
        assert_eq!(beside(".."), None);
    }

    #[test]
    fn a_folder_is_a_bucket_or_a_part_of_one() {
        let folder = |name: &str| Folder::parse(Path::new(name)).map(|it| it.path());
        for (name, path) in [
            ("s3://b", "s3://b"),
            ("s3://b/", "s3://b"),
            ("s3://b/dir", "s3://b/dir"),
            ("s3://b/dir/", "s3://b/dir"),
            ("s3://b/a b/\u{e4}%", "s3://b/a b/\u{e4}%"),
        ] {
            assert_eq!(folder(name).ok().as_deref(), Some(Path::new(path)), "{name}");
        }
        for wrong in ["s3://", "s3:///", "s3:///k", "s3://b:80", "s3://b/../k", "s3://u@b/", "b"] {
            let error = folder(wrong).expect_err(wrong);
            assert_eq!(error.path, Path::new(wrong), "{error}");
        }
    }

    #[test]
    fn a_folder_holds_what_lies_below_it() {
        let image = named("s3://b/dir/x");
        for folder in ["s3://b/dir", "s3://b/dir/", "s3://b"] {
            assert!(image.is_in(Path::new(folder)), "{folder}");
        }
        for folder in ["s3://b/di", "s3://c", "s3://b/dir/x", "/", ""] {
            assert!(!image.is_in(Path::new(folder)), "{folder}");
        }
    }
}
