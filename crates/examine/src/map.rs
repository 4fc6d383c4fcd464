//! Map: a layout in so few cells that it can be looked at, however long the file is.

use calve_disk::units::SECTOR;
use calve_disk::{Image, Result};

use crate::layout::{Label, Totals, layout};

/// Cells in a row.
pub(crate) const COLUMNS: u64 = 64;

/// Cells at most.
const MOST_CELLS: u64 = COLUMNS * COLUMNS;

/// A part of the file.
#[derive(Clone, Copy, Default)]
pub(crate) struct Cell {
    /// Bytes of each label.
    pub(crate) bytes: [u64; Label::ALL.len()],
    /// Whether more than one claims some of its bytes.
    pub(crate) is_shared: bool,
}

impl Cell {
    /// The label of most of its bytes, and of several the first. Padding counts only where there is
    /// nothing else: what lies between padding is what one looks for.
    pub(crate) fn dominating(&self) -> Label {
        let labels = Label::ALL.into_iter().filter(|label| *label != Label::Padding);
        let most = labels.rev().max_by_key(|label| self.bytes[label.number()]);
        most.filter(|label| self.bytes[label.number()] > 0).unwrap_or(Label::Padding)
    }
}

/// A file as cells of one length, row by row.
pub(crate) struct Map {
    pub(crate) cells: Vec<Cell>,
    /// Bytes of the file that a cell stands for; the last one may have fewer.
    pub(crate) cell_length: u64,
    pub(crate) totals: Totals,
}

impl Map {
    pub(crate) fn new(image: &dyn Image) -> Result<Self> {
        let size = image.facts().file_size;
        let cell_length = size.div_ceil(MOST_CELLS).next_multiple_of(SECTOR).max(SECTOR);
        let count = calve_disk::units::in_memory(size.div_ceil(cell_length));
        let mut cells = vec![Cell::default(); count];
        let totals = layout(image, &mut |region| {
            let (mut at, end) = (region.at.get(), region.end());
            while at < end {
                let number = at / cell_length;
                let to = end.min((number + 1) * cell_length);
                if let Some(cell) = cells.get_mut(calve_disk::units::in_memory(number)) {
                    cell.bytes[region.label.number()] += to - at;
                    cell.is_shared |= region.is_shared();
                }
                at = to;
            }
            Ok(())
        })?;
        Ok(Self { cells, cell_length, totals })
    }

    /// Neighbours in one row that look the same: the number of the first, how many, and all of
    /// them together.
    pub(crate) fn strips(&self) -> Vec<(u64, u64, Cell)> {
        let mut strips: Vec<(u64, u64, Cell)> = Vec::new();
        for (number, cell) in (0u64..).zip(&self.cells) {
            let look = |cell: &Cell| (cell.dominating(), cell.is_shared);
            match strips.last_mut() {
                Some((_, count, all)) if number % COLUMNS != 0 && look(all) == look(cell) => {
                    *count += 1;
                    for (sum, bytes) in all.bytes.iter_mut().zip(cell.bytes) {
                        *sum += bytes;
                    }
                }
                _ => strips.push((number, 1, *cell)),
            }
        }
        strips
    }
}
