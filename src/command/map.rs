//! `map`: where the bytes of a disk are.

use std::fmt::Write;

use calve_disk::open::shown;
use calve_disk::units::{GuestOffset, GuestRange};
use calve_disk::{Disk, Encoding, Extent, Payload, Rule};

use crate::args::{MapArgs, MapShape};
use crate::evidence::Evidence;
use crate::exit::{Code, Failure};
use crate::source::{self, Request};
use crate::worker::{self, Plan};
use crate::{print, size};

pub(crate) fn run(args: &MapArgs, program: &str, evidence: &Evidence) -> Result<Code, Failure> {
    let mut request = Request::new(&args.file, args.format.as_deref(), true, &args.open)?;
    let plan = Plan::new(program, &args.open.sandbox, evidence);
    if let Some(code) = worker::enter(&plan, &mut request)? {
        return Ok(code);
    }
    let disk = evidence.opening(&mut request, |request| request.open())?;
    source::announce_upgrades(program, &request, &disk);
    let start = args.start_offset.as_deref().map(|text| size::parse("--start-offset", text));
    let length = args.max_length.as_deref().map(|text| size::parse("--max-length", text));
    let start = start.transpose()?.unwrap_or(0);
    let length = length.transpose()?.unwrap_or(u64::MAX);
    if start > disk.virtual_size() {
        return Err(Failure::usage("--start-offset lies behind the end of the disk"));
    }
    let length = length.min(disk.virtual_size() - start);
    let range = GuestRange::at(start, length);
    let rows = Rows { disk: &disk, extents: disk.extents(range), held: None };
    match args.output {
        MapShape::Human => human(&disk, rows)?,
        MapShape::Json => json(rows)?,
        MapShape::Ddrescue => {
            let mut lost = Vec::new();
            for row in rows {
                let row = row?;
                if row.kind.lost.is_some() {
                    lost.push(GuestRange::at(row.start, row.length));
                }
            }
            print::out(&ddrescue(lost.into_iter(), start, start + length))?;
        }
    }
    Ok(Code::Done)
}

/// One line: a range whose bytes are alike.
#[derive(Clone, Copy)]
struct Row {
    start: u64,
    length: u64,
    kind: Kind,
    /// Where the bytes begin, where they lie as the guest sees them or encrypted.
    at: Option<u64>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
struct Kind {
    depth: usize,
    is_present: bool,
    is_zero: bool,
    is_packed: bool,
    is_encrypted: bool,
    lost: Option<Rule>,
}

impl Row {
    fn new(disk: &Disk, extent: &Extent) -> Self {
        let mut kind = Kind {
            depth: 0,
            is_present: true,
            is_zero: false,
            is_packed: false,
            is_encrypted: false,
            lost: None,
        };
        let mut at = None;
        match extent.payload {
            Payload::Hole { layer } => {
                (kind.depth, kind.is_present, kind.is_zero) = (layer, false, true);
            }
            Payload::Zero { layer, at: room } => {
                (kind.depth, kind.is_zero) = (layer, true);
                at = room.map(calve_disk::units::HostOffset::get);
            }
            Payload::Backing => {
                (kind.depth, kind.is_present) = (disk.layers().len(), false);
            }
            Payload::Stored(stored) => {
                kind.depth = stored.layer;
                kind.is_packed = matches!(stored.encoding, Encoding::Packed { .. });
                kind.is_encrypted = stored.encoding == Encoding::Encrypted;
                at = (!kind.is_packed).then_some(stored.at.get());
            }
            Payload::Lost(lost) => (kind.depth, kind.lost) = (lost.layer, Some(lost.rule)),
        }
        Self { start: extent.range.start.get(), length: extent.range.length, kind, at }
    }

    fn joined(&self, next: &Row) -> Option<Row> {
        let continues = self.at.map(|at| at + self.length) == next.at;
        (self.kind == next.kind && continues)
            .then(|| Row { length: self.length + next.length, ..*self })
    }
}

/// The lines of a map, as long as they can be.
struct Rows<'a> {
    disk: &'a Disk,
    extents: calve_disk::Extents<'a>,
    held: Option<Row>,
}

