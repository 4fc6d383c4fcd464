//! Wherever a machine stops during a repair, the image is one with the same disk, and the next
//! repair ends where this one would have.

mod common;

use calve_repair::Error;
use calve_testkit::{Crashed, Faulty, Memory, Notes, Random, Recorder, Recording, crashes, seeds};
use common::{assert_kept, guest, mendable, repair};

#[test]
fn a_repair_survives_a_crash_at_any_moment() {
    let mut count = 0;
    for seed in seeds("CALVE_CRASH_CASES", 20) {
        let mut random = Random::new(seed ^ 0x4E_9A14);
        let sketch = mendable(&mut random);
        let (memory, recorder) = (Memory::new(sketch.image.clone()), Recorder::default());
        let notes = Notes::recorded(None, &recorder);
        repair(&Recording::new(memory.clone(), &recorder), &notes).expect("a repair");
        let before = guest(&sketch.image, &sketch);
        let done = guest(&memory.content(), &sketch);
        let start = Crashed { image: sketch.image.clone(), note: None };
        crashes(&start, &recorder.accesses(), &mut random, &mut |crashed, what| {
            count += 1;
            let what = format!("seed {seed}, {what}");
            assert_kept(&before, &guest(&crashed.image, &sketch), &sketch, &what);
            let (storage, notes) =
                (Memory::new(crashed.image.clone()), Notes::new(crashed.note.clone()));
            repair(&storage, &notes).unwrap_or_else(|error| panic!("{what}: {error}"));
            assert_eq!(notes.note(), None, "{what}");
            assert!(guest(&storage.content(), &sketch) == done, "{what}: another disk");
        });
    }
    assert!(count > 100, "a repair has more steps than {count}");
}

#[test]
fn whatever_step_fails_no_byte_is_lost_and_the_next_repair_ends_well() {
    for seed in seeds("CALVE_FAULT_CASES", 12) {
        let sketch = mendable(&mut Random::new(seed ^ 0x4E_9A14));
        let before = guest(&sketch.image, &sketch);
        let memory = Memory::new(sketch.image.clone());
        repair(&memory, &Notes::new(None)).expect("a repair");
        let done = guest(&memory.content(), &sketch);
        for failing in 0.. {
            let what = format!("seed {seed}, step {failing}");
            let memory = Memory::new(sketch.image.clone());
            let storage = Faulty::new(memory.clone(), failing);
            let counting = storage.clone();
            let notes = Notes::with(None, move |_| counting.step());
            let outcome = repair(&storage, &notes);
            if !storage.has_failed() {
                outcome.expect("nothing failed");
                break;
            }
            assert_kept(&before, &guest(&memory.content(), &sketch), &sketch, &what);
            if let Err(error) = &outcome {
                let has_note = matches!(error, Error::HalfWay { .. } | Error::Record(_));
                assert!(notes.note().is_none() || has_note, "{what}: {error}");
            }
            let notes = Notes::new(notes.note());
            repair(&memory, &notes).unwrap_or_else(|error| panic!("{what}: {error}"));
            assert!(guest(&memory.content(), &sketch) == done, "{what}: another disk");
            assert_eq!(notes.note(), None, "{what}");
        }
    }
}

#[test]
fn what_was_written_to_since_is_kept() {
    let sketch = (0..).map(|seed| mendable(&mut Random::new(seed ^ 0x4E_9A14)));
    let sketch = sketch.into_iter().find(|sketch| guest(&sketch.image, sketch).contains(&None));
    let sketch = sketch.expect("one of any number");
    let recorder = Recorder::default();
    let notes = Notes::recorded(None, &recorder);
    repair(&Recording::new(Memory::new(sketch.image.clone()), &recorder), &notes)
        .expect("a repair");
    let note = recorder.accesses().into_iter().find_map(|access| match access {
        calve_testkit::Access::Noted(Some(note)) => Some(note),
        _ => None,
    });
    let place = note.as_deref().map(place_in).expect("an entry was mended");
    let mut written = sketch.image.clone();
    let cluster = written.len().next_multiple_of(1 << 16);
    written.resize(cluster + (1 << 16), 9);
    written[place..place + 8].copy_from_slice(&(cluster as u64).to_be_bytes());
    let (memory, notes) = (Memory::new(written.clone()), Notes::new(note));
    let before = guest(&written, &sketch);
    let (mended, _) = repair(&memory, &notes).expect("a repair");
    assert_eq!(mended.settled, Some(calve_repair::Settled::Kept));
    assert_kept(&before, &guest(&memory.content(), &sketch), &sketch, "written since");
}

/// The first entry that a note speaks of.
fn place_in(note: &[u8]) -> usize {
    let text = String::from_utf8_lossy(note);
    let (_, rest) = text.split_once("\"at\":").expect("a place");
    rest.split(',').next().and_then(|number| number.parse().ok()).expect("a number")
}
