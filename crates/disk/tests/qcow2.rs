//! qcow2 images that stock QEMU made: read as QEMU reads them, or refused by name.

mod common;

use std::path::Path;

use calve_disk::units::HostOffset;
use calve_disk::{Disk, Error, Format, OpenOptions, Rule};
use calve_testkit::{Memory, Random, qemu};

fn open(path: &Path) -> calve_disk::Result<Disk> {
    let options = OpenOptions { with_bases: true, ..OpenOptions::default() };
    Disk::open(path, &options)
}

fn bytes(disk: &Disk) -> Vec<u8> {
    let content = common::content(disk).expect("readable");
    content.into_iter().map(|byte| byte.expect("nothing is lost")).collect()
}

/// Scattered writes of every kind that `qemu-io` knows.
fn scribble(folder: &Path, name: &str, is_packed: bool, seed: u64) {
    let mut random = Random::new(seed);
    let mut commands: Vec<String> = Vec::new();
    for _ in 0..40 {
        let (at, length) = (random.below(4096) * 1024, (1 + random.below(200)) * 1024);
        let length = length.min((4 << 20) - at);
        let pattern = 1 + random.below(255);
        match random.below(5) {
            0 => commands.push(format!("write -z {at} {length}")),
            1 => commands.push(format!("discard {at} {length}")),
            2 if is_packed => {
                let at = at / 65536 * 65536;
                commands.push(format!("write -c -P {pattern} {at} 65536"));
            }
            _ => commands.push(format!("write -P {pattern} {at} {length}")),
        }
    }
    let mut arguments = vec!["-f", "qcow2"];
    commands.iter().for_each(|command| arguments.extend(["-c", command.as_str()]));
    arguments.push(name);
    qemu::io(folder, &arguments);
}

