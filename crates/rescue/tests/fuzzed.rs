//! What fuzzing found in rescues: one test for each.

use std::path::Path;
use std::sync::atomic::AtomicBool;

use calve_disk::codec::aes::Passphrase;
use calve_disk::formats::qcow1::Qcow1Image;
use calve_disk::{Disk, HostErrors, Layer, Storage};
use calve_rescue::{
    Control, MapFile, Marked, Options, Status, Summary, TargetFormat, Totals, rescue,
};
use calve_testkit::{Builder, Memory, XenOrder};

const PASSPHRASE: &[u8] = b"sesame";

/// What is rescued of a file, encrypted or not.
fn rescued(make: &dyn Fn() -> Box<dyn Storage>) -> Summary {
    let key = Passphrase::new(PASSPHRASE.to_vec());
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
        let image = Qcow1Image::open_with(make(), Some(&key), HostErrors::Lose)?;
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

/// What is rescued of a file of which these bytes cannot be read.
fn rescued_without(image: &[u8], bad: std::ops::Range<u64>) -> Totals {
    let mut map = MapFile::default();
    map.push(0..bad.start, Status::Finished);
    map.push(bad.clone(), Status::Bad);
    map.push(bad.end..image.len() as u64, Status::Finished);
    rescued(&|| Box::new(Marked::new(Box::new(Memory::new(image.to_vec())), &map))).totals
}

/// Its checksum cannot be compared then, which is no reason to have nothing.
#[test]
fn xens_table_may_be_unreadable_in_part() {
    // 512 entries of 32 KiB in the L1 table: eight sectors.
    let mut builder = Builder::new(9, 6, 16 << 20).xen(XenOrder::Little);
    for cluster in [0, 64 * 64] {
        builder.plain(cluster, &[1; 512]);
    }
    let Totals { good, zero, missing, .. } = rescued_without(&builder.build(), 4096..4096 + 512);
    assert_eq!((good, zero, missing), (512, (14 << 20) - 512, 2 << 20));
}

/// What the image itself stores is there all the same.
#[test]
fn the_name_of_the_base_may_be_unreadable() {
    let mut builder = Builder::new(9, 6, 64 << 10);
    builder.plain(3, &[1; 512]);
    let end = builder.length();
    let builder = builder.backing(b"base.raw");
    let Totals { good, missing, .. } = rescued_without(&builder.build(), end..end + 8);
    assert_eq!((good, missing), (512, (64 << 10) - 512));
}

/// A disk that ends inside a sector needs the whole of that sector to be decrypted, which is no
/// reason to lose what else was read together with it.
#[test]
fn a_bad_sector_of_an_encrypted_disk_of_any_size_is_one_sector() {
    let mut builder = Builder::new(12, 9, 3 * 4096 - 100).encrypted(PASSPHRASE);
    let at = builder.plain(0, &[1; 4096]);
    for cluster in 1..3 {
        assert_eq!(builder.plain(cluster, &[1; 4096]), at + cluster * 4096);
    }
    let image = builder.build();
    for (bad, gone) in [(at + 512, 512), (at + 3 * 4096 - 512, 412)] {
        let Totals { good, missing, .. } = rescued_without(&image, bad..bad + 512);
        assert_eq!((good, missing), (3 * 4096 - 100 - gone, gone), "{bad:#x}");
    }
}
