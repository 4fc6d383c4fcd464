//! One family: what stands in the way of all of it, and the way of each image.
//!
//! All of a family is migrated or nothing of it. So whatever one image cannot have is a reason to
//! leave all of them, and is told with each.

mod files;

use std::path::Path;

use calve_disk::Format;
use calve_disk::open::{escaped, shown};
use calve_disk::shell;
use calve_fleet::{Broken, Edge, Evidence, Family as Found, How, Row, Why};
use calve_scan::Class;

use crate::cost;
use crate::plan::{Damaged, Family, Image, Kept, PathText, Stamp, Strategy, Way, Wishes};
use crate::room::NewFile;
use crate::survey::{Surveyed, Surveyor, Tables};
use crate::volume;

/// Why an overlay gets another name of its base.
const MOVED: &str = "its base is a guess, by what they hold: look at its disk afterwards";

/// The same, where somebody has named it.
const CONFIRMED: &str = "its base is the one that --base names, and gets recorded";

/// Why a file with several names is not replaced.
const NAMES: &str = "it has several names, of which a new file would take one only";

/// How an object is upgraded.
const COPIED: &str = "only tables are sent: its store copies what stays";

/// Why an object is upgraded where it is all the same.
const CLONES: &str = "a bucket has no clones: only tables are sent";

/// Why a damaged object is left.
const FETCHED: &str = "objects are neither rescued nor put aside: fetch it, and rescue that file";

/// What is done with an image, and why.
struct Fate {
    strategy: Strategy,
    reason: String,
    tables: Option<Tables>,
}

impl Fate {
    fn new(strategy: Strategy, reason: impl Into<String>) -> Self {
        Self { strategy, reason: reason.into(), tables: None }
    }
}

/// Decides on a family. `rows` are those of its members.
pub(crate) fn family(
    number: u64,
    found: &Found,
    rows: &[Row],
    wishes: &Wishes,
    surveyor: &dyn Surveyor,
) -> Family {
    let family = Members { found, rows, wishes };
    let fates = match family.obstacle() {
        Some(obstacle) => Err(obstacle),
        None => family.fates(surveyor),
    };
    let fates = fates.unwrap_or_else(|obstacle| {
        (0..rows.len()).map(|_| Fate::new(Strategy::Leave, obstacle.clone())).collect()
    });
    let images = fates.into_iter().enumerate();
    let images = images.map(|(place, fate)| {
        let new = family.new_file(place, fate.strategy, surveyor);
        family.image(number, place, fate, new.as_ref())
    });
    let images = images.collect();
    Family { number, images }
}

/// Takes a family out of a plan that has room for others only.
pub(crate) fn leave(family: &mut Family, reason: &str) {
    for image in &mut family.images {
        image.strategy = Strategy::Leave;
        image.reason = reason.into();
        (image.read, image.write, image.extra) = (0, 0, 0);
        image.seconds = [0.0; 2];
    }
}

struct Members<'a> {
    found: &'a Found,
    rows: &'a [Row],
    wishes: &'a Wishes,
}

