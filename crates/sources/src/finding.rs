//! What is told of a file.

use calve_disk::open::escaped;

use crate::limits;
use crate::rule::Rule;

/// A place that makes version 1 images, or names them.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Finding {
    /// The line, the first of a file being 1.
    pub line: u64,
    /// The byte of the line at which the word stands, the first being 1.
    pub column: u64,
    /// What it is.
    pub rule: Rule,
    /// The line, as far as it is shown: without blanks at its ends, escaped so that it is harmless
    /// on a terminal, and cut.
    pub text: String,
}

/// What was found in one file.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Looked {
    /// Findings in the order of the file.
    pub findings: Vec<Finding>,
    /// How many there are beyond [`limits::FINDINGS_IN_FILE`].
    pub further: u64,
}

impl Looked {
    pub(crate) fn add(&mut self, finding: Finding) {
        if self.findings.len() < limits::FINDINGS_IN_FILE {
            self.findings.push(finding);
        } else {
            self.further += 1;
        }
    }
}

/// Why a file was not looked into.
#[derive(Debug)]
pub enum Unread {
    /// The host did not let it be read.
    Host(std::io::Error),
    /// It is text, and longer than [`limits::FILE`].
    TooLong,
    /// It is text of 16-bit units, which is not read.
    Utf16,
}

impl std::fmt::Display for Unread {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Host(error) => error.fmt(f),
            Self::TooLong => write!(f, "longer than {} bytes of text", limits::FILE),
            Self::Utf16 => f.write_str("text in UTF-16: convert it to UTF-8 (iconv -t UTF-8)"),
        }
    }
}

impl std::error::Error for Unread {}

impl From<std::io::Error> for Unread {
    fn from(error: std::io::Error) -> Self {
        Self::Host(error)
    }
}

/// A line as it is shown with a finding at byte `at` of it.
pub(crate) fn shown(line: &[u8], at: usize) -> String {
    let line =
        &line[..line.iter().rposition(|byte| !byte.is_ascii_whitespace()).map_or(0, |i| i + 1)];
    let blanks = line.iter().take_while(|byte| byte.is_ascii_whitespace()).count();
    // What the finding is about is shown, wherever in a long line it stands.
    let start = if at.saturating_sub(blanks) < limits::SHOWN - 20 {
        blanks
    } else {
        at - limits::SHOWN / 2
    };
    let line = line.get(start..).unwrap_or_default();
    let text = escaped(&line[..line.len().min(limits::SHOWN * 4)]);
    match text.char_indices().nth(limits::SHOWN) {
        Some((end, _)) => text[..end].to_owned(),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_shown_without_blanks_cut_and_harmless() {
        assert_eq!(shown(b"  a b\t\r\n", 2), "a b");
        assert_eq!(shown(b"a\x1b[2J", 0), "a\\u{1b}[2J");
        let long = [vec![b'x'; 1000], b" qcow ".to_vec(), vec![b'y'; 1000]].concat();
        let text = shown(&long, 1001);
        assert!(text.contains(" qcow ") && text.len() == limits::SHOWN, "{text}");
        assert_eq!(shown(b"", 0), "");
        assert_eq!(shown(b"   ", 1), "");
    }
}
