//! Every state in which a crash may leave a file that is changed where it lies.

use crate::random::Random;
use crate::storage::Access;

/// An image and the note beside it, as a crash may leave them.
#[derive(Clone)]
pub struct Crashed {
    /// The image.
    pub image: Vec<u8>,
    /// The note, where there is one.
    pub note: Option<Vec<u8>>,
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
pub fn crashes(
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
