//! Before and after, in numbers.

use maud::{Markup, html};

use crate::report::{Report, Sum};
use crate::text;

/// Results, formats, space and the inventory of the catalogue.
pub(super) fn of(report: &Report<'_>) -> Markup {
    html! {
        @if !report.outcomes.is_empty() {
            h2 { "Results" }
            div.pair {
                (results(report))
                (formats(report))
                (space(report))
            }
        }
        (inventory(report))
    }
}

fn sum(sum: Sum) -> Markup {
    html! {
        td.number { (sum.count) }
        td.number title={ (sum.bytes) " bytes" } { (text::size(sum.bytes)) }
    }
}

fn results(report: &Report<'_>) -> Markup {
    html! {
        table.figures {
            thead { tr { th { "Images" } th.number { "Count" } th.number { "Before" } } }
            tbody {
                @for (outcome, counted) in &report.outcomes {
                    tr { td { (outcome.statement()) } (sum(*counted)) }
                }
            }
        }
    }
}

fn formats(report: &Report<'_>) -> Markup {
    html! {
        table.figures {
            thead {
                tr {
                    th { "Format" } th.number { "Before" } th.number { "Bytes" }
                    th.number { "Now" } th.number { "Bytes" }
                }
            }
            tbody {
                @for (format, [before, now]) in &report.formats {
                    tr { td { (named(format)) } (sum(*before)) (sum(*now)) }
                }
            }
        }
    }
}

/// A format, and what somebody who is new to these names calls it.
fn named(format: &str) -> String {
    match format {
        "qcow" => "qcow (version 1)".into(),
        "other" => "other, such as raw".into(),
        other => other.into(),
    }
}

fn space(report: &Report<'_>) -> Markup {
    let (space, originals) = (&report.space, &report.originals);
    let line = |what: &str, bytes: u64| {
        html! {
            tr {
                td { (what) }
                td.number title={ (bytes) " bytes" } { (text::size(bytes)) }
            }
        }
    };
    html! {
        table.figures {
            thead { tr { th { "Space of migrated images" } th.number { "Bytes" } } }
            tbody {
                (line("Length before", space.before))
                (line("Length now", space.now))
                (line("Allocated now", space.spent))
                (line("Originals that are kept", originals.files.bytes))
                @if report.missing > 0 {
                    (line("Missing of rescued disks", report.missing))
                }
            }
        }
    }
}

fn inventory(report: &Report<'_>) -> Markup {
    let last = report.certificate.rests_on.iter().map(|it| &it.scan).max_by_key(|it| it.number);
    html! {
        h2 { "What the catalogue has" }
        p.soft {
            @match last {
                Some(scan) => {
                    "As of scan " (scan.number) ", which ended " (text::moment(scan.ended)) "."
                    @if report.run().is_some_and(|run| run.ended.is_none_or(|it| it >= scan.ended)) {
                        " That is before the run was over: this is what there was."
                    }
                }
                None => "No scan was ended."
            }
        }
        table.figures {
            thead { tr { th { "Class" } th { "Format" } th.number { "Files" } th.number { "Bytes" } } }
            tbody {
                @for counted in &report.inventory {
                    tr {
                        td { (counted.class.word()) }
                        td { (counted.format.as_deref().map(named).unwrap_or_default()) }
                        (sum(Sum { count: counted.count, bytes: counted.bytes }))
                    }
                }
            }
        }
    }
}
