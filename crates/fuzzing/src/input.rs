//! An input: a file, and in its last bytes what else has to be chosen to look at it.

use calve_disk::codec::aes::Passphrase;
use calve_testkit::{Random, Sketch};

/// The longest file that is looked at, in bytes.
pub const MAX_FILE: usize = 1 << 20;

/// The largest disk of which every byte is read: of larger ones parts are.
pub const READ_UP_TO: u64 = 128 << 10;

/// Bytes behind the file that say what else is chosen.
pub(crate) const TAIL: usize = 8;

/// The first of them is flags, the others are a seed.
const NO_PASSPHRASE: u8 = 1 << 0;
const HAS_BASE: u8 = 1 << 1;
const HOLDS: u8 = 1 << 2;
const VERIFIES: u8 = 1 << 3;
const HAS_DATA_FILE: u8 = 1 << 4;

/// A file of any bytes, and how it is looked at.
#[derive(Clone, Copy)]
pub struct Input<'a> {
    /// The file.
    pub image: &'a [u8],
    tail: [u8; TAIL],
}

impl<'a> Input<'a> {
    /// The input in these bytes; `None` where they are too many or too few.
    pub fn of(data: &'a [u8]) -> Option<Self> {
        let (image, tail) = data.split_last_chunk::<TAIL>()?;
        (image.len() <= MAX_FILE).then_some(Self { image, tail: *tail })
    }

    /// The same way of looking, at another file.
    pub(crate) fn at<'b>(&self, image: &'b [u8]) -> Input<'b> {
        Input { image, tail: self.tail }
    }

    /// The bytes of an input that looks at a sketch as it is meant, as far as a tail can say it:
    /// passphrase and base are others.
    pub fn from_sketch(sketch: &Sketch, random: &mut Random) -> Vec<u8> {
        let base = if sketch.base.is_some() { HAS_BASE } else { 0 };
        let others = random.one_of(&[0, HOLDS, VERIFIES, HOLDS | VERIFIES]);
        Self::join(&sketch.image, base | others, random)
    }

    /// The bytes of an input of this file, with a data file of its own or without.
    pub(crate) fn from_file(image: &[u8], has_data_file: bool, random: &mut Random) -> Vec<u8> {
        Self::join(image, if has_data_file { HAS_DATA_FILE } else { 0 }, random)
    }

    fn join(image: &[u8], flags: u8, random: &mut Random) -> Vec<u8> {
        let mut data = image.to_vec();
        data.push(flags);
        data.extend_from_slice(&random.number().to_be_bytes()[1..]);
        data
    }

    /// The passphrase that is given: short ones and such as are longer than a key, half of them
    /// text.
    pub fn passphrase(&self) -> Option<Vec<u8>> {
        let mut random = self.random(1);
        let length = 1 + random.below(20);
        let is_text = random.once_in(2);
        let mut byte = || if is_text { b'a' + narrow(random.below(26)) } else { any(&mut random) };
        let bytes = (0..length).map(|_| byte()).collect();
        (!self.has(NO_PASSPHRASE)).then_some(bytes)
    }

    /// The same, as it is given to an image.
    pub(crate) fn key(&self) -> Option<Passphrase> {
        self.passphrase().map(Passphrase::new)
    }

    /// What lies behind the image, if anything is given.
    pub fn base(&self) -> Option<Vec<u8>> {
        self.has(HAS_BASE).then(|| some_content(&mut self.random(2)))
    }

    /// An external data file, if one is given.
    pub(crate) fn data_file(&self) -> Option<Vec<u8>> {
        self.has(HAS_DATA_FILE).then(|| some_content(&mut self.random(3)))
    }

    /// Whether old tables are held after an upgrade.
    pub(crate) fn holds(&self) -> bool {
        self.has(HOLDS)
    }

    /// Whether an upgrade compares all bytes.
    pub(crate) fn verifies(&self) -> bool {
        self.has(VERIFIES)
    }

    /// Chance that depends on the input alone; each `purpose` has its own.
    pub(crate) fn random(&self, purpose: u64) -> Random {
        let [_, seed @ ..] = self.tail;
        let seed = seed.iter().fold(purpose, |seed, byte| seed << 8 ^ u64::from(*byte));
        Random::new(seed)
    }

    fn has(&self, flag: u8) -> bool {
        self.tail[0] & flag != 0
    }
}

/// Up to 128 KiB, short ones as often as long ones.
fn some_content(random: &mut Random) -> Vec<u8> {
    let bits = random.below(18);
    let length = random.below(1 << bits);
    random.content(length)
}

fn any(random: &mut Random) -> u8 {
    random.number().to_be_bytes()[0]
}

fn narrow(number: u64) -> u8 {
    u8::try_from(number).expect("a small number")
}
