//! A disk of a domain, or what lies below or beside one: where it is and which format it has.

use std::path::Path;

use calve_disk::Format;
use calve_disk::open::escaped;

use super::value::{Value, encoded};
use crate::splices::Splices;
use crate::{Change, Changes};

/// What was read of it so far.
pub(super) struct Medium {
    /// Where it begins in the document.
    at: usize,
    /// Whether it is a file: others are named otherwise.
    is_file: bool,
    files: Vec<Value>,
    formats: Vec<Value>,
    /// The volume of a storage pool that it is.
    volume: Option<Value>,
}

impl Medium {
    /// One that begins with these attributes.
    pub(super) fn new(at: usize, attributes: Vec<(String, Value)>) -> Self {
        let (mut is_file, mut files, mut formats) = (true, Vec::new(), Vec::new());
        for (name, value) in attributes {
            match &*name {
                "type" => is_file = value.text.as_deref() == Some("file"),
                // How older versions of libvirt write a mirror, and newer ones still do beside
                // its elements.
                "file" => files.push(value),
                "format" => formats.push(value),
                _ => {}
            }
        }
        Self { at, is_file, files, formats, volume: None }
    }

    /// Takes what an element in it says.
    pub(super) fn take(&mut self, element: &str, attributes: Vec<(String, Value)>) {
        for (name, value) in attributes {
            match (element, &*name) {
                ("source", "file") => self.files.push(value),
                ("source", "volume") => self.volume = Some(value),
                ("driver" | "format", "type") => self.formats.push(value),
                _ => {}
            }
        }
    }

    /// Changes what names an image that changes.
    pub(super) fn settle(self, changes: &Changes, out: &mut Splices) {
        if !self.is_file {
            self.note_volume(changes, out);
            return;
        }
        let mut found = self.files.iter().map(|file| change_of(file, changes));
        let Some(first) = found.next() else { return };
        if found.any(|other| other != first) {
            out.note(self.at, "names several files, and stays as it is");
            return;
        }
        let Some(change) = first else {
            if let Some(file) = self.files.iter().find(|file| file.text.is_none()) {
                out.note(file.range.start, "has an entity of its own in a path, which is not read");
            }
            return;
        };
        self.settle_formats(change, out);
        if change.moves() {
            self.files.iter().for_each(|file| settle_path(file, change, out));
        }
    }

    fn settle_formats(&self, change: &Change, out: &mut Splices) {
        let new = change.format.name();
        if self.formats.is_empty() {
            let why = format!("names no format: libvirt takes it for raw, and it becomes {new}");
            out.note(self.at, why);
        }
        for format in &self.formats {
            match format.text.as_deref() {
                Some(old) if old == Format::Qcow1.name() => {
                    let what = ("format", &*change.old);
                    out.replace(format.range.clone(), new.into(), what, old, new);
                }
                Some(old) if old == new => {}
                other => {
                    let other = escaped(other.unwrap_or("what is not read").as_bytes());
                    let why = format!("has format {other}, not qcow: it stays, and is {new} now");
                    out.note(format.range.start, why);
                }
            }
        }
    }

    /// A volume is looked up in a pool, of which only libvirt knows where it is.
    fn note_volume(&self, changes: &Changes, out: &mut Splices) {
        let Some(volume) = &self.volume else { return };
        let Some(name) = volume.text.as_deref() else { return };
        if changes.iter().any(|change| change.old.file_name().is_some_and(|old| old == name)) {
            let why = "is a volume of a pool, and may be an image that changes; it stays";
            out.note(volume.range.start, why);
        }
    }
}

fn change_of<'c>(file: &Value, changes: &'c Changes) -> Option<&'c Change> {
    file.text.as_deref().and_then(|path| changes.of(Path::new(path)))
}

fn settle_path(file: &Value, change: &Change, out: &mut Splices) {
    let was = file.text.clone().unwrap_or_default();
    match change.new.to_str().and_then(|path| Some((path, encoded(path)?))) {
        Some((now, bytes)) => {
            let what = ("path", &*change.old);
            out.replace(file.range.clone(), bytes.into(), what, was, now);
        }
        None => out.note(file.range.start, "stays, since XML cannot say the new path"),
    }
}
