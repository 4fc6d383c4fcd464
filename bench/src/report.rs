//! What is left of a measurement: a table for people, a chart, and every single run.

use std::fmt::Write as _;

use serde_json::json;

use crate::cases::Case;
use crate::measure::{Run, median};
use crate::programs::Program;

/// All runs of one class of work.
pub(crate) struct Measured {
    pub(crate) case: &'static Case,
    pub(crate) runs: Vec<(Program, Vec<Run>)>,
}

impl Measured {
    fn of(&self, program: Program) -> Option<&[Run]> {
        let found = self.runs.iter().find(|(of, _)| *of == program);
        found.map(|(_, runs)| &runs[..]).filter(|runs| !runs.is_empty())
    }

    fn wall(&self, program: Program) -> Option<f64> {
        Some(median(self.of(program)?.iter().map(|run| run.wall).collect()))
    }

    /// How many times the time of calve the better qemu-img takes.
    fn beside_qemu(&self) -> Option<f64> {
        let better = self.wall(Program::QemuImg)?.min(self.wall(Program::QemuImgParallel)?);
        Some(better / self.wall(Program::Calve)?)
    }
}

fn seconds(value: Option<f64>) -> String {
    value.map_or_else(|| "-".into(), |value| format!("{value:.3}"))
}

fn times(value: Option<f64>, digits: usize) -> String {
    value.map_or_else(|| "-".into(), |value| format!("{value:.digits$}x"))
}

/// The table of the conversions.
pub(crate) fn table(all: &[Measured]) -> String {
    let mut text = String::from(
        "| class | to | calve s | qemu-img s | -m 16 -W s | nbdcopy s | 7z s | better qemu-img / \
         calve | aim | calve / cp | peak MiB | read MiB | written MiB |\n\
         |---|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|\n",
    );
    for measured in all {
        let Case { name, format, options, aim, .. } = measured.case;
        let calve = measured.wall(Program::Calve);
        let cp = measured.wall(Program::Cp).or(measured.wall(Program::CpSource));
        let beside_cp = calve.zip(cp).map(|(calve, cp)| calve / cp);
        let Some(last) = measured.of(Program::Calve).and_then(<[Run]>::last) else { continue };
        let aim = if aim.is_nan() { "-".into() } else { format!("{aim}x") };
        // Text is all that a table is; whether writing to a string fails is no question.
        let _ = writeln!(
            text,
            "| {name} | {format} {options} | {} | {} | {} | {} | {} | **{}** | {aim} | {} | {} | {} | {} |",
            seconds(calve),
            seconds(measured.wall(Program::QemuImg)),
            seconds(measured.wall(Program::QemuImgParallel)),
            seconds(measured.wall(Program::Nbdcopy)),
            seconds(measured.wall(Program::SevenZip)),
            times(measured.beside_qemu(), 1),
            times(beside_cp, 2),
            last.peak >> 10,
            last.read >> 20,
            last.written >> 20,
        );
    }
    text
}

/// Bars on a logarithmic scale: how many times the time of calve the better qemu-img takes.
pub(crate) fn chart(all: &[Measured]) -> String {
    const ROW: usize = 26;
    const LEFT: usize = 330;
    const DECADE: f64 = 150.0;
    let rows: Vec<(String, f64, f64)> = all
        .iter()
        .filter_map(|measured| {
            let Case { name, format, aim, .. } = measured.case;
            Some((format!("{name} to {format}"), measured.beside_qemu()?, *aim))
        })
        .collect();
    let height = rows.len() * ROW + 60;
    let mut text = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"760\" height=\"{height}\" \
         font-family=\"sans-serif\" font-size=\"13\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n\
         <text x=\"10\" y=\"22\">Time of the better qemu-img / time of calve; the line is the aim</text>\n"
    );
    for (number, (name, ratio, aim)) in rows.iter().enumerate() {
        let top = number * ROW + 40;
        let (width, mark) = (ratio.log10() * DECADE, aim.log10() * DECADE);
        let middle = top + 15;
        let aim_at = 330.0 + mark;
        let text_at = 336.0 + width;
        let _ = writeln!(
            text,
            "<text x=\"{x}\" y=\"{middle}\" text-anchor=\"end\">{name}</text>\
             <rect x=\"{LEFT}\" y=\"{top}\" width=\"{width:.0}\" height=\"20\" fill=\"#3b6ea5\"/>\
             <rect x=\"{aim_at:.0}\" y=\"{top}\" width=\"2\" height=\"20\" fill=\"#d4761c\"/>\
             <text x=\"{text_at:.0}\" y=\"{middle}\">{ratio:.1}</text>",
            x = LEFT - 8,
        );
    }
    text + "</svg>\n"
}

/// Every single run, a line of JSON each.
pub(crate) fn lines(all: &[Measured]) -> String {
    let mut text = String::new();
    for Measured { case, runs } in all {
        for (program, runs) in runs {
            for run in runs {
                let line = json!({
                    "class": case.name, "format": case.format, "options": case.options,
                    "program": program.name(), "wall": run.wall, "cpu": run.cpu,
                    "peak-kib": run.peak, "read": run.read, "written": run.written,
                });
                let _ = writeln!(text, "{line}");
            }
        }
    }
    text
}
