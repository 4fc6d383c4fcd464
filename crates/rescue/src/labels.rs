//! Labels: what every guest byte of a rescued disk is.

use calve_disk::units::{GuestOffset, GuestRange};
use calve_disk::{Disk, Extent, Lost, Payload};

use crate::error::Result;
use crate::missing::{Cause, Missing};

/// What guest bytes of the target are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Label {
    /// Read from the image itself.
    Good,
    /// Stored nowhere: zeros.
    Zero,
    /// Read from a base.
    Base,
    /// Gone: zeros stand there.
    Missing,
    /// Read, but something about the image says that they may not be what the guest wrote.
    Suspect,
}

impl Label {
    /// The label as one word.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Zero => "zero",
            Self::Base => "base",
            Self::Missing => "missing",
            Self::Suspect => "suspect",
        }
    }
}

/// A range and what it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Labelled {
    /// The guest bytes.
    pub range: GuestRange,
    /// What they are.
    pub label: Label,
    /// Why they are missing, where a rule says so. Bytes of a base that was not found, and those
    /// that an earlier run could not have, are missing without one.
    pub lost: Option<Lost>,
}

/// Guest bytes under each label.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Totals {
    /// Good bytes.
    pub good: u64,
    /// Zeros that nobody stores.
    pub zero: u64,
    /// Bytes of a base.
    pub base: u64,
    /// Missing bytes.
    pub missing: u64,
    /// Suspect bytes.
    pub suspect: u64,
}

impl Totals {
    fn add(&mut self, labelled: &Labelled) {
        let sum = match labelled.label {
            Label::Good => &mut self.good,
            Label::Zero => &mut self.zero,
            Label::Base => &mut self.base,
            Label::Missing => &mut self.missing,
            Label::Suspect => &mut self.suspect,
        };
        *sum += labelled.range.length;
    }
}

/// Suspect ranges, in order and without overlaps.
#[derive(Default)]
pub(crate) struct Suspects(Vec<GuestRange>);

/// Suspect ranges that are kept: 16 MiB. All behind the last one is suspect where there are more.
const MOST_SUSPECTS: usize = 1 << 20;

impl Suspects {
    pub(crate) fn add(&mut self, range: GuestRange) {
        if range.is_empty() {
            return;
        }
        if self.0.len() == MOST_SUSPECTS {
            self.tidy();
        }
        if self.0.len() == MOST_SUSPECTS {
            let last = &mut self.0[MOST_SUSPECTS - 1];
            *last = GuestRange::between(last.start.min(range.start), GuestOffset::new(u64::MAX));
            self.tidy();
            return;
        }
        self.0.push(range);
    }

    /// Sorts and joins.
    pub(crate) fn tidy(&mut self) {
        self.0.sort_unstable_by_key(|range| range.start);
        self.0.dedup_by(|next, kept| {
            let meets = next.start <= kept.end();
            if meets {
                *kept = GuestRange::between(kept.start, kept.end().max(next.end()));
            }
            meets
        });
    }

    fn next_at(&self, at: GuestOffset) -> Option<GuestRange> {
        self.0.get(self.0.partition_point(|range| range.end() <= at)).copied()
    }
}

/// Tells `tell` of every byte of `disk`, in order, in ranges as long as they can be.
pub(crate) fn walk(
    disk: &Disk,
    missing: &Missing,
    suspects: &Suspects,
    tell: &mut dyn FnMut(Labelled),
) -> Result<Totals> {
    let mut totals = Totals::default();
    let mut held: Option<Labelled> = None;
    let mut add = |next: Labelled| {
        totals.add(&next);
        match &mut held {
            Some(held) if is_alike(held, &next) => held.range.length += next.range.length,
            held => {
                if let Some(before) = held.replace(next) {
                    tell(before);
                }
            }
        }
    };
    for extent in disk.extents(disk.range()) {
        let extent = extent?;
        let mut reached = extent.range.start;
        while reached < extent.range.end() {
            let part = part(&extent, reached, missing, suspects);
            reached = part.range.end();
            add(part);
        }
    }
    if let Some(last) = held {
        tell(last);
    }
    Ok(totals)
}

fn is_alike(one: &Labelled, other: &Labelled) -> bool {
    let rule = |labelled: &Labelled| labelled.lost.map(|lost| (lost.layer, lost.rule));
    one.label == other.label && rule(one) == rule(other)
}

/// What an extent is from `at` on, as far as it is one thing.
fn part(extent: &Extent, at: GuestOffset, missing: &Missing, suspects: &Suspects) -> Labelled {
    let mut end = extent.range.end();
    let (mut label, mut lost) = match extent.payload {
        Payload::Hole { .. } | Payload::Zero { .. } => (Label::Zero, None),
        Payload::Backing => (Label::Missing, None),
        Payload::Lost(lost) => (Label::Missing, Some(lost)),
        Payload::Stored(stored) if stored.layer == 0 => (Label::Good, None),
        Payload::Stored(_) => (Label::Base, None),
    };
    let is_there = label != Label::Missing;
    if is_there && let Some((range, cause)) = missing.next_at(at) {
        if range.start <= at {
            end = end.min(range.end());
            label = Label::Missing;
            lost = match cause {
                Cause::Lost(lost) => Some(lost),
                Cause::Failed | Cause::Earlier => None,
            };
        } else {
            end = end.min(range.start);
        }
    }
    if label != Label::Missing
        && let Some(range) = suspects.next_at(at)
    {
        if range.start <= at {
            end = end.min(range.end());
            label = Label::Suspect;
        } else {
            end = end.min(range.start);
        }
    }
    Labelled { range: GuestRange::between(at, end), label, lost }
}
