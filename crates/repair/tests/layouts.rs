//! What is mended reads as before, and nothing else is touched.

mod common;

use calve_disk::formats::qcow1::Qcow1Image;
use calve_disk::{Image, Rule, Weight};
use calve_repair::{Mend, Mended};
use calve_testkit::{Access, Memory, Notes, Random, Recorder, Recording, Sketch, seeds};
use common::{assert_kept, guest, mendable, repair};

/// The rules that an image breaks.
fn broken(image: &[u8]) -> Vec<Rule> {
    let image = Qcow1Image::open(Box::new(Memory::new(image.to_vec())), None).expect("an image");
    let mut rules = Vec::new();
    image.survey(&mut |finding| rules.push(finding.rule)).expect("memory");
    rules
}

#[test]
fn entries_behind_the_end_and_shared_clusters_are_mended_and_all_bytes_stay() {
    let mut mended_so_far = (0, 0);
    for seed in seeds("CALVE_REPAIR_CASES", 400) {
        let what = format!("seed {seed}");
        let sketch = mendable(&mut Random::new(seed ^ 0x4E_9A14));
        let (storage, notes) = (Memory::new(sketch.image.clone()), Notes::new(None));
        let (mended, mends) = repair(&storage, &notes).unwrap_or_else(|e| panic!("{what}: {e}"));
        let image = storage.content();
        let (before, after) = (guest(&sketch.image, &sketch), guest(&image, &sketch));
        assert_kept(&before, &after, &sketch, &what);
        assert_eq!(after.iter().position(Option::is_none), None, "{what}: still lost");
        let told = |mend: &&Mend| matches!(mend, Mend::Unallocated { .. });
        assert_eq!(mends.iter().filter(told).count() as u64, mended.unallocated, "{what}");
        for rule in broken(&image) {
            let is_mended = [Rule::ClusterPastEnd, Rule::ClusterShared].contains(&rule);
            assert!(!is_mended, "{what}: {rule:?} is still broken");
        }
        assert_eq!(notes.note(), None, "{what}");
        let again = repair(&storage, &notes).unwrap_or_else(|e| panic!("{what}: {e}"));
        assert!(again.1.iter().all(|mend| matches!(mend, Mend::Trimmed { .. })), "{what}");
        assert_eq!((again.0.unallocated, again.0.copied), (0, 0), "{what}");
        mended_so_far.0 += mended.unallocated;
        mended_so_far.1 += mended.copied;
    }
    assert!(mended_so_far.0 > 100 && mended_so_far.1 > 50, "too few: {mended_so_far:?}");
}

#[test]
fn of_an_image_with_any_damage_no_byte_changes_that_was_there() {
    for seed in seeds("CALVE_REPAIR_CASES", 600) {
        let what = format!("seed {seed}");
        let mut random = Random::new(seed ^ 0xDA_4A6E);
        let mut sketch = mendable(&mut random);
        sketch.damage(&mut random);
        let opened = Qcow1Image::open(Box::new(Memory::new(sketch.image.clone())), None);
        if opened.is_err() {
            continue;
        }
        let (storage, notes) = (Memory::new(sketch.image.clone()), Notes::new(None));
        let (_, mends) = repair(&storage, &notes).unwrap_or_else(|e| panic!("{what}: {e}"));
        let (before, after) = (guest(&sketch.image, &sketch), guest(&storage.content(), &sketch));
        assert_kept(&before, &after, &sketch, &what);
        let is_told = |at: u64| {
            mends.iter().any(|mend| match mend {
                Mend::Unallocated { guest, .. } => {
                    (guest.start.get()..guest.end().get()).contains(&at)
                }
                _ => false,
            })
        };
        for (at, (before, after)) in (0..).zip(before.iter().zip(&after)) {
            assert!(before == after || is_told(at), "{what}: byte {at} came back untold");
        }
    }
}

#[test]
fn an_image_without_findings_is_not_touched() {
    let mut untouched = 0;
    for seed in seeds("CALVE_REPAIR_CASES", 200) {
        let sketch = Sketch::legal(&mut Random::new(seed ^ 0x50_0D));
        if broken(&sketch.image).iter().any(|rule| rule.weight() > Weight::Note) {
            continue;
        }
        untouched += 1;
        let recorder = Recorder::default();
        let storage = Recording::new(Memory::new(sketch.image.clone()), &recorder);
        let (mended, mends) = repair(&storage, &Notes::new(None)).expect("memory");
        assert!(mended == Mended::default() && mends.is_empty(), "seed {seed}: {mends:?}");
        let is_read = |access: &Access| matches!(access, Access::Read { .. });
        assert!(recorder.accesses().iter().all(is_read), "seed {seed}: written to");
    }
    assert!(untouched > 20, "only {untouched} without findings");
}

#[test]
fn the_tail_of_a_damaged_image_stays() {
    let mut builder = calve_testkit::Builder::new(12, 9, 1 << 20);
    builder.plain(0, &[1; 4096]);
    let table = builder.tables()[0];
    builder.plain(1, &[2; 4096]);
    let sound = builder.build();
    let with_tail = |mut image: Vec<u8>| {
        image.resize(image.len().next_multiple_of(4096) + 8192, 7);
        image
    };
    let trimmed = Memory::new(with_tail(sound.clone()));
    let (mended, _) = repair(&trimmed, &Notes::new(None)).expect("memory");
    assert_eq!((mended.trimmed, mended.tail), (8192, None));
    assert_eq!(trimmed.content()[..sound.len()], sound);
    // One entry that is no offset: its cluster may be anywhere.
    let mut damaged = with_tail(sound);
    let place = usize::try_from(table).expect("small") + 8;
    damaged[place + 7] |= 1;
    let kept = Memory::new(damaged.clone());
    let (mended, _) = repair(&kept, &Notes::new(None)).expect("memory");
    assert_eq!((mended.trimmed, mended.tail), (0, Some(calve_repair::TailKept::Damage)));
    assert!(kept.content() == damaged);
    // And one that led behind the end, and stands for nothing now.
    damaged[place..place + 8].copy_from_slice(&(1u64 << 40).to_be_bytes());
    let kept = Memory::new(damaged.clone());
    let (mended, _) = repair(&kept, &Notes::new(None)).expect("memory");
    assert_eq!((mended.trimmed, mended.tail), (0, Some(calve_repair::TailKept::Unallocated)));
    assert_eq!((mended.unallocated, kept.content().len()), (1, damaged.len()));
}
