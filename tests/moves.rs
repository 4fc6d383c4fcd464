//! Bytes that the host moves by itself: on file systems whose files can share blocks, and where
//! every byte is stored.

use std::path::Path;
use std::process::Command;

use crate::common::{Bench, program};
use calve_testkit::{Builder, Random, qemu};

const MIB: u64 = 1 << 20;

/// A version 1 image of 24 MiB in QEMU's way: tables and 4 KiB clusters in whole blocks. Two
/// thirds are stored, some as zeros, some packed; and what its disk holds.
fn image() -> (Vec<u8>, Vec<u8>) {
    let size = 24 * MIB;
    let mut builder = Builder::new(12, 9, size).aligned(4096);
    let mut disk = vec![0; usize::try_from(size).expect("small")];
    let mut random = Random::new(11);
    for cluster in 0..size / 4096 {
        // Runs of half a MiB: two stored, one not. The last one is packed.
        if cluster / 128 % 3 == 2 {
            continue;
        }
        let content = if cluster % 512 < 40 { vec![0; 4096] } else { random.content(4096) };
        if cluster + 128 < size / 4096 {
            builder.plain(cluster, &content);
        } else {
            builder.packed(cluster, &content);
        }
        let start = usize::try_from(cluster * 4096).expect("small");
        disk[start..start + 4096].copy_from_slice(&content);
    }
    (builder.build(), disk)
}

fn on(kind: &str) {
    let bench = Bench::new();
    let Some(mounted) = crate::common::mounted(&bench, kind) else { return };
    let path = |name| mounted.folder().join(name).to_str().expect("a plain name").to_owned();
    let (image, disk) = image();
    let old = path("old.qcow");
    std::fs::write(&old, image).expect("a file");
    let plain: &[&str] = &["-O", "raw"];
    let same: &[&str] = &["-O", "qcow2", "-o", "cluster_size=4k"];
    let larger: &[&str] = &["-O", "qcow2", "-o", "cluster_size=64k"];
    let smaller: &[&str] = &["-O", "qcow2", "-o", "cluster_size=1k"];
    for format in [plain, same, larger, smaller] {
        for more in [&["--verify"][..], &[], &["--copy", "clone"], &["--copy", "read"]] {
            let new = path("new");
            let shares = !(more == ["--copy", "read"] || format == smaller);
            let arguments = [&["convert", "-q", "--output", "json"], format, more].concat();
            let arguments = [&arguments[..], &[&old, &new]].concat();
            if more == ["--copy", "clone"] && !shares {
                bench.fails(63, "share blocks", &arguments);
                continue;
            }
            let said = bench.ok(&arguments).json();
            let cloned = said["cloned-bytes"].as_u64().expect("a number");
            assert_eq!(cloned > 12 * MIB, shares, "{kind} {format:?} {more:?}: {cloned}");
            let raw = bench.file("new.raw");
            bench.ok(&["convert", "-q", "--force", &new, raw.to_str().expect("plain")]);
            assert!(bench.read("new.raw") == disk, "{kind} {format:?} {more:?}: other bytes");
            if shares {
                // But for the packed clusters, the tables, and what is beside the blocks.
                let own = crate::common::exclusive(&new);
                assert!(own < 2 * MIB, "{kind} {format:?} {more:?}: {own} bytes of its own");
            }
            if format != plain && qemu::has("qemu-img") {
                qemu::assert_clean(mounted.folder(), "new");
            }
            std::fs::remove_file(new).expect("a file");
        }
    }
}

#[test]
fn on_xfs_blocks_are_shared_and_the_content_is_the_same() {
    on("xfs");
}

#[test]
fn on_btrfs_blocks_are_shared_and_the_content_is_the_same() {
    on("btrfs");
}

#[test]
fn where_every_byte_is_stored_the_kernel_copies_if_told_to() {
    let bench = Bench::new();
    let (image, disk) = image();
    bench.write("old.qcow", &image);
    for (copy, copies) in [("kernel", true), ("auto", false), ("read", false)] {
        let arguments = ["convert", "-q", "-S", "0", "--copy", copy, "old.qcow", "new.raw"];
        bench.ok(&arguments);
        assert!(bench.read("new.raw") == disk, "{copy}: other bytes");
        std::fs::remove_file(bench.file("new.raw")).expect("a file");
        if !crate::common::may_trace() {
            continue;
        }
        let traced = Command::new("strace")
            .current_dir(bench.path())
            .args(["-f", "-o", "trace", "-e", "trace=copy_file_range"])
            .arg(program())
            .args(arguments)
            .output()
            .expect("starts");
        assert!(traced.status.success(), "{copy}");
        let trace = String::from_utf8(bench.read("trace")).expect("text");
        assert_eq!(trace.contains("copy_file_range("), copies, "{copy}: {trace}");
        std::fs::remove_file(bench.file("new.raw")).expect("a file");
    }
}

#[test]
fn where_no_block_can_be_shared_demanding_it_is_refused_and_leaves_nothing() {
    let bench = Bench::new();
    let (image, _) = image();
    bench.write("old.qcow", &image);
    // No two file systems share blocks, whatever this folder is on.
    let other = Path::new("/dev/shm");
    let target = other.join(format!("calve-test-{}.raw", std::process::id()));
    let target = target.to_str().expect("a plain name");
    bench.fails(63, "leave out --copy", &["convert", "--copy", "clone", "old.qcow", target]);
    assert!(!Path::new(target).exists());
    for more in [&["-c", "-O", "qcow2"][..], &["--salvage"]] {
        let arguments = [&["convert", "--copy", "clone"], more, &["old.qcow", "new"]].concat();
        bench.fails(64, "--copy clone", &arguments);
    }
    assert_eq!(bench.names(), ["old.qcow"]);
}
