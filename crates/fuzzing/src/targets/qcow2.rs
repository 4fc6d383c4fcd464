//! The qcow2 reader: what every disk promises, and what undo follows through an image.

use calve_disk::formats::qcow2::Qcow2Image;
use calve_disk::{Error, Image, Storage};
use calve_testkit::Memory;

use crate::disks;
use crate::input::{Input, READ_UP_TO};

pub(super) fn run(data: &[u8]) {
    let Some(input) = Input::of(data) else { return };
    let opened = open(&input);
    let disk = match &opened {
        Ok(_) => disks::over_base(Box::new(expect(open(&input))), input.base()),
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
            return;
        }
    };
    let image = expect(opened);
    image.facts().findings.iter().for_each(|it| disks::assert_told_well(it, u64::MAX));
    disks::examine(&disk, &mut input.random(12));
    disks::survey(&image, &disk);
    follow(&image);
}

fn open(input: &Input<'_>) -> calve_disk::Result<Qcow2Image> {
    let data_file = input.data_file().map(|bytes| Box::new(Memory::new(bytes)) as Box<dyn Storage>);
    Qcow2Image::open(Box::new(Memory::new(input.image.to_vec())), data_file, input.key().as_ref())
}

fn expect(opened: calve_disk::Result<Qcow2Image>) -> Qcow2Image {
    opened.unwrap_or_else(|error| panic!("opens only sometimes: {error}"))
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
