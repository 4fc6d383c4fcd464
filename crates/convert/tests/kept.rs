//! What travels unopened: packed clusters whose streams are stored as they are.

mod common;

use calve_disk::Disk;
use calve_disk::formats::qcow1::Qcow1Image;
use calve_disk::{Layer, OpenOptions};
use calve_testkit::{Builder, Memory, deflated, qemu};

/// An image of packed clusters: the image, the disk's content, and the stream of each cluster.
struct Packed {
    image: Vec<u8>,
    content: Vec<u8>,
    streams: Vec<Vec<u8>>,
}

/// Text that packs well; no two clusters have the same.
fn text(cluster: usize, number: usize) -> Vec<u8> {
    let lines = (0..).flat_map(|line| format!("cluster {number}, line {line}\n").into_bytes());
    lines.take(cluster).collect()
}

/// Clusters packed by somebody who looks back 512 bytes at most, so that his streams are told
/// from those that are made here.
fn packed(cluster_bits: u8) -> Packed {
    let cluster = 1usize << cluster_bits;
    let mut builder = Builder::new(cluster_bits, 9, 8 * cluster as u64);
    let (mut content, mut streams) = (Vec::new(), Vec::new());
    for number in 0..6u64 {
        let bytes = text(cluster, usize::try_from(number).expect("small"));
        let mut stream = deflated(&bytes, 9);
        let length = stream.len() as u64;
        match number {
            // Bytes of nobody behind the stream.
            1 => {
                let longer = [&stream[..], &[0xA5; 40]].concat();
                builder.stream(number, &longer, length + 40);
            }
            // The stream yields more than a cluster.
            2 => {
                stream = deflated(&[&bytes[..], &bytes[..]].concat(), 9);
                builder.stream(number, &stream, stream.len() as u64);
            }
            // All zeros: packed, and not worth keeping.
            3 => {
                stream = deflated(&vec![0; cluster], 9);
                builder.stream(number, &stream, stream.len() as u64);
            }
            4 => {
                builder.plain(number, &bytes);
            }
            _ => {
                builder.stream(number, &stream, length);
            }
        }
        content.extend(if number == 3 { vec![0; cluster] } else { bytes });
        streams.push(stream);
    }
    content.resize(8 * cluster, 0);
    Packed { image: builder.build(), content, streams }
}

fn convert(packed: &Packed, cluster_bits: u8) -> (Vec<u8>, Vec<u8>) {
    let folder = tempfile::tempdir().expect("a folder");
    let mut files = Vec::new();
    for threads in [1, 3] {
        let image = Qcow1Image::open(Box::new(Memory::new(packed.image.clone())), None);
        let disk = Disk::of_layers(vec![Layer::detached(Box::new(image.expect("opens")))]);
        let target = folder.path().join(format!("target.{threads}"));
        let options = common::options(common::qcow2(cluster_bits, true), threads);
        common::convert(vec![disk], &target, &options).expect("converts");
        files.push(std::fs::read(&target).expect("a file"));
    }
    assert!(files[0] == files[1], "threads show");
    if qemu::has("qemu-img") {
        qemu::assert_clean(folder.path(), "target.1");
        let content = qemu::content(folder.path(), &["-f", "qcow2"], "target.1");
        assert!(content == packed.content, "QEMU reads something else");
    }
    let options = OpenOptions { force_share: true, ..OpenOptions::default() };
    let disk = Disk::open(&folder.path().join("target.1"), &options).expect("opens");
    (files.remove(0), common::bytes(&disk))
}

/// Which of the source's streams stand in the result as they are.
fn kept(packed: &Packed, result: &[u8]) -> Vec<usize> {
    let stands = |stream: &Vec<u8>| result.windows(stream.len()).any(|bytes| bytes == stream);
    (0..packed.streams.len()).filter(|number| stands(&packed.streams[*number])).collect()
}

#[test]
fn streams_that_end_with_their_cluster_are_stored_as_they_are() {
    for bits in [9, 10, 12] {
        let packed = packed(bits);
        let (result, content) = convert(&packed, bits);
        assert!(content == packed.content, "{bits} bits: other bytes");
        assert_eq!(kept(&packed, &result), [0, 1, 5], "{bits} bits");
    }
}

#[test]
fn other_cluster_sizes_and_windows_that_may_be_too_large_are_packed_anew() {
    for (from, to) in [(12, 16), (12, 9), (13, 13), (16, 16)] {
        let packed = packed(from);
        let (result, content) = convert(&packed, to);
        assert!(content == packed.content, "{from} to {to} bits: other bytes");
        assert_eq!(kept(&packed, &result), [0usize; 0], "{from} to {to} bits");
    }
}
