//! How members of a family are looked at: what an upgrade would do, and which file would be made.

use calve_disk::{Format, HostErrors, OpenOptions};
use calve_upgrade::Options;

use super::Members;
use crate::plan::{Kept, Strategy};
use crate::room::{NewFile, Source};
use crate::survey::Surveyor;

impl Members<'_> {
    /// How a version 1 image would be upgraded.
    pub(super) fn upgrade_options(&self, place: usize) -> Options {
        Options {
            backing_format: self.base_format(place).map(str::to_owned),
            // What is kept for days is held for them.
            holds: matches!(self.wishes.kept, Kept::Days(_)),
            ..Options::default()
        }
    }

    /// The file that is to be made for a member; none of an object, whose bucket has room.
    pub(super) fn new_file(
        &self,
        place: usize,
        strategy: Strategy,
        surveyor: &dyn Surveyor,
    ) -> Option<NewFile> {
        let row = &self.rows[place];
        let is_new = strategy.replaces() && strategy != Strategy::Reflink;
        if !is_new || row.is_object() {
            return None;
        }
        let base = self.base(place).filter(|_| strategy == Strategy::Convert);
        let source = Source {
            path: &row.path,
            open: self.open_options(place, strategy),
            base_size: base.map(|(base, _)| {
                let row = &self.rows[base];
                let known = row.seen.image.as_ref().and_then(|image| image.virtual_size);
                known.unwrap_or(row.stamp.size)
            }),
            virtual_size: row.seen.image.as_ref().and_then(|image| image.virtual_size),
        };
        Some(NewFile::of(&source, &|| surveyor.is_stopped()))
    }

    /// How a member is opened to see what a new file has of it: where that holds all, with all that
    /// the member lies on.
    fn open_options(&self, place: usize, strategy: Strategy) -> OpenOptions {
        let mut open = OpenOptions {
            format: Some(Format::Qcow1),
            with_bases: strategy != Strategy::Convert,
            ..OpenOptions::default()
        };
        if strategy == Strategy::Rescue {
            open.host_errors = HostErrors::Lose;
        }
        let mut above = place;
        while let Some((base, edge)) = self.base(above).filter(|_| open.with_bases) {
            // A family of which some lie on themselves is left.
            if open.bases.len() == self.rows.len() {
                break;
            }
            let image = self.rows[base].seen.image.as_ref();
            let format = image.and_then(|image| Format::from_name(&image.format));
            open.bases.push(edge.path.clone());
            open.base_formats.push(format.unwrap_or(Format::Raw));
            above = base;
        }
        open
    }
}
