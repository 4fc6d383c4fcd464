//! Storages of Proxmox VE that are folders, and the volumes that lie in them.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use crate::Changes;
use crate::changes::normalised;

/// The folders of images of storages, by what the storages are called.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct Storages(BTreeMap<Vec<u8>, PathBuf>);

/// The name of a volume, taken apart.
pub(super) struct Volume {
    pub(super) storage: Vec<u8>,
    /// What a linked clone lies on.
    pub(super) base: Option<Image>,
    pub(super) image: Image,
}

/// An image in a storage: the number of a machine, and a file.
pub(super) struct Image {
    machine: Vec<u8>,
    pub(super) name: Vec<u8>,
}

impl Volume {
    /// The volume of that name, where it is one that can be a file in a folder of images.
    pub(super) fn parse(name: &[u8]) -> Option<Self> {
        let colon = name.iter().position(|byte| *byte == b':')?;
        let (storage, rest) = (name[..colon].to_vec(), &name[colon + 1..]);
        let is_name = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.".contains(byte);
        if storage.is_empty() || !storage.iter().all(is_name) {
            return None;
        }
        let parts: Vec<&[u8]> = rest.split(|byte| *byte == b'/').collect();
        match parts[..] {
            [machine, name] => Some(Self { storage, base: None, image: Image::of(machine, name)? }),
            [above, base, machine, name] => {
                let base = Some(Image::of(above, base)?);
                Some(Self { storage, base, image: Image::of(machine, name)? })
            }
            _ => None,
        }
    }
}

impl Image {
    fn of(machine: &[u8], name: &[u8]) -> Option<Self> {
        let is_number = !machine.is_empty() && machine.iter().all(u8::is_ascii_digit);
        let is_name = !matches!(name, b"" | b"." | b"..");
        (is_number && is_name).then(|| Self { machine: machine.to_vec(), name: name.to_vec() })
    }

    fn text(&self) -> Vec<u8> {
        [&self.machine[..], b"/", &self.name].concat()
    }
}

impl Storages {
    /// None.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds the storage `name`, of which the images lie in `images`, an absolute path; their
    /// folders there are called by the numbers of machines.
    pub fn add(&mut self, name: &str, images: &Path) {
        if let Some(images) = normalised(images) {
            self.0.insert(name.into(), images);
        }
    }

    /// Those of a `storage.cfg`. What has no folder is left out, and so is what cannot be
    /// understood.
    pub fn parse(bytes: &[u8]) -> Self {
        let mut storages = Self::new();
        let mut section = Section::default();
        for line in bytes.split(|byte| *byte == b'\n') {
            let text = line.trim_ascii();
            if line.starts_with(b"#") {
                continue;
            }
            if line.first().is_some_and(u8::is_ascii_whitespace) {
                section.take(text);
            } else {
                std::mem::replace(&mut section, Section::of(text)).end(&mut storages);
            }
        }
        section.end(&mut storages);
        storages
    }

    /// Where an image is.
    pub(super) fn path(&self, storage: &[u8], image: &Image) -> Option<PathBuf> {
        let folder = self.0.get(storage)?;
        Some(folder.join(OsStr::from_bytes(&image.text())))
    }

    /// The storage and the image at a path, in the storage `preferred` if it is in several.
    fn image_at(&self, path: &Path, preferred: &[u8]) -> Option<(&[u8], Image)> {
        let first = self.0.get_key_value(preferred);
        first.into_iter().chain(&self.0).find_map(|(storage, folder)| {
            let inside = path.strip_prefix(folder).ok()?.as_os_str().as_bytes();
            let slash = inside.iter().position(|byte| *byte == b'/')?;
            let (machine, name) = (&inside[..slash], &inside[slash + 1..]);
            let image = Image::of(machine, name).filter(|image| !image.name.contains(&b'/'))?;
            Some((&storage[..], image))
        })
    }

    /// What a volume is called when the changes are made, or that it keeps its name, or why it
    /// cannot be named.
    pub(super) fn moved(
        &self,
        volume: &Volume,
        changes: &Changes,
    ) -> Result<Option<PathBuf>, &'static str> {
        let new_place = |image: &Image| {
            let path = self.path(&volume.storage, image)?;
            changes.of(&path).filter(|change| change.moves()).map(|change| &change.new)
        };
        let (base, image) = (volume.base.as_ref().map(new_place), new_place(&volume.image));
        if base.flatten().is_none() && image.is_none() {
            return Ok(None);
        }
        let mut storage = &volume.storage[..];
        let mut text = volume.image.text();
        if let Some(path) = image {
            let Some((found, image)) = self.image_at(path, storage) else {
                return match volume.base {
                    // In no storage, but a path is as good as a volume.
                    None => Ok(Some(path.clone())),
                    Some(_) => Err("is a linked clone that becomes a file outside its storage"),
                };
            };
            (storage, text) = (found, image.text());
        }
        if let Some(old) = &volume.base {
            let mut beneath = old.text();
            if let Some(path) = base.flatten() {
                match self.image_at(path, storage) {
                    Some((found, image)) if found == storage => beneath = image.text(),
                    _ => return Err("is a linked clone whose base goes to another storage"),
                }
            } else if storage != volume.storage {
                return Err("is a linked clone that goes to another storage than its base");
            }
            text = [&beneath[..], b"/", &text].concat();
        }
        let name = [storage, b":", &text].concat();
        Ok(Some(PathBuf::from(OsStr::from_bytes(&name))))
    }
}

/// A storage as it is read.
#[derive(Default)]
struct Section {
    name: Vec<u8>,
    path: Option<PathBuf>,
    /// Where images lie within the storage.
    images: Option<PathBuf>,
}

impl Section {
    /// One that begins with this line: a type and a name.
    fn of(line: &[u8]) -> Self {
        let Some(colon) = line.iter().position(|byte| *byte == b':') else {
            return Self::default();
        };
        let (kind, name) = (&line[..colon], line[colon + 1..].trim_ascii());
        // What Proxmox mounts by itself, it mounts there.
        let path = matches!(kind, b"nfs" | b"cifs" | b"glusterfs")
            .then(|| Path::new("/mnt/pve").join(OsStr::from_bytes(name)));
        Self { name: name.to_vec(), path, images: None }
    }

    fn take(&mut self, line: &[u8]) {
        let end = line.iter().position(u8::is_ascii_whitespace).unwrap_or(line.len());
        let (key, value) = (&line[..end], line[end..].trim_ascii());
        match key {
            b"path" => self.path = Some(OsStr::from_bytes(value).into()),
            b"content-dirs" => {
                let mut parts = value.split(|byte| *byte == b',');
                let images = parts.find_map(|part| part.trim_ascii().strip_prefix(b"images="));
                self.images = images.map(|images| OsStr::from_bytes(images).into());
            }
            _ => {}
        }
    }

    fn end(self, storages: &mut Storages) {
        let Some(path) = self.path else { return };
        let inside = self.images.unwrap_or_else(|| "images".into());
        let inside = inside.strip_prefix("/").unwrap_or(&inside);
        if let Some(images) = normalised(&path.join(inside))
            && !self.name.is_empty()
        {
            storages.0.insert(self.name, images);
        }
    }
}
