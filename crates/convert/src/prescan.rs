//! Prescan: what the tables alone tell, before anything is written.

use calve_disk::{Extent, Payload};

use crate::error::{Error, Result};
use crate::losses::Refusal;
use crate::options::{Control, Salvage};
use crate::source::Source;

/// Walks all tables: the guest bytes that are stored. Fails where the tables tell of losses and
/// nobody asked to go on without them.
pub(crate) fn run(source: &Source, salvage: Salvage, control: &Control) -> Result<u64> {
    let mut refusal = Refusal::default();
    let mut stored = 0;
    let mut walk = source.walk();
    while let Some((part, extent)) = walk.peek()? {
        if control.stop.load(std::sync::atomic::Ordering::Relaxed) {
            return Err(Error::Stopped);
        }
        stored += stored_length(&extent);
        if let Payload::Lost(lost) = extent.payload
            && salvage == Salvage::Refuse
        {
            refusal.add(source, part, extent.range, lost);
        }
        walk.take(extent.range.length);
    }
    refusal.into_result(false)?;
    Ok(stored)
}

/// The guest bytes of an extent that are stored somewhere.
pub(crate) fn stored_length(extent: &Extent) -> u64 {
    match extent.payload {
        Payload::Stored(_) => extent.range.length,
        _ => 0,
    }
}
