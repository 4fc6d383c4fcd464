//! A raw disk being written: guest offsets are host offsets, and there is no map to keep.

use crate::error::Result;
use crate::target::{Finish, Form, Placed, TableWrite, Target};
use crate::units::{ClusterSize, GuestOffset, GuestRange, HostOffset};

/// A raw disk being written.
///
/// What is zero and what is never given is left out: in a new file it is a hole. Writing over a
/// file that holds something, the caller has to write the zeros.
pub struct RawTarget {
    virtual_size: u64,
    next: GuestOffset,
}

impl RawTarget {
    /// A raw disk of exactly `virtual_size` bytes.
    pub const fn new(virtual_size: u64) -> Self {
        Self { virtual_size, next: GuestOffset::new(0) }
    }

    fn advance(&mut self, range: GuestRange) {
        assert!(self.next <= range.start, "ranges are given in ascending order");
        assert!(range.end().get() <= self.virtual_size, "ranges end with the disk");
        self.next = range.end();
    }
}

impl Target for RawTarget {
    fn cluster_size(&self) -> ClusterSize {
        ClusterSize::SECTOR
    }

    fn virtual_size(&self) -> u64 {
        self.virtual_size
    }

    fn place(&mut self, range: GuestRange, form: Form, pieces: &mut Vec<Placed>) -> Result<()> {
        assert!(form == Form::Plain, "a raw disk has no packed clusters");
        self.advance(range);
        if !range.is_empty() {
            pieces.push(Placed { range, at: HostOffset::new(range.start.get()) });
        }
        Ok(())
    }

    fn zero(&mut self, range: GuestRange) -> Result<()> {
        self.advance(range);
        Ok(())
    }

    fn take_tables(&mut self) -> Vec<TableWrite> {
        Vec::new()
    }

    fn finish(&mut self) -> Result<Finish> {
        Ok(Finish { file_size: self.virtual_size, tables: Vec::new(), header: None })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn guest_offsets_are_host_offsets_and_the_size_is_exact() {
        let mut target = RawTarget::new(5001);
        let mut pieces = Vec::new();
        target.place(GuestRange::at(512, 1024), Form::Plain, &mut pieces).unwrap();
        target.zero(GuestRange::at(1536, 512)).unwrap();
        target.place(GuestRange::at(4096, 905), Form::Plain, &mut pieces).unwrap();
        let placed = |start, length| Placed {
            range: GuestRange::at(start, length),
            at: HostOffset::new(start),
        };
        assert_eq!(pieces, [placed(512, 1024), placed(4096, 905)]);
        let finish = target.finish().unwrap();
        assert_eq!(finish, Finish { file_size: 5001, tables: Vec::new(), header: None });
        assert!(target.take_tables().is_empty());
    }
}
