//! Batches of which nothing has to be read.

use calve_disk::units::{GuestRange, HostOffset, in_memory};
use calve_disk::{Disk, Error as DiskError, Form};

use super::Worker;
use crate::batches::Void;
use crate::digest::{self, LEAF, Leaf};
use crate::error::Result;
use crate::options::{Filled, Loss};
use crate::run::Plan;

impl Worker<'_, '_> {
    pub(super) fn void(&mut self, turn: u64, range: GuestRange, void: Void) -> Result<Option<u64>> {
        let Plan { sparse, reads_zeros, .. } = self.run.plan;
        if let Some((base, layer)) = self.run.base {
            return self.void_over_base(turn, range, void, base, layer);
        }
        let leaves = self.void_leaves(range);
        let losses = self.void_losses(range, void);
        let stores_zeros = sparse == 0;
        let placed = self.run.placed.enter(turn, |state| {
            state.note(losses, leaves);
            let mut places = Vec::new();
            if stores_zeros {
                state.target.place(range, Form::Plain, &mut places)?;
            } else {
                state.target.zero(range)?;
            }
            Ok::<_, DiskError>((places, state.target.take_tables()))
        });
        let Some(placed) = placed else { return Ok(None) };
        let (places, tables) = placed?;
        for place in places {
            self.keep_zeros(place.at, place.range.length)?;
        }
        if !stores_zeros && !reads_zeros && self.run.plan.is_raw {
            self.run.write_zeros(HostOffset::new(range.start.get()), range.length)?;
        }
        self.run.write_tables(tables)?;
        Ok(Some(0))
    }

    /// Room for zeros that are to be stored: kept by the file system where it can.
    fn keep_zeros(&self, at: HostOffset, length: u64) -> Result<()> {
        let file = self.run.file;
        if !self.run.plan.reads_zeros {
            self.run.write_zeros(at, length)?;
        }
        Ok(file
            .allocate(at, length)
            .map_err(|source| DiskError::io("allocating room", file, at, source))?)
    }

    /// A void of a source over a base: left to the base where that has the same, else zeros.
    fn void_over_base(
        &mut self,
        turn: u64,
        range: GuestRange,
        void: Void,
        base: &Disk,
        layer: Option<usize>,
    ) -> Result<Option<u64>> {
        let is_left = match (void, layer) {
            (Void::Hole, Some(_)) => true,
            (Void::Zeros { layer: zeros }, Some(base_layer)) => zeros >= base_layer,
            (Void::Lost { .. }, _) | (_, None) => false,
        };
        let is_left = is_left || {
            let mut extents = base.extents(range);
            extents.try_fold(true, |all, extent| extent.map(|e| all && e.payload.is_zero()))?
        };
        let leaves = self.void_leaves(range);
        let losses = self.void_losses(range, void);
        let placed = self.run.placed.enter(turn, |state| {
            state.note(losses, leaves);
            if !is_left {
                state.target.zero(range)?;
            }
            Ok::<_, DiskError>(state.target.take_tables())
        });
        let Some(tables) = placed else { return Ok(None) };
        self.run.write_tables(tables?)?;
        Ok(Some(0))
    }

    fn void_losses(&self, range: GuestRange, void: Void) -> Vec<Loss> {
        let Void::Lost { part, lost } = void else { return Vec::new() };
        vec![Loss { source: part, range, lost, filled: Filled::Zeros }]
    }

    fn void_leaves(&self, range: GuestRange) -> Vec<Leaf> {
        if !self.run.plan.digest {
            return Vec::new();
        }
        let (size, end) = (self.run.source.size(), range.end().get());
        let starts = (range.start.get()..end).step_by(in_memory(LEAF));
        starts.map(|start| digest::empty_leaf(start, LEAF.min(end - start), size)).collect()
    }
}
