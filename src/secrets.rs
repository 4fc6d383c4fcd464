//! Passphrases: from files, descriptors, `--object secret` or a prompt, never from arguments
//! unless a script written for `qemu-img` puts them there.

use std::collections::HashMap;
use std::ffi::OsString;
use std::fs::File;
use std::io::{IsTerminal, Read};
use std::path::{Path, PathBuf};

use base64::Engine;
use calve_disk::codec::aes::Passphrase;
use calve_disk::open::shown;

use crate::args::KeyArgs;
use crate::exit::{Code, Failure};
use crate::list;

/// No passphrase is longer: only its first 16 bytes count, but a file may hold a line of any
/// length.
const MAX_SECRET: u64 = 64 << 10;

/// The passphrases that were given, which encrypted layers take in order.
pub(crate) struct Keys {
    given: Vec<Passphrase>,
    used: usize,
    /// Whether noise is accepted as the content of a disk.
    pub(crate) accept_noise: bool,
}

impl Keys {
    pub(crate) fn new(args: &KeyArgs) -> Result<Self, Failure> {
        let mut given = Vec::new();
        for path in &args.passphrase_file {
            given.push(line_of(path)?);
        }
        for descriptor in &args.passphrase_fd {
            given.push(line_of(Path::new(&format!("/dev/fd/{descriptor}")))?);
        }
        Ok(Self { given, used: 0, accept_noise: args.force_passphrase })
    }

    /// The passphrases of the next `count` encrypted layers; `None` where they have to be asked
    /// for. A single one counts for all.
    pub(crate) fn take(&mut self, count: usize) -> Option<Vec<Passphrase>> {
        if self.given.is_empty() {
            return None;
        }
        let from = if self.given.len() == 1 { 0 } else { self.used };
        self.used = self.used.max(from) + count;
        let end = self.given.len().min(from + count);
        Some(self.given.get(from..end).unwrap_or_default().to_vec())
    }

    /// Fails where a passphrase was given that nothing needed: it was meant for something.
    pub(crate) fn finish(&self) -> Result<(), Failure> {
        let surplus = self.given.len() > self.used.max(1);
        if !surplus && (self.used > 0 || self.given.is_empty()) {
            return Ok(());
        }
        let given = self.given.len();
        let used = self.used;
        Err(Failure::new(
            Code::Key,
            format!("passphrases given: {given}; encrypted images: {used}"),
        )
        .next("give one for each encrypted image, from the top of the chain down, or one for all"))
    }
}

/// Asks for the passphrase of an image, where there is somebody to ask.
pub(crate) fn ask(path: &str) -> Result<Option<Passphrase>, Failure> {
    if !std::io::stdin().is_terminal() || !std::io::stderr().is_terminal() {
        return Ok(None);
    }
    let asked = rpassword::prompt_password(format!("passphrase of {path}: "));
    match asked {
        Ok(text) => Ok(Some(Passphrase::new(text.into_bytes()))),
        Err(error) => Err(Failure::new(Code::Key, format!("reading the passphrase: {error}"))),
    }
}

/// The first bytes of a file up to the end of its last line: the newline that editors add is no
/// part of a passphrase.
fn line_of(path: &Path) -> Result<Passphrase, Failure> {
    let mut bytes = content_of(path)?;
    if bytes.ends_with(b"\n") {
        bytes.pop();
        if bytes.ends_with(b"\r") {
            bytes.pop();
        }
    }
    Ok(Passphrase::new(std::mem::take(&mut bytes)))
}

fn content_of(path: &Path) -> Result<zeroize::Zeroizing<Vec<u8>>, Failure> {
    let failed = |error: std::io::Error| {
        let text = format!("reading a passphrase from {}: {error}", shown(path));
        Failure::new(Code::Key, text)
    };
    // Room for all of it at once: a vector that grows leaves copies behind.
    let mut bytes = zeroize::Zeroizing::new(Vec::with_capacity(64 << 10));
    let file = File::open(path).map_err(failed)?;
    file.take(MAX_SECRET).read_to_end(&mut bytes).map_err(failed)?;
    Ok(bytes)
}

/// A secret of `--object secret,...`, which is read when it is needed.
#[derive(Clone)]
pub(crate) struct Secret {
    id: String,
    text: Text,
    is_base64: bool,
}

#[derive(Clone)]
enum Text {
    Here(zeroize::Zeroizing<Vec<u8>>),
    In(PathBuf),
}

impl Secret {
    /// The passphrase that it is.
    pub(crate) fn read(&self) -> Result<Passphrase, Failure> {
        let bytes = match &self.text {
            Text::Here(bytes) => bytes.clone(),
            Text::In(path) => content_of(path)?,
        };
        if !self.is_base64 {
            return Ok(Passphrase::new(bytes.to_vec()));
        }
        let decoded = base64::prelude::BASE64_STANDARD.decode(bytes.trim_ascii());
        let id = &self.id;
        // The decoder would tell what it met.
        let decoded =
            decoded.map_err(|_| usage(format!("the data of secret '{id}' is no base64")))?;
        Ok(Passphrase::new(decoded))
    }
}

/// The secrets of `--object secret,...`, by their identifiers.
pub(crate) fn objects(objects: &[String]) -> Result<HashMap<String, Secret>, Failure> {
    let secrets = objects.iter().map(|object| secret(object));
    secrets.map(|secret| secret.map(|secret| (secret.id.clone(), secret))).collect()
}

