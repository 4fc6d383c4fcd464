//! Map files in the grammar of GNU ddrescue: what became of each part of a file or disk.

use std::fmt::Write;
use std::ops::Range;

/// What became of a part, in ddrescue's letters.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Status {
    /// `?`: not tried yet.
    Untried,
    /// `*`: what was read together failed; not looked at more closely.
    Failed,
    /// `/`: in a rescue of ours, read but suspect; in ddrescue's own maps, not scraped.
    Suspect,
    /// `-`: lost.
    Bad,
    /// `+`: finished.
    Finished,
}

impl Status {
    const ALL: [(char, Self); 5] = [
        ('?', Self::Untried),
        ('*', Self::Failed),
        ('/', Self::Suspect),
        ('-', Self::Bad),
        ('+', Self::Finished),
    ];

    fn letter(self) -> char {
        let found = Self::ALL.iter().find(|(_, status)| *status == self);
        found.map_or('?', |(letter, _)| *letter)
    }
}

/// A part and what became of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Region {
    /// Its bytes.
    pub range: Range<u64>,
    /// What became of them.
    pub status: Status,
}

/// The regions of a map: in order, without gaps or overlaps.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct MapFile {
    /// Lines of comment at its top, without their `# `.
    pub comments: Vec<String>,
    /// The regions.
    pub regions: Vec<Region>,
}

/// Why a text is no map file.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("line {line}: {why}")]
pub struct MapError {
    /// The line, from 1 on.
    pub line: usize,
    /// What is the matter with it.
    pub why: &'static str,
}

/// Regions that a map file may have: what is kept of them takes 24 bytes each.
const MOST_REGIONS: usize = 4 << 20;

impl MapFile {
    /// Reads a map file.
    ///
    /// # Errors
    /// Where a line is none of its grammar, or regions overlap or leave gaps.
    pub fn parse(text: &str) -> Result<Self, MapError> {
        let mut map = Self::default();
        let mut saw_state = false;
        for (number, line) in (1..).zip(text.lines()) {
            let wrong = |why| Err(MapError { line: number, why });
            if let Some(comment) = line.strip_prefix('#') {
                map.comments.push(comment.trim().to_owned());
                continue;
            }
            let words: Vec<&str> = line.split_whitespace().collect();
            if words.is_empty() {
                continue;
            }
            if !std::mem::replace(&mut saw_state, true) {
                // Where the run stood, in which state and pass: nothing is done with it.
                if !(2..=3).contains(&words.len()) || parsed(words[0]).is_none() {
                    return wrong("is not the line of state that a map begins with");
                }
                continue;
            }
            let [at, length, letter] = words[..] else {
                return wrong("is not a place, a length and a status");
            };
            let (Some(at), Some(length)) = (parsed(at), parsed(length)) else {
                return wrong("has a number that is none");
            };
            let first = letter.chars().next();
            let found = Status::ALL.iter().find(|(known, _)| Some(*known) == first);
            let Some((_, status)) = found.filter(|_| letter.len() == 1) else {
                return wrong("has a status that is none of ? * / - +");
            };
            let Some(end) = at.checked_add(length) else {
                return wrong("reaches behind what 64 bits can say");
            };
            if map.regions.last().is_some_and(|last| last.range.end != at) {
                return wrong("does not begin where the line before it ends");
            }
            if map.regions.len() == MOST_REGIONS {
                return wrong("is one of more than 4194304 regions");
            }
            map.regions.push(Region { range: at..end, status: *status });
        }
        if !saw_state {
            return Err(MapError { line: 1, why: "there is no line of state: this is no map" });
        }
        Ok(map)
    }

    /// Adds a part behind all others; joined with the last where both are alike.
    pub fn push(&mut self, range: Range<u64>, status: Status) {
        if range.is_empty() {
            return;
        }
        match self.regions.last_mut() {
            Some(last) if last.status == status && last.range.end == range.start => {
                last.range.end = range.end;
            }
            _ => self.regions.push(Region { range, status }),
        }
    }

    /// The map as text.
    pub fn text(&self) -> String {
        let mut text = String::new();
        for comment in &self.comments {
            let _ = writeln!(text, "# {comment}");
        }
        let is_left = |region: &&Region| matches!(region.status, Status::Untried | Status::Failed);
        let reached = self.regions.iter().find(is_left).map(|region| region.range.start);
        let end = self.regions.last().map_or(0, |last| last.range.end);
        let state = if reached.is_some() { '?' } else { '+' };
        let _ = writeln!(text, "# current_pos  current_status  current_pass");
        let _ = writeln!(text, "{:#x}     {state}               1", reached.unwrap_or(end));
        let _ = writeln!(text, "#      pos        size  status");
        for Region { range, status } in &self.regions {
            let length = range.end - range.start;
            let _ = writeln!(text, "{:#x}  {length:#x}  {}", range.start, status.letter());
        }
        text
    }
}

/// A number as C has it: decimal, hexadecimal behind `0x`, octal behind `0`.
fn parsed(word: &str) -> Option<u64> {
    match (word.strip_prefix("0x").or_else(|| word.strip_prefix("0X")), word.strip_prefix('0')) {
        (Some(digits), _) => u64::from_str_radix(digits, 16).ok(),
        (None, Some(digits)) if !digits.is_empty() => u64::from_str_radix(digits, 8).ok(),
        _ => word.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_again() {
        let mut map = MapFile { comments: vec!["of a test".into()], regions: Vec::new() };
        for (range, status) in [
            (0..512, Status::Finished),
            (512..1024, Status::Finished),
            (1024..2048, Status::Bad),
            (2048..4096, Status::Failed),
            (4096..5000, Status::Suspect),
            (5000..u64::MAX, Status::Untried),
        ] {
            map.push(range, status);
        }
        assert_eq!(map.regions.len(), 5);
        let text = map.text();
        let read = MapFile::parse(&text).unwrap();
        assert_eq!(read.regions, map.regions, "{text}");
    }

    #[test]
    fn ddrescues_own_maps_are_read() {
        let text = "# Mapfile. Created by GNU ddrescue version 1.23\n\
                    # current_pos  current_status  current_pass\n0x00000000     ?    1\n\
                    0x00000000  0x00001000  +\n0x1000  010  -\n4104 8 *\n";
        let regions = MapFile::parse(text).unwrap().regions;
        assert_eq!(regions[1], Region { range: 4096..4104, status: Status::Bad });
        assert_eq!(regions[2], Region { range: 4104..4112, status: Status::Failed });
    }

    #[test]
    fn what_is_no_map_is_told_with_its_line() {
        for (text, line) in [
            ("", 1),
            ("0 ? 1\n0 1 x\n", 2),
            ("0 ? 1\n0 1 +\n2 1 +\n", 3),
            ("0 ? 1\n0 1\n", 2),
            ("0 ? 1\n1 0xffffffffffffffff +\n", 2),
            ("0 ? 1\n-1 5 +\n", 2),
        ] {
            assert_eq!(MapFile::parse(text).unwrap_err().line, line, "{text:?}");
        }
    }
}
