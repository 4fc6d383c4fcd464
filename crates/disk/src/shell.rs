//! Words of commands that people are told to type, as a shell takes them.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use crate::open::escaped;

/// Bytes as one word of a shell command; as `$'...'`, which bash, zsh and ksh have, where a
/// character would not show what it is.
pub fn word(bytes: &[u8]) -> String {
    let text = escaped(bytes);
    if text.as_bytes() != bytes {
        let mut word = String::from("$'");
        for byte in bytes {
            match byte {
                b'\'' | b'\\' => word.extend(['\\', char::from(*byte)]),
                b' '..=b'~' => word.push(char::from(*byte)),
                other => word.push_str(&format!("\\x{other:02x}")),
            }
        }
        return word + "'";
    }
    let is_plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"/._-+=:@%,".contains(byte);
    match !text.is_empty() && bytes.iter().all(is_plain) {
        true => text,
        false => format!("'{}'", text.replace('\'', "'\\''")),
    }
}

/// A path as one word of a shell command. One that begins with a hyphen would be an option, and
/// gets its folder in front.
pub fn path(path: &Path) -> String {
    let bytes = path.as_os_str().as_bytes();
    match bytes.starts_with(b"-") {
        true => word(&[b"./", bytes].concat()),
        false => word(bytes),
    }
}

/// `OVERLAY=BASE` as one word of a shell command.
pub fn pair(overlay: &Path, base: impl AsRef<OsStr>) -> String {
    word(&[overlay.as_os_str().as_bytes(), b"=", base.as_ref().as_bytes()].concat())
}

/// How many bytes at the beginning of `text` are one word of a shell command, as [`word`] makes it:
/// a blank in quotes is part of it. One that is not closed goes to the end.
pub fn word_length(text: &str) -> usize {
    let (mut is_quoted, mut is_escaped, mut escapes) = (false, false, false);
    let mut before = None;
    for (place, character) in text.char_indices() {
        match character {
            _ if is_escaped => is_escaped = false,
            '\\' if !is_quoted || escapes => is_escaped = true,
            '\'' => {
                is_quoted = !is_quoted;
                escapes = is_quoted && before == Some('$');
            }
            ' ' if !is_quoted => return place,
            _ => {}
        }
        before = Some(character);
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shell_takes_every_name_for_what_it_is() {
        for bytes in [
            &b"/plain/name.img"[..],
            b"",
            b"/it's a \"name\" $(touch x) `y` \\ ;&|<>*?",
            b"~/a!b#c{d,e}[f]",
            b"/\xff\xfe'\\\n\x1b[31m",
            "/\u{202e}gmi.\u{e9}".as_bytes(),
            b"-rf",
            b"-\xff",
            b"/\\",
        ] {
            let name = Path::new(OsStr::from_bytes(bytes));
            let script = format!(
                "printf '%s\\0' {} {} {}",
                word(bytes),
                path(name),
                pair(name, OsStr::from_bytes(b"it's"))
            );
            let output = std::process::Command::new("bash").args(["-c", &script]).output();
            let folder: &[u8] = if bytes.starts_with(b"-") { b"./" } else { b"" };
            let expected = [bytes, b"\0", folder, bytes, b"\0", bytes, b"=it's\0"].concat();
            assert_eq!(output.expect("bash").stdout, expected, "{script}");
            for word in [word(bytes), pair(name, OsStr::from_bytes(b"it's a"))] {
                assert_eq!(word_length(&format!("{word} takes it's")), word.len(), "{word}");
                assert_eq!(word_length(&word), word.len(), "{word}");
            }
        }
    }

    #[test]
    fn what_no_shell_takes_apart_is_left_as_it_is() {
        assert_eq!(word(b"a/b.img"), "a/b.img");
        assert_eq!(word(b"s3://bucket/a b"), "'s3://bucket/a b'");
        assert_eq!(word("\u{e9}".as_bytes()), "'\u{e9}'");
        assert_eq!(word(b"it's"), "'it'\\''s'");
    }
}
