//! CSV: a line for each image. Cells that a spreadsheet would take for a formula begin with an
//! apostrophe.

use std::io::Write;

use crate::error::Result;
use crate::report::Report;
use crate::row::{Row, WayBack};
use crate::text;

/// The columns.
const COLUMNS: &[&str] = &[
    "run",
    "family",
    "order",
    "filename",
    "filename-hex",
    "strategy",
    "result",
    "why",
    "class",
    "encrypted",
    "format-before",
    "bytes-before",
    "format-now",
    "bytes-now",
    "allocated-now",
    "written-since",
    "disk-blake3",
    "missing-bytes",
    "began",
    "ended",
    "way-back",
    "original",
    "original-hex",
    "kept-until",
];

/// Writes a line for each image, and a head.
///
/// # Errors
/// What `out` says, and the journal.
pub fn write_csv(report: &Report<'_>, out: &mut dyn Write) -> Result<()> {
    let mut csv = csv::Writer::from_writer(out);
    csv.write_record(COLUMNS)?;
    report
        .rows(|row| Ok(csv.write_record(cells(report, row).iter().map(|cell| harmless(cell)))?))?;
    Ok(csv.flush()?)
}

/// The cell, which no spreadsheet takes for a formula.
fn harmless(cell: &str) -> String {
    match cell.chars().next() {
        Some('=' | '+' | '-' | '@' | '\t' | '\r' | '\n') => format!("'{cell}"),
        _ => cell.to_owned(),
    }
}

/// The word for how somebody gets back what an image was.
pub(crate) fn way_back(row: &Row<'_>) -> &'static str {
    match row.way_back() {
        WayBack::Original(_) => "original",
        WayBack::Undo => "undo-record",
        WayBack::Released => "given-up",
        WayBack::None => "none",
    }
}

fn cells(report: &Report<'_>, row: &Row<'_>) -> Vec<String> {
    let number = |number: u64| number.to_string();
    let ((family, order), kept) = (
        row.number(),
        match row.way_back() {
            WayBack::Original(path) => Some(path),
            _ => None,
        },
    );
    let time = |time: Option<i64>| time.map(text::time).unwrap_or_default();
    let now = row.now;
    vec![
        report.run().map(|run| run.number.to_string()).unwrap_or_default(),
        number(family),
        number(order),
        text::name(row.path()),
        text::hex(row.path()).unwrap_or_default(),
        row.strategy().word().into(),
        row.outcome().word().into(),
        row.why().map(|why| calve_disk::open::escaped(why.as_bytes())).unwrap_or_default(),
        row.planned.map(|image| image.class.clone()).unwrap_or_default(),
        row.planned.map(|image| image.encrypted.to_string()).unwrap_or_default(),
        row.format_before().into(),
        number(row.size_before()),
        row.found().map(|found| found.word().into()).unwrap_or_default(),
        now.map(|now| number(now.size)).unwrap_or_default(),
        now.map(|now| number(now.spent)).unwrap_or_default(),
        row.is_written_since().to_string(),
        row.digest().unwrap_or_default().into(),
        number(row.missing()),
        time(row.began()),
        time(row.ended()),
        way_back(row).into(),
        kept.map(text::name).unwrap_or_default(),
        kept.and_then(text::hex).unwrap_or_default(),
        time(row.kept_until()),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formulas_are_text() {
        for (cell, expected) in [
            ("=1+1", "'=1+1"),
            ("@x", "'@x"),
            ("-1", "'-1"),
            ("+1", "'+1"),
            ("/a=b", "/a=b"),
            ("", ""),
        ] {
            assert_eq!(harmless(cell), expected);
        }
    }
}
