//! Changes that a file of chance would hardly ever see: they know where header and tables are,
//! and put numbers there that could be places.

use calve_testkit::Random;

use crate::archives::mend_sums;
use crate::input::TAIL;
use crate::seeds::Kind;

/// Changes an input in one to four places, so that it has no more than `most` bytes. The same
/// seed makes the same changes.
///
/// Where it is an image whose header makes some sense, most changes are made to tables.
pub fn mutate(kind: Kind, data: &mut Vec<u8>, most: usize, seed: u64) {
    let random = &mut Random::new(seed);
    if kind == Kind::Stream {
        damage(data, most, random);
        return data.truncate(most);
    }
    if kind == Kind::Archive {
        for _ in 0..=random.below(4) {
            damage(data, most, random);
        }
        if !random.once_in(4) {
            mend_sums(data);
        }
        return data.truncate(most);
    }
    let tail = data.split_off(data.len().saturating_sub(TAIL));
    let tail: Vec<u8> = match random.below(8) {
        0 => tail.iter().map(|byte| byte ^ random_byte(random)).collect(),
        1 => tail.iter().enumerate().map(|(at, byte)| byte ^ flag_at(at, random)).collect(),
        _ => tail,
    };
    for _ in 0..=random.below(4) {
        match Tables::of(data) {
            Some(tables) if !random.once_in(4) => tables.mutate(data, random),
            _ => damage(data, most.saturating_sub(TAIL), random),
        }
    }
    data.truncate(most.saturating_sub(TAIL));
    data.extend_from_slice(&tail);
}

fn flag_at(at: usize, random: &mut Random) -> u8 {
    if at == 0 { 1 << random.below(5) } else { 0 }
}

fn random_byte(random: &mut Random) -> u8 {
    random.number().to_be_bytes()[0]
}

/// Flips, overwrites, cuts, grows: what happens to files.
fn damage(data: &mut Vec<u8>, most: usize, random: &mut Random) {
    if data.is_empty() {
        data.push(0);
    }
    let at = any_place(data.len(), random);
    match random.below(8) {
        0 => data.truncate(at),
        1 => {
            let sectors = at / 512 * 512;
            data.truncate(sectors.max(48).min(data.len()));
        }
        2 => {
            let longer = data.len() + any_place(70_000, random);
            data.resize(longer.min(most.max(data.len())), random_byte(random));
        }
        3 => {
            let end = data.len().min(at + 1 + any_place(4096, random));
            data[at..end].fill(0);
        }
        4 | 5 => data[at] = random_byte(random),
        _ => data[at] ^= 1 << random.below(8),
    }
}

/// Where the tables of a file are.
#[derive(Clone, Copy)]
struct Tables {
    is_qcow2: bool,
    cluster_bits: u32,
    /// Entries of 8 bytes that an L2 table has.
    l2_entries: u64,
    l1_at: u64,
    l1_entries: u64,
}

impl Tables {
    /// The tables of a file whose header makes some sense.
    fn of(data: &[u8]) -> Option<Self> {
        let is_qcow2 = match data.get(..8)? {
            b"QFI\xFB\0\0\0\x01" => false,
            b"QFI\xFB\0\0\0\x02" | b"QFI\xFB\0\0\0\x03" => true,
            _ => return None,
        };
        let size = number(data, 24)?;
        let (cluster_bits, l2_bits) = match is_qcow2 {
            true => (u32::from(*data.get(23)?), u32::from(*data.get(23)?).checked_sub(3)?),
            false => (u32::from(*data.get(32)?), u32::from(*data.get(33)?)),
        };
        let is_sane = (9..=21).contains(&cluster_bits) && l2_bits <= 18;
        let l1_at = number(data, 40)?;
        let l1_entries = size >> (cluster_bits + l2_bits).min(63);
        let l1_entries = l1_entries.saturating_add(1).min(1 << 20);
        let l2_entries = 1 << l2_bits.min(18);
        is_sane.then_some(Self { is_qcow2, cluster_bits, l2_entries, l1_at, l1_entries })
    }

