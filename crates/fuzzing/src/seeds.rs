//! The first files of every target: what the test kit builds, whole and damaged, and special
//! cases one by one.

use calve_testkit::{Random, Sketch, deflated};

use crate::archives::archive;
use crate::input::{Input, MAX_FILE, READ_UP_TO};
use crate::mutate;
use crate::special;

/// What the inputs of a target are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// A version 1 file and how it is looked at.
    Version1,
    /// A qcow2 file and how it is looked at.
    Qcow2,
    /// A byte that chooses the cluster size, and a packed stream.
    Stream,
    /// A file that holds images.
    Archive,
}

/// Files from the first on are small: every run over one of them costs time.
const SMALL: usize = 24 << 10;

/// The input of this number: the same one for the same number, and all special cases among the
/// first few hundred.
pub fn seed(kind: Kind, number: u64) -> Vec<u8> {
    let mut random = Random::new(number ^ 0x5EED_F11E);
    match kind {
        Kind::Version1 => {
            let sketch = version_1(number, &mut random);
            Input::from_sketch(&sketch, &mut random)
        }
        Kind::Qcow2 => {
            let (image, has_data_file) = special::qcow2(&mut random);
            Input::from_file(&image, has_data_file, &mut random)
        }
        Kind::Stream => stream(&mut random),
        Kind::Archive => {
            let mut number = number;
            let mut archive = archive(&mut random, &mut |random| {
                number += 1;
                match random.once_in(3) {
                    true => special::qcow2(random).0,
                    false => version_1(number, random).image,
                }
            });
            archive.truncate(MAX_FILE);
            archive
        }
    }
}

/// The input of this number as it was made, after one change, after two, and so on, each of them
/// in one to four places.
pub fn changing(kind: Kind, number: u64) -> impl Iterator<Item = Vec<u8>> {
    let change = move |data: &Vec<u8>, change| {
        let mut data = data.clone();
        mutate(kind, &mut data, MAX_FILE, number << 8 ^ change);
        data
    };
    let mut changes = 0;
    std::iter::successors(Some(seed(kind, number)), move |data| {
        changes += 1;
        Some(change(data, changes))
    })
}

/// A malformed or hostile image for each number: three of four are version 1, and a quarter are
/// as they were made, which special cases need.
pub fn hostile(number: u64) -> (Kind, Vec<u8>) {
    let (kind, first) = match number % 4 {
        0 => (Kind::Qcow2, number / 4),
        rest => (Kind::Version1, number / 4 * 3 + rest),
    };
    let changes = usize::try_from(number / 4 % 4).expect("below 4");
    (kind, changing(kind, first).nth(changes).expect("there is always one more"))
}

fn version_1(number: u64, random: &mut Random) -> Sketch {
    let special = special::VERSION_1;
    match number % 4 {
        0 => {
            let index = usize::try_from(number / 4).expect("a small number") % special.len();
            special[index](random)
        }
        1 => {
            let mut sketch = small_sketch(random);
            sketch.damage(random);
            sketch
        }
        // A few are as large as they come.
        2 if number.is_multiple_of(10) => Sketch::legal(random),
        _ => small_sketch(random),
    }
}

fn small_sketch(random: &mut Random) -> Sketch {
    let is_small = |sketch: &Sketch| {
        let size = sketch.image[24..].first_chunk().map(|size| u64::from_be_bytes(*size));
        sketch.image.len() <= SMALL && size.is_some_and(|size| size <= READ_UP_TO)
    };
    let mut tries = std::iter::repeat_with(|| Sketch::legal(random));
    tries.find(is_small).expect("one of many is small")
}

/// A stream that fills its cluster exactly, or nearly.
fn stream(random: &mut Random) -> Vec<u8> {
    let choice = random.below(8).min(random.below(8));
    let length = (512 << choice) + random.one_of(&[0, 0, 0, 1, 300]) - random.one_of(&[0, 0, 0, 1]);
    let content = random.content(length);
    let window = random.one_of(&[9, 12, 15]);
    let mut bytes = match random.below(4) {
        0 => special::stored_blocks(&content, random),
        _ => deflated(&content, window),
    };
    match random.below(4) {
        0 => bytes.truncate(bytes.len().saturating_sub(1)),
        1 => bytes.extend_from_slice(&random.number().to_be_bytes()),
        _ => {}
    }
    bytes.truncate(SMALL);
    bytes.insert(0, u8::try_from(choice).expect("below 8"));
    bytes
}