impl Members<'_> {
    /// What stands in the way of the family, as far as the catalogue tells.
    fn obstacle(&self) -> Option<String> {
        let of_class = |class| self.rows.iter().find(|row| row.seen.class == class);
        if let Some(row) = of_class(Class::InUse) {
            return Some(format!("{} is in use: end that process, and scan again", name(row)));
        }
        if let Some(row) = of_class(Class::Unreadable) {
            return Some(format!("{} cannot be read: scan again when it can", name(row)));
        }
        if let Some(row) = self.rows.iter().find(|row| row.member.is_some()) {
            let name = name(row);
            return Some(format!("{name} is an archive: unpack the image in it, and scan again"));
        }
        if let Some(circle) = self.found.loops.first().and_then(|members| members.first()) {
            return Some(format!("{} lies on itself by its bases", name(&self.rows[*circle])));
        }
        if let Some(broken) = self.found.broken.first() {
            return Some(self.missing(broken));
        }
        self.found.edges.iter().find_map(|edge| self.odd_base(edge))
    }

    fn missing(&self, broken: &Broken) -> String {
        let (overlay, base) = (name(&self.rows[broken.overlay]), escaped(&broken.name));
        match (broken.why, broken.candidates.first()) {
            (Why::Protocol, _) => format!("the base of {overlay} is {base}, which is no file"),
            (Why::Missing, None) => {
                format!("the base of {overlay}, {base}, is missing: find it, and scan its folder")
            }
            (Why::Missing, Some(candidate)) => {
                let may_be = shown(&candidate.path);
                if self.rows[broken.overlay].is_object() {
                    return beside(&overlay, &may_be);
                }
                format!(
                    "the base of {overlay}, {base}, is missing: it may be {may_be}, which \
                     --base {} takes",
                    shell::pair(&self.rows[broken.overlay].path, &candidate.path)
                )
            }
        }
    }

    /// What is the matter with a base that was found.
    fn odd_base(&self, edge: &Edge) -> Option<String> {
        let (overlay, base) = (&self.rows[edge.overlay], &self.rows[edge.base]);
        if edge.how != How::Name && overlay.is_object() {
            return Some(beside(&name(overlay), &name(base)));
        }
        if edge.how == How::Moved {
            let pair = shell::pair(&overlay.path, &base.path);
            let (overlay, base) = (name(overlay), name(base));
            return Some(format!(
                "{overlay} is not where its base is, which may be {base}: where you know that it is, \
                 --base {pair} takes it"
            ));
        }
        if edge.how == How::Content && !edge.evidence.iter().any(is_recorded) {
            let pair = shell::pair(&overlay.path, "BASE");
            let (overlay, base) = (name(overlay), name(base));
            return Some(format!(
                "{overlay} is not where its base is: it holds what {base} does, but so may what that \
                 lies on or what lies on it, and neither name nor time are as recorded; where you \
                 know better, --base {pair} names it"
            ));
        }
        if let Some(format) = other_format(overlay).filter(|_| base.is_version1()) {
            let (overlay, base) = (name(overlay), name(base));
            return Some(format!("{overlay} takes {base}, which is version 1, for {format}"));
        }
        let format = base.seen.resembles.as_deref().filter(|_| base.seen.image.is_none());
        format
            .filter(|format| *format != "raw")
            .map(|format| format!("{} lies on {}, which is {format}", name(overlay), name(base)))
    }

    fn fates(&self, surveyor: &dyn Surveyor) -> Result<Vec<Fate>, String> {
        let mut fates: Vec<Fate> = Vec::new();
        for place in 0..self.rows.len() {
            let fate = match self.rows[place].is_version1() {
                true => self.version1(place, surveyor)?,
                false => self.other(place),
            };
            fates.push(fate);
        }
        match fates.iter().enumerate().find_map(|(place, fate)| self.stuck(place, fate)) {
            Some(obstacle) => Err(obstacle),
            None => Ok(fates),
        }
    }

    /// Why the original of an image cannot go where originals are kept.
    fn stuck(&self, place: usize, fate: &Fate) -> Option<String> {
        let Kept::Folder(folder) = &self.wishes.kept else { return None };
        let row = &self.rows[place];
        let is_moved = fate.strategy.replaces() || fate.strategy == Strategy::Quarantine;
        let is_stuck = is_moved && !row.is_object() && volume::is_elsewhere(&row.path, &folder.0);
        is_stuck.then(|| {
            format!(
                "{} cannot be kept in {}, which is on another file system: --keep-originals takes a \
                 folder on its own, or says beside",
                name(row),
                shown(&folder.0)
            )
        })
    }

    /// The fate of a file that is not version 1.
    fn other(&self, place: usize) -> Fate {
        let row = &self.rows[place];
        let base = self.base(place).filter(|_| row.seen.image.is_some());
        match base {
            Some((_, Edge { how: How::Content, .. })) => Fate::new(Strategy::Rebase, MOVED),
            Some((_, Edge { how: How::Confirmed, .. })) => Fate::new(Strategy::Rebase, CONFIRMED),
            Some((base, _)) if self.rows[base].is_version1() => {
                Fate::new(Strategy::Rebase, "its base is version 1, and will not be")
            }
            _ => Fate::new(Strategy::Leave, "is not version 1"),
        }
    }

    fn version1(&self, place: usize, surveyor: &dyn Surveyor) -> Result<Fate, String> {
        let row = &self.rows[place];
        if row.seen.class == Class::Damaged {
            return self.damaged(place, &format!("{} is damaged", name(row)));
        }
        match surveyor.survey(&row.path, &self.upgrade_options(place)) {
            Surveyed::Fits(tables) => Ok(Fate { tables: Some(tables), ..self.whole(place) }),
            Surveyed::Damaged(what) => self.damaged(place, &what),
            Surveyed::Unreadable(what) => Err(format!("{what}: scan again")),
            Surveyed::Unfit(what) if self.has_encrypted() => {
                Err(format!("{what}; its family is encrypted: convert it by hand"))
            }
            Surveyed::Unfit(what) if self.has_names(place) => Err(format!("{what}; {NAMES}")),
            Surveyed::Unfit(what) => {
                let reason = format!("cannot be upgraded where it lies: {what}");
                Ok(Fate::new(Strategy::Convert, self.and_original(row, reason)))
            }
        }
    }

    fn is_encrypted(&self, place: usize) -> bool {
        self.rows[place].seen.image.as_ref().is_some_and(|image| image.is_encrypted)
    }

    /// Whether the file has several names, of which a new file would take one.
    fn has_names(&self, place: usize) -> bool {
        self.rows[place].stamp.links > 1
    }

    /// Whether something of the family is encrypted, so that only what needs no passphrase is done.
    fn has_encrypted(&self) -> bool {
        (0..self.rows.len()).any(|place| self.is_encrypted(place))
    }

    /// The fate of a version 1 image that nothing is the matter with.
    fn whole(&self, place: usize) -> Fate {
        let (base, row) = (self.base(place), &self.rows[place]);
        if self.is_encrypted(place) {
            let reason = "stays encrypted as it is: nobody needs its passphrase";
            return Fate::new(Strategy::Upgrade, reason);
        }
        if self.wishes.way != Way::Upgrade && self.has_names(place) {
            return Fate::new(Strategy::Upgrade, NAMES);
        }
        if self.has_encrypted() {
            return Fate::new(
                Strategy::Upgrade,
                "only tables are written: its family is encrypted",
            );
        }
        match self.wishes.way {
            Way::Flatten if base.is_some() => {
                let reason = self.and_original(row, "gets what its bases hold".into());
                Fate::new(Strategy::Flatten, reason)
            }
            Way::Upgrade => {
                let reason = match base.map(|(_, edge)| edge.how) {
                    Some(How::Content) => MOVED,
                    Some(How::Confirmed) => CONFIRMED,
                    _ if row.is_object() => COPIED,
                    _ => "only tables are written",
                };
                Fate::new(Strategy::Upgrade, reason)
            }
            Way::Reflink if row.is_object() => Fate::new(Strategy::Upgrade, CLONES),
            Way::Reflink => match volume::without_clones(&row.path) {
                None => Fate::new(Strategy::Reflink, "a clone shares its blocks"),
                Some(kind) => {
                    let reason = format!("{kind} has no clones: only tables are written");
                    Fate::new(Strategy::Upgrade, reason)
                }
            },
            Way::Convert | Way::Flatten => {
                let reason = self.and_original(row, "gets clusters of 64 KiB".into());
                Fate::new(Strategy::Convert, reason)
            }
        }
    }

    /// The reason, and where the original of an object is then.
    fn and_original(&self, row: &Row, reason: String) -> String {
        match row.is_object() && self.wishes.kept != Kept::None {
            true => format!("{reason}; its original is kept as {}.calve-original", name(row)),
            false => reason,
        }
    }

    /// The reason, and where a damaged original is kept that all others are not.
    fn and_damaged(&self, row: &Row, what: &str) -> String {
        match self.wishes.kept {
            Kept::None => format!("{what}; it is kept as {}.calve-original", name(row)),
            _ => what.to_owned(),
        }
    }

    fn damaged(&self, place: usize, what: &str) -> Result<Fate, String> {
        let row = &self.rows[place];
        let is_alone = self.rows.len() == 1;
        if self.wishes.damaged != Damaged::Leave && self.has_names(place) {
            return Err(format!("{what}; {NAMES}"));
        }
        if self.wishes.damaged != Damaged::Leave && row.is_object() {
            return Err(format!("{what}; {FETCHED}"));
        }
        match self.wishes.damaged {
            Damaged::Rescue if self.is_readable(row) => {
                Ok(Fate::new(Strategy::Rescue, self.and_damaged(row, what)))
            }
            Damaged::Quarantine if is_alone => Ok(Fate::new(Strategy::Quarantine, what)),
            _ if row.is_object() => Err(format!("{what}; {FETCHED}")),
            _ => Err(format!("{what}: calve check tells more, calve rescue copies what is left")),
        }
    }

    /// Whether its header says how long the disk is.
    fn is_readable(&self, row: &Row) -> bool {
        row.seen
            .image
            .as_ref()
            .is_some_and(|image| image.virtual_size.is_some() && !image.is_encrypted)
    }

    /// The base of a member, by place, and how it was found.
    fn base(&self, place: usize) -> Option<(usize, &Edge)> {
        let edge = self.found.edges.iter().find(|edge| edge.overlay == place)?;
        Some((edge.base, edge))
    }

    /// The format of a member's base when all before the member are migrated.
    fn base_format(&self, place: usize) -> Option<&'static str> {
        let (base, _) = self.base(place)?;
        let is_image = self.rows[base].seen.image.is_some();
        Some(if is_image { Format::Qcow2.name() } else { Format::Raw.name() })
    }

    fn image(&self, family: u64, place: usize, fate: Fate, new: Option<&NewFile>) -> Image {
        let row = &self.rows[place];
        let number = |place: usize| u64::try_from(place).unwrap_or(u64::MAX);
        let base = self.base(place);
        let facts = row.seen.image.as_ref();
        let (strategy, size, tables) = (fate.strategy, row.stamp.size, fate.tables.as_ref());
        let [read, write, extra] = match row.is_object() {
            true => cost::of_object(strategy, size, tables),
            false => cost::bytes(strategy, (&row.path, size), tables, new),
        };
        let mut image = Image {
            family,
            order: number(place) + 1,
            of: number(self.rows.len()),
            path: PathText(row.path.clone()),
            strategy: fate.strategy,
            reason: fate.reason,
            class: row.seen.class.word().into(),
            format: facts.map(|facts| facts.format.clone()),
            packed: fate.tables.is_some_and(|tables| tables.is_packed),
            encrypted: self.is_encrypted(place),
            virtual_size: facts.and_then(|facts| facts.virtual_size),
            dialect: facts.and_then(|facts| facts.dialect.clone()),
            producer: facts.and_then(|facts| facts.producer.clone()),
            stamp: Stamp {
                device: row.stamp.device,
                inode: row.stamp.inode,
                size: row.stamp.size,
                modified: row.stamp.modified,
            },
            base: base.map(|(_, edge)| PathText(edge.path.clone())),
            base_order: base.map(|(base, _)| number(base) + 1),
            base_format: self.base_format(place).map(str::to_owned),
            base_moved: base.is_some_and(|(_, edge)| edge.how != How::Name),
            read,
            write,
            extra,
            seconds: [0.0; 2],
        };
        image.seconds = cost::seconds(&image, self.wishes.rate);
        image
    }
}

/// Why an object is left whose base has another key than it says.
fn beside(overlay: &str, base: &str) -> String {
    format!(
        "{overlay} is not where its base is, which may be {base}: copy one beside the other, and scan \
         again"
    )
}

/// Whether it is something that the overlay recorded of its base. What both hold is not enough
/// without: a base's own base, and its other overlays, hold much of the same.
fn is_recorded(evidence: &Evidence) -> bool {
    matches!(evidence, Evidence::Path { .. } | Evidence::Time { is_same: true })
}

fn name(row: &Row) -> String {
    let path: &Path = &row.path;
    shown(path)
}

/// The format that an overlay records of its base, where that is not version 1.
fn other_format(overlay: &Row) -> Option<&str> {
    let format = overlay.seen.image.as_ref()?.backing_format.as_deref()?;
    (format != Format::Qcow1.name()).then_some(format)
}
