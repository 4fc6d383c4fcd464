//! Which images lie on which, before any of them is written.

use super::Archive;
use crate::random::Random;

/// Overlays that lie one on the other at most, above what has no base.
const DEEPEST: usize = 5;

/// One family in so many has lost its root.
const ROOTLESS: usize = 16;

/// One family in so many is one damaged image.
const DAMAGED: usize = 6;

/// A family before it is written.
pub(super) enum Family {
    /// One image with the damage of this number.
    Damaged(usize),
    /// Images that lie on each other, bases first.
    Sound(Vec<Member>),
}

/// An image of a family.
#[derive(Clone, Copy)]
pub(super) struct Member {
    /// The number of its base within the family.
    pub(super) base: Option<usize>,
    /// How many images lie below it.
    pub(super) depth: usize,
    /// Whether it is there: otherwise overlays only name it.
    pub(super) is_there: bool,
}

/// All families of an archive: as many as it says, with as many images as it says.
pub(super) fn families(archive: &Archive, random: &mut Random) -> Vec<Family> {
    let damaged = archive.families / DAMAGED;
    let sound = archive.families - damaged;
    let sizes = sizes(archive.images - damaged, sound, random);
    let families = sizes.into_iter().enumerate();
    let families = families.map(|(number, size)| Family::Sound(family(number, size, random)));
    families.chain((0..damaged).map(Family::Damaged)).collect()
}

/// How many images each family has: the first as many as a long chain needs, every fourth one,
/// the others what chance gives them, the first ones more.
fn sizes(images: usize, families: usize, random: &mut Random) -> Vec<usize> {
    let mut sizes = vec![1; families];
    for given in 0..images - families {
        let mut family = 0;
        if given >= DEEPEST {
            let mut any = || usize::try_from(random.below(families as u64)).expect("an index");
            family = any().min(any());
        }
        sizes[if family % 4 == 3 { family - 1 } else { family }] += 1;
    }
    sizes
}

fn family(number: usize, size: usize, random: &mut Random) -> Vec<Member> {
    let is_rootless = number % ROOTLESS == 2;
    let mut members = vec![Member { base: None, depth: 0, is_there: !is_rootless }];
    while members.len() < size + usize::from(is_rootless) {
        let last = members.len() - 1;
        let any = usize::try_from(random.below(members.len() as u64)).expect("an index");
        let mut base = match number % 4 {
            0 => last,
            1 => 0,
            _ => any,
        };
        while members[base].depth >= DEEPEST {
            base = members[base].base.unwrap_or(0);
        }
        members.push(Member { base: Some(base), depth: members[base].depth + 1, is_there: true });
    }
    members
}
