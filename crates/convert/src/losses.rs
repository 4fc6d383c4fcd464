//! Losses: what the source promised and could not give.

use calve_disk::units::GuestRange;
use calve_disk::{Disk, Lost};

use crate::error::{Error, Result};
use crate::options::{Filled, Loss};
use crate::source::Source;

/// Losses that an error names.
const NAMED: usize = 5;

/// Losses in guest order, joined where they touch and are alike.
#[derive(Default)]
pub(crate) struct Losses {
    list: Vec<Loss>,
}

impl Losses {
    pub(crate) fn add(&mut self, loss: Loss) {
        if let Some(last) = self.list.last_mut()
            && last.range.end() == loss.range.start
            && (last.source, last.filled) == (loss.source, loss.filled)
            && (last.lost.layer, last.lost.rule) == (loss.lost.layer, loss.lost.rule)
        {
            last.range.length += loss.range.length;
        } else {
            self.list.push(loss);
        }
    }

    pub(crate) fn into_list(self) -> Vec<Loss> {
        self.list
    }
}

/// What the tables alone tell to be lost: counted all, kept few.
#[derive(Default)]
pub(crate) struct Refusal {
    first: Vec<Loss>,
    count: u64,
    bytes: u64,
    path: std::path::PathBuf,
}

impl Refusal {
    pub(crate) fn add(&mut self, source: &Source, part: usize, range: GuestRange, lost: Lost) {
        if self.count == 0 {
            self.path = file_of(source.disk(part), lost);
        }
        self.count += 1;
        self.bytes += range.length;
        if self.first.len() < NAMED {
            let range = source.in_result(part, range);
            self.first.push(Loss { source: part, range, lost, filled: Filled::Zeros });
        }
    }

    /// The error that these are, if there are any.
    pub(crate) fn into_result(self, at_least: bool) -> Result<()> {
        if self.count == 0 {
            return Ok(());
        }
        Err(Error::Lost {
            path: self.path,
            count: self.count,
            bytes: self.bytes,
            first: self.first,
            at_least,
        })
    }
}

fn file_of(disk: &Disk, lost: Lost) -> std::path::PathBuf {
    disk.layers()[lost.layer].path.clone()
}
