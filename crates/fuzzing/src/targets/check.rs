//! Checking a version 1 image: whatever it loses is told, whatever is told is so, and mending it
//! loses nothing.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use calve_disk::units::{ClusterSize, GuestRange};
use calve_disk::{CheckOptions, Checked, Disk, Finding, Payload, Rule, StorageMut, Weight};
use calve_repair::{Mend, Mended, Scope};
use calve_testkit::{Memory, Notes};

use crate::disks::{self, Content};
use crate::input::{Input, READ_UP_TO};

/// Clusters up to which a disk is checked.
const MAX_CLUSTERS: u64 = 1 << 17;

/// Extents and stored bytes of a disk up to which all payloads are read.
const MAX_EXTENTS: usize = 10_000;
const MAX_STORED: u64 = 2 << 20;

pub(super) fn run(data: &[u8]) {
    let Some(input) = Input::of(data) else { return };
    let Ok(disk) = disks::version_1(&input) else { return };
    let cluster = disk.top().facts().cluster_size.unwrap_or(ClusterSize::SECTOR);
    if cluster.count(disk.virtual_size()) > MAX_CLUSTERS {
        return;
    }
    let extents = disks::walked(&disk, MAX_EXTENTS);
    let stored = extents.iter().filter(|extent| matches!(extent.payload, Payload::Stored(_)));
    let is_deep = extents.len() < MAX_EXTENTS
        && stored.map(|extent| extent.range.length).sum::<u64>() <= MAX_STORED;
    let (checked, findings) = check(&disk, is_deep, 1);
    for finding in &findings {
        disks::assert_told_well(finding, disk.virtual_size());
        assert_in_the_file(finding, disk.top().facts().file_size);
    }
    let again = check(&disk, is_deep, 2);
    assert_eq!(again, (checked, findings.clone()), "two threads find something else");
    let told = Told::of(&findings);
    for extent in &extents {
        if matches!(extent.payload, Payload::Lost(lost) if lost.layer == 0) {
            told.assert_lost(extent.range);
        }
    }
    if disk.virtual_size() > READ_UP_TO {
        return;
    }
    let expected = disks::expected(&input, disk.top().facts().is_encrypted);
    if is_deep {
        compare(&expected, &findings, &told);
    }
    mend(&input, &expected, &findings, &told);
}

fn check(disk: &Disk, is_deep: bool, threads: usize) -> (Checked, Vec<Finding>) {
    let options = CheckOptions {
        is_deep,
        threads: NonZeroUsize::new(threads).expect("at least one"),
        stop: &AtomicBool::new(false),
        progress: &|done, total| assert!(done <= total, "{done} of {total} are done"),
    };
    let mut findings = Vec::new();
    let checked = disk.check(0, &options, &mut |finding| findings.push(finding));
    let checked = disks::expect_memory(checked);
    assert!(!checked.is_stopped, "nobody stopped it");
    (checked, findings)
}

/// Asserts that a finding has its place in the file, but for what is behind its end, and that of
/// bytes with no owner or with two the file has as many as it says.
fn assert_in_the_file(finding: &Finding, file_size: u64) {
    let Some(at) = finding.at else { return };
    let is_behind = at.get() >= file_size;
    let may_be_behind = match finding.rule {
        // The first entry that is not there; what several lead to there.
        Rule::L1Cut | Rule::L2Cut => true,
        Rule::ClusterShared | Rule::L2Shared | Rule::L2Overlap => true,
        Rule::NameShared | Rule::PackedOnTable => true,
        _ => false,
    };
    assert!(!is_behind || may_be_behind, "{finding:?}: behind the file of {file_size}");
    if finding.rule == Rule::Leak {
        let end = finding.value.and_then(|length| at.get().checked_add(length));
        assert!(end.is_some_and(|end| end <= file_size), "{finding:?}: a leak of nothing");
    }
}

/// What is told of as lost.
struct Told {
    /// In the order of the disk, joined.
    damaged: Vec<GuestRange>,
    /// Whether L1 entries share a table, of which the entries are told of once.
    is_shared: bool,
}

