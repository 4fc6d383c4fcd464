//! Claims in the order of the file, within bounded memory.
//!
//! Tables are in the order of the disk, and sorting all of them by place would take memory
//! without bound. So the lowest claims that fit are gathered and told, and the next walk begins
//! where they ended. A disk that was written in long runs takes one walk.

use super::Qcow1Image;
use super::dialect::EXTENSION;
use super::entry::Entry;
use super::header::{HEADER_SIZE, NamePlace};
use super::walk::{self, Met};
use crate::claim::{Claim, Owner};
use crate::error::Result;
use crate::units::{GuestRange, HostOffset, SECTOR};

/// Claims that are gathered in one walk: 48 MiB.
pub(super) const MOST: usize = 2 << 20;

/// Bytes of neighbouring clusters that are one claim at most.
const LONGEST_RUN: u64 = 1 << 30;

/// A claim while it is sorted: 24 bytes instead of 48.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Row {
    at: u64,
    /// The guest sector above, the owner in the lowest bits.
    guest_and_owner: u64,
    length: u32,
    times: u32,
}

const _: () = assert!(size_of::<Row>() == 24);

impl Row {
    fn new(at: u64, length: u64, owner: Owner, guest: u64) -> Self {
        let guest_and_owner = (guest / SECTOR) << 3 | owner as u64;
        // An L1 table is the longest, with less than 2 GiB; names and clusters are short.
        let length = u32::try_from(length).unwrap_or(u32::MAX);
        Self { at, guest_and_owner, length, times: 1 }
    }

    fn owner(&self) -> Owner {
        let number = crate::units::in_memory(self.guest_and_owner & 7);
        Owner::ALL.get(number).copied().unwrap_or(Owner::Packed)
    }

    fn guest(&self) -> u64 {
        (self.guest_and_owner >> 3) * SECTOR
    }

    fn is_same_claim(&self, other: &Row) -> bool {
        (self.at, self.length, self.owner()) == (other.at, other.length, other.owner())
    }

    /// The run that this and `next` make, if they make one.
    fn joined(&self, next: &Row) -> Option<Row> {
        let length = u64::from(self.length);
        let is_run = self.owner() == Owner::Data
            && next.owner() == Owner::Data
            && self.at + length == next.at
            && self.guest() + length == next.guest()
            && length < LONGEST_RUN;
        is_run.then(|| Row { length: self.length + next.length, ..*self })
    }

    fn claim(&self, image: &Qcow1Image) -> Claim {
        let length = u64::from(self.length);
        let covered = match self.owner() {
            Owner::L2 => 1 << image.header.l1_coverage_bits(),
            Owner::Data => length,
            Owner::Packed => image.header.cluster_size.bytes(),
            Owner::Header | Owner::Extension | Owner::Name | Owner::L1 => 0,
        };
        Claim {
            at: HostOffset::new(self.at),
            length,
            owner: self.owner(),
            guest: GuestRange::at(self.guest(), covered),
            times: self.times,
        }
    }
}

/// Tells of every claim, in the order of the file; of those at one place in no particular one.
/// Of more than two entries that make the same claim the others are only counted.
pub(super) fn run(
    image: &Qcow1Image,
    most: usize,
    tell: &mut dyn FnMut(Claim) -> Result<()>,
) -> Result<()> {
    let mut from = 0;
    loop {
        let mut window = Window { from, end: u64::MAX, most, rows: Vec::new(), held: None };
        window.add_head(image);
        walk::run(image, &mut |met, _, guest| {
            window.add_met(image, met, guest);
            Ok(())
        })?;
        window.finish();
        let end = window.end;
        window.rows.iter().try_for_each(|row| tell(row.claim(image)))?;
        if end == u64::MAX {
            return Ok(());
        }
        from = end;
    }
}

/// The claims of a part of the file, which becomes smaller when there are too many.
struct Window {
    from: u64,
    end: u64,
    most: usize,
    rows: Vec<Row>,
    held: Option<Row>,
}

impl Window {
    fn add_head(&mut self, image: &Qcow1Image) {
        let header = &image.header;
        self.add(Row::new(0, HEADER_SIZE, Owner::Header, 0));
        let name = match header.backing_name {
            NamePlace::At { at, length } => Some((at.get(), length)),
            NamePlace::None | NamePlace::Impossible => None,
        };
        if image.tables.l1_order.is_xen {
            // The first generation had no flags: there the name begins before the end.
            let end = name.map_or(EXTENSION.end, |(at, _)| at.clamp(60, EXTENSION.end));
            self.add(Row::new(EXTENSION.start, end - EXTENSION.start, Owner::Extension, 0));
        }
        if let Some((at, length)) = name {
            self.add(Row::new(at, length, Owner::Name, 0));
        }
        let l1 = header.l1_range();
        if l1.start >= HEADER_SIZE && !l1.is_empty() {
            self.add(Row::new(l1.start, l1.end - l1.start, Owner::L1, 0));
        }
    }

