//! Whether any version 1 image remains, and what that rests on.

use calve_disk::open::escaped;
use maud::{Markup, PreEscaped, html};

use super::{LIST, Put};
use crate::error::Result;
use crate::report::Report;
use crate::text;

/// The one sentence that everybody looks for.
pub(super) fn short(report: &Report<'_>) -> Markup {
    let is_given = report.certificate.is_given();
    html! {
        div.verdict.given[is_given].withheld[!is_given] {
            strong { (report.verdict()) }
            p { (report.basis()) }
            @if is_given {
                p { "What this rests on, and what it does not say, stands below." }
            } @else {
                p { "So there is no certificate. What remains is listed below, with what to do." }
            }
        }
    }
}

/// What speaks against a certificate, by reason.
pub(super) fn remaining(report: &Report<'_>, put: &mut Put<'_>) -> Result<()> {
    if !report.certificate.is_given() {
        put(html! { h2 { "What remains" } })?;
    }
    for (reason, count) in &report.certificate.remaining {
        put(html! {
            h3 { (reason.statement()) ": " (count) }
            (super::next(&report.next(*reason)?.0))
            (PreEscaped(LIST[0]))
        })?;
        report.remaining(*reason, |it| {
            put(html! {
                li {
                    span.path { bdi { (text::name(&it.path)) } }
                    @if let Some(member) = &it.member {
                        ": " span.path { bdi { (escaped(member)) } }
                    }
                    @if let Some(run) = it.run { " " small { "run " (run) } }
                }
            })
        })?;
        put(html! { (PreEscaped(LIST[1])) })?;
    }
    Ok(())
}

/// What a certificate rests on, and what it does not say.
pub(super) fn basis(report: &Report<'_>) -> Markup {
    let certificate = &report.certificate;
    html! {
        h2 {
            @if certificate.is_given() { "Certificate" } @else { "What a certificate would rest on" }
        }
        @if certificate.is_given() {
            p { strong { (report.verdict()) } }
        }
        p { (report.basis()) }
        @if certificate.is_given() {
            p { "None is a version 1 image, and none could not be read." }
        }
        h3 { "Scans" }
        @if certificate.rests_on.is_empty() { p { "None was ended." } }
        @for it in &certificate.rests_on {
            dl {
                dt { "Scan" } dd { (it.scan.number) }
                dt { "Ended" } dd { (text::moment(it.scan.ended)) }
                dt { "How" }
                dd {
                    @if it.scan.is_deep { "all tables of images were walked" }
                    @else { "headers of images were read" }
                    @if it.scan.with_archives { "; archives were looked into" }
                    @else { "; archives were not looked into" }
                    @if it.scan.is_one_file_system { "; one file system only" }
                }
                dt { "Below" }
                dd { @for root in &it.roots { div.path { bdi { (text::name(root)) } } } }
                dt { "Not looked at" }
                dd {
                    @if it.troubles.is_empty() { "nothing" }
                    @for trouble in &it.troubles {
                        div {
                            span.path { bdi { (text::name(&trouble.path)) } } ": "
                            (escaped(trouble.what.as_bytes()))
                        }
                    }
                }
            }
        }
        h3 { @if certificate.is_given() { "What it does not say" } @else { "What none would say" } }
        ul { @for limit in report.limits() { li { (limit) } } }
    }
}