#[test]
fn images_of_every_option_read_as_qemu_reads_them() {
    if !qemu::has("qemu-img") || !qemu::has("qemu-io") {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    for (number, options) in [
        "compat=0.10",
        "compat=1.1",
        "compat=1.1,cluster_size=512",
        "compat=1.1,cluster_size=2M",
        "compat=1.1,compression_type=zstd",
        "compat=1.1,extended_l2=on",
        "compat=1.1,extended_l2=on,cluster_size=16k,compression_type=zstd",
        "compat=1.1,lazy_refcounts=on,refcount_bits=1",
        "compat=1.1,preallocation=metadata",
    ]
    .into_iter()
    .enumerate()
    {
        let name = format!("{number}.qcow2");
        qemu::img(folder.path(), &["create", "-f", "qcow2", "-o", options, &name, "4M"]);
        let is_packed = !options.contains("cluster_size");
        scribble(folder.path(), &name, is_packed, number as u64);
        let disk = open(&folder.path().join(&name)).unwrap_or_else(|e| panic!("{options}: {e}"));
        let extents = common::extents(&disk).expect("readable");
        common::assert_ordered(&disk, &extents, options);
        let expected = qemu::content(folder.path(), &["-f", "qcow2"], &name);
        assert!(bytes(&disk) == expected, "{options}");
    }
}

#[test]
fn overlays_leave_to_their_base_what_they_do_not_have() {
    if !qemu::has("qemu-img") || !qemu::has("qemu-io") {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("base.raw"), Random::new(1).content(3 << 20)).expect("file");
    for options in ["cluster_size=64k", "extended_l2=on"] {
        let make = ["create", "-f", "qcow2", "-o", options, "-b", "base.raw", "-F", "raw"];
        qemu::img(folder.path(), &[&make[..], &["o.qcow2", "4M"]].concat());
        scribble(folder.path(), "o.qcow2", true, 77);
        let disk = open(&folder.path().join("o.qcow2")).expect("opens");
        assert_eq!(disk.layers().len(), 2);
        assert_eq!(disk.layers()[1].image.facts().format, Format::Raw);
        let expected = qemu::content(folder.path(), &["-f", "qcow2"], "o.qcow2");
        assert!(bytes(&disk) == expected, "{options}");
    }
}

#[test]
fn an_external_data_file_is_read_only_where_it_is_named() {
    if !qemu::has("qemu-img") || !qemu::has("qemu-io") {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let options = "data_file=d.raw,data_file_raw=off";
    qemu::img(folder.path(), &["create", "-f", "qcow2", "-o", options, "e.qcow2", "4M"]);
    scribble(folder.path(), "e.qcow2", false, 5);
    let path = folder.path().join("e.qcow2");
    let error = open(&path).err().expect("refused");
    assert!(matches!(error, Error::Refused { .. }), "{error}");
    assert!(error.to_string().contains("d.raw"), "{error}");
    let named = OpenOptions {
        data_file: Some(folder.path().join("d.raw")),
        with_bases: true,
        ..OpenOptions::default()
    };
    let disk = Disk::open(&path, &named).expect("opens");
    assert!(bytes(&disk) == qemu::content(folder.path(), &["-f", "qcow2"], "e.qcow2"));
}

#[test]
fn luks_is_refused_by_name() {
    if !qemu::has("qemu-img") {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let make = ["create", "-f", "qcow2", "--object", "secret,id=s,data=x", "-o"];
    let options = ["encrypt.format=luks,encrypt.key-secret=s", "c.qcow2", "1M"];
    qemu::img(folder.path(), &[&make[..], &options].concat());
    let error = open(&folder.path().join("c.qcow2")).err().expect("refused");
    assert!(matches!(error, Error::Unsupported { .. }), "{error}");
    assert!(error.to_string().contains("LUKS"), "{error}");
}

#[test]
fn the_encryption_of_version_1_is_read_in_qcow2_too() {
    if !qemu::has("qemu-img") || !qemu::has("qemu-io") {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let secret = ["--object", "secret,id=s,data=sesame"];
    let options = "encrypt.format=aes,encrypt.key-secret=s,cluster_size=4k";
    let make = ["create", "-f", "qcow2", "-o", options, "a.qcow2", "1M"];
    qemu::img(folder.path(), &[&make[..1], &secret, &make[1..]].concat());
    let name = "driver=qcow2,encrypt.key-secret=s,file.filename=a.qcow2";
    let write = ["-c", "write -P 7 3000 90000", "-c", "write -P 9 700k 512", "--image-opts", name];
    qemu::io(folder.path(), &[&secret[..], &write].concat());
    let path = folder.path().join("a.qcow2");
    assert!(matches!(open(&path).expect("opens").require_keys(), Err(Error::Key { .. })));
    let passphrases = vec![calve_disk::codec::aes::Passphrase::new(b"sesame".to_vec())];
    let disk = Disk::open(&path, &OpenOptions { passphrases, ..OpenOptions::default() });
    let [object, value] = secret;
    let expected = qemu::content(folder.path(), &[object, value, "--image-opts"], name);
    assert!(bytes(&disk.expect("opens")) == expected);
}

/// An empty image with a table of feature names, as QEMU writes it.
fn header() -> Vec<u8> {
    let folder = tempfile::tempdir().expect("a folder");
    qemu::img(folder.path(), &["create", "-f", "qcow2", "h.qcow2", "1M"]);
    std::fs::read(folder.path().join("h.qcow2")).expect("a file")
}

fn patched(image: &[u8], at: usize, bytes: &[u8]) -> calve_disk::Result<Disk> {
    let mut image = image.to_vec();
    image[at..at + bytes.len()].copy_from_slice(bytes);
    common::qcow2(Box::new(Memory::new(image)))
}

#[test]
fn unknown_incompatible_features_are_refused_by_bit_or_by_name() {
    if !qemu::has("qemu-img") {
        return;
    }
    let image = header();
    let text = patched(&image, 72, &(1u64 << 9).to_be_bytes()).err().expect("refused").to_string();
    assert!(text.contains("incompatible bit 9"), "{text}");
    // A row of the table is given another bit, and with it that bit a name.
    let row = image.windows(9).position(|bytes| bytes == b"dirty bit").expect("a table of names");
    let mut renamed = image;
    renamed[row - 1] = 40;
    let refused = patched(&renamed, 72, &(1u64 << 40).to_be_bytes()).err().expect("refused");
    assert!(refused.to_string().contains("'dirty bit'"), "{refused}");
}

#[test]
fn impossible_headers_are_broken_by_the_rule_they_break() {
    if !qemu::has("qemu-img") {
        return;
    }
    let image = header();
    let cases: [(usize, &[u8], Rule, u64); 8] = [
        (20, &8u32.to_be_bytes(), Rule::Qcow2ClusterBits, 20),
        (20, &22u32.to_be_bytes(), Rule::Qcow2ClusterBits, 20),
        (100, &96u32.to_be_bytes(), Rule::Qcow2HeaderLength, 100),
        (100, &108u32.to_be_bytes(), Rule::Qcow2HeaderLength, 100),
        (24, &(1u64 << 50).to_be_bytes(), Rule::Qcow2Size, 36),
        (36, &(1u32 << 23).to_be_bytes(), Rule::Qcow2Size, 36),
        (40, &0u64.to_be_bytes(), Rule::Qcow2L1Place, 40),
        (40, &513u64.to_be_bytes(), Rule::Qcow2L1Place, 40),
    ];
    for (at, bytes, rule, place) in cases {
        match patched(&image, at, bytes).err() {
            Some(Error::Broken { finding, .. }) => {
                assert_eq!((finding.rule, finding.at), (rule, Some(HostOffset::new(place))));
            }
            other => panic!("{rule:?}: {other:?}"),
        }
    }
    let cut = common::qcow2(Box::new(Memory::new(image[..80].to_vec()))).err();
    assert!(
        matches!(cut, Some(Error::Broken { finding, .. }) if finding.rule == Rule::Qcow2HeaderCut)
    );
}
