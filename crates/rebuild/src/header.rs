//! The header, rebuilt from the tables behind it. What is plausible of the old one is kept.

mod size;

use calve_disk::units::{GuestRange, HostOffset, in_memory};
use calve_disk::{Result, Storage, limits};

use crate::bytes::{big, read_up_to};
use crate::guest::is_noise;
use crate::patched::{Patched, Patches, too_much};
use crate::shape::{Entry, HEADER_SIZE, Shape, all_shapes, words};
use crate::step::{Confidence, Evidence, Rebuilt, Step, Subject};
use crate::trial::{L1Found, Trial, first_table, read_l1, try_shape};

/// What the caller knows of the header; everything else is found out.
#[derive(Clone, Debug, Default)]
pub struct Hints {
    /// log2 of the cluster size, 9 to 16.
    pub cluster_bits: Option<u8>,
    /// log2 of the number of entries of an L2 table, 6 to 13.
    pub l2_bits: Option<u8>,
    /// The virtual size in bytes.
    pub size: Option<u64>,
    /// Where the L1 table begins.
    pub l1_at: Option<u64>,
    /// Whether guest bytes are encrypted.
    pub is_encrypted: Option<bool>,
}

/// Bytes at the file's start that are searched for the L1 table.
const SEARCHED: u64 = 1 << 20;
/// Places of an L1 table that are tried with every geometry.
const MOST_PLACES: usize = 12;
/// Sectors that are looked at for noise.
const NOISE_LOOKED_AT: u64 = 256;
/// Fewer sectors say nothing about encryption.
const FEWEST_FOR_NOISE: u64 = 16;

/// Rebuilds the header of `source`.
///
/// Where no geometry explains anything, an empty image say, what `hints` and the old header tell
/// is all there is, and 12 and 9 bits are guessed.
///
/// # Errors
/// Only where the host fails.
pub fn header(source: &Patched, hints: &Hints) -> Result<Rebuilt> {
    let start = read_up_to(source, 0, SEARCHED)?;
    let (l1, trial) = search(source, &start, hints)?;
    let mut work =
        Work { source, start: &start, hints, shape: trial.shape, l1, trial, new: [0; 48] };
    work.new.copy_from_slice(&padded_header(&start));
    let mut steps = Vec::new();
    work.magic(&mut steps);
    work.geometry(&mut steps);
    work.name(&mut steps);
    work.encryption(&mut steps)?;
    let sized = work.size(&mut steps)?;
    let mut patches = Patches::default();
    if work.new[..] != padded_header(&start)[..] || (start.len() as u64) < HEADER_SIZE {
        put(source, &mut patches, 0, &work.new)?;
    }
    // A wrong geometry or place would move every byte, unless what moved says where it belongs.
    let is_moved = steps.iter().any(|step| {
        let subject = step.subject;
        step.evidence != Evidence::Pinned
            && matches!(subject, Subject::ClusterBits | Subject::L2Bits | Subject::L1Place)
    });
    let is_suspect = sized.is_guess || !trial.is_sound() || (is_moved && !sized.is_confirmed);
    let suspect = match is_suspect {
        true => vec![GuestRange::at(0, big(&work.new, 24, 8))],
        false => Vec::new(),
    };
    Ok(Rebuilt { source: source.with(&patches)?, steps, suspect, unplaced: Vec::new() })
}

pub(crate) fn put(source: &Patched, patches: &mut Patches, at: u64, bytes: &[u8]) -> Result<()> {
    match patches.put(HostOffset::new(at), bytes) {
        true => Ok(()),
        false => Err(too_much(source.path())),
    }
}

fn padded_header(start: &[u8]) -> [u8; 48] {
    let mut header = [0; 48];
    let length = start.len().min(48);
    header[..length].copy_from_slice(&start[..length]);
    header
}

/// The geometry and the L1 table that explain most.
fn search(source: &Patched, start: &[u8], hints: &Hints) -> Result<(L1Found, Trial)> {
    let old = Shape {
        cluster_bits: start.get(32).copied().unwrap_or_default(),
        l2_bits: start.get(33).copied().unwrap_or_default(),
    };
    let fits = |shape: &Shape| {
        hints.cluster_bits.is_none_or(|bits| bits == shape.cluster_bits)
            && hints.l2_bits.is_none_or(|bits| bits == shape.l2_bits)
    };
    let mut shapes: Vec<Shape> = Some(old)
        .filter(|old| old.is_legal())
        .into_iter()
        .chain(all_shapes())
        .filter(fits)
        .collect();
    if shapes.is_empty() {
        shapes.push(Shape { cluster_bits: 12, l2_bits: 9 });
    }
    let mut best: Option<(L1Found, Trial)> = None;
    for at in places(start, hints) {
        let l1 = read_l1(source, at)?;
        let mut trial = try_shape(source, shapes[0], &l1)?;
        for shape in shapes[1..].iter().filter(|_| !l1.used.is_empty()) {
            let other = try_shape(source, *shape, &l1)?;
            if other.is_better_than(&trial) {
                trial = other;
            }
        }
        let is_better = best.as_ref().is_none_or(|(_, held)| trial.is_better_than(held));
        if is_better {
            best = Some((l1, trial));
        }
    }
    match best {
        Some(best) => Ok(best),
        None => {
            let l1 = L1Found { at: HEADER_SIZE, used: Vec::new() };
            let trial = try_shape(source, shapes[0], &l1)?;
            Ok((l1, trial))
        }
    }
}