fn usage(text: String) -> Failure {
    Failure::usage(format!("--object: {text}"))
}

/// The words of a command line without the secrets among them.
pub(crate) fn left_out(words: &[OsString]) -> Vec<OsString> {
    const OPTION: &[u8] = b"--object";
    let mut is_object = false;
    let mut left = Vec::new();
    for word in words {
        let bytes = word.as_encoded_bytes();
        let value = bytes.strip_prefix(OPTION).and_then(|rest| rest.strip_prefix(b"="));
        left.push(match value {
            Some(value) => OsString::from(format!("--object={}", without_data(value))),
            None if is_object => OsString::from(without_data(bytes)),
            None => word.clone(),
        });
        is_object = bytes == OPTION;
    }
    left
}

/// What of an object is certainly no secret: what stands before anything that may be one.
fn without_data(object: &[u8]) -> String {
    let text = String::from_utf8_lossy(object);
    let is_plain = |item: &&str| {
        let key = item.split_once('=').map_or(*item, |(key, _)| key);
        ["secret", "id", "file", "format"].contains(&key)
    };
    let plain: Vec<&str> = text.split(',').take_while(is_plain).collect();
    let plain = plain.join(",");
    match plain.len() == text.len() {
        true => plain,
        false => [plain.as_str(), "(left out)"].join(if plain.is_empty() { "" } else { "," }),
    }
}

fn secret(object: &str) -> Result<Secret, Failure> {
    let mut pairs = list::pairs(object).into_iter();
    if pairs.next().is_none_or(|(kind, _)| kind != "secret") {
        return Err(usage("only secrets are supported".into())
            .next("write secret,id=ID,file=PATH or secret,id=ID,data=TEXT"));
    }
    let (mut id, mut text, mut is_base64) = (None, None, false);
    for (key, value) in pairs {
        match (key.as_str(), value.as_str()) {
            ("id", _) => id = Some(value),
            ("data", _) => text = Some(Text::Here(zeroize::Zeroizing::new(value.into_bytes()))),
            ("file", _) => text = Some(Text::In(PathBuf::from(value))),
            ("format", "raw") => is_base64 = false,
            ("format", "base64") => is_base64 = true,
            ("format", _) => return Err(usage("the format of a secret is raw or base64".into())),
            ("keyid" | "iv", _) => {
                return Err(usage("encrypted secrets are not supported".into()));
            }
            // What it is called may be a part of the secret.
            _ => {
                return Err(usage(
                    "a secret has id, data, file and format, and nothing else".into(),
                )
                .next("write a comma within the data twice"));
            }
        }
    }
    match (id, text) {
        (Some(id), Some(text)) => Ok(Secret { id, text, is_base64 }),
        _ => Err(usage("a secret needs an id, and data or a file".into())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(count: usize) -> Keys {
        let given = (0..count).map(|_| Passphrase::new(Vec::new())).collect();
        Keys { given, used: 0, accept_noise: false }
    }

    #[test]
    fn one_passphrase_counts_for_all_and_several_count_once_each() {
        let mut one = keys(1);
        assert!(one.finish().is_err(), "nothing needed it");
        assert_eq!(one.take(2).unwrap().len(), 1);
        assert_eq!(one.take(1).unwrap().len(), 1);
        assert!(one.finish().is_ok());
        let mut three = keys(3);
        assert_eq!(three.take(2).unwrap().len(), 2);
        assert!(three.finish().is_err(), "one is left over");
        assert_eq!(three.take(1).unwrap().len(), 1);
        assert!(three.finish().is_ok());
        assert!(keys(0).take(1).is_none());
        assert!(keys(0).finish().is_ok());
    }

    #[test]
    fn secrets_are_left_out_of_command_lines() {
        for (words, expected) in [
            ("info --object secret,id=s,data=xyz f", "info --object secret,id=s,(left out) f"),
            ("info --object=secret,id=s,data=xyz f", "info --object=secret,id=s,(left out) f"),
            ("--object secret,data=xyz,,id=z,id=s", "--object secret,(left out)"),
            ("--object secret,id=s,file=a,format=raw", "--object secret,id=s,file=a,format=raw"),
            ("--object xyz", "--object (left out)"),
            ("--object secret,id=s,DATA=xyz", "--object secret,id=s,(left out)"),
            ("--object --object secret,data=xyz", "--object (left out) secret,(left out)"),
        ] {
            let words: Vec<OsString> = words.split(' ').map(OsString::from).collect();
            let left = left_out(&words);
            let left: Vec<&str> = left.iter().map(|word| word.to_str().unwrap()).collect();
            assert_eq!(left.join(" "), expected);
        }
    }

    #[test]
    fn secrets_are_defined_as_for_qemu_img() {
        let given = secret("secret,id=s,data=a,,b").expect("a secret");
        assert_eq!((given.id.as_str(), given.is_base64), ("s", false));
        assert!(given.read().is_ok());
        assert!(secret("secret,id=s,format=base64,data=YQ==").unwrap().read().is_ok());
        assert!(secret("secret,id=s,format=base64,data=Y").unwrap().read().is_err());
        assert!(secret("secret,id=s,file=/nowhere").unwrap().read().is_err());
        for wrong in ["tls-creds,id=s", "secret,data=x", "secret,id=s", "secret,id=s,data=x,iv=y"] {
            assert!(secret(wrong).is_err(), "{wrong}");
        }
    }
}
