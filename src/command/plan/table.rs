//! A plan for people: lines of at most 60 columns, but for names.

use std::collections::BTreeMap;
use std::fmt::Write;

use calve_disk::{open::shown, shell};
use calve_plan::{Family, Image, Plan, Total};

use crate::print::{self, wrapped};

/// Where names, and what is told below them, begin.
const INDENT: usize = 24;

pub(super) fn of(plan: &Plan) -> String {
    if plan.families.is_empty() {
        return wrapped("Nothing to do: the catalogue has no version 1 image.", 0);
    }
    let mut text = format!("{:<12}{:>9}  {}\n", "WHAT", "EXTRA", "IMAGE");
    for family in &plan.families {
        text.push_str(&of_family(family));
    }
    text.push('\n');
    if !plan.families.iter().any(Family::is_migrated) {
        return text + &wrapped(&nothing_to_do(&plan.total), 0);
    }
    let mut counts: BTreeMap<&str, u64> = BTreeMap::new();
    for image in plan.families.iter().flat_map(|family| &family.images) {
        *counts.entry(image.strategy.word()).or_default() += 1;
    }
    let counts: Vec<String> =
        counts.iter().map(|(word, count)| format!("{count} {word}")).collect();
    text.push_str(&wrapped(&format!("{}.", counts.join(", ")), 0));
    let total = &plan.total;
    let line = format!(
        "{} of {} in {}: reads {}, writes {}, takes {}.",
        total.migrated,
        print::count(total.version1, "version 1 image", "version 1 images"),
        print::families(total.families),
        print::size(total.read),
        print::size(total.write),
        between(total.seconds)
    );
    text.push_str(&wrapped(&line, 0));
    for room in &plan.rooms {
        let line = format!(
            "On file system {:#x}: at most {} more than now.",
            room.device,
            print::size(room.peak_extra)
        );
        text.push_str(&wrapped(&line, 0));
    }
    if let Some(window) = &plan.head.wishes.window {
        let night = f64::from(window.minutes()) * 60.0;
        let nights = total.seconds.map(|seconds| (seconds / night).ceil().max(1.0));
        let line = match nights {
            [least, most] if least < most => format!("That is {least} to {most} times {window}."),
            [least, _] => format!("That is {least} times {window}."),
        };
        text.push_str(&wrapped(&line, 0));
    }
    text
}

/// That a plan leaves all images, and how many.
fn nothing_to_do(total: &Total) -> String {
    match total.version1 {
        1 => "Nothing to do: 1 version 1 image is left as it is.".into(),
        left => format!("Nothing to do: {left} version 1 images are left as they are."),
    }
}

/// A family: its images, and a reason once where they share it.
fn of_family(family: &Family) -> String {
    let mut text = String::new();
    let mut told: Option<&str> = None;
    if family.images.len() > 1 {
        let images = print::images(u64::try_from(family.images.len()).unwrap_or(u64::MAX));
        let _ = writeln!(text, "family {} ({images}):", family.number);
    }
    for image in &family.images {
        text.push_str(&of_image(image));
        if told != Some(&image.reason) {
            text.push_str(&reason(&image.reason));
        }
        told = Some(&image.reason);
    }
    text
}

/// A reason. What it says to type has a line of its own, which is not folded: a blank in a name would
/// become the end of a line.
fn reason(text: &str) -> String {
    let (mut told, mut rest) = (String::new(), text);
    while let Some(place) = rest.find(OPTION) {
        let (before, typed) = rest.split_at(place);
        let (typed, after) =
            typed.split_at(OPTION.len() + shell::word_length(&typed[OPTION.len()..]));
        if !before.is_empty() {
            told.push_str(&wrapped(before.trim_end_matches(' '), INDENT));
        }
        let _ = writeln!(told, "{:INDENT$}{typed}", "");
        rest = after.trim_start_matches(' ');
    }
    if !rest.is_empty() {
        told.push_str(&wrapped(rest, INDENT));
    }
    told
}

/// The option that reasons say to type, before its value.
const OPTION: &str = "--base ";

fn of_image(image: &Image) -> String {
    let extra = if image.extra > 0 { print::size(image.extra) } else { String::new() };
    let name = shown(&image.path.0);
    format!("{:<12}{extra:>9}  {name}\n", image.strategy.word())
}

/// A range of times; one, where both ends are said alike.
fn between([least, most]: [f64; 2]) -> String {
    let (least, most) = (duration(least), duration(most));
    match least == most {
        true => format!("about {least}"),
        false => format!("{least} to {most}"),
    }
}

/// Seconds as people say them.
fn duration(seconds: f64) -> String {
    let units = [(86_400.0, "days"), (3600.0, "hours"), (60.0, "minutes")];
    let unit = units.into_iter().find(|(length, _)| seconds >= 2.0 * length);
    let (length, unit) = unit.unwrap_or((1.0, "seconds"));
    let count = (seconds / length).ceil();
    // No other unit begins before there are two of it.
    if count <= 1.0 { "1 second".into() } else { format!("{count:.0} {unit}") }
}

#[cfg(test)]
mod tests {
    use super::{duration, reason};

    #[test]
    fn times_are_said_in_units_that_people_use() {
        for (seconds, said) in [
            (0.2, "1 second"),
            (100.0, "100 seconds"),
            (600.0, "10 minutes"),
            (7201.0, "3 hours"),
            (200_000.0, "3 days"),
        ] {
            assert_eq!(duration(seconds), said);
        }
    }

    #[test]
    fn what_a_reason_says_to_type_is_on_one_line() {
        let name = format!("'/an archive/{}=it'\\''s a'", "long name ".repeat(8));
        let text = format!("the base of it, x, is missing: it may be y, which --base {name} takes");
        let told = reason(&text);
        let lines: Vec<&str> = told.lines().map(str::trim_start).collect();
        assert_eq!(lines[lines.len() - 2..], [&*format!("--base {name}"), "takes"], "{told}");
        assert_eq!(lines.join(" "), text);
        assert_eq!(reason("short"), format!("{:24}short\n", ""));
    }
}
