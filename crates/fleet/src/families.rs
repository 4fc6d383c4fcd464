//! Families: images joined by their backing files, as far as the catalogue tells; no file is
//! opened, unless a caller lets contents vote.
//!
//! A family is what is planned and migrated together: no image of it has a base, or an overlay,
//! outside. A file with several names is one member.

mod candidates;
mod confirmed;
mod names;
mod tree;
mod votes;

use std::collections::HashMap;
use std::path::PathBuf;

use calve_scan::Class;

use crate::catalogue::{Catalogue, Row, Which};
use crate::error::{Error, Result};

pub use candidates::{Candidate, Evidence};
pub use confirmed::Confirmed;
pub use votes::{ContentVotes, Vote, Votes};

/// Images that belong together. Numbers of members are places in [`Family::members`].
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Family {
    /// Each base comes before its overlays, but in loops; otherwise in the order of paths.
    pub members: Vec<Member>,
    /// Who lies on whom: at most one for each overlay.
    pub edges: Vec<Edge>,
    /// Overlays whose base is not known.
    pub broken: Vec<Broken>,
    /// Members that lie on each other in a circle, each circle once: none of them can be read.
    pub loops: Vec<Vec<usize>>,
}

/// An image, or a file that is the base of one.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Member {
    /// Its row in the catalogue, by number.
    pub row: i64,
    /// Its path: of several names, the first in the order of paths.
    pub path: PathBuf,
    /// The name within the archive at that path, where it lies in one.
    pub member: Option<Vec<u8>>,
    /// Further names of the same file.
    pub names: Vec<PathBuf>,
    /// What it is.
    pub class: Class,
    /// The format that it is in, where it is QCOW of some kind; `None` is raw, or something else.
    pub format: Option<String>,
    /// The disk's length: of a file that is no image, the file's.
    pub virtual_size: Option<u64>,
    /// The file's length; of one in an archive, that of the archive.
    pub file_size: u64,
}

/// That an overlay lies on a base.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Edge {
    /// The overlay.
    pub overlay: usize,
    /// Its base.
    pub base: usize,
    /// The path under which the base was found: perhaps not its first name.
    pub path: PathBuf,
    /// How it was found.
    pub how: How,
    /// What speaks for it, and against it.
    pub evidence: Vec<Evidence>,
}

/// How a base was found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum How {
    /// It lies where the overlay says.
    Name,
    /// It lies elsewhere, and what is known of it fits it clearly better than any other file.
    Moved,
    /// What both hold says so.
    Content,
    /// Somebody has named it: [`Hints::confirmed`].
    Confirmed,
}

/// What helps where the name that an overlay has recorded leads to nothing.
#[derive(Clone, Copy, Default)]
pub struct Hints<'a> {
    /// Decides between candidates.
    pub votes: Option<&'a dyn Votes>,
    /// Bases that somebody has named.
    pub confirmed: &'a [Confirmed],
}

/// An overlay without a known base.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Broken {
    /// The overlay.
    pub overlay: usize,
    /// The name that it recorded.
    pub name: Vec<u8>,
    /// What is the matter.
    pub why: Why,
    /// Files that it may be, the most likely first.
    pub candidates: Vec<Candidate>,
}

/// Why the base of an overlay is not known.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Why {
    /// No scan has met a file of that name, over symbolic links or not, and no other is clearly it.
    Missing,
    /// The name is no file name but a protocol, which is never followed.
    Protocol,
}

impl Family {
    /// Whether a version 1 image is among its members.
    pub fn has_version1(&self) -> bool {
        let version1 = calve_disk::Format::Qcow1.name();
        self.members.iter().any(|member| member.format.as_deref() == Some(version1))
    }
}

/// The families of all images in a catalogue, in the order of their first members.
///
/// # Errors
/// [`Error::Catalogue`], and [`Error::Confirmed`] where a base that was named cannot be it.
pub fn families(catalogue: &Catalogue, hints: &Hints) -> Result<Vec<Family>> {
    let mut graph = Graph::load(catalogue)?;
    let mut confirmed = confirmed::resolved(&graph, catalogue, hints.confirmed)?;
    // What names say comes first: neither a person nor a guess may contradict it.
    let mut left = Vec::new();
    for number in 0..graph.overlays.len() {
        let is_settled = graph.join_by_name(catalogue, number)?;
        if !is_settled && !confirmed.contains_key(&number) {
            left.push(number);
        }
    }
    while let Some((number, named)) = confirmed.pop_first() {
        graph.join_as_confirmed(catalogue, number, named)?;
    }
    for number in left {
        graph.join_by_guess(catalogue, number, hints.votes)?;
    }
    Ok(tree::families(graph))
}

/// All members, before they are families.
#[derive(Default)]
struct Graph {
    members: Vec<Member>,
    /// The member of each row.
    places: HashMap<i64, usize>,
    overlays: Vec<Overlay>,
    edges: Vec<Edge>,
    /// The base of each overlay that has an edge.
    bases: HashMap<usize, usize>,
    broken: Vec<Broken>,
}

