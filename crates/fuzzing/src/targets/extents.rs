//! Version 1 images against the slow reader that shares no code: every guest byte, and every loss.

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
}
