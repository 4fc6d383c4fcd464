//! What the tests of this crate share.
#![allow(dead_code, reason = "each test file uses a part of it")]

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use calve_disk::StorageMut;
use calve_disk::formats::qcow1::{Leads, Qcow1Image};
use calve_repair::{Mend, Mended, Result, Scope};
use calve_testkit::{Memory, Notes, Random, Reference, Sketch};

/// An image with entries that lead behind its end, and with entries that share clusters.
pub(crate) fn mendable(random: &mut Random) -> Sketch {
    let mut sketch = Sketch::legal(random);
    let image = Qcow1Image::open(Box::new(Memory::new(sketch.image.clone())), None).expect("legal");
    let mut clusters = Vec::new();
    let tell = &mut |met: calve_disk::formats::qcow1::MetEntry| {
        if let Leads::Cluster(at) = met.leads {
            clusters.push((met.place.get(), at.get()));
        }
        Ok(())
    };
    image.entries(tell).expect("memory");
    if clusters.is_empty() {
        return sketch;
    }
    for _ in 0..random.below(6) {
        let (place, _) = random.one_of(&clusters);
        let raw = match random.once_in(2) {
            true => (sketch.image.len() as u64 + random.below(1 << 30)).next_multiple_of(512),
            false => random.one_of(&clusters).1,
        };
        patch(&mut sketch.image, place, raw);
    }
    sketch
}

fn patch(image: &mut [u8], place: u64, raw: u64) {
    let place = usize::try_from(place).expect("small");
    image[place..place + 8].copy_from_slice(&raw.to_be_bytes());
}

/// Repairs all that can be.
pub(crate) fn repair(
    storage: &(impl StorageMut + Clone + 'static),
    notes: &Notes,
) -> Result<(Mended, Vec<Mend>)> {
    let (mut mends, storage) = (Vec::new(), Arc::new(storage.clone()) as Arc<dyn StorageMut>);
    let tell = &mut |mend: &Mend| mends.push(*mend);
    let mended = calve_repair::repair(&storage, notes, Scope::All, &AtomicBool::new(false), tell)?;
    Ok((mended, mends))
}

/// Every guest byte, `None` where it is lost, from the slow reader.
pub(crate) fn guest(image: &[u8], sketch: &Sketch) -> Reference {
    let base: Vec<Option<u8>> = sketch.base.iter().flatten().copied().map(Some).collect();
    calve_testkit::read(image, sketch.passphrase.as_deref(), &base)
}

/// Asserts that `after` is `before`, but that it may have what that had lost: what the base has
/// there, or zeros.
pub(crate) fn assert_kept(before: &Reference, after: &Reference, sketch: &Sketch, what: &str) {
    assert_eq!(before.len(), after.len(), "{what}");
    for (at, (before, after)) in before.iter().zip(after).enumerate() {
        let base = sketch.base.as_ref().and_then(|base| base.get(at)).copied().unwrap_or(0);
        let is_kept = before == after || (before.is_none() && *after == Some(base));
        assert!(is_kept, "{what}: guest byte {at} was {before:?} and is {after:?}");
    }
}