impl Iterator for Rows<'_> {
    type Item = calve_disk::Result<Row>;

    fn next(&mut self) -> Option<Self::Item> {
        let mut row = self.held.take();
        for extent in self.extents.by_ref() {
            let next = match extent {
                Ok(extent) => Row::new(self.disk, &extent),
                Err(error) => return Some(Err(error)),
            };
            match row.as_ref().map(|row| row.joined(&next)) {
                None => row = Some(next),
                Some(Some(joined)) => row = Some(joined),
                Some(None) => {
                    self.held = Some(next);
                    break;
                }
            }
        }
        row.map(Ok)
    }
}

/// Text is written in portions of about this length.
const PORTION: usize = 64 << 10;

fn human(disk: &Disk, rows: Rows) -> Result<(), Failure> {
    let mut text = format!("{:<16}{:<16}{:<16}File\n", "Offset", "Length", "Mapped to");
    for row in rows {
        let row = row?;
        if row.kind.is_zero || !(row.kind.is_present || row.kind.lost.is_some()) {
            continue;
        }
        let place = match (row.kind.lost, row.at) {
            (Some(rule), _) => format!("lost [{}]", rule.number()),
            (None, Some(at)) if row.kind.is_encrypted => format!("{} (aes)", hex(at)),
            (None, Some(at)) => hex(at),
            (None, None) => "packed".to_owned(),
        };
        let layer = &disk.layers()[row.kind.depth];
        let path = layer.image.data_storage().path();
        let file = shown(path);
        // Writing to a string cannot fail.
        let (start, length) = (hex(row.start), hex(row.length));
        let _ = writeln!(text, "{start:<16}{length:<16}{place:<16}{file}");
        if text.len() >= PORTION {
            print::out(&std::mem::take(&mut text))?;
        }
    }
    print::out(&text)
}

/// A number as `qemu-img` prints it here: zero without a prefix.
fn hex(number: u64) -> String {
    if number == 0 { "0".into() } else { format!("{number:#x}") }
}

fn json(rows: Rows) -> Result<(), Failure> {
    let mut text = "[".to_owned();
    let mut is_first = true;
    for row in rows {
        let row = row?;
        if !std::mem::take(&mut is_first) {
            text.push_str(",\n");
        }
        let kind = row.kind;
        let has_data = !kind.is_zero && kind.is_present && kind.lost.is_none();
        let _ = write!(
            text,
            "{{ \"start\": {}, \"length\": {}, \"depth\": {}, \"present\": {}, \"zero\": {}, \
             \"data\": {has_data}, \"compressed\": {}",
            row.start, row.length, kind.depth, kind.is_present, kind.is_zero, kind.is_packed
        );
        let _ = match (row.at, kind.lost) {
            (Some(at), _) if kind.is_encrypted => {
                write!(text, ", \"encrypted\": true, \"host-offset\": {at}}}")
            }
            (Some(at), _) => write!(text, ", \"offset\": {at}}}"),
            (None, Some(rule)) => write!(text, ", \"lost\": \"{}\"}}", rule.number()),
            (None, None) => write!(text, "}}"),
        };
        if text.len() >= PORTION {
            print::out(&std::mem::take(&mut text))?;
        }
    }
    text.push_str("]\n");
    print::out(&text)
}

/// A map file of GNU ddrescue over the guest's bytes from `start` to `end`: lost ranges are bad
/// sectors, all else is finished.
pub(crate) fn ddrescue(lost: impl Iterator<Item = GuestRange>, start: u64, end: u64) -> String {
    let version = env!("CARGO_PKG_VERSION");
    let mut text = format!(
        "# Mapfile. Created by calve version {version}\n\
         # current_pos  current_status  current_pass\n{end:#x}     +               1\n\
         #      pos        size  status\n"
    );
    let mut reached = GuestOffset::new(start);
    let mut line = |from: GuestOffset, to: GuestOffset, status| {
        if from < to {
            let _ = writeln!(text, "{from}  {:#x}  {status}", to - from);
        }
    };
    for range in lost {
        line(reached, range.start, '+');
        line(range.start, range.end(), '-');
        reached = range.end();
    }
    line(reached, GuestOffset::new(end), '+');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ddrescue_map_covers_everything_once() {
        let lost = [GuestRange::at(512, 512), GuestRange::at(4096, 1024)];
        let text = ddrescue(lost.into_iter(), 0, 8192);
        let lines: Vec<&str> = text.lines().skip(4).collect();
        assert_eq!(
            lines,
            [
                "0x0  0x200  +",
                "0x200  0x200  -",
                "0x400  0xc00  +",
                "0x1000  0x400  -",
                "0x1400  0xc00  +"
            ]
        );
    }
}
