//! Zip files, by their directory, one member at a time: no more of it is in memory, however many
//! members it claims to have. The crate calls that reader unstable, so that a new version of it
//! may want another line or two here.

use std::io;

use zip::read::Config;
use zip::unstable::read::ZipIterable;
use zip::{CompressionMethod, ZipReadOptions};

use super::{Bounded, Search, Stream, TOO_LONG};
use crate::start::Positioned;

/// Looks into a zip file.
pub(super) fn in_file(file: &Positioned<'_>, search: &mut Search<'_>) -> io::Result<()> {
    let mut directory = ZipIterable::try_new(file.clone(), Config::default())?;
    for entry in directory.files()? {
        let entry = entry?;
        let name = entry.name_raw().to_vec();
        if name.ends_with(b"/") {
            continue;
        }
        let size = Some(entry.size());
        let is_stored = entry.compression() == CompressionMethod::Stored
            && entry.compressed_size() == entry.size();
        let mut body = file.clone();
        let opened = entry.with_reader(&mut body, ZipReadOptions::new());
        match opened {
            Ok(member) => {
                let in_place = member.data_start().filter(|_| is_stored && !member.encrypted());
                let mut bounded = Bounded::new(member, search.left, TOO_LONG);
                search.stream(&mut bounded, &Stream { name, size, in_place, depth: 1 }, false);
            }
            Err(error) => search.note(&name, &error),
        }
    }
    Ok(())
}
