//! Bases that somebody has named, who knows them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::{Evidence, Graph, How, Why, candidates, names};
use crate::catalogue::{Catalogue, Row};
use crate::error::{Error, Result};
use calve_disk::open::shown;

/// That an overlay lies on a base, as somebody says who knows it: both by paths of the catalogue.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Confirmed {
    /// The overlay.
    pub overlay: PathBuf,
    /// Its base.
    pub base: PathBuf,
}

impl Confirmed {
    fn refused(&self, what: String) -> Error {
        Error::Confirmed { overlay: self.overlay.clone(), base: self.base.clone(), what }
    }

    /// A file of the catalogue, of which this is one name.
    fn found(&self, catalogue: &Catalogue, path: &Path) -> Result<Row> {
        catalogue.find(path, &[])?.ok_or_else(|| {
            self.refused(format!("no scan into this catalogue has met {}", shown(path)))
        })
    }
}

/// The bases that were named, by the number of the overlay in the graph.
pub(super) fn resolved(
    graph: &Graph,
    catalogue: &Catalogue,
    confirmed: &[Confirmed],
) -> Result<BTreeMap<usize, (Confirmed, Row)>> {
    let overlays: BTreeMap<i64, usize> = graph
        .overlays
        .iter()
        .enumerate()
        .map(|(number, overlay)| (graph.members[overlay.member].row, number))
        .collect();
    let mut resolved: BTreeMap<usize, (Confirmed, Row)> = BTreeMap::new();
    for named in confirmed {
        let overlay = named.found(catalogue, &named.overlay)?;
        let base = named.found(catalogue, &named.base)?;
        let Some(number) = overlays.get(&overlay.id) else {
            return Err(named.refused("the overlay has no backing file, or is no image".into()));
        };
        if names::bucket(&overlay.path) != names::bucket(&base.path) {
            let what = "objects lie on objects of their bucket, and files on files";
            return Err(named.refused(what.into()));
        }
        if let Some((other, row)) = resolved.get(number)
            && row.id != base.id
        {
            let what = format!("{} is named as its base too", shown(&other.base));
            return Err(named.refused(what));
        }
        resolved.insert(*number, (named.clone(), base));
    }
    Ok(resolved)
}

impl Graph {
    /// Joins an overlay to the base that was named for it, after all whose names lead somewhere.
    pub(super) fn join_as_confirmed(
        &mut self,
        catalogue: &Catalogue,
        number: usize,
        (named, base): (Confirmed, Row),
    ) -> Result<()> {
        let overlay = self.overlays[number].clone();
        if let Some(own) = self.bases.get(&overlay.member) {
            let own = &self.members[*own];
            if own.row == base.id {
                return Ok(());
            }
            return Err(named.refused(format!(
                "at the name that the overlay has recorded lies {}, which QEMU takes",
                shown(&own.path)
            )));
        }
        let of_overlay = |broken: &super::Broken| broken.overlay == overlay.member;
        if self.broken.iter().any(|broken| of_overlay(broken) && broken.why == Why::Missing) {
            return Err(named.refused(
                "the name that the overlay has recorded leads over a link to a file that no scan has \
                 met: scan that too, or take the link away"
                    .into(),
            ));
        }
        if self.lies_on(base.id, overlay.member) {
            return Err(named.refused("that would lie on itself".into()));
        }
        self.broken.retain(|broken| !of_overlay(broken));
        let member = self.members[overlay.member].clone();
        let evidence: Vec<Evidence> = candidates::evidence(&member, &overlay, &base);
        self.edge(catalogue, &overlay, base.id, (named.base, How::Confirmed, evidence))
    }
}