/// Where the L1 table may begin, the likeliest place first.
fn places(start: &[u8], hints: &Hints) -> Vec<u64> {
    if let Some(at) = hints.l1_at {
        return vec![at];
    }
    let mut places = vec![big(start, 40, 8)];
    let is_xen = start.get(48..52) == Some(b"XEN\xFB");
    let after_name = |at: u64| text_at(start, at).map(|name| (at + name).next_multiple_of(8));
    let is_page_empty = start.get(48..4096).is_some_and(|page| page.iter().all(|byte| *byte == 0));
    if is_xen || is_page_empty {
        places.push(4096);
    }
    places.extend(after_name(HEADER_SIZE));
    let recorded = big(start, 8, 8);
    if recorded < SEARCHED {
        places.push(recorded.saturating_add(big(start, 16, 4)).next_multiple_of(8));
    }
    places.extend([HEADER_SIZE, 4096]);
    // Else it begins where the first thing stands that can be an entry.
    let used = |at: &usize| big(start, *at, 8) != 0 && big(start, *at, 8) < 1 << 48;
    places.extend((48..start.len()).step_by(8).filter(used).take(4).map(|at| at as u64));
    let mut kept: Vec<u64> = Vec::new();
    for at in places {
        let is_new = !kept.contains(&at);
        if (HEADER_SIZE..start.len() as u64).contains(&at) && is_new && kept.len() < MOST_PLACES {
            kept.push(at);
        }
    }
    kept
}

/// How long the text at `at` is that can be a file's name and that zeros end.
fn text_at(start: &[u8], at: u64) -> Option<u64> {
    let rest = start.get(in_memory(at)..)?;
    let most = in_memory(limits::MAX_BACKING_NAME);
    let length = rest.iter().take(most + 1).position(|byte| *byte == 0)?;
    let text = std::str::from_utf8(&rest[..length]).ok()?;
    let is_name = length >= 2 && !text.chars().any(char::is_control);
    is_name.then_some(length as u64)
}

/// The header while it is being rebuilt.
struct Work<'a> {
    source: &'a Patched,
    start: &'a [u8],
    hints: &'a Hints,
    shape: Shape,
    l1: L1Found,
    trial: Trial,
    new: [u8; 48],
}

