//! The qcow2 reader: what every disk promises, and what undo follows through an image.

use calve_disk::formats::qcow2::Qcow2Image;
use calve_disk::{Error, Image};

use crate::disks;
use crate::input::{Input, READ_UP_TO};

pub(super) fn run(data: &[u8]) {
    let Some(input) = Input::of(data) else { return };
    match disks::qcow2_image(&input) {
        Ok(image) => look_at(&image, &input),
        Err(error) => {
            disks::assert_one_line(&error.to_string());
            let is_expected = matches!(
                error,
                Error::NotThisFormat { .. }
                    | Error::Broken { .. }
                    | Error::Unsupported { .. }
                    | Error::Refused { .. }
            );
            assert!(is_expected, "opening fails: {error}");
        }
    }
}

fn look_at(image: &Qcow2Image, input: &Input<'_>) {
    let disk = disks::qcow2(input).unwrap_or_else(|error| panic!("opens only once: {error}"));
    image.facts().findings.iter().for_each(|it| disks::assert_told_well(it, u64::MAX));
    disks::examine(&disk, &mut input.random(12));
    disks::survey(image, &disk);
    follow(image);
}

/// Follows all that the image refers to, as undoing an upgrade does.
fn follow(image: &Qcow2Image) {
    if image.facts().virtual_size > READ_UP_TO {
        return;
    }
    match image.references(&mut |_| {}) {
        Ok(()) | Err(Error::Broken { .. } | Error::Unsupported { .. }) => {}
        Err(error) => panic!("following fails: {error}"),
    }
}
