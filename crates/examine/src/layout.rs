//! Layout: every byte of the file labelled once, in the order of the file.
//!
//! Claims come in that order too. All that is remembered of those that cover the present place is,
//! for each kind of owner, the two that reach furthest: the first says whose a byte is, the second
//! whether somebody else of the same kind wants it.

use calve_disk::units::{GuestRange, HostOffset, SECTOR, in_memory};
use calve_disk::{Claim, Error, Image, Owner, Result};

use crate::require_claims;

/// What a byte of the file is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Label {
    /// Claimed. Where several claim it, this is the first in the order of [`Owner`].
    Owned(Owner),
    /// Nobody's: zeros behind something that is claimed, up to the next cluster at most.
    Padding,
    /// Nobody's: other bytes behind something that is claimed, up to the next sector at most.
    Slack,
    /// Nobody's.
    Unreferenced,
}

impl Label {
    /// Every label, in the order in which totals are told.
    pub const ALL: [Label; 10] = [
        Label::Owned(Owner::Header),
        Label::Owned(Owner::Extension),
        Label::Owned(Owner::Name),
        Label::Owned(Owner::L1),
        Label::Owned(Owner::L2),
        Label::Owned(Owner::Data),
        Label::Owned(Owner::Packed),
        Label::Padding,
        Label::Slack,
        Label::Unreferenced,
    ];

    /// The label in a few words.
    pub const fn words(self) -> &'static str {
        match self {
            Label::Owned(owner) => owner.words(),
            Label::Padding => "padding",
            Label::Slack => "padding, not zeros",
            Label::Unreferenced => "unreferenced",
        }
    }

    /// Its place in [`Label::ALL`].
    pub(crate) const fn number(self) -> usize {
        match self {
            Label::Owned(owner) => owner as usize,
            Label::Padding => 7,
            Label::Slack => 8,
            Label::Unreferenced => 9,
        }
    }
}

/// Neighbouring bytes of the file that are alike.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Region {
    /// The first byte.
    pub at: HostOffset,
    /// How many bytes.
    pub length: u64,
    /// What they are.
    pub label: Label,
    /// The guest bytes that they are for; empty where they are for none.
    pub guest: GuestRange,
    sharers: u8,
}

impl Region {
    /// The first byte behind the region.
    pub fn end(&self) -> u64 {
        self.at.get() + self.length
    }

    /// Who else claims the same bytes, each kind once; the region's own kind where two of it do.
    pub fn shared_by(&self) -> impl Iterator<Item = Owner> + use<> {
        let sharers = self.sharers;
        Owner::ALL.into_iter().filter(move |owner| sharers & bit(*owner) != 0)
    }

    /// Whether more than one claims these bytes.
    pub fn is_shared(&self) -> bool {
        self.sharers != 0
    }

    /// The region that this and `next` make, if they make one.
    fn joined(&self, next: &Region) -> Option<Region> {
        let is_alike = (self.label, self.sharers) == (next.label, next.sharers);
        let guest = match (self.label, self.guest.is_empty(), next.guest.is_empty()) {
            (_, true, true) => Some(self.guest),
            _ if self.guest.end() == next.guest.start => {
                Some(GuestRange::new(self.guest.start, self.guest.length + next.guest.length))
            }
            (Label::Owned(Owner::L2 | Owner::Packed), ..) if self.guest == next.guest => {
                Some(self.guest)
            }
            _ => None,
        };
        guest.filter(|_| is_alike && self.end() == next.at.get()).map(|guest| Region {
            length: self.length + next.length,
            guest,
            ..*self
        })
    }
}

const fn bit(owner: Owner) -> u8 {
    1 << owner as u8
}

/// How many bytes of the file bear which label.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Totals {
    bytes: [u64; Label::ALL.len()],
    /// Bytes that more than one claims.
    pub shared: u64,
    /// The length of the file.
    pub file_size: u64,
    /// How far behind the end of the file claims reach, in bytes.
    pub behind_end: u64,
}

impl Totals {
    /// How many bytes bear this label.
    pub fn of(&self, label: Label) -> u64 {
        self.bytes[label.number()]
    }

    fn add(&mut self, region: &Region) {
        self.bytes[region.label.number()] += region.length;
        self.shared += if region.is_shared() { region.length } else { 0 };
    }
}

/// Tells of every byte of the file once, in order and without a gap, in regions that are as long
/// as they can be.
///
/// # Errors
/// [`Error::Unsupported`] where the image is not version 1; where the host fails; what `tell` says.
pub fn layout(image: &dyn Image, tell: &mut dyn FnMut(&Region) -> Result<()>) -> Result<Totals> {
    require_claims(image)?;
    let mut sweep = Sweep::new(image, tell);
    image.claims(&mut |claim| sweep.add(claim))?;
    sweep.finish()
}

/// The two claims of one kind of owner that reach furthest.
#[derive(Clone, Copy, Default)]
struct Furthest {
    first: Option<Claim>,
    second_end: u64,
}

