//! Whatever the bytes: no panic, no patch where none may be, an end.

use std::time::{Duration, Instant};

use crate::common::source;
use calve_rebuild::{Hints, header, l1, xen};
use calve_testkit::{Random, Sketch, seeds};

#[test]
fn damaged_images_of_every_kind_are_rebuilt_or_refused() {
    for seed in seeds("CALVE_MUTATION_CASES", 300) {
        let mut random = Random::new(seed);
        let mut sketch = Sketch::legal(&mut random);
        for _ in 0..random.below(3) {
            sketch.damage(&mut random);
        }
        let length = sketch.image.len() as u64;
        for _ in 0..random.below(40) {
            let at = usize::try_from(random.below(length.min(4096)).min(length - 1)).unwrap();
            if let Some(byte) = sketch.image.get_mut(at) {
                *byte = random.number().to_be_bytes()[0];
            }
        }
        let began = Instant::now();
        let damaged = source(&sketch.image);
        let rebuilt = header(&damaged, &Hints::default()).expect("memory does not fail");
        for source in [&damaged, &rebuilt.source] {
            // Refusing is an answer.
            let _ = l1(source);
            let _ = xen(source);
        }
        assert!(began.elapsed() < Duration::from_secs(20), "seed {seed}");
    }
}

#[test]
fn files_that_are_no_images_are_answered_for() {
    for bytes in [vec![], vec![0; 1], vec![0xFF; 47], vec![0; 4096], vec![0xFF; 100_000]] {
        let rebuilt = header(&source(&bytes), &Hints::default()).expect("memory does not fail");
        let _ = l1(&rebuilt.source);
        let _ = xen(&rebuilt.source);
    }
}