impl Work<'_> {
    /// Puts a number of `length` bytes at `at`, and notes the step where that changes it.
    fn set(&mut self, at: usize, length: usize, step: Step, steps: &mut Vec<Step>) {
        if big(&self.new, at, length) != step.value {
            self.new[at..at + length].copy_from_slice(&step.value.to_be_bytes()[8 - length..]);
            steps.push(step);
        }
    }

    fn magic(&mut self, steps: &mut Vec<Step>) {
        let step =
            step(Subject::Magic, 0, 0x5146_49FB_0000_0001, Confidence::Strong, Evidence::Constant);
        self.set(0, 8, step, steps);
        // The hole behind the bits: nothing ever stands there.
        self.new[34..36].fill(0);
    }

    fn geometry(&mut self, steps: &mut Vec<Step>) {
        let tables = Evidence::Tables {
            tables: self.trial.tables,
            clusters: self.trial.clusters,
            unpacked: self.trial.unpacked,
            first: first_table(&self.l1),
        };
        let found = match (self.trial.is_sound(), self.trial.unpacked > 0) {
            (true, true) => Confidence::Strong,
            (true, false) => Confidence::Likely,
            (false, _) => Confidence::Guess,
        };
        let told = |is_pinned: bool| match is_pinned {
            true => (Confidence::Strong, Evidence::Pinned),
            false => (found, tables),
        };
        let (hints, shape) = (self.hints, self.shape);
        let (sure, why) = told(hints.cluster_bits.is_some());
        self.set(
            32,
            1,
            step(Subject::ClusterBits, 32, shape.cluster_bits.into(), sure, why),
            steps,
        );
        let (sure, why) = told(hints.l2_bits.is_some());
        self.set(33, 1, step(Subject::L2Bits, 33, shape.l2_bits.into(), sure, why), steps);
        let (sure, why) = told(hints.l1_at.is_some());
        self.set(40, 8, step(Subject::L1Place, 40, self.l1.at, sure, why), steps);
    }

    /// The name where the old header has it, else the text where every writer puts it.
    fn name(&mut self, steps: &mut Vec<Step>) {
        let (at, length) = (big(&self.new, 8, 8), big(&self.new, 16, 4));
        let is_none = at == 0 && length == 0;
        let is_kept = at >= HEADER_SIZE && (1..=limits::MAX_BACKING_NAME).contains(&length) && {
            let name = read_up_to(self.source, at, length).unwrap_or_default();
            let text = std::str::from_utf8(&name).unwrap_or_default();
            name.len() as u64 == length && !text.is_empty() && !text.chars().any(char::is_control)
        };
        let is_xen = self.start.get(48..52) == Some(b"XEN\xFB");
        // The first generation of Xen's tapdisk had a shorter header.
        let candidates: &[u64] = if is_xen { &[64, 60] } else { &[HEADER_SIZE] };
        let found = candidates.iter().find_map(|at| {
            let length = text_at(self.start, *at)?;
            (at + length <= self.l1.at || is_xen).then_some((*at, length))
        });
        let follows = found.is_some_and(|(name, text)| name == at || text == length);
        if is_kept && (found.is_none() || found == Some((at, length)) || !follows) {
            return;
        }
        let (place, text) = found.unwrap_or((0, 0));
        if is_none && found.is_none() {
            return;
        }
        let why = match found {
            Some((at, _)) => Evidence::Text { at: HostOffset::new(at) },
            None => Evidence::NoRoom,
        };
        let step =
            Step { value: place, ..step(Subject::BackingName, 8, text, Confidence::Likely, why) };
        self.new[16..20].copy_from_slice(&text.to_be_bytes()[4..]);
        if big(&self.new, 8, 8) == place {
            steps.push(step);
        } else {
            self.set(8, 8, step, steps);
        }
    }

    fn encryption(&mut self, steps: &mut Vec<Step>) -> Result<()> {
        let old = big(&self.new, 36, 4);
        if let Some(is_encrypted) = self.hints.is_encrypted {
            let why = Evidence::Pinned;
            let value = u64::from(is_encrypted);
            self.set(36, 4, step(Subject::CryptMethod, 36, value, Confidence::Strong, why), steps);
            return Ok(());
        }
        let (noise, of) = self.noise()?;
        let why = Evidence::Noise { noise, of };
        // Where clusters are packed, those are plain that could not be: noise of another kind.
        let is_packed = self.trial.unpacked > 0;
        let is_clear = !is_packed && of >= FEWEST_FOR_NOISE && noise * 20 >= of * 19;
        let is_orderly = of > 0 && noise * 2 <= of;
        // A guest can encrypt by itself: noise says nothing against a header that is there.
        let is_header_lost =
            self.start.get(..48).is_none_or(|old| old.iter().all(|byte| *byte == 0));
        let value = match old {
            1 if !is_orderly => 1,
            0 if !is_header_lost || !is_clear => 0,
            _ => u64::from(is_clear),
        };
        let sure = if is_clear || is_orderly { Confidence::Likely } else { Confidence::Guess };
        self.set(36, 4, step(Subject::CryptMethod, 36, value, sure, why), steps);
        Ok(())
    }

    /// Sectors of plain clusters that are noise, and those looked at.
    fn noise(&self) -> Result<(u64, u64)> {
        let (mut noise, mut of) = (0, 0);
        for (_, table) in self.l1.used.iter().take(16) {
            for word in words(&read_up_to(self.source, *table, self.shape.table_length())?) {
                let Entry::Plain(at) = self.shape.entry(word, self.source.length()) else {
                    continue;
                };
                // Only the beginning: what follows may be the same file's.
                let bytes = read_up_to(self.source, at, 512)?;
                if let Some(is_noise) = is_noise(&bytes) {
                    of += 1;
                    noise += u64::from(is_noise);
                }
                if of >= NOISE_LOOKED_AT {
                    return Ok((noise, of));
                }
            }
        }
        Ok((noise, of))
    }
}

/// A step about the whole disk.
pub(crate) fn step(
    subject: Subject,
    at: u64,
    value: u64,
    confidence: Confidence,
    evidence: Evidence,
) -> Step {
    Step { subject, at: HostOffset::new(at), value, guest: None, confidence, evidence }
}
