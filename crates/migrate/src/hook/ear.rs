//! What a command says while it runs: line by line, and no more than so much.

use std::io::{ErrorKind, PipeReader, Read};

/// The longest line that is told as a whole, in bytes.
const MAX_LINE: usize = 1024;

/// Lines that are told of one command.
const MAX_LINES: u64 = 100;

/// Bytes that are taken at once, before anything else is looked at again.
const PORTION: usize = 16 << 10;

/// Portions that are taken of what is there when a command has ended: more than a pipe has room for.
const LAST: usize = 64;

/// What is told of what a command says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Heard<'a> {
    /// A line, without its end; of a long one the beginning, and how many bytes it has behind that.
    Line(&'a [u8], u64),
    /// So many further lines are not told.
    Untold(u64),
}

/// Listens to a command.
pub(super) struct Ear<'a> {
    lines: Lines<'a>,
    /// Nothing where it was closed.
    pipe: Option<PipeReader>,
}

impl<'a> Ear<'a> {
    /// Listens to this pipe, and never waits for it: what the command has started may keep it open
    /// for ever.
    pub(super) fn new(
        pipe: PipeReader,
        tell: &'a (dyn Fn(Heard<'_>) + 'a),
    ) -> std::io::Result<Self> {
        rustix::io::ioctl_fionbio(&pipe, true)?;
        Ok(Self { lines: Lines::new(tell), pipe: Some(pipe) })
    }

    /// Takes what is there, up to a portion; says whether there was anything.
    pub(super) fn listen(&mut self) -> bool {
        let Some(pipe) = &mut self.pipe else { return false };
        let mut bytes = [0; PORTION];
        match pipe.read(&mut bytes) {
            Ok(count @ 1..) => {
                self.lines.take(&bytes[..count]);
                true
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock) => false,
            Err(error) if matches!(error.kind(), ErrorKind::Interrupted) => true,
            // It was closed. How the command ends tells what it did.
            Ok(0) | Err(_) => {
                self.pipe = None;
                false
            }
        }
    }

    /// Takes what is there still, when the command has ended. What it has left behind is not
    /// listened to any more.
    pub(super) fn end(mut self) {
        let _ = (0..LAST).all(|_| self.listen());
        self.lines.end();
    }
}

/// Bytes as lines.
struct Lines<'a> {
    tell: &'a (dyn Fn(Heard<'_>) + 'a),
    /// The beginning of the line that has no end yet, and how many bytes it has behind that.
    line: Vec<u8>,
    cut: u64,
    /// Lines so far, told or not.
    count: u64,
}

impl<'a> Lines<'a> {
    fn new(tell: &'a (dyn Fn(Heard<'_>) + 'a)) -> Self {
        Self { tell, line: Vec::new(), cut: 0, count: 0 }
    }

    fn take(&mut self, bytes: &[u8]) {
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            let is_whole = piece.ends_with(b"\n");
            let text = piece.strip_suffix(b"\n").unwrap_or(piece);
            let (kept, cut) = text.split_at(text.len().min(MAX_LINE - self.line.len()));
            self.line.extend_from_slice(kept);
            self.cut += cut.len() as u64;
            if is_whole {
                self.line_ends();
            }
        }
    }

    fn line_ends(&mut self) {
        self.count += 1;
        if self.count <= MAX_LINES {
            (self.tell)(Heard::Line(&self.line, self.cut));
        }
        self.line.clear();
        self.cut = 0;
    }

    fn end(mut self) {
        if !self.line.is_empty() {
            self.line_ends();
        }
        if self.count > MAX_LINES {
            (self.tell)(Heard::Untold(self.count - MAX_LINES));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    /// What is told of bytes that come in pieces of this length.
    fn heard(bytes: &[u8], piece: usize) -> Vec<(String, u64)> {
        let all = RefCell::new(Vec::new());
        let tell = |heard: Heard<'_>| {
            all.borrow_mut().push(match heard {
                Heard::Line(line, cut) => (String::from_utf8(line.to_vec()).unwrap(), cut),
                Heard::Untold(lines) => ("untold".into(), lines),
            });
        };
        let mut lines = Lines::new(&tell);
        bytes.chunks(piece).for_each(|piece| lines.take(piece));
        lines.end();
        all.into_inner()
    }

    #[test]
    fn lines_are_whole_however_they_come_and_long_ones_say_what_is_left_out() {
        let text = format!("one\n\n{}\n{}\nlast", "x".repeat(1024), "y".repeat(5000));
        let expected = vec![
            ("one".to_owned(), 0),
            (String::new(), 0),
            ("x".repeat(1024), 0),
            ("y".repeat(1024), 3976),
            ("last".to_owned(), 0),
        ];
        for piece in [1, 3, 1024, 1025, 10_000] {
            assert_eq!(heard(text.as_bytes(), piece), expected, "{piece}");
        }
        assert_eq!(heard(b"", 1), vec![]);
    }

    #[test]
    fn a_command_that_says_much_is_told_of_with_its_first_lines_and_how_many_are_left_out() {
        let text: String = (0..250).map(|number| format!("{number}\n")).collect();
        let all = heard(text.as_bytes(), 64);
        assert_eq!((all.len(), &all[99]), (101, &("99".to_owned(), 0)));
        assert_eq!(all[100], ("untold".to_owned(), 150));
    }
}
