//! Witness: looks at the files of disks, before and after somebody works with them.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use calve_disk::open::{FileIdentity, OpenedFile, open_for_reading};
use calve_disk::{Disk, Error as DiskError, HostFile, Layer, Storage};
use serde::Serialize;

use crate::Control;
use crate::error::Result;
use crate::look::{self, Look};

/// Looks at files, and remembers what it saw.
#[derive(Default)]
pub struct Witness {
    files: Vec<Watched>,
    drops_cache: bool,
}

/// What a file is to the disk that is read.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// The image that was named.
    Image,
    /// A file behind it.
    Base,
    /// Where a qcow2 image keeps its data.
    DataFile,
}

/// One file, under all names that it was read by.
pub(crate) struct Watched {
    pub(crate) names: Vec<(Role, PathBuf)>,
    pub(crate) before: Option<Look>,
    pub(crate) after: Option<Look>,
    identity: FileIdentity,
    /// Kept open, so that the second look is at the same file.
    file: File,
}

impl Watched {
    /// Whether its bytes are what they were; `None` where that cannot be told.
    pub(crate) fn is_unchanged(&self) -> Option<bool> {
        self.before.as_ref()?.has_same_bytes(self.after.as_ref()?)
    }

    fn path(&self) -> &Path {
        &self.names[0].1
    }

    fn look(&self, drops_cache: bool, control: &Control) -> Result<Look> {
        let path = self.path();
        let file = self.file.try_clone().map_err(|error| looked(path, error))?;
        let file = HostFile::new(file, path.to_owned());
        Look::at(&if drops_cache { file.dropping_cache() } else { file }, control)
    }
}

impl Witness {
    /// Gives the page cache of what is looked at back at once.
    pub fn drop_cache(&mut self) {
        self.drops_cache = true;
    }

    /// Looks at the file that is to be opened as an image. What is no file with bytes of its own
    /// is left to whoever opens it.
    ///
    /// # Errors
    /// [`crate::Error::Stopped`], and where the host does not tell what it is.
    pub fn see_named(&mut self, path: &Path, control: &Control) -> Result<()> {
        match open_for_reading(path) {
            Ok(file) => self.see_file(Role::Image, path, file, control),
            Err(_) => Ok(()),
        }
    }

    /// Looks at a file that is open already. It stays open as long as the witness is there, and so
    /// do locks on it, whoever has a copy of the descriptor.
    ///
    /// # Errors
    /// As [`Witness::see_named`].
    pub fn see_opened(&mut self, role: Role, file: &OpenedFile, control: &Control) -> Result<()> {
        let path = file.path();
        let file = file.file().try_clone().map_err(|error| looked(path, error))?;
        self.see_file(role, path, file, control)
    }

    /// Looks at those files of an open disk that were not seen yet. All stay open as long as the
    /// witness is there, and locked as the disk locked them.
    ///
    /// # Errors
    /// As [`Witness::see_named`].
    pub fn see(&mut self, disk: &Disk, control: &Control) -> Result<()> {
        for (number, layer) in disk.layers().iter().enumerate() {
            let role = if number == 0 { Role::Image } else { Role::Base };
            self.see_storage(role, &layer.path, layer.image.storage(), control)?;
            if let Some(storage) = data_file(layer) {
                self.see_storage(Role::DataFile, storage.path(), storage, control)?;
            }
        }
        Ok(())
    }

    /// Looks at all files for a second time, unless it did so already.
    ///
    /// # Errors
    /// As [`Witness::see_named`].
    pub fn look_again(&mut self, control: &Control) -> Result<()> {
        for watched in self.files.iter_mut().filter(|watched| watched.after.is_none()) {
            watched.after = Some(watched.look(self.drops_cache, control)?);
        }
        Ok(())
    }

    /// The first file that is known to have other bytes than it had.
    pub fn changed(&self) -> Option<&Path> {
        let has_changed = |watched: &&Watched| watched.is_unchanged() == Some(false);
        self.files.iter().find(has_changed).map(Watched::path)
    }

    /// Why the first file of which that cannot be told has no digests; `None` too where only the
    /// second look is missing.
    pub fn undigested(&self) -> Option<&str> {
        let looks = self.files.iter().flat_map(|watched| [&watched.before, &watched.after]);
        looks.flatten().find_map(Look::error)
    }

    pub(crate) fn files(&self) -> &[Watched] {
        &self.files
    }

