//! The room at the end of the file that nothing refers to.

use std::sync::Arc;

use calve_disk::formats::qcow1::Qcow1Image;
use calve_disk::units::HostOffset;
use calve_disk::{Image, Rule, StorageMut, Weight};

use crate::TailKept;
use crate::error::Result;

/// What became of it.
pub(crate) enum Tail {
    None,
    Kept(TailKept),
    Trimmed { at: HostOffset, length: u64 },
}

/// Ends the file where the last thing ends that something refers to. One call, so that no note
/// is needed: the file is as long as it was or as long as it should be.
///
/// Where tables are damaged or suspect, what nothing refers to may be what they should refer to,
/// and is left to whoever rescues it.
pub(crate) fn trim(storage: &Arc<dyn StorageMut>, made_unallocated: bool) -> Result<Tail> {
    let image = Qcow1Image::open(Box::new(Arc::clone(storage)), None)?;
    let file_size = image.facts().file_size;
    let (mut tail, mut is_sound) = (None, true);
    let survey = image.survey(&mut |finding| {
        is_sound &= matches!(finding.rule.weight(), Weight::Note | Weight::Leak);
        if let (Rule::Leak, Some(at), Some(length)) = (finding.rule, finding.at, finding.value)
            && at.get() + length == file_size
        {
            tail = Some((at, length));
        }
    })?;
    let Some((at, length)) = tail else { return Ok(Tail::None) };
    if !is_sound || !survey.are_owners_compared {
        return Ok(Tail::Kept(TailKept::Damage));
    }
    if made_unallocated {
        return Ok(Tail::Kept(TailKept::Unallocated));
    }
    calve_inplace::set_size(&**storage, at.get())?;
    Ok(Tail::Trimmed { at, length })
}
