//! Members and edges, sorted into families.

use std::collections::BTreeMap;

use super::{Family, Graph};

/// The families of a graph.
pub(super) fn families(graph: Graph) -> Vec<Family> {
    let count = graph.members.len();
    let mut bases = vec![None; count];
    let mut groups = Groups((0..count).collect());
    for edge in &graph.edges {
        bases[edge.overlay] = Some(edge.base);
        groups.join(edge.overlay, edge.base);
    }
    let (depths, loops) = depths(&bases);
    let mut members: Vec<_> = graph.members.into_iter().enumerate().collect();
    members.sort_by(|(one, first), (other, second)| {
        let place = |number: usize| depths[number];
        (place(*one), &first.path, &first.member).cmp(&(
            place(*other),
            &second.path,
            &second.member,
        ))
    });
    let mut families: BTreeMap<usize, Family> = BTreeMap::new();
    // Where each member is in its family.
    let mut places = vec![0; count];
    for (number, member) in members {
        let family = families.entry(groups.of(number)).or_default();
        places[number] = family.members.len();
        family.members.push(member);
    }
    for mut edge in graph.edges {
        let family = families.entry(groups.of(edge.overlay)).or_default();
        (edge.overlay, edge.base) = (places[edge.overlay], places[edge.base]);
        family.edges.push(edge);
    }
    for mut broken in graph.broken {
        let family = families.entry(groups.of(broken.overlay)).or_default();
        broken.overlay = places[broken.overlay];
        family.broken.push(broken);
    }
    for circle in loops {
        let Some(first) = circle.first() else { continue };
        let family = families.entry(groups.of(*first)).or_default();
        family.loops.push(circle.iter().map(|number| places[*number]).collect());
    }
    let mut families: Vec<Family> = families.into_values().collect();
    families.iter_mut().for_each(|family| family.edges.sort_by_key(|edge| edge.overlay));
    let first = |family: &Family| {
        family.members.first().map(|first| (first.path.clone(), first.member.clone()))
    };
    families.sort_by_cached_key(first);
    families
}

/// Groups of numbers: each points at another of its group, and one at itself.
struct Groups(Vec<usize>);

impl Groups {
    fn of(&mut self, mut number: usize) -> usize {
        while self.0[number] != number {
            // The next time the way is half as long.
            self.0[number] = self.0[self.0[number]];
            number = self.0[number];
        }
        number
    }

    fn join(&mut self, one: usize, other: usize) {
        let (one, other) = (self.of(one), self.of(other));
        self.0[one.max(other)] = one.min(other);
    }
}

/// How many bases lie below each member, and the circles that there are. In a circle, and above
/// one, it counts from the member at which the circle was entered.
fn depths(bases: &[Option<usize>]) -> (Vec<usize>, Vec<Vec<usize>>) {
    let mut depths: Vec<Option<usize>> = vec![None; bases.len()];
    let mut is_on_way = vec![false; bases.len()];
    let mut loops = Vec::new();
    for start in 0..bases.len() {
        let mut way = Vec::new();
        let mut next = Some(start);
        let mut depth = 0;
        while let Some(number) = next {
            if let Some(known) = depths[number] {
                depth = known + 1;
                break;
            }
            if is_on_way[number] {
                let begin = way.iter().position(|passed| *passed == number).unwrap_or(0);
                loops.push(way[begin..].to_vec());
                break;
            }
            is_on_way[number] = true;
            way.push(number);
            next = bases[number];
        }
        for number in way.into_iter().rev() {
            depths[number] = Some(depth);
            is_on_way[number] = false;
            depth += 1;
        }
    }
    (depths.into_iter().map(Option::unwrap_or_default).collect(), loops)
}
