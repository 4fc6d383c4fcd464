//! Upgrading where it lies: refused and untouched, or the same disk afterwards, and back to the
//! bit.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use calve_disk::formats::qcow1::Qcow1Image;
use calve_disk::formats::qcow2::Qcow2Image;
use calve_disk::{Error as DiskError, Image};
use calve_testkit::{Memory, Notes};
use calve_upgrade::{Error, InPlace, Options, Plan, Verify};

use crate::disks;
use crate::input::{Input, READ_UP_TO};
use crate::stock;

pub(super) fn run(data: &[u8]) {
    let Some(input) = Input::of(data) else { return };
    let Some(size) = upgradable_size(&input) else { return };
    let (storage, note) = (Memory::new(input.image.to_vec()), Notes::new(None));
    let in_place = InPlace::new(Arc::new(storage.clone()), Box::new(note.clone()));
    let options = options(&input);
    let planned = in_place.plan(&options, &AtomicBool::new(false));
    match in_place.upgrade(&options, &AtomicBool::new(false)) {
        Ok(plan) => {
            let planned = planned.unwrap_or_else(|error| panic!("done, and not planned: {error}"));
            assert_eq!(planned.file_size, plan.file_size, "done otherwise than planned");
            check_upgraded(&input, &storage, &plan, size);
            let undone = in_place.undo(false);
            undone.unwrap_or_else(|error| panic!("undoing: {error}"));
        }
        Err(error) => {
            disks::assert_one_line(&error.to_string());
            assert!(planned.is_err(), "planned, and then {error}");
            let is_refusal = match &error {
                Error::Disk(error) => {
                    matches!(error, DiskError::Broken { .. } | DiskError::Unsupported { .. })
                }
                error => matches!(error, Error::Refused { .. }),
            };
            assert!(is_refusal, "a file is no reason for {error}");
        }
    }
    assert!(storage.content() == input.image, "not what it was");
    assert!(note.note().is_none(), "a record is left");
}

/// The size of a disk that can be read to compare; a larger one would be upgraded unseen.
fn upgradable_size(input: &Input<'_>) -> Option<u64> {
    let image = Qcow1Image::open(Box::new(Memory::new(input.image.to_vec())), None).ok()?;
    let size = image.facts().virtual_size;
    (size <= READ_UP_TO).then_some(size)
}

fn options(input: &Input<'_>) -> Options {
    Options {
        backing_format: Some("raw".to_owned()),
        backing_name: None,
        holds: input.holds(),
        verify: if input.verifies() { Verify::Full } else { Verify::Tables },
        time: None,
    }
}

fn check_upgraded(input: &Input<'_>, storage: &Memory, plan: &Plan, size: u64) {
    let upgraded = storage.content();
    assert_eq!(upgraded.len() as u64, plan.file_size);
    let old = &input.image[input.image.len().min(512)..];
    let kept = upgraded[upgraded.len().min(512)..].starts_with(old);
    assert!(kept, "an old byte behind the first sector changed");
    assert_eq!(plan.virtual_size, size.next_multiple_of(512), "qcow2 has whole sectors");
    let image = Qcow2Image::open(Box::new(storage.clone()), None, input.key().as_ref());
    let image = image.unwrap_or_else(|error| panic!("the result does not open: {error}"));
    let disk = disks::over_base(Box::new(image), input.base());
    if let Some(found) = disks::examine(&disk, &mut input.random(13)) {
        let expected = disks::expected(input, plan.is_encrypted);
        assert!(!input.verifies() || !expected.contains(&None), "a loss passed for verified");
        assert_kept(&found[..disks::small(size)], &expected);
        stock::compare(input, &upgraded, &expected);
    }
    disks::survey(disk.top(), &disk);
}

/// Asserts that what was there is there. A payload that did not unpack may do so now: its length
/// was counted in bytes, and in qcow2 it is in sectors.
fn assert_kept(found: &[Option<u8>], expected: &[Option<u8>]) {
    let merged: Vec<Option<u8>> =
        found.iter().zip(expected).map(|(now, was)| was.and(*now)).collect();
    disks::assert_same(&merged, expected, "after the upgrade");
}
