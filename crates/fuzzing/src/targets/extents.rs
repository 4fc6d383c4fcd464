//! Version 1 images against the slow reader that shares no code: every guest byte, and every loss.

use calve_disk::Rule;

use crate::disks;
use crate::input::Input;

pub(super) fn run(data: &[u8]) {
    let Some(input) = Input::of(data) else { return };
    let Ok(disk) = disks::version_1(&input) else { return };
    let found = disks::examine(&disk, &mut input.random(10));
    disks::survey(disk.top(), &disk);
    let Some(found) = found else { return };
    let expected = disks::expected(&input, disk.top().facts().is_encrypted);
    disks::assert_same(&found, &expected, "the disk");
    assert_refused_with_its_base_lost(&disk);
}

/// A base that cannot be named is not the same as none: opening by a path refuses it, and it does
/// so because of this finding.
fn assert_refused_with_its_base_lost(disk: &calve_disk::Disk) {
    let facts = disk.top().facts();
    let is_lost = facts.findings.iter().any(|finding| finding.rule == Rule::BackingNamePlace);
    assert!(!is_lost || facts.backing.is_none(), "a name that is lost and is there");
}