/// What an overlay recorded.
#[derive(Clone)]
struct Overlay {
    member: usize,
    name: Vec<u8>,
    time: Option<u32>,
}

impl Overlay {
    fn broken(&self, why: Why, candidates: Vec<Candidate>) -> Broken {
        Broken { overlay: self.member, name: self.name.clone(), why, candidates }
    }
}

impl Graph {
    fn load(catalogue: &Catalogue) -> Result<Self> {
        let mut graph = Self::default();
        catalogue.rows(Which::Notable, |row| {
            let image = row.seen.image.as_ref();
            let recorded = image.and_then(|image| image.backing_name.clone());
            let time = image.and_then(|image| image.backing_time);
            if image.is_some() && row.name_of.is_none() {
                let member = graph.add(catalogue, row)?;
                graph.overlays.extend(recorded.map(|name| Overlay { member, name, time }));
            }
            Ok::<(), Error>(())
        })?;
        Ok(graph)
    }

    /// The member of a row, which may be there already.
    fn add(&mut self, catalogue: &Catalogue, row: Row) -> Result<usize> {
        if let Some(place) = self.places.get(&row.id) {
            return Ok(*place);
        }
        let names = if row.stamp.links > 1 { catalogue.names_of(row.id)? } else { Vec::new() };
        let (format, virtual_size) = match row.seen.image {
            Some(image) => (Some(image.format), image.virtual_size),
            None => (None, Some(row.stamp.size)),
        };
        let place = self.members.len();
        self.places.insert(row.id, place);
        self.members.push(Member {
            row: row.id,
            path: row.path,
            member: row.member,
            names,
            class: row.seen.class,
            format,
            virtual_size,
            file_size: row.stamp.size,
        });
        Ok(place)
    }

    /// Finds the base of an overlay where its name leads; says whether that settles it.
    fn join_by_name(&mut self, catalogue: &Catalogue, number: usize) -> Result<bool> {
        let overlay = self.overlays[number].clone();
        let member = self.members[overlay.member].clone();
        if names::is_protocol(&member.path, &overlay.name) {
            self.broken.push(overlay.broken(Why::Protocol, Vec::new()));
            return Ok(true);
        }
        let Some((path, inside)) = names::place_of(&member, &overlay.name) else {
            return Ok(false);
        };
        let mut found = catalogue.find(&path, &inside)?;
        if found.is_none() && member.member.is_none() && !calve_scan::is_object(&member.path) {
            // Over symbolic links, which no scan follows. What is there is the base, and nothing
            // else is: one that no scan has seen is not guessed.
            if let Ok(real) = path.canonicalize() {
                found = catalogue.find(&real, &inside)?;
                if found.is_none() {
                    self.broken.push(overlay.broken(Why::Missing, Vec::new()));
                    return Ok(true);
                }
            }
        }
        let Some(row) = found else { return Ok(false) };
        let evidence = candidates::evidence(&member, &overlay, &row);
        self.edge(catalogue, &overlay, row.id, (path, How::Name, evidence))?;
        Ok(true)
    }

    /// Finds the base of an overlay whose name leads nowhere.
    fn join_by_guess(
        &mut self,
        catalogue: &Catalogue,
        number: usize,
        votes: Option<&dyn Votes>,
    ) -> Result<()> {
        let overlay = self.overlays[number].clone();
        let member = self.members[overlay.member].clone();
        let mut candidates = candidates::candidates(catalogue, &member, &overlay)?;
        // What lies on the overlay has what its base has, and is not that.
        candidates.retain(|candidate| !self.lies_on(candidate.row, overlay.member));
        let is_file = member.member.is_none() && !calve_scan::is_object(&member.path);
        if let Some(votes) = votes.filter(|_| is_file) {
            candidates::count_votes(&mut candidates, &member.path, votes);
        }
        match candidates::clear(&candidates) {
            Some(how) => {
                let best = candidates.swap_remove(0);
                self.edge(catalogue, &overlay, best.row, (best.path, how, best.evidence))
            }
            None => {
                self.broken.push(overlay.broken(Why::Missing, candidates));
                Ok(())
            }
        }
    }

    /// Whether a row is the member, or lies on it, over however many bases.
    fn lies_on(&self, row: i64, member: usize) -> bool {
        let mut next = self.places.get(&row).copied();
        // In a circle that names make it ends all the same.
        for _ in 0..=self.bases.len() {
            match next {
                Some(place) if place == member => return true,
                Some(place) => next = self.bases.get(&place).copied(),
                None => return false,
            }
        }
        false
    }

    fn edge(
        &mut self,
        catalogue: &Catalogue,
        overlay: &Overlay,
        row: i64,
        (path, how, evidence): (PathBuf, How, Vec<Evidence>),
    ) -> Result<()> {
        let base = match self.places.get(&row) {
            Some(place) => *place,
            None => match catalogue.row(row)? {
                Some(row) => self.add(catalogue, row)?,
                None => return Ok(()),
            },
        };
        self.bases.insert(overlay.member, base);
        self.edges.push(Edge { overlay: overlay.member, base, path, how, evidence });
        Ok(())
    }
}