    fn add_met(&mut self, image: &Qcow1Image, met: Met, guest: GuestRange) {
        let guest = guest.start.get();
        match met {
            Met::Table { at } | Met::SharedTable { at } => {
                self.add(Row::new(at, image.header.l2_entries() * 8, Owner::L2, guest));
            }
            Met::Cluster(Entry::Plain(at)) => {
                self.add(Row::new(at, image.header.cluster_size.bytes(), Owner::Data, guest));
            }
            Met::Cluster(Entry::Packed { at, length }) if length > 0 => {
                self.add(Row::new(at, length, Owner::Packed, guest));
            }
            _ => {}
        }
    }

    fn add(&mut self, row: Row) {
        match self.held.as_ref().and_then(|held| held.joined(&row)) {
            Some(joined) => self.held = Some(joined),
            None => {
                if let Some(held) = self.held.replace(row) {
                    self.push(held);
                }
            }
        }
    }

    fn push(&mut self, row: Row) {
        if row.at < self.from || row.at >= self.end {
            return;
        }
        self.rows.push(row);
        if self.rows.len() >= self.most {
            self.shrink();
        }
    }

    /// Keeps the lower half.
    fn shrink(&mut self) {
        self.merge();
        let middle = self.most / 2;
        if self.rows.len() <= middle {
            return;
        }
        let (first, cut) = (self.rows[0].at, self.rows[middle].at);
        // Claims at one place stay together: there are no more different ones than lengths of a
        // payload and of a run.
        self.end = if cut > first { cut } else { cut + 1 };
        let kept = self.rows.partition_point(|row| row.at < self.end);
        self.rows.truncate(kept);
    }

    /// Sorts, and leaves two of the same claim.
    fn merge(&mut self) {
        self.rows.sort_unstable_by_key(|row| {
            (row.at, row.owner(), row.length, row.guest_and_owner, row.times)
        });
        let mut kept: usize = 0;
        for number in 0..self.rows.len() {
            let row = self.rows[number];
            let is_third = kept >= 2
                && self.rows[kept - 2].is_same_claim(&row)
                && self.rows[kept - 1].is_same_claim(&row);
            if is_third {
                let last = &mut self.rows[kept - 1];
                last.times = last.times.saturating_add(row.times);
            } else {
                self.rows[kept] = row;
                kept += 1;
            }
        }
        self.rows.truncate(kept);
    }

    /// Makes the rows the claims of the window, which may become smaller once more.
    fn finish(&mut self) {
        if let Some(held) = self.held.take() {
            self.push(held);
        }
        self.merge();
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::path::Path;

    use calve_testkit::{Random, Sketch, seeds};

    use super::*;
    use crate::storage::Storage;

    struct Bytes(Vec<u8>);

    impl Storage for Bytes {
        fn path(&self) -> &Path {
            Path::new("bytes")
        }

        fn size(&self) -> io::Result<u64> {
            Ok(self.0.len() as u64)
        }

        fn read_at(&self, out: &mut [u8], at: HostOffset) -> io::Result<()> {
            if out.is_empty() {
                return Ok(());
            }
            let start = crate::units::in_memory(at.get());
            let bytes = self.0.get(start..).and_then(|rest| rest.get(..out.len()));
            out.copy_from_slice(bytes.ok_or(io::ErrorKind::UnexpectedEof)?);
            Ok(())
        }
    }

    fn claims(image: &Qcow1Image, most: usize) -> Vec<Claim> {
        let mut claims = Vec::new();
        let mut add = |claim| {
            claims.push(claim);
            Ok(())
        };
        run(image, most, &mut add).expect("memory");
        claims
    }

    #[test]
    fn a_small_window_tells_the_same_as_a_large_one() {
        for seed in seeds("CALVE_MODEL_CASES", 200) {
            let mut random = Random::new(seed);
            let mut sketch = Sketch::legal(&mut random);
            if random.once_in(2) {
                sketch.damage(&mut random);
            }
            let Ok(image) = Qcow1Image::open(Box::new(Bytes(sketch.image)), None) else {
                continue;
            };
            let expected = claims(&image, MOST);
            for most in [8, 9, 16, 31, 64] {
                assert_eq!(claims(&image, most), expected, "seed {seed}, {most} at once");
            }
        }
    }
}
