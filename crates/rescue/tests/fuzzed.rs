//! What fuzzing found in rescues: one test for each.

use std::path::Path;
use std::sync::atomic::AtomicBool;

use calve_disk::formats::qcow1::Qcow1Image;
use calve_disk::{Disk, HostErrors, Layer, Storage};
use calve_rescue::{Control, Options, Summary, TargetFormat, Totals, rescue};
use calve_testkit::{Builder, Memory};

/// What is rescued of a file.
fn rescued(make: &dyn Fn() -> Box<dyn Storage>) -> Summary {
    let folder = tempfile::tempdir().expect("a folder");
    let path = |name: &str| Path::join(folder.path(), name);
    let options = Options {
        target: path("new"),
        map: path("map"),
        format: TargetFormat::Raw,
        retries: 0,
        suspect: Vec::new(),
    };
    let open = || {
        let image = Qcow1Image::open_with(make(), None, HostErrors::Lose)?;
        Ok(Disk::of_layers(vec![Layer::detached(Box::new(image))]))
    };
    let stop = AtomicBool::new(false);
    let mut control = Control { stop: &stop, progress: &|_| {}, label: &mut |_| {} };
    rescue(&open, &options, &mut control).unwrap_or_else(|error| panic!("{error}"))
}

/// What lies behind an image is not zeros because nobody knows its name.
#[test]
fn the_bytes_of_a_base_whose_name_is_lost_are_missing() {
    let mut builder = Builder::new(9, 6, 64 << 10).backing(b"base.raw");
    builder.plain(3, &[1; 512]);
    builder.patch(8, &u64::to_be_bytes(1 << 40));
    let image = builder.build();
    let Totals { good, zero, missing, .. } =
        rescued(&|| Box::new(Memory::new(image.clone()))).totals;
    assert_eq!((good, zero, missing), (512, 0, (64 << 10) - 512));
}
