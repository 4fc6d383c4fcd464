//! What a worker writes, made harmless: whoever took it over must not drive the terminal.

use calve_disk::open::escaped;

/// Makes a stream of bytes harmless text. Newlines and tabs stay, a carriage return becomes a
/// newline, and whatever else moves the cursor or turns the direction of writing becomes an
/// escape.
#[derive(Default)]
pub(super) struct Harmless {
    /// The beginning of a character whose end has not come yet.
    begun: Vec<u8>,
    /// Whether the last byte was a carriage return.
    returned: bool,
}

impl Harmless {
    /// The next bytes as text.
    pub(super) fn text(&mut self, bytes: &[u8]) -> String {
        let is_plain = |byte: &u8| matches!(byte, b'\n' | b'\t' | b' '..=b'~');
        if self.begun.is_empty() && !self.returned && bytes.iter().all(is_plain) {
            return String::from_utf8_lossy(bytes).into_owned();
        }
        let mut all = std::mem::take(&mut self.begun);
        all.extend_from_slice(bytes);
        self.begun = all.split_off(all.len() - begun_at_the_end_of(&all));
        let mut text = String::with_capacity(all.len());
        for line in all.split_inclusive(|byte| matches!(byte, b'\n' | b'\t' | b'\r')) {
            let (words, end) = match line.split_last() {
                Some((end @ (b'\n' | b'\t' | b'\r'), words)) => (words, Some(*end)),
                _ => (line, None),
            };
            let follows_return = std::mem::take(&mut self.returned) && words.is_empty();
            text.push_str(&escaped(words));
            match end {
                // Both together are one end of a line.
                Some(b'\n') if follows_return => {}
                Some(b'\t') => text.push('\t'),
                Some(end) => {
                    self.returned = end == b'\r';
                    text.push('\n');
                }
                None => {}
            }
        }
        text
    }

    /// What is left at the end: a character that never became one.
    pub(super) fn rest(self) -> String {
        escaped(&self.begun)
    }
}

/// How many bytes at the end begin a character and do not end it.
fn begun_at_the_end_of(bytes: &[u8]) -> usize {
    match std::str::from_utf8(&bytes[bytes.len().saturating_sub(4)..]) {
        Ok(_) => 0,
        Err(_) => {
            let last = bytes.utf8_chunks().last();
            let invalid = last.map(|chunk| chunk.invalid()).unwrap_or_default();
            // What can still become a character is an error without a length.
            let may_go_on = std::str::from_utf8(invalid).is_err_and(|e| e.error_len().is_none());
            if may_go_on { invalid.len() } else { 0 }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The text of all of it, fed in parts of this length.
    fn in_parts(bytes: &[u8], length: usize) -> String {
        let mut harmless = Harmless::default();
        let texts: String = bytes.chunks(length).map(|part| harmless.text(part)).collect();
        texts + &harmless.rest()
    }

    #[test]
    fn text_is_the_same_in_parts_of_any_length() {
        let bytes =
            "plain\ttext\nünïcödé \u{1F40E}\r\n50%\r100%\r\n\u{1b}[2J\u{7}\u{202e}\u{9b}1m\n"
                .as_bytes();
        let bytes = [bytes, b"\xff\xf0\x9f", b"cut \xe2\x82"].concat();
        let expected = "plain\ttext\nünïcödé \u{1F40E}\n50%\n100%\n\\u{1b}[2J\\u{7}\\u{202e}\
                        \\u{9b}1m\n\\xff\\xf0\\x9fcut \\xe2\\x82";
        for length in 1..=bytes.len() {
            assert_eq!(in_parts(&bytes, length), expected, "{length}");
        }
    }

    #[test]
    fn no_control_character_survives() {
        let all: Vec<u8> = (0..=255).collect();
        let text = in_parts(&all, 256);
        let is_kept = |c: char| matches!(c, '\n' | '\t');
        assert!(text.chars().all(|c| !c.is_control() || is_kept(c)), "{text}");
    }
}
