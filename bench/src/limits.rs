//! What the libraries can do by themselves, on as many threads, without any file.

use std::time::Instant;

use calve_testkit::{Random, deflated};
use zlib_rs::{Deflate, DeflateFlush, Inflate, InflateFlush};

const CLUSTER: usize = 4096;

/// Bytes as the corpora have them.
fn content(random: &mut Random) -> Vec<u8> {
    let words = (0..CLUSTER / 16).flat_map(|_| [random.number(), random.below(16)]);
    words.flat_map(u64::to_be_bytes).collect()
}

/// Bytes a second that `work` fills or takes on each of `threads` threads together.
fn rate(threads: usize, bytes: usize, work: impl Fn() + Sync) -> f64 {
    let start = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(&work);
        }
    });
    #[expect(clippy::cast_precision_loss, reason = "a rate needs no 53 bits")]
    let moved = (bytes * threads) as f64;
    moved / start.elapsed().as_secs_f64()
}

/// Unpacking clusters of 4 KiB: bytes of result a second.
pub(crate) fn inflate(threads: usize) -> f64 {
    let mut random = Random::new(1);
    let streams: Vec<Vec<u8>> = (0..512).map(|_| deflated(&content(&mut random), 12)).collect();
    const ROUNDS: usize = 100;
    rate(threads, ROUNDS * streams.len() * CLUSTER, || {
        let (mut state, mut out) = (Inflate::new(false, 15), vec![0; CLUSTER]);
        for stream in (0..ROUNDS).flat_map(|_| &streams) {
            state.reset(false);
            let done = state.decompress(stream, &mut out, InflateFlush::Finish);
            assert!(done.is_ok(), "a stream of our own");
        }
    })
}

/// Packing clusters of 64 KiB at zlib's own level: bytes of source a second.
pub(crate) fn deflate(threads: usize) -> f64 {
    let mut random = Random::new(2);
    let cluster: Vec<u8> = (0..16).flat_map(|_| content(&mut random)).collect();
    const ROUNDS: usize = 400;
    rate(threads, ROUNDS * cluster.len(), || {
        let (mut state, mut out) = (Deflate::new(6, false, 12), vec![0; cluster.len() * 2]);
        for _ in 0..ROUNDS {
            state.reset();
            let done = state.compress(&cluster, &mut out, DeflateFlush::Finish);
            assert!(done.is_ok(), "there is room");
        }
    })
}
