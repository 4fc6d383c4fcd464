//! Wherever a machine stops, the file is the old image to the bit or a good new one, and
//! recovering ends in one of the two.

mod common;

use calve_testkit::{
    Access, Crashed, Memory, Notes, Random, Recorder, Recording, Sketch, crashes, seeds,
};
use calve_upgrade::{Options, Recovered, State};

/// Recovers, and asserts that what is left is the old image or a good new one.
fn assert_recovers(crashed: &Crashed, sketch: &Sketch, what: &str) {
    let is_old = |image: &[u8]| image == sketch.image;
    match sketch.image.len() {
        length if crashed.image.get(..length) == Some(&sketch.image[..]) => {}
        _ => common::assert_same(crashed.image.clone(), sketch, &format!("{what}, as it lies")),
    }
    let (storage, notes) = (Memory::new(crashed.image.clone()), Notes::new(crashed.note.clone()));
    let in_place = common::in_place(&storage, &notes);
    let state = in_place.state().unwrap_or_else(|error| panic!("{what}: {error}"));
    let Some(state) = state else {
        assert!(is_old(&storage.content()), "{what}: without a record it is what it was");
        return;
    };
    let recovered = in_place.recover().unwrap_or_else(|error| panic!("{what}: {error}"));
    let image = storage.content();
    match (state, recovered) {
        (State::Interrupted, Recovered::RolledBack) => {
            assert!(is_old(&image), "{what}: rolled back to something else");
            assert_eq!(notes.note(), None, "{what}");
        }
        (State::Upgraded, Recovered::Finished) => {
            common::assert_same(image, sketch, what);
            in_place.undo(false).unwrap_or_else(|error| panic!("{what}: {error}"));
            assert!(is_old(&storage.content()), "{what}: undone to something else");
        }
        other => panic!("{what}: {other:?}"),
    }
}

fn upgraded(sketch: &Sketch, options: &Options) -> (Crashed, Vec<Access>) {
    let recorder = Recorder::default();
    let memory = Memory::new(sketch.image.clone());
    let notes = Notes::recorded(None, &recorder);
    common::upgrade(&Recording::new(memory.clone(), &recorder), &notes, options)
        .expect("an upgrade");
    (Crashed { image: memory.content(), note: notes.note() }, recorder.accesses())
}

#[test]
fn an_upgrade_survives_a_crash_at_any_moment() {
    for seed in seeds("CALVE_CRASH_CASES", 60) {
        let mut random = Random::new(seed ^ 0xC4_A5);
        let sketch = Sketch::legal(&mut random);
        let options = common::options(&sketch, random.once_in(2));
        let (_, accesses) = upgraded(&sketch, &options);
        let start = Crashed { image: sketch.image.clone(), note: None };
        let mut count = 0;
        crashes(&start, &accesses, &mut random, &mut |crashed, what| {
            count += 1;
            assert_recovers(crashed, &sketch, &format!("seed {seed}, {what}"));
        });
        assert!(count > 5, "seed {seed}: an upgrade has more steps than {count}");
    }
}

#[test]
fn an_undo_survives_a_crash_at_any_moment() {
    for seed in seeds("CALVE_CRASH_CASES", 60) {
        let mut random = Random::new(seed ^ 0x0D0);
        let sketch = Sketch::legal(&mut random);
        let options = common::options(&sketch, random.once_in(2));
        let (start, _) = upgraded(&sketch, &options);
        let recorder = Recorder::default();
        let storage = Recording::new(Memory::new(start.image.clone()), &recorder);
        let notes = Notes::recorded(start.note.clone(), &recorder);
        common::in_place(&storage, &notes).undo(false).expect("an undo");
        crashes(&start, &recorder.accesses(), &mut random, &mut |crashed, what| {
            assert_recovers(crashed, &sketch, &format!("seed {seed}, {what}"));
        });
    }
}

#[test]
fn a_release_survives_a_crash_at_any_moment() {
    for seed in seeds("CALVE_CRASH_CASES", 60) {
        let mut random = Random::new(seed ^ 0x4E1E);
        let sketch = Sketch::legal(&mut random);
        let (start, _) = upgraded(&sketch, &common::options(&sketch, true));
        let (plain, _) = upgraded(&sketch, &common::options(&sketch, false));
        let recorder = Recorder::default();
        let storage = Recording::new(Memory::new(start.image.clone()), &recorder);
        let notes = Notes::recorded(start.note.clone(), &recorder);
        common::in_place(&storage, &notes).release().expect("a release");
        crashes(&start, &recorder.accesses(), &mut random, &mut |crashed, what| {
            let what = format!("seed {seed}, {what}");
            common::assert_same(crashed.image.clone(), &sketch, &what);
            let (storage, notes) =
                (Memory::new(crashed.image.clone()), Notes::new(crashed.note.clone()));
            if notes.note().is_some() {
                common::in_place(&storage, &notes).release().expect("a second release");
            }
            common::assert_same(storage.content(), &sketch, &what);
            // Where holding took no block of counts more, it leaves no trace either.
            if start.image.len() == plain.image.len() {
                assert!(storage.content() == plain.image, "{what}: not as if nothing was held");
            }
        });
    }
}