    fn mutate(self, data: &mut Vec<u8>, random: &mut Random) {
        match random.below(10) {
            0 => self.change_field(data, random),
            1 | 2 => {
                let at = self.l1_at.saturating_add(random.below(self.l1_entries) * 8);
                let entry = self.plausible_place(data, random);
                let is_swapped = !self.is_qcow2 && random.once_in(4);
                put(data, at, if is_swapped { entry.swap_bytes() } else { entry });
            }
            3 => self.copy_entry(data, random),
            4 => self.cut_at_an_edge(data, random),
            _ => {
                if let Some(at) = self.some_l2_entry(data, random) {
                    let old = number(data, at).unwrap_or_default();
                    let entry = self.plausible_entry(data, old, random);
                    put(data, at, entry);
                }
            }
        }
    }

    /// A field of the header gets a number at or near an edge.
    fn change_field(self, data: &mut [u8], random: &mut Random) {
        let covered = 1u64 << self.cluster_bits << self.l2_entries.trailing_zeros();
        let edge = random.one_of(&[
            0,
            covered,
            covered * 2,
            1 << self.cluster_bits,
            512,
            48,
            data.len() as u64,
            data.len() as u64 / 512 * 512,
            4096,
            1 << 32,
            1 << 62,
        ]);
        let value = nudged(edge, random);
        match random.below(6) {
            0 => put(data, 24, value),
            1 => put(data, 40, value),
            2 => put(data, 8, value),
            3 => {
                let length = random.one_of(&[0u32, 1, 2, 512, 1023, 1024, u32::MAX]);
                put_bytes(data, 16, &length.to_be_bytes());
            }
            4 if self.is_qcow2 => {
                let (at, bits) = random.one_of(&[(79, 5), (95, 1), (35, 2), (104, 1), (7, 1)]);
                let flag = 1u8 << random.below(bits);
                let old = data.get(at).copied().unwrap_or_default();
                put_bytes(data, at as u64, &[old ^ flag]);
            }
            4 => {
                let (at, values): (u64, &[u8]) = random.one_of(&[
                    (32, &[9, 10, 12, 16][..]),
                    (33, &[6, 7, 9, 13]),
                    (39, &[0, 1]),
                ]);
                put_bytes(data, at, &[random.one_of(values)]);
            }
            _ => put(data, random.below(8) * 8, random.number()),
        }
    }

    /// One entry, or a run of them, over another.
    fn copy_entry(self, data: &mut [u8], random: &mut Random) {
        let (from, to) = (self.some_l2_entry(data, random), self.some_l2_entry(data, random));
        let (Some(from), Some(to)) = (from, to) else { return };
        for index in 0..=random.below(4) {
            if let Some(entry) = number(data, from + index * 8) {
                put(data, to + index * 8, entry);
            }
        }
    }

    /// The file ends at a table, at a cluster, or a few bytes from there.
    fn cut_at_an_edge(self, data: &mut Vec<u8>, random: &mut Random) {
        let at = match random.below(3) {
            0 => self.some_l2_entry(data, random),
            1 => number(data, self.some_l2_entry(data, random).unwrap_or_default()),
            _ => Some(data.len() as u64 / 512 * 512),
        };
        let at = at.map(|at| nudged(at, random)).and_then(|at| usize::try_from(at).ok());
        if let Some(at) = at.filter(|at| *at > 48) {
            data.truncate(at);
        }
    }

    /// Where some L2 entry stands: mostly one that is there.
    fn some_l2_entry(self, data: &[u8], random: &mut Random) -> Option<u64> {
        let table = (0..4).find_map(|_| {
            let index = random.below(self.l1_entries);
            let raw = number(data, self.l1_at.checked_add(index * 8)?)?;
            let raw = if self.is_qcow2 { raw & ((1 << 56) - 512) } else { raw };
            [raw, raw.swap_bytes()].into_iter().find(|at| *at != 0 && *at < data.len() as u64)
        })?;
        // The first entries are those that a small disk has.
        let bits = random.below(u64::from(self.l2_entries.trailing_zeros()) + 1);
        Some(table + random.below(1 << bits) * 8)
    }

