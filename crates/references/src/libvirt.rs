//! Domains of libvirt. An XML reader says where values stand; bytes are spliced there and never
//! written anew, so that everything else stays what it is.

mod medium;
mod value;

use std::path::Path;

use calve_disk::open::escaped;
use quick_xml::Reader;
use quick_xml::events::{BytesDecl, BytesStart, Event};

use crate::error::{Error, Result};
use crate::limits::{MAX_ATTRIBUTES, MAX_DEPTH};
use crate::mention::mention;
use crate::splices::{Splices, line};
use crate::{Changes, Rewritten};
use medium::Medium;
use value::Value;

/// What the documents begin with that have the disks of a domain.
const ROOTS: [&str; 4] = ["domain", "domainsnapshot", "domaincheckpoint", "domstatus"];

/// Whether this is such a document, by its first element.
pub(crate) fn is_domain(bytes: &[u8]) -> bool {
    let text = bytes.utf8_chunks().next().map(|chunk| chunk.valid()).unwrap_or_default();
    let mut reader = Reader::from_str(text);
    loop {
        match reader.read_event() {
            Ok(Event::Start(tag) | Event::Empty(tag)) => return ROOTS.contains(&tag.name().0),
            // Text before the first element makes it no XML.
            Ok(Event::Text(text)) if !is_blank(&text) => return false,
            Ok(Event::Eof) | Err(_) => return false,
            Ok(_) => {}
        }
    }
}

fn is_blank(text: &str) -> bool {
    text.trim_start_matches('\u{FEFF}').trim().is_empty()
}

/// What the document has to be.
pub(crate) fn rewrite(path: &Path, bytes: &[u8], changes: &Changes) -> Result<Rewritten> {
    let unreadable = |at: usize, why: String| {
        Err(Error::Unreadable { path: path.to_owned(), line: line(bytes, at), why })
    };
    let text = match str::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) => return unreadable(error.valid_up_to(), "is not UTF-8".into()),
    };
    let mut walk = Walk { text, changes, elements: Vec::new(), out: Splices::new(bytes) };
    let mut reader = Reader::from_str(text);
    loop {
        let at = usize::try_from(reader.buffer_position()).unwrap_or(usize::MAX);
        let event = match reader.read_event() {
            Ok(event) => event,
            Err(error) => return unreadable(at, escaped(error.to_string().as_bytes())),
        };
        let step = match event {
            Event::Start(tag) => walk.open(&tag, at),
            Event::Empty(tag) => walk.open(&tag, at).map(|()| walk.close()),
            Event::End(_) => {
                walk.close();
                Ok(())
            }
            Event::Decl(declaration) => require_utf8(&declaration),
            Event::Eof if walk.elements.is_empty() => break,
            Event::Eof => Err("ends inside an element".into()),
            _ => Ok(()),
        };
        if let Err(why) = step {
            return unreadable(at, why);
        }
    }
    Ok(walk.out.finish())
}

fn require_utf8(declaration: &BytesDecl) -> std::result::Result<(), String> {
    match declaration.encoding() {
        None => Ok(()),
        Some(Ok(name)) if ["utf-8", "us-ascii"].contains(&&*name.to_lowercase()) => Ok(()),
        Some(Ok(name)) => Err(format!("says that it is {}, not UTF-8", escaped(name.as_bytes()))),
        Some(Err(error)) => Err(error.to_string()),
    }
}

/// The way through a document.
struct Walk<'t> {
    text: &'t str,
    changes: &'t Changes,
    /// From the root to where the way is.
    elements: Vec<Element>,
    out: Splices<'t>,
}

/// An element that is open.
struct Element {
    role: Role,
    medium: Option<Medium>,
}

/// What elements are within which others are looked for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Role {
    /// Of another program, as everything in it.
    Foreign,
    /// What has disks in it.
    Disks,
    /// A disk, or what lies below or beside one.
    Medium,
    /// Where such a medium is.
    Source,
    /// What has arguments for QEMU in it.
    CommandLine,
    Other,
}

impl Walk<'_> {
    fn open(&mut self, tag: &BytesStart, at: usize) -> std::result::Result<(), String> {
        if self.elements.len() >= MAX_DEPTH {
            return Err(format!("has more than {MAX_DEPTH} elements within each other"));
        }
        let parent = self.elements.last().map(|element| element.role);
        let name = tag.name().0;
        let role = match (parent, name) {
            (Some(Role::Foreign), _) | (_, "metadata") => Role::Foreign,
            (_, "devices" | "disks" | "chains") => Role::Disks,
            (Some(Role::Disks), "disk") => Role::Medium,
            (Some(Role::Medium), "backingStore" | "mirror") => Role::Medium,
            (Some(Role::Source), "dataStore") => Role::Medium,
            (Some(Role::Medium), "source") => Role::Source,
            (_, "qemu:commandline") => Role::CommandLine,
            _ => Role::Other,
        };
        if name == "domstatus" && parent.is_none() {
            self.out.note(at, "is the state of a running domain, which libvirt writes anew");
        }
        let attributes = self.attributes(tag)?;
        let mut medium = None;
        match role {
            Role::Foreign => {}
            Role::Medium => medium = Some(Medium::new(at, attributes)),
            _ => self.tell_parent(parent, name, attributes),
        }
        self.elements.push(Element { role, medium });
        Ok(())
    }

    fn attributes(&self, tag: &BytesStart) -> std::result::Result<Vec<(String, Value)>, String> {
        let mut attributes = Vec::new();
        for attribute in tag.attributes() {
            if attributes.len() == MAX_ATTRIBUTES {
                return Err(format!("has an element with more than {MAX_ATTRIBUTES} attributes"));
            }
            let attribute = attribute.map_err(|error| error.to_string())?;
            let value = Value::of(&attribute, self.text)?;
            attributes.push((attribute.key.0.to_owned(), value));
        }
        Ok(attributes)
    }

    /// What an element means for the one that it is in.
    fn tell_parent(&mut self, parent: Option<Role>, name: &str, attributes: Vec<(String, Value)>) {
        let wanted = |wanted: &str| attributes.iter().find(|(name, _)| name == wanted);
        match parent {
            Some(Role::CommandLine) => {
                let Some((_, value)) = wanted("value") else { return };
                let text = value.text.as_deref().unwrap_or_default();
                if let Some(what) = mention(text, self.changes) {
                    let why = format!("is an argument for QEMU about {what}, and stays");
                    self.out.note(value.range.start, why);
                }
            }
            Some(Role::Medium) => {
                let medium = self.elements.last_mut().and_then(|element| element.medium.as_mut());
                if let Some(medium) = medium {
                    medium.take(name, attributes);
                }
            }
            _ => {}
        }
    }

    fn close(&mut self) {
        if let Some(Element { medium: Some(medium), .. }) = self.elements.pop() {
            medium.settle(self.changes, &mut self.out);
        }
    }
}
