//! Packed clusters: a cluster is good where the stream fills it (`docs/qcow1.md`, Q26), which
//! two decoders that share no code have to find of any bytes.

use calve_disk::Codec;
use calve_disk::codec::{Deflater, Filled, Unpacker};
use calve_testkit::inflated;

/// The first byte of an input chooses the cluster size, the rest is the stream.
pub(super) fn run(data: &[u8]) {
    let Some((choice, stream)) = data.split_first() else { return };
    if stream.len() > 1 << 16 {
        return;
    }
    let length = 512usize << (choice % 8);
    let expected = inflated(stream, length);
    let mut unpacker = Unpacker::default();
    let mut cluster = vec![0; length];
    let filled = unpacker.fill(Codec::Deflate, stream, &mut cluster);
    assert_eq!(filled.is_some(), expected.is_some(), "whether a cluster of {length} is full");
    if let Some(expected) = expected {
        assert!(cluster == expected, "two decoders, two clusters of {length}");
    }
    if let Some(Filled::Exactly { length }) = filled {
        check_exact(&mut unpacker, &stream[..length], &cluster);
    }
    // What was decoded before leaves no trace.
    let again = unpacker.fill(Codec::Deflate, stream, &mut cluster);
    assert_eq!(again, filled, "a used decoder finds something else");
    // Packing takes longer than all else together: a little shows as much.
    check_packing(&mut unpacker, &stream[..stream.len().min(2048)]);
    check_zstd(&mut unpacker, stream, &mut cluster);
}

/// An exact stream fills the cluster by itself, and no shorter one does so exactly.
fn check_exact(unpacker: &mut Unpacker, stream: &[u8], cluster: &[u8]) {
    let mut out = vec![0xEE; cluster.len()];
    let filled = unpacker.fill(Codec::Deflate, stream, &mut out);
    assert_eq!(filled, Some(Filled::Exactly { length: stream.len() }), "cut to its length");
    assert!(out == cluster, "cut to its length, and something else");
    let shorter = &stream[..stream.len().saturating_sub(1)];
    let filled = unpacker.fill(Codec::Deflate, shorter, &mut out);
    assert!(!matches!(filled, Some(Filled::Exactly { .. })), "the last byte is not needed");
}

/// Whatever is packed unpacks to the same.
fn check_packing(unpacker: &mut Unpacker, bytes: &[u8]) {
    let mut deflater = Deflater::new();
    let Some(packed) = deflater.pack(bytes) else { return };
    let mut out = vec![0xEE; bytes.len()];
    let filled = unpacker.fill(Codec::Deflate, packed, &mut out);
    assert_eq!(filled, Some(Filled::Exactly { length: packed.len() }), "what was packed");
    assert!(out == bytes, "unpacks to something else");
    assert!(inflated(packed, bytes.len()).is_some_and(|it| it == bytes), "for the other decoder");
}

/// Zstandard has no second decoder here; it has to find the same twice.
fn check_zstd(unpacker: &mut Unpacker, stream: &[u8], cluster: &mut [u8]) {
    let first = unpacker.fill(Codec::Zstd, stream, cluster);
    let kept = cluster.to_vec();
    cluster.fill(0xEE);
    assert_eq!(unpacker.fill(Codec::Zstd, stream, cluster), first);
    assert!(first.is_none() || cluster == kept, "a frame unpacks to two things");
}
