//! What failed, what the plan leaves, and what is kept.

use calve_disk::open::escaped;
use maud::{Markup, html};

use crate::report::Report;
use crate::text;

/// Families that failed, by cause.
pub(super) fn failed(report: &Report<'_>) -> Markup {
    html! {
        @if !report.failed.is_empty() { h2 { "What failed" } }
        @for failed in &report.failed {
            h3 { (failed.cause) ": " (families(failed.families.len())) }
            (super::next(&failed.next))
            ul.list {
                @for (number, path, problem) in &failed.families {
                    li {
                        small { "family " (number) } " "
                        span.path { bdi { (text::name(path)) } } ": "
                        (escaped(problem.as_bytes()))
                    }
                }
            }
        }
    }
}

fn families(count: usize) -> String {
    text::count(u64::try_from(count).unwrap_or(u64::MAX), "family", "families")
}

/// What the plan leaves, by reason.
pub(super) fn left(report: &Report<'_>) -> Markup {
    html! {
        @if !report.left.is_empty() { h2 { "What the plan leaves" } }
        @for (reason, left) in &report.left {
            h3 { (escaped(reason.as_bytes())) }
            p.soft {
                (text::count(left.sum.count, "version 1 image", "version 1 images")) ", "
                (text::size(left.sum.bytes))
            }
            ul.list { @for path in &left.paths { li.path { bdi { (text::name(path)) } } } }
        }
    }
}

/// What lies there so that the run can be taken back.
pub(super) fn originals(report: &Report<'_>) -> Markup {
    let originals = &report.originals;
    html! {
        @if report.run().is_some() {
            h2 { "The way back" }
            ul {
                li {
                    (text::count(originals.files.count, "original is kept", "originals are kept"))
                    ", " (text::size(originals.files.bytes)) "."
                }
                li {
                    (text::count(originals.undo, "image", "images"))
                    " can be taken back by what was noted of them."
                }
                li {
                    "The way back was given up of "
                    (text::count(originals.released, "image", "images")) "."
                }
                @if let Some((first, last)) = originals.until {
                    li {
                        "Kept until " (text::day(first))
                        @if text::day(first) != text::day(last) { " to " (text::day(last)) }
                        ", after which a release removes them; nothing does by itself."
                    }
                }
            }
        }
    }
}
