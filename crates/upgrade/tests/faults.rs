//! Storage that fails at every step in its turn: the image stays the old one, or says that its
//! undo record has to settle it.

mod common;

use std::sync::atomic::AtomicBool;

use calve_testkit::{Faulty, Memory, Notes, Random, Sketch, seeds};
use calve_upgrade::{Error, Recovered};

#[test]
fn whatever_step_fails_nothing_is_lost() {
    for seed in seeds("CALVE_FAULT_CASES", 12) {
        let mut random = Random::new(seed ^ 0xFA_17);
        let sketch = Sketch::legal(&mut random);
        let options = common::options(&sketch, random.once_in(2));
        for failing in 0.. {
            let what = format!("seed {seed}, step {failing}");
            let memory = Memory::new(sketch.image.clone());
            let storage = Faulty::new(memory.clone(), failing);
            let counting = storage.clone();
            let notes = Notes::with(None, move |_| counting.step());
            let done = common::upgrade(&storage, &notes, &options);
            if !storage.has_failed() {
                done.expect("nothing failed");
                break;
            }
            match done {
                Ok(_) => common::assert_same(memory.content(), &sketch, &what),
                Err(Error::HalfWay { .. }) => {
                    let recovered = common::in_place(&memory, &Notes::new(notes.note())).recover();
                    let recovered = recovered.unwrap_or_else(|error| panic!("{what}: {error}"));
                    assert!(recovered == Recovered::RolledBack, "{what}: {recovered:?}");
                    assert!(memory.content() == sketch.image, "{what}: not what it was");
                }
                Err(error) => {
                    assert!(memory.content() == sketch.image, "{what}: {error}: not what it was");
                    // A record that could not be taken away says so itself.
                    let settled = common::in_place(&memory, &Notes::new(notes.note())).recover();
                    assert!(
                        matches!(settled, Ok(Recovered::RolledBack) | Err(Error::Refused { .. })),
                        "{what}: {settled:?}"
                    );
                }
            }
        }
    }
}

#[test]
fn what_is_asked_to_stop_leaves_the_old_image() {
    let sketch = Sketch::legal(&mut Random::new(5));
    let (storage, notes) = (Memory::new(sketch.image.clone()), Notes::new(None));
    let options = common::options(&sketch, false);
    let done = common::in_place(&storage, &notes).upgrade(&options, &AtomicBool::new(true));
    assert!(matches!(done, Err(Error::Stopped)), "{done:?}");
    assert!(storage.content() == sketch.image && notes.note().is_none());
}
