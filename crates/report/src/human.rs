//! A report in a few lines, for terminals.

use calve_disk::open::escaped;

use crate::error::Result;
use crate::report::Report;
use crate::text;

/// Reasons for which the plan leaves images that are told; the others are in the other shapes.
const MOST_REASONS: usize = 5;

/// Why the plan leaves version 1 images: the most frequent reasons first.
fn left(report: &Report<'_>) -> Vec<String> {
    let mut reasons: Vec<_> = report.left.iter().collect();
    reasons.sort_by_key(|(_, sum)| std::cmp::Reverse(sum.count));
    let (told, others) = reasons.split_at(reasons.len().min(MOST_REASONS));
    let mut lines = Vec::new();
    for (reason, sum) in told {
        let reason = escaped(reason.as_bytes());
        lines.push(format!("          {}, because: {reason}", sum.count));
    }
    if !others.is_empty() {
        let count = u64::try_from(others.len()).unwrap_or(u64::MAX);
        let reasons = text::count(count, "more reason", "more reasons");
        lines.push(format!("          and {reasons}: --output html"));
    }
    lines
}

/// The report as lines: what came of the images, what failed, whether any version 1 image remains,
/// and what to type next. Lines may be long: those of commands begin with `$`, those of names with
/// `first:`, and neither may be folded.
///
/// # Errors
/// What keeping what was gathered says.
pub fn human(report: &Report<'_>) -> Result<String> {
    let mut lines = Vec::new();
    if let Some(run) = report.run() {
        let ended = match (run.undone, run.ended) {
            (Some(undone), _) => format!("taken back {}", text::moment(undone)),
            (None, Some(ended)) => format!("ended {}", text::moment(ended)),
            (None, None) => "not ended".into(),
        };
        lines.push(format!("run {}: began {}, {ended}", run.number, text::moment(run.began)));
    } else {
        lines.push("no run yet".into());
    }
    let ended = report.certificate.rests_on.iter().map(|it| it.scan.ended);
    match (ended.clone().min(), ended.max()) {
        (Some(first), Some(last)) if first == last => {
            lines.push(format!("as of the scan of {}", text::moment(first)));
        }
        (Some(first), Some(last)) => {
            let (first, last) = (text::moment(first), text::moment(last));
            lines.push(format!("as of scans from {first} to {last}"));
        }
        _ => {}
    }
    for (outcome, sum) in &report.outcomes {
        lines.push(format!("{:>8}  {}", sum.count, outcome.statement()));
    }
    lines.extend(left(report));
    let space = &report.space;
    if space.before > 0 {
        let (before, now) = (text::size(space.before), text::size(space.now));
        lines.push(format!("migrated: {before} before, {now} now"));
    }
    if report.missing > 0 {
        lines.push(format!("rescued: {} bytes of disks are missing", report.missing));
    }
    for failed in &report.failed {
        let families = text::count(failed.count, "family", "families");
        lines.push(format!("\n{families} failed: {}", failed.cause));
        lines.push(format!("    first: {}", escaped(failed.first.problem.as_bytes())));
        lines.push(format!("    {}", failed.next.words));
        lines.push(format!("    $ {}", failed.next.command));
    }
    lines.push(format!("\n{}", report.verdict()));
    for (reason, count) in &report.certificate.remaining {
        let (next, first) = report.next(*reason)?;
        lines.push(format!("\n{}: {count}", reason.statement()));
        lines.push(format!("    first: {}", text::name(&first)));
        lines.push(format!("    {}", next.words));
        lines.push(format!("    $ {}", next.command));
    }
    Ok(lines.join("\n") + "\n")
}
