//! The table of all images.

use calve_disk::open::escaped;
use maud::{Markup, PreEscaped, html};

use crate::row::{Outcome, Row, WayBack};
use crate::text;

/// The heads of the columns.
const HEADS: [&str; 8] =
    ["Image", "What", "Result", "Before", "Now", "Disk, BLAKE3", "Done", "Way back"];

pub(super) fn begin() -> Markup {
    html! {
        (PreEscaped("<section id=annex>"))
        h2 { "Images" }
        p.soft {
            "A digest is of what a guest reads from the disk, read before and after by other code; \
             upgraded images were compared sector by sector instead, and have none."
        }
        // Rows come between these tags.
        (PreEscaped("<table id=images>"))
        thead { tr { @for head in HEADS { th { (head) } } } }
        (PreEscaped("<tbody>"))
    }
}

pub(super) fn end() -> Markup {
    PreEscaped("</tbody></table></section>".to_owned())
}

pub(super) fn row(row: &Row<'_>) -> Markup {
    let outcome = row.outcome();
    let is_long = matches!(outcome, Outcome::Failed | Outcome::Left);
    html! {
        tr {
            td.path {
                bdi { (text::name(row.path())) }
            }
            td { (row.strategy().word()) small { "family " (row.number().0) } }
            td class=(outcome.word()) {
                (outcome.word())
                @if row.missing() > 0 { small { (row.missing()) " bytes missing" } }
                @if row.is_written_since() { small { "written to since" } }
            }
            td data-s=(row.size_before()) {
                (row.format_before()) small { (text::size(row.size_before())) }
            }
            @match row.now {
                Some(now) => {
                    td data-s=(now.size) { (now.found.word()) small { (text::size(now.size)) } }
                }
                None => td {}
            }
            td.digest { (row.digest().unwrap_or_default()) }
            td { @if let Some(ended) = row.ended() { (text::time(ended)) } }
            td { (way_back(row)) }
            @if let Some(why) = row.why().filter(|_| is_long) {
                td.why { (escaped(why.as_bytes())) }
            }
        }
    }
}

fn way_back(row: &Row<'_>) -> Markup {
    let until = row.kept_until().map(text::day);
    html! {
        @match row.way_back() {
            WayBack::Original(path) => {
                "original " bdi.path {
                    (escaped(path.file_name().unwrap_or_default().as_encoded_bytes()))
                }
            }
            WayBack::Undo => "undo record",
            WayBack::Released => "given up",
            WayBack::None => {}
        }
        @if let Some(until) = until { small { "until " (until) } }
    }
}
