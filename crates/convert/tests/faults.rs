//! A host that fails at every step in turn, and runs that are stopped: an error and an empty
//! folder, or the whole result.

mod common;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use calve_convert::{Control, Error, TargetFormat};
use calve_testkit::{Faulty, Memory, Random, Sketch, seeds};

fn names(folder: &std::path::Path) -> usize {
    std::fs::read_dir(folder).expect("a folder").count()
}

#[test]
fn every_read_that_fails_leaves_nothing_behind() {
    let folder = tempfile::tempdir().expect("a folder");
    for seed in seeds("CALVE_MODEL_CASES", 12) {
        let sketch = Sketch::legal(&mut Random::new(seed));
        let expected: Vec<u8> = common::expected(&sketch).into_iter().map(Option::unwrap).collect();
        for failing in 0.. {
            let storage = Faulty::new(Memory::new(sketch.image.clone()), failing);
            let target = folder.path().join("target");
            let mut options = common::options(TargetFormat::Raw, 3);
            options.verify = true;
            let done = common::disk_on(Box::new(storage.clone()), &sketch)
                .map_err(Error::from)
                .and_then(|disk| common::convert(vec![disk], &target, &options));
            match done {
                Ok(_) => {
                    assert!(std::fs::read(&target).expect("a file") == expected, "seed {seed}");
                    std::fs::remove_file(&target).expect("a file");
                }
                Err(Error::Disk(_)) => assert!(storage.has_failed(), "seed {seed}"),
                Err(other) => panic!("seed {seed}, access {failing}: {other}"),
            }
            assert_eq!(names(folder.path()), 0, "seed {seed}, access {failing}");
            if !storage.has_failed() {
                break;
            }
        }
    }
}

#[test]
fn a_run_that_is_stopped_at_any_step_leaves_nothing_behind() {
    let folder = tempfile::tempdir().expect("a folder");
    let sketch = Sketch::legal(&mut Random::new(5));
    let mut was_stopped = 0;
    for step in 0..20 {
        let stop = AtomicBool::new(step == 0);
        let steps = AtomicU64::new(0);
        let progress = |_| {
            if steps.fetch_add(1, Ordering::SeqCst) + 1 == step {
                stop.store(true, Ordering::SeqCst);
            }
        };
        let control = Control { stop: &stop, progress: &progress };
        let mut options = common::options(common::qcow2(16, true), 2);
        options.verify = true;
        let target = folder.path().join("target");
        let disks = vec![common::disk(&sketch)];
        match calve_convert::convert(disks, &target, &options, &control) {
            Ok(_) => std::fs::remove_file(&target).expect("a file"),
            Err(Error::Stopped) => was_stopped += 1,
            Err(other) => panic!("step {step}: {other}"),
        }
        assert_eq!(names(folder.path()), 0, "step {step}");
    }
    assert!(was_stopped > 1, "no run was stopped in the middle");
}
