//! A line as words and the marks between them, as much alike in all languages as that can be.

/// A word, or a mark.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Token<'a> {
    /// A run of bytes that are neither blank nor quote nor mark.
    Word(Word<'a>),
    /// One of [`MARKS`].
    Mark(u8),
}

/// A word.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Word<'a> {
    pub(crate) text: &'a [u8],
    /// Where in the line it begins.
    pub(crate) at: usize,
    /// Whether quotes stand right before and right behind it.
    pub(crate) is_quoted: bool,
    /// Whether a blank stands right before it, and before its quote.
    pub(crate) is_apart: bool,
}

const MARKS: &[u8] = b"=:,()[]{}<>;|&";
const QUOTES: &[u8] = b"\"'`";

impl Word<'_> {
    /// Whether it is the name of version 1, and not only its beginning. A string may end with the
    /// escaped end of a line.
    pub(crate) fn is_qcow(&self) -> bool {
        let ends: [&[u8]; 2] = [b"\\n", b"\\r"];
        let mut text = self.text;
        while let Some(rest) = ends.iter().find_map(|end| text.strip_suffix(*end)) {
            text = rest;
        }
        text.eq_ignore_ascii_case(b"qcow")
    }

    /// Whether it is the name of a file with the extension of version 1.
    pub(crate) fn is_qcow_file(&self) -> bool {
        const EXTENSION: &[u8] = b".qcow";
        let Some(start) = self.text.len().checked_sub(EXTENSION.len()) else { return false };
        // Not an extension alone, and not one of a pattern.
        let before = start.checked_sub(1).map(|before| self.text[before]);
        let is_named = before.is_some_and(|byte| !matches!(byte, b'/' | b'*'));
        is_named && self.text[start..].eq_ignore_ascii_case(EXTENSION)
    }

    /// The name of a program that it may be: without folders, signs of `make` and of a variable,
    /// and `.exe`, in small letters, and of a variable with `-` for `_`.
    pub(crate) fn program(&self) -> Vec<u8> {
        let name = self.text.rsplit(|byte| matches!(byte, b'/' | b'\\')).next();
        let name = name.unwrap_or_default();
        let signs = name.iter().take_while(|byte| matches!(byte, b'$' | b'@')).count();
        let mut name = name[signs..].to_ascii_lowercase();
        if !self.text.iter().any(u8::is_ascii_lowercase) {
            name.iter_mut().filter(|byte| **byte == b'_').for_each(|byte| *byte = b'-');
        }
        if name.ends_with(b".exe") {
            name.truncate(name.len() - 4);
        }
        name
    }
}

impl<'a> Token<'a> {
    pub(crate) fn word(self) -> Option<Word<'a>> {
        match self {
            Self::Word(word) => Some(word),
            Self::Mark(_) => None,
        }
    }
}

/// The tokens of a line. With `has_hashes` a `#` that begins a word outside of quotes ends it.
pub(crate) fn tokens(line: &[u8], has_hashes: bool) -> Vec<Token<'_>> {
    let mut tokens = Vec::new();
    let mut quote = None;
    let mut at = 0;
    while let Some(byte) = line.get(at).copied() {
        if byte.is_ascii_whitespace() || is_escape(line, at) {
            at += 1;
        } else if QUOTES.contains(&byte) {
            quote = match quote {
                None => Some(byte),
                Some(open) if open == byte => None,
                other => other,
            };
            at += 1;
        } else if MARKS.contains(&byte) {
            tokens.push(Token::Mark(byte));
            at += 1;
        } else {
            let is_open = |byte: &&u8| **byte == b'\\' || QUOTES.contains(byte);
            let before = line[..at].iter().rev().find(|byte| !is_open(byte));
            let is_apart = before.is_none_or(u8::is_ascii_whitespace);
            if byte == b'#' && has_hashes && quote.is_none() && is_apart {
                break;
            }
            let end = end_of_word(line, at);
            let is_quote = |byte: Option<&u8>| byte.is_some_and(|byte| QUOTES.contains(byte));
            let closing = if is_escape(line, end) { end + 1 } else { end };
            let is_quoted = at.checked_sub(1).is_some_and(|at| is_quote(line.get(at)))
                && is_quote(line.get(closing));
            tokens.push(Token::Word(Word { text: &line[at..end], at, is_quoted, is_apart }));
            at = end;
        }
    }
    tokens
}

/// Whether a backslash stands here only for the quote behind it.
fn is_escape(line: &[u8], at: usize) -> bool {
    line.get(at) == Some(&b'\\') && line.get(at + 1).is_some_and(|next| QUOTES.contains(next))
}

fn end_of_word(line: &[u8], start: usize) -> usize {
    let is_end = |at: &usize| {
        let byte = line[*at];
        let ends = byte.is_ascii_whitespace() || QUOTES.contains(&byte) || MARKS.contains(&byte);
        ends || is_escape(line, *at)
    };
    (start..line.len()).find(is_end).unwrap_or(line.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(line: &str) -> Vec<String> {
        let tokens = tokens(line.as_bytes(), true).into_iter();
        let told = tokens.map(|token| match token {
            Token::Word(word) => {
                let text = String::from_utf8_lossy(word.text);
                if word.is_quoted { format!("\"{text}\"") } else { text.into_owned() }
            }
            Token::Mark(mark) => char::from(mark).to_string(),
        });
        told.collect()
    }

    #[test]
    fn lines_of_all_languages_are_words_and_marks() {
        assert_eq!(told("a -f qcow 'b c' # d"), ["a", "-f", "qcow", "b", "c"]);
        assert_eq!(told("[\"-f\",\"qcow\"]"), ["[", "\"-f\"", ",", "\"qcow\"", "]"]);
        assert_eq!(told("\\\"format\\\": \\\"qcow\\\""), ["\"format\"", ":", "\"qcow\""]);
        assert_eq!(told("x='#1' a#b"), ["x", "=", "\"#1\"", "a#b"]);
        assert_eq!(told("C:\\vm\\a.qcow"), ["C", ":", "\\vm\\a.qcow"]);
        assert_eq!(told(""), <[&str; 0]>::default());
    }

    fn is(text: &str, of: fn(&Word<'_>) -> bool) -> bool {
        tokens(text.as_bytes(), false).into_iter().filter_map(Token::word).any(|word| of(&word))
    }

    #[test]
    fn only_the_whole_word_is_version_1() {
        for text in ["qcow", "QCOW", "'qcow'", "qcow\\n", "a,qcow"] {
            assert!(is(text, |word| word.is_qcow()), "{text}");
        }
        for text in ["qcow2", "qcow1", "xqcow", "qcow.", "qcow-create", "-qcow", "qcow_v2", "q"] {
            assert!(!is(text, |word| word.is_qcow()), "{text}");
        }
        for text in ["a.qcow", "/b/a.QCOW"] {
            assert!(is(text, |word| word.is_qcow_file()), "{text}");
        }
        for text in ["a.qcow2", ".qcow", "*.qcow", "/.qcow", "a.qcow.gz", "aqcow"] {
            assert!(!is(text, |word| word.is_qcow_file()), "{text}");
        }
    }
}
