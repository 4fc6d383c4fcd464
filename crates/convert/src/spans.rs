//! Spans: ranges of a batch's bytes, as lists in ascending order that do not overlap.

use std::ops::Range;

/// The parts of `whole` outside `spans`.
pub(crate) fn outside(whole: Range<usize>, spans: &[Range<usize>]) -> Vec<Range<usize>> {
    let mut parts = Vec::new();
    let mut start = whole.start;
    let behind = spans.partition_point(|span| span.end <= whole.start);
    for span in spans[behind..].iter().take_while(|span| span.start < whole.end) {
        let end = span.start.min(whole.end);
        if start < end {
            parts.push(start..end);
        }
        start = start.max(span.end);
    }
    if start < whole.end {
        parts.push(start..whole.end);
    }
    parts
}

/// Whether `part` lies wholly inside one of `spans`.
pub(crate) fn covers(spans: &[Range<usize>], part: &Range<usize>) -> bool {
    let behind = spans.partition_point(|span| span.end < part.end);
    spans.get(behind).is_some_and(|span| span.start <= part.start)
}

/// Whether `part`, which is not empty, has a byte in common with any of `spans`.
pub(crate) fn meets(spans: &[Range<usize>], part: &Range<usize>) -> bool {
    let behind = spans.partition_point(|span| span.end <= part.start);
    spans.get(behind).is_some_and(|span| span.start < part.end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_outside_what_is_inside_and_what_meets() {
        let spans = [10..20, 30..40, 40..50];
        assert_eq!(outside(0..60, &spans), [0..10, 20..30, 50..60]);
        assert_eq!(outside(12..55, &spans), [20..30, 50..55]);
        assert_eq!(outside(32..38, &spans), []);
        assert_eq!(outside(5..25, &spans), [5..10, 20..25]);
        for start in 0..60 {
            for end in start + 1..60 {
                let part = start..end;
                let inside = |span: &Range<usize>| span.start <= start && end <= span.end;
                assert_eq!(covers(&spans, &part), spans.iter().any(inside), "{part:?}");
                let common = |span: &Range<usize>| span.start < end && start < span.end;
                assert_eq!(meets(&spans, &part), spans.iter().any(common), "{part:?}");
            }
        }
    }
}