impl Told {
    fn of(findings: &[Finding]) -> Self {
        let damage = findings.iter().filter(|finding| finding.rule.weight() == Weight::Damage);
        let mut damaged: Vec<GuestRange> = damage
            .filter_map(|finding| match finding.rule {
                // Without an L1 table there is no byte.
                Rule::L1Place => Some(GuestRange::at(0, u64::MAX)),
                _ => finding.guest,
            })
            .collect();
        damaged.sort_by_key(|range| range.start);
        damaged.dedup_by(|next, kept| {
            let meets = next.start <= kept.end();
            if meets {
                *kept = GuestRange::between(kept.start, kept.end().max(next.end()));
            }
            meets
        });
        let is_shared = findings.iter().any(|finding| finding.rule == Rule::L2Shared);
        Self { damaged, is_shared }
    }

    fn has(&self, range: GuestRange) -> bool {
        let number = self.damaged.partition_point(|damaged| damaged.end() <= range.start);
        let damaged = self.damaged.get(number);
        damaged.is_some_and(|it| it.start <= range.start && range.end() <= it.end())
    }

    fn assert_lost(&self, range: GuestRange) {
        let is_told = self.has(range) || (self.is_shared && !self.damaged.is_empty());
        assert!(is_told, "{range:?} is lost, and told is {:?}", self.damaged);
    }
}

/// Compares what a deep check tells of as lost with what the slow reader loses.
fn compare(expected: &Content, findings: &[Finding], told: &Told) {
    for (at, byte) in (0..).zip(expected) {
        if byte.is_none() {
            told.assert_lost(GuestRange::at(at, 1));
        }
    }
    for finding in findings.iter().filter(|finding| finding.rule.weight() == Weight::Damage) {
        let Some(range) = finding.guest else { continue };
        let range = disks::small(range.start.get())..disks::small(range.end().get());
        assert!(expected[range].contains(&None), "{finding:?}, and nothing is lost");
    }
}

/// Mends the image, and asserts that every byte that was there is there, that what came back is
/// told of, and that nothing is left to be mended.
fn mend(input: &Input<'_>, before: &Content, findings: &[Finding], told: &Told) {
    let (storage, note) = (Memory::new(input.image.to_vec()), Notes::new(None));
    let (mended, mends) = repair(&storage, &note);
    let is_encrypted = input.image[36..40] != [0; 4];
    let base = input.base().unwrap_or_default();
    let after = disks::expected(&input.at(&storage.content()), is_encrypted);
    let mut allowed = before.clone();
    for mend in &mends {
        let Mend::Unallocated { guest, .. } = mend else { continue };
        for at in disks::small(guest.start.get())..disks::small(guest.end().get()) {
            assert_eq!(before[at], None, "{mend:?}: byte {at:#x} was there");
            allowed[at] = Some(base.get(at).copied().unwrap_or(0));
        }
    }
    // Of a table that several L1 entries share, the guest bytes of the first are told; those of
    // the others stay suspect.
    for at in 0..if told.is_shared { before.len() } else { 0 } {
        let now = after.get(at).copied().flatten();
        if before[at].is_none() && now == Some(base.get(at).copied().unwrap_or(0)) {
            allowed[at] = now;
        }
    }
    disks::assert_same(&after, &allowed, "after mending");
    if !findings.iter().any(|finding| finding.rule.weight() > Weight::Note) {
        assert_eq!((mended, mends.len()), (Mended::default(), 0), "there was nothing to mend");
        assert!(storage.content() == input.image, "nothing to mend, and changed");
    }
    // What was kept at the end in the first run goes in the second.
    let (_, mends) = repair(&storage, &note);
    assert!(mends.iter().all(|mend| matches!(mend, Mend::Trimmed { .. })), "left: {mends:?}");
    let (_, mends) = repair(&storage, &note);
    assert!(mends.is_empty(), "left twice: {mends:?}");
}

fn repair(storage: &Memory, note: &Notes) -> (Mended, Vec<Mend>) {
    let (mut mends, stop) = (Vec::new(), AtomicBool::new(false));
    let storage: Arc<dyn StorageMut> = Arc::new(storage.clone());
    let tell = &mut |mend: &Mend| mends.push(*mend);
    let mended = calve_repair::repair(&storage, note, Scope::All, &stop, tell);
    let mended = mended.unwrap_or_else(|error| panic!("mending: {error}"));
    assert!(note.note().is_none(), "a note is left");
    (mended, mends)
}
