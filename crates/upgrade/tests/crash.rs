//! Wherever a machine stops, the file is the old image to the bit or a good new one, and
//! recovering ends in one of the two.

mod common;

use calve_testkit::{Access, Memory, Random, Recorder, Recording, Sketch, seeds};
use calve_upgrade::{Options, Recovered, State};
use common::Notes;

/// An image and its undo record, as a crash may leave them.
#[derive(Clone)]
struct Crashed {
    image: Vec<u8>,
    note: Option<Vec<u8>>,
}

/// A journal that tells the recorder of everything that happens to it.
fn recorded(note: Option<Vec<u8>>, recorder: &Recorder) -> Notes {
    let recorder = recorder.clone();
    Notes::with(note, move |note| {
        recorder.push(Access::Noted(note.map(<[u8]>::to_vec)));
        Ok(())
    })
}

fn apply(image: &mut Vec<u8>, access: &Access) {
    match access {
        Access::Write { at, bytes } => {
            let start = usize::try_from(*at).expect("small");
            if image.len() < start + bytes.len() {
                image.resize(start + bytes.len(), 0);
            }
            image[start..start + bytes.len()].copy_from_slice(bytes);
        }
        Access::SetSize(size) => image.resize(usize::try_from(*size).expect("small"), 0),
        _ => {}
    }
}

/// Calls `check` with every state that a crash may leave: after each step, with any of the writes
/// that were not synced missing, and with one of them torn between sectors. Where many writes
/// are not synced, with a random choice of them missing.
fn crashes(
    start: &Crashed,
    accesses: &[Access],
    random: &mut Random,
    check: &mut dyn FnMut(&Crashed, &str),
) {
    let mut durable = start.clone();
    let mut pending: Vec<&Access> = Vec::new();
    for (number, access) in accesses.iter().enumerate() {
        match access {
            Access::Sync => {
                pending.drain(..).for_each(|access| apply(&mut durable.image, access));
            }
            Access::Noted(note) => durable.note.clone_from(note),
            Access::Write { .. } | Access::SetSize(_) => pending.push(access),
            _ => continue,
        }
        let subsets: Vec<u64> = match pending.len() {
            0 => vec![0],
            count @ 1..=5 => (0..1 << count).collect(),
            _ => (0..12).map(|_| random.number()).chain([0, u64::MAX]).collect(),
        };
        for subset in subsets {
            let mut crashed = durable.clone();
            for (bit, access) in pending.iter().enumerate() {
                if subset >> (bit % 64) & 1 == 1 {
                    apply(&mut crashed.image, access);
                }
            }
            check(&crashed, &format!("step {number}, of {} unsynced {subset:b}", pending.len()));
        }
        let Some(Access::Write { at, bytes }) = pending.last() else { continue };
        for torn in tears(bytes.len(), random) {
            let mut crashed = durable.clone();
            let all_but_last = &pending[..pending.len() - 1];
            all_but_last.iter().for_each(|access| apply(&mut crashed.image, access));
            let part = Access::Write { at: *at, bytes: bytes[..torn].to_vec() };
            apply(&mut crashed.image, &part);
            check(&crashed, &format!("step {number}, torn at {torn}"));
        }
        // Sectors of one write reach the medium in any order too.
        for _ in 0..3 {
            let mut crashed = durable.clone();
            for (sector, bytes) in (0..).zip(bytes.chunks(512)) {
                if random.once_in(2) {
                    let part = Access::Write { at: at + sector * 512, bytes: bytes.to_vec() };
                    apply(&mut crashed.image, &part);
                }
            }
            check(&crashed, &format!("step {number}, some sectors"));
        }
    }
}

/// Where a write of `length` bytes may be torn: some of the places between sectors.
fn tears(length: usize, random: &mut Random) -> Vec<usize> {
    let all: Vec<usize> = (512..length).step_by(512).collect();
    if all.len() <= 8 {
        return all;
    }
    (0..8).map(|_| random.one_of(&all)).collect()
}

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
    let notes = recorded(None, &recorder);
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
        let notes = recorded(start.note.clone(), &recorder);
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
        let notes = recorded(start.note.clone(), &recorder);
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
