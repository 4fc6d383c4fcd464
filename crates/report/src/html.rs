//! The report as one HTML file that needs nothing else: it is read without scripts, and searched and
//! sorted with the one that it brings. A browser is told to run nothing but that.

mod certificate;
mod images;
mod numbers;
mod outcome;

use std::io::{BufWriter, Write};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use calve_plan::Kept;
use maud::{DOCTYPE, Markup, PreEscaped, html};
use sha2::{Digest, Sha256};

use crate::error::Result;
use crate::report::Report;
use crate::text;

/// Takes the next part of the page.
type Put<'a> = dyn FnMut(Markup) -> Result<()> + 'a;

/// Opens and closes a list that is put item by item.
const LIST: [&str; 2] = ["<ul class=list>", "</ul>"];

const STYLE: &str = include_str!("html/page.css");
const SCRIPT: &str = include_str!("html/page.js");

/// Writes the page. Rows are written one after the other.
///
/// # Errors
/// What `out` says, and the journal.
pub fn write_html(report: &Report<'_>, out: &mut dyn Write) -> Result<()> {
    let mut out = BufWriter::new(out);
    let mut put =
        |markup: Markup| -> Result<()> { Ok(out.write_all(markup.into_string().as_bytes())?) };
    put(html! {
        (DOCTYPE)
        (PreEscaped("<html lang=\"en\">"))
        (head(report))
        (PreEscaped("<body>"))
        (title(report))
        (certificate::short(report))
        (numbers::of(report))
    })?;
    outcome::failed(report, &mut put)?;
    outcome::left(report, &mut put)?;
    put(outcome::originals(report))?;
    certificate::remaining(report, &mut put)?;
    put(html! {
        (certificate::basis(report))
        (images::begin())
    })?;
    report.rows(|row| put(images::row(row)))?;
    put(html! {
        (images::end())
        script { (PreEscaped(SCRIPT)) }
        (PreEscaped("</body></html>\n"))
    })?;
    Ok(out.flush()?)
}

/// What a browser may do with the page: use what stands in it.
fn policy() -> String {
    let of = |text: &str| STANDARD.encode(Sha256::digest(text.as_bytes()));
    format!(
        "default-src 'none'; style-src 'sha256-{}'; script-src 'sha256-{}'; base-uri 'none'; \
         form-action 'none'",
        of(STYLE),
        of(SCRIPT)
    )
}

fn heading(report: &Report<'_>) -> String {
    match report.run() {
        Some(run) => format!("Migration of version 1 images: run {}", run.number),
        None => "Version 1 images: before any migration".into(),
    }
}

fn head(report: &Report<'_>) -> Markup {
    html! {
        head {
            meta charset="utf-8";
            meta http-equiv="Content-Security-Policy" content=(policy());
            meta name="viewport" content="width=device-width, initial-scale=1";
            meta name="referrer" content="no-referrer";
            meta name="generator" content={ "calve " (report.version) };
            title { (heading(report)) }
            style { (PreEscaped(STYLE)) }
        }
    }
}

fn title(report: &Report<'_>) -> Markup {
    let (plan, problem) = report.plan();
    html! {
        h1 { (heading(report)) }
        dl {
            dt { "Report made" } dd { (text::moment(report.made)) " by calve " (report.version) }
            dt { "Catalogue" } dd.path { (text::name(report.catalogue())) }
            @if let Some(plan) = plan {
                dt { "Plan" }
                dd {
                    span.path { (text::name(plan)) }
                    @if let Some(problem) = problem {
                        " " span.failed { "is not known: " (problem) }
                    }
                }
            }
            @if let Some(run) = report.run() {
                dt { "Plan, BLAKE3" } dd.digest { (run.digest) }
                dt { "Run" }
                dd {
                    "began " (text::moment(run.began)) ", "
                    @match (run.undone, run.ended) {
                        (Some(undone), _) => { "taken back " (text::moment(undone)) }
                        (None, Some(ended)) => { "ended " (text::moment(ended)) }
                        (None, None) => { "not ended" }
                    }
                }
                dt { "Originals" } dd { (keeps(&run.kept)) }
            }
        }
    }
}

fn keeps(kept: &Kept) -> String {
    match kept {
        Kept::Beside => "kept beside the results".into(),
        Kept::Days(days) => format!("kept beside the results for {days} days"),
        Kept::Folder(folder) => format!("kept in {}", text::name(&folder.0)),
        Kept::None => "given up when each result was verified".into(),
    }
}

/// What to do next, and the command.
fn next(next: &crate::Next) -> Markup {
    html! {
        p { (next.words) }
        code.command { (next.command) }
    }
}
