//! Reports: a layout as text, JSON, DFXML, SVG or HTML, written as it is walked.

mod dfxml;
mod picture;

use std::io::{self, Write};
use std::path::Path;

use calve_disk::open::shown;
use calve_disk::{Error, Image, Result};
use serde_json::{Value, json};

use crate::layout::{Label, Region, Totals, layout};

pub use dfxml::write_dfxml;
pub use picture::{write_html, write_svg};

/// What a report is about.
#[derive(Clone, Copy)]
pub struct Report<'a> {
    /// The image.
    pub image: &'a dyn Image,
    /// The version of the program that writes the report.
    pub version: &'a str,
}

impl Report<'_> {
    /// The file's name as harmless text.
    fn name(&self) -> String {
        shown(self.image.storage().path())
    }
}

/// Where a report goes. A failure becomes an error that says so.
pub(crate) struct Sink<'a> {
    out: io::BufWriter<&'a mut dyn Write>,
}

/// Bytes that are written at once.
const PORTION: usize = 64 << 10;

impl<'a> Sink<'a> {
    pub(crate) fn new(out: &'a mut dyn Write) -> Self {
        Self { out: io::BufWriter::with_capacity(PORTION, out) }
    }

    pub(crate) fn write(
        &mut self,
        write: impl FnOnce(&mut dyn Write) -> io::Result<()>,
    ) -> Result<()> {
        write(&mut self.out).map_err(unwritten)
    }

    pub(crate) fn flush(mut self) -> Result<()> {
        self.out.flush().map_err(unwritten)
    }
}

/// The error of a report that could not be written.
fn unwritten(source: io::Error) -> Error {
    Error::host("writing it", Path::new("the report"), source)
}

/// Writes a layout for people: a line for each region, and what each label adds up to.
///
/// # Errors
/// As of [`layout`], and where `out` fails.
pub fn write_human(report: &Report, out: &mut dyn Write) -> Result<()> {
    let mut sink = Sink::new(out);
    sink.write(|out| writeln!(out, "{:<16}{:<16}{:<20}Guest range", "Offset", "Length", "Label"))?;
    let totals = layout(report.image, &mut |region| sink.write(|out| human_line(region, out)))?;
    sink.write(|out| human_totals(&totals, out))?;
    sink.flush()
}

fn human_line(region: &Region, out: &mut dyn Write) -> io::Result<()> {
    let (at, length) = (region.at.to_string(), format!("{:#x}", region.length));
    let guest = match region.guest.is_empty() {
        true => String::new(),
        false => format!("{}+{:#x}", region.guest.start, region.guest.length),
    };
    let others: Vec<&str> = region.shared_by().map(calve_disk::Owner::words).collect();
    let shared = match others.is_empty() {
        true => String::new(),
        false => format!("  shared by: {}", others.join(", ")),
    };
    let line = format!("{at:<16}{length:<16}{:<20}{guest}{shared}", region.label.words());
    writeln!(out, "{}", line.trim_end())
}

fn human_totals(totals: &Totals, out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "\n{:<20}{:>20}", "Label", "Bytes")?;
    for label in Label::ALL.into_iter().filter(|label| totals.of(*label) > 0) {
        writeln!(out, "{:<20}{:>20}", label.words(), totals.of(label))?;
    }
    writeln!(out, "{:<20}{:>20}", "file", totals.file_size)?;
    if totals.shared > 0 {
        writeln!(out, "\n{} bytes are claimed more than once.", totals.shared)?;
    }
    if totals.behind_end > 0 {
        writeln!(out, "\nClaims reach {} bytes behind the end of the file.", totals.behind_end)?;
    }
    Ok(())
}

/// Writes a layout as a JSON array with one object on each line.
///
/// # Errors
/// As of [`layout`], and where `out` fails.
pub fn write_json(report: &Report, out: &mut dyn Write) -> Result<()> {
    let mut sink = Sink::new(out);
    let mut before = "[\n";
    layout(report.image, &mut |region| {
        let before = std::mem::replace(&mut before, ",\n");
        sink.write(|out| write!(out, "{before}{}", object(region)))
    })?;
    let end = if before == "[\n" { "[]\n" } else { "\n]\n" };
    sink.write(|out| out.write_all(end.as_bytes()))?;
    sink.flush()
}

fn object(region: &Region) -> Value {
    let mut object = json!({
        "offset": region.at.get(),
        "length": region.length,
        "label": region.label.words(),
    });
    if !region.guest.is_empty() {
        object["guest-offset"] = region.guest.start.get().into();
        object["guest-length"] = region.guest.length.into();
    }
    if region.is_shared() {
        object["shared-by"] = region.shared_by().map(calve_disk::Owner::words).collect();
    }
    object
}