impl Furthest {
    fn add(&mut self, claim: Claim) {
        let first_end = self.end();
        let end = claim.end();
        if claim.times > 1 {
            self.second_end = self.second_end.max(end);
        }
        if end > first_end {
            self.second_end = self.second_end.max(first_end);
            self.first = Some(claim);
        } else {
            self.second_end = self.second_end.max(end);
        }
    }

    fn end(&self) -> u64 {
        self.first.map_or(0, |claim| claim.end())
    }
}

struct Sweep<'a> {
    image: &'a dyn Image,
    tell: &'a mut dyn FnMut(&Region) -> Result<()>,
    size: u64,
    cluster: u64,
    /// Everything before this place has been told of.
    reached: u64,
    active: [Furthest; Owner::ALL.len()],
    held: Option<Region>,
    totals: Totals,
    behind: u64,
}

impl<'a> Sweep<'a> {
    fn new(image: &'a dyn Image, tell: &'a mut dyn FnMut(&Region) -> Result<()>) -> Self {
        let facts = image.facts();
        let size = facts.file_size;
        Self {
            image,
            tell,
            size,
            cluster: facts.cluster_size.map_or(SECTOR, calve_disk::units::ClusterSize::bytes),
            reached: 0,
            active: [Furthest::default(); Owner::ALL.len()],
            held: None,
            totals: Totals { file_size: size, ..Totals::default() },
            behind: 0,
        }
    }

    fn add(&mut self, claim: Claim) -> Result<()> {
        if claim.length == 0 {
            return Ok(());
        }
        self.behind = self.behind.max(claim.end());
        if claim.at.get() >= self.size {
            return Ok(());
        }
        self.advance(claim.at.get())?;
        self.active[claim.owner as usize].add(claim);
        Ok(())
    }

    fn finish(mut self) -> Result<Totals> {
        self.advance(self.size)?;
        if let Some(region) = self.held.take() {
            self.pass_on(&region)?;
        }
        self.totals.behind_end = self.behind.saturating_sub(self.size);
        Ok(self.totals)
    }

    /// Tells of everything before `to`.
    fn advance(&mut self, to: u64) -> Result<()> {
        while self.reached < to {
            let from = self.reached;
            let ends = self.active.iter().flat_map(|kind| [kind.end(), kind.second_end]);
            match ends.filter(|end| *end > from).min() {
                Some(end) => self.owned(end.min(to))?,
                None => self.gap(to)?,
            }
        }
        Ok(())
    }

    /// The bytes up to `to` are claimed, all by the same.
    fn owned(&mut self, to: u64) -> Result<()> {
        let from = self.reached;
        let mut owner = None;
        let mut sharers = 0;
        for (kind, furthest) in Owner::ALL.into_iter().zip(&self.active) {
            let Some(claim) = furthest.first.filter(|claim| claim.end() > from) else { continue };
            match owner {
                None => owner = Some(claim),
                Some(_) => sharers |= bit(kind),
            }
            if furthest.second_end > from {
                sharers |= bit(kind);
            }
        }
        let Some(claim) = owner else { return Ok(()) };
        let guest = match claim.owner {
            Owner::Data => GuestRange::new(claim.guest.start + (from - claim.at.get()), to - from),
            _ => claim.guest,
        };
        self.push(to, Label::Owned(claim.owner), guest, sharers)
    }

    /// The bytes up to `to` are nobody's.
    fn gap(&mut self, to: u64) -> Result<()> {
        let from = self.reached;
        let padded = from.next_multiple_of(self.cluster).min(to);
        if self.is_zero(from, padded)? {
            self.push(padded, Label::Padding, GuestRange::at(0, 0), 0)?;
        } else {
            let padded = from.next_multiple_of(SECTOR).min(to);
            let is_zero = self.is_zero(from, padded)?;
            let label = if is_zero { Label::Padding } else { Label::Slack };
            self.push(padded, label, GuestRange::at(0, 0), 0)?;
        }
        self.push(to, Label::Unreferenced, GuestRange::at(0, 0), 0)
    }

    fn is_zero(&self, from: u64, to: u64) -> Result<bool> {
        let mut bytes = vec![0; in_memory(to - from)];
        let (storage, at) = (self.image.storage(), HostOffset::new(from));
        storage
            .read_at(&mut bytes, at)
            .map_err(|source| Error::io("reading what nobody claims", storage, at, source))?;
        Ok(bytes.iter().all(|byte| *byte == 0))
    }

    fn push(&mut self, to: u64, label: Label, guest: GuestRange, sharers: u8) -> Result<()> {
        let from = std::mem::replace(&mut self.reached, to);
        if from == to {
            return Ok(());
        }
        let region = Region { at: HostOffset::new(from), length: to - from, label, guest, sharers };
        match self.held.as_ref().and_then(|held| held.joined(&region)) {
            Some(joined) => self.held = Some(joined),
            None => {
                if let Some(held) = self.held.replace(region) {
                    self.pass_on(&held)?;
                }
            }
        }
        Ok(())
    }

    fn pass_on(&mut self, region: &Region) -> Result<()> {
        self.totals.add(region);
        (self.tell)(region)
    }
}
