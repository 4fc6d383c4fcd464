//! The walk over every table: counts, and what is lost.

use super::Qcow2Image;
use crate::error::Result;
use crate::extent::{Encoding, Extent, ExtentList, Payload};
use crate::finding::Finding;
use crate::image::{Image, Survey};
use crate::units::{ClusterSize, GuestOffset, GuestRange};

/// Runs the walk. Who owns which host cluster is not looked at: that is what the image's own
/// reference counts are for.
pub(super) fn run(image: &Qcow2Image, report: &mut dyn FnMut(Finding)) -> Result<Survey> {
    image.facts.findings.iter().for_each(|finding| report(*finding));
    let cluster_size = image.header.cluster_size;
    let total = cluster_size.count(image.header.size);
    let mut counts =
        Counts { cluster_size, counted: [0; 4], survey: Survey { total, ..Survey::default() } };
    let end = GuestOffset::new(image.header.size);
    let mut reached = GuestOffset::default();
    let mut found = ExtentList::default();
    while reached < end {
        found.restart(reached);
        image.map(GuestRange::between(reached, end), &mut found)?;
        for extent in found.as_slice() {
            counts.add(extent);
            if let Payload::Lost(lost) = extent.payload {
                report(Finding::new(lost.rule).at(lost.at).guest(extent.range));
            }
        }
        reached = found.next();
    }
    Ok(counts.survey)
}

/// Counts clusters of each kind, each once, though extents end inside of some.
struct Counts {
    cluster_size: ClusterSize,
    /// For each kind the first cluster that was not counted yet.
    counted: [u64; 4],
    survey: Survey,
}

impl Counts {
    fn add(&mut self, extent: &Extent) {
        const ALLOCATED: usize = 0;
        const PACKED: usize = 1;
        const ZERO: usize = 2;
        const LOST: usize = 3;
        match extent.payload {
            Payload::Stored(stored) => {
                self.survey.allocated += self.count(ALLOCATED, extent.range);
                if let Encoding::Packed { .. } = stored.encoding {
                    self.survey.packed += self.count(PACKED, extent.range);
                }
            }
            Payload::Zero { .. } => self.survey.zero += self.count(ZERO, extent.range),
            Payload::Lost(_) => {
                self.survey.allocated += self.count(ALLOCATED, extent.range);
                self.survey.lost += self.count(LOST, extent.range);
            }
            Payload::Hole { .. } | Payload::Backing => {}
        }
    }

    fn count(&mut self, kind: usize, range: GuestRange) -> u64 {
        let first = range.start.get() >> self.cluster_size.bits();
        let end = self.cluster_size.count(range.end().get());
        let new = end.saturating_sub(first.max(self.counted[kind]));
        self.counted[kind] = end;
        new
    }
}
