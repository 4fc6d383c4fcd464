//! What failed, what the plan leaves, and what is kept.

use calve_disk::open::escaped;
use maud::{Markup, PreEscaped, html};

use super::{LIST, Put};
use crate::error::Result;
use crate::report::Report;
use crate::text;

/// Families that failed, by cause.
pub(super) fn failed(report: &Report<'_>, put: &mut Put<'_>) -> Result<()> {
    if !report.failed.is_empty() {
        put(html! { h2 { "What failed" } })?;
    }
    for failed in &report.failed {
        put(html! {
            h3 { (failed.cause) ": " (text::count(failed.count, "family", "families")) }
            (super::next(&failed.next))
            (PreEscaped(LIST[0]))
        })?;
        report.failed_families(&failed.cause, |family| {
            put(html! {
                li {
                    small { "family " (family.number) } " "
                    span.path { bdi { (text::name(&family.path)) } } ": "
                    (escaped(family.problem.as_bytes()))
                }
            })
        })?;
        put(html! { (PreEscaped(LIST[1])) })?;
    }
    Ok(())
}

/// What the plan leaves, by reason.
pub(super) fn left(report: &Report<'_>, put: &mut Put<'_>) -> Result<()> {
    if !report.left.is_empty() {
        put(html! { h2 { "What the plan leaves" } })?;
    }
    for (reason, sum) in &report.left {
        put(html! {
            h3 { (escaped(reason.as_bytes())) }
            p.soft {
                (text::count(sum.count, "version 1 image", "version 1 images")) ", "
                (text::size(sum.bytes))
            }
            (PreEscaped(LIST[0]))
        })?;
        report.left_images(reason, |path| put(html! { li.path { bdi { (text::name(path)) } } }))?;
        put(html! { (PreEscaped(LIST[1])) })?;
    }
    Ok(())
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