    fn see_storage(
        &mut self,
        role: Role,
        path: &Path,
        storage: &dyn Storage,
        control: &Control,
    ) -> Result<()> {
        // What is no file of the host is nobody's evidence.
        let Some(file) = storage.as_file() else { return Ok(()) };
        let file = file.try_clone().map_err(|error| looked(path, error))?;
        self.see_file(role, path, file, control)
    }

    fn see_file(&mut self, role: Role, path: &Path, file: File, control: &Control) -> Result<()> {
        let metadata = file.metadata().map_err(|error| looked(path, error))?;
        if !look::has_bytes(&metadata) {
            return Ok(());
        }
        let identity = FileIdentity::of(&file).map_err(|error| looked(path, error))?;
        let name = (role, path.to_owned());
        if let Some(known) = self.files.iter_mut().find(|known| known.identity == identity) {
            // The disk's own descriptor has the locks.
            known.file = file;
            if !known.names.contains(&name) {
                known.names.push(name);
            }
            return Ok(());
        }
        let names = vec![name];
        self.files.push(Watched { names, before: None, after: None, identity, file });
        let drops_cache = self.drops_cache;
        let Some(watched) = self.files.last_mut() else { return Ok(()) };
        watched.before = Some(watched.look(drops_cache, control)?);
        Ok(())
    }
}

/// Where the layer keeps its data, if not in itself.
fn data_file(layer: &Layer) -> Option<&dyn Storage> {
    let (data, itself) = (layer.image.data_storage(), layer.image.storage());
    (!std::ptr::addr_eq(data, itself)).then_some(data)
}

fn looked(path: &Path, error: io::Error) -> DiskError {
    DiskError::host("looking at the file", path, error)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;

    use calve_disk::OpenOptions;
    use calve_testkit::Builder;

    use super::*;
    use crate::Error;

    fn control(stop: &AtomicBool) -> Control<'_> {
        Control { stop, progress: &|_, _| {} }
    }

    /// A folder with an overlay and its base.
    fn folder() -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("base"), [1; 4096]).unwrap();
        let path = folder.path().join("overlay");
        std::fs::write(&path, Builder::new(9, 12, 4096).backing(b"base").build()).unwrap();
        (folder, path)
    }

    fn open(path: &Path) -> Disk {
        Disk::open(path, &OpenOptions { with_bases: true, ..OpenOptions::default() }).unwrap()
    }

    #[test]
    fn each_file_is_looked_at_once_at_either_end() {
        let ((_folder, path), stop) = (folder(), AtomicBool::new(false));
        let looks = std::cell::Cell::new(0);
        // A file of one portion tells of its progress once.
        let progress = |_, _| looks.set(looks.get() + 1);
        let control = Control { stop: &stop, progress: &progress };
        let mut witness = Witness::default();
        witness.see_named(&path, &control).unwrap();
        let disk = open(&path);
        witness.see(&disk, &control).unwrap();
        witness.see(&disk, &control).unwrap();
        assert_eq!((looks.get(), witness.files().len()), (2, 2));
        witness.look_again(&control).unwrap();
        witness.look_again(&control).unwrap();
        assert_eq!((looks.get(), witness.changed()), (4, None));
        assert_eq!(witness.undigested(), None);
    }

    #[test]
    fn a_base_that_changes_or_becomes_shorter_is_named() {
        for content in [&[2; 4096][..], &[1; 512], &[1; 8192]] {
            let ((folder, path), stop) = (folder(), AtomicBool::new(false));
            let mut witness = Witness::default();
            witness.see(&open(&path), &control(&stop)).unwrap();
            let base = folder.path().join("base");
            std::fs::write(&base, content).unwrap();
            witness.look_again(&control(&stop)).unwrap();
            assert_eq!(witness.changed(), Some(&*base), "{} bytes", content.len());
        }
    }

    #[test]
    fn what_is_no_file_is_left_to_whoever_opens_it_and_a_stop_is_heeded() {
        let ((folder, path), stop) = (folder(), AtomicBool::new(false));
        let mut witness = Witness::default();
        for path in [folder.path(), &folder.path().join("missing"), Path::new("/dev/zero")] {
            witness.see_named(path, &control(&stop)).unwrap();
        }
        assert!(witness.files().is_empty());
        let stopped = witness.see_named(&path, &control(&AtomicBool::new(true)));
        assert!(matches!(stopped, Err(Error::Stopped)));
        assert_eq!((witness.changed(), witness.undigested()), (None, None));
    }
}
