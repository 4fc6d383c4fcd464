//! Lines as they are meant: those that go on in the next one joined, comments left out, none
//! longer than a limit.

use std::io::{self, BufRead};

use crate::kind::Kind;
use crate::limits;

/// A line with those that continue it.
#[derive(Default)]
pub(crate) struct Line {
    pub(crate) bytes: Vec<u8>,
    parts: Vec<Part>,
}

/// A piece of a line of the file.
#[derive(Clone, Copy)]
struct Part {
    /// Where in the joined line it begins.
    at: usize,
    /// Its number, from 1 on.
    line: u64,
    /// Which byte of that line it begins with, from 0 on.
    skipped: u64,
}

impl Line {
    /// Line and column of a byte, both from 1 on, the line of the file that it is in, and where in
    /// that it is.
    pub(crate) fn place(&self, at: usize) -> (u64, u64, &[u8], usize) {
        let number = self.parts.partition_point(|part| part.at <= at).saturating_sub(1);
        let Some(part) = self.parts.get(number) else { return (0, 0, &[], 0) };
        let end = self.parts.get(number + 1).map_or(self.bytes.len(), |next| next.at);
        let within = at - part.at;
        (part.line, part.skipped + within as u64 + 1, &self.bytes[part.at..end], within)
    }
}

/// Reads lines.
pub(crate) struct Lines<R> {
    reader: R,
    kind: Kind,
    /// The number of the line that is being read.
    line: u64,
    /// Bytes of it that are read.
    skipped: u64,
    /// Its next bytes, where it was cut.
    rest: Vec<u8>,
}

impl<R: BufRead> Lines<R> {
    pub(crate) fn new(reader: R, kind: Kind) -> Self {
        Self { reader, kind, line: 1, skipped: 0, rest: Vec::new() }
    }

    /// The next line that is no comment; `None` at the end.
    pub(crate) fn next(&mut self) -> io::Result<Option<Line>> {
        let mut joined = Line::default();
        loop {
            let part = Part { at: joined.bytes.len(), line: self.line, skipped: self.skipped };
            let (piece, is_whole) = self.piece()?;
            if piece.is_empty() && !is_whole {
                return Ok((!joined.parts.is_empty()).then_some(joined));
            }
            let is_first = joined.parts.is_empty();
            if is_first && part.skipped == 0 && self.kind.is_comment(&piece) {
                if !is_whole {
                    self.skip_line()?;
                }
                continue;
            }
            joined.parts.push(part);
            let end = piece.trim_ascii_end().len();
            let text = &piece[..end];
            let goes_on = is_whole
                && text.last() == Some(&self.kind.continuation())
                && joined.bytes.len() + piece.len() < limits::LINE;
            if !goes_on {
                joined.bytes.extend_from_slice(&piece);
                return Ok(Some(joined));
            }
            // What says so is no part of any word.
            joined.bytes.extend_from_slice(&text[..end - 1]);
            joined.bytes.push(b' ');
        }
    }

    /// The next bytes of a line without its end, and whether it has ended. No bytes and no end is
    /// the end of the file.
    fn piece(&mut self) -> io::Result<(Vec<u8>, bool)> {
        let mut piece = std::mem::take(&mut self.rest);
        while piece.len() < limits::LINE {
            let available = self.reader.fill_buf()?;
            if available.is_empty() {
                self.skipped += piece.len() as u64;
                return Ok((piece, false));
            }
            let room = available.len().min(limits::LINE - piece.len());
            let end = available[..room].iter().position(|byte| *byte == b'\n');
            piece.extend_from_slice(&available[..end.unwrap_or(room)]);
            self.reader.consume(end.map_or(room, |end| end + 1));
            if end.is_some() {
                (self.line, self.skipped) = (self.line + 1, 0);
                return Ok((piece, true));
            }
        }
        let is_between = |byte: &u8| byte.is_ascii_whitespace() || *byte == b',';
        let from = piece.len() - limits::CUT;
        let cut =
            piece[from..].iter().rposition(is_between).map_or(piece.len(), |at| from + at + 1);
        self.rest = piece.split_off(cut);
        self.skipped += piece.len() as u64;
        Ok((piece, false))
    }

    fn skip_line(&mut self) -> io::Result<()> {
        loop {
            let (piece, is_whole) = self.piece()?;
            if is_whole || piece.is_empty() {
                return Ok(());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(text: &[u8], kind: Kind) -> Vec<Line> {
        let mut lines = Lines::new(text, kind);
        std::iter::from_fn(|| lines.next().expect("memory")).collect()
    }

    #[test]
    fn lines_that_go_on_are_joined_and_places_stay() {
        let lines = all(b"one\n# no\\\ntwo \\\r\n  three\\\nfour\n\nlast", Kind::Other);
        let texts: Vec<_> = lines.iter().map(|line| &*line.bytes).collect();
        assert_eq!(texts, [&b"one"[..], b"two    three four", b"", b"last"]);
        let at = lines[1].bytes.iter().position(|byte| *byte == b'h').expect("three");
        assert_eq!(lines[1].place(at), (4, 4, &b"  three "[..], 3));
        assert_eq!(lines[1].place(0).0, 3);
        assert_eq!(lines[3].place(2), (7, 3, &b"last"[..], 2));
    }

    #[test]
    fn long_lines_come_in_pieces_that_are_cut_between_words() {
        let text = [b"word ".repeat(40_000), b"\nend".to_vec()].concat();
        let lines = all(&text, Kind::Other);
        assert!(lines.iter().all(|line| line.bytes.len() <= limits::LINE));
        for line in &lines[..lines.len() - 1] {
            let word = &line.bytes[..4.min(line.bytes.len())];
            assert!(word.is_empty() || word == b"word");
            assert_eq!(line.place(0).1 % 5, 1);
        }
        assert_eq!(lines.last().map(|line| line.place(0).0), Some(2));
        // One word without an end, and a comment without one.
        assert_eq!(all(&vec![b'x'; 200_000], Kind::Other).len(), 4);
        let comment = [b"#".to_vec(), vec![b'x'; 200_000], b"\ny".to_vec()].concat();
        assert_eq!(all(&comment, Kind::Other).len(), 1);
    }
}
