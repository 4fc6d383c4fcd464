//! Writing into what is there: an existing qcow2 image has to be blank.

use calve_disk::units::{ClusterSize, HostOffset};
use calve_disk::{
    Disk, Error as DiskError, Format, HostFile, OpenOptions, Payload, Storage, StorageMut,
};

use crate::error::{Error, Result};
use crate::options::{Options, Placement, TargetFormat};
use crate::output::Output;

/// What is kept of an existing image.
pub(crate) struct Existing {
    pub(crate) virtual_size: u64,
    pub(crate) cluster_size: ClusterSize,
}

/// Looks at the image that is to be written into. It must hold nothing: what it has would be
/// neither kept nor told from what is written.
pub(crate) fn existing(output: &Output) -> Result<Existing> {
    let refused = |why: &str| Error::Target { path: output.path.clone(), why: why.to_owned() };
    let options =
        OpenOptions { format: Some(Format::Qcow2), force_share: true, ..OpenOptions::default() };
    let disk = Disk::open(&output.path, &options)?;
    let facts = disk.top().facts();
    if facts.backing.is_some() {
        return Err(refused("has a backing file; write a new image with -B instead"));
    }
    for extent in disk.extents(disk.range()) {
        if !matches!(extent?.payload, Payload::Hole { .. }) {
            return Err(refused("holds data already; only a blank qcow2 image is written into"));
        }
    }
    let Some(cluster_size) = facts.cluster_size else {
        return Err(refused("has no cluster size"));
    };
    Ok(Existing { virtual_size: facts.virtual_size, cluster_size })
}

/// Takes an existing qcow2 image's header away before anything else is written, so that what is
/// half written is no image.
pub(crate) fn begin(file: &HostFile, options: &Options) -> Result<()> {
    let is_existing = matches!(options.placement, Placement::Existing { .. });
    if !is_existing || matches!(options.format, TargetFormat::Raw) {
        return Ok(());
    }
    let at = HostOffset::new(0);
    file.write_at(&[0; 512], at)
        .map_err(|source| DiskError::io("taking the old header away", file, at, source))?;
    file.sync().map_err(|source| DiskError::host("syncing", file.path(), source))?;
    Ok(())
}