    /// An L2 entry that could be one, or nearly.
    fn plausible_entry(self, data: &[u8], old: u64, random: &mut Random) -> u64 {
        match random.below(8) {
            0 => 0,
            1 => old ^ 1 << random.below(64),
            2 => nudged(old, random),
            3 if self.is_qcow2 => random.one_of(&[1, 1 << 63, 1 << 63 | 1, 0xFFFF_FFFF]),
            4 | 5 => self.packed(data, old, random),
            _ => self.plausible_place(data, random),
        }
    }

    /// The entry of a packed cluster: at a place that is there or just not, with a length of any
    /// kind.
    fn packed(self, data: &[u8], old: u64, random: &mut Random) -> u64 {
        let offset_bits = if self.is_qcow2 { 70 } else { 63 } - self.cluster_bits;
        let places = (1u64 << offset_bits) - 1;
        let flag = if self.is_qcow2 { 1u64 << 62 } else { 1 << 63 };
        let at = match random.below(3) {
            0 => old & places,
            1 => random.below(data.len() as u64 + 1),
            _ => nudged(data.len() as u64, random),
        };
        let length_bits = 63 - offset_bits.min(62);
        let length = random.number() >> random.below(64).max(u64::from(64 - length_bits.min(63)));
        flag | (length << offset_bits & !(flag | flag << 1)) | at & places
    }

    /// Where a table or a plain cluster could be: on a sector of the file, on another thing that
    /// is there, at its end, behind it.
    fn plausible_place(self, data: &[u8], random: &mut Random) -> u64 {
        let (length, cluster) = (data.len() as u64, 1u64 << self.cluster_bits);
        let sector = random.below(length / 512 + 2) * 512;
        match random.below(8) {
            0 => sector,
            1 => sector / cluster * cluster,
            2 => length.saturating_sub(cluster).next_multiple_of(512),
            3 => length / 512 * 512,
            4 => self.l1_at,
            5 => number(data, self.l1_at).unwrap_or_default(),
            6 => number(data, self.l1_at).unwrap_or_default().wrapping_add(sector),
            _ => nudged(random.one_of(&[0, 512, 4096, cluster, 1 << 61, u64::MAX]), random),
        }
    }
}

/// The same number, or one close by.
fn nudged(number: u64, random: &mut Random) -> u64 {
    let by = random.one_of(&[0, 0, 1, 7, 8, 512, 4096]);
    if random.once_in(2) { number.wrapping_add(by) } else { number.wrapping_sub(by) }
}

/// A place below `end`, near the front as often as anywhere.
fn any_place(end: usize, random: &mut Random) -> usize {
    let bits = random.below(u64::from(usize::BITS - end.leading_zeros()) + 1);
    let below = (1u64 << bits.min(62)).min(end as u64).max(1);
    usize::try_from(random.below(below)).expect("below a length")
}

fn number(data: &[u8], at: u64) -> Option<u64> {
    let at = usize::try_from(at).ok()?;
    data.get(at..)?.first_chunk().map(|bytes| u64::from_be_bytes(*bytes))
}

fn put(data: &mut [u8], at: u64, value: u64) {
    put_bytes(data, at, &value.to_be_bytes());
}

/// Puts bytes where the file has room for them.
fn put_bytes(data: &mut [u8], at: u64, bytes: &[u8]) {
    let place = usize::try_from(at).ok().and_then(|at| data.get_mut(at..));
    if let Some(place) = place.and_then(|rest| rest.get_mut(..bytes.len())) {
        place.copy_from_slice(bytes);
    }
}
