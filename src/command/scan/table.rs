//! Rows, families and totals for people: lines of at most 60 columns, but for names.

use std::path::{Path, PathBuf};

use calve_disk::open::{escaped, shown};
use calve_fleet::{Candidate, Evidence, Family, How, OnDisk, Row, Totals, Why};
use calve_scan::{Class, ImageFacts};

use crate::print::{self, wrapped};

/// Where names, and what is told below them, begin.
const INDENT: usize = 26;

/// Writes names as short as they can be said from here.
pub(super) struct Table {
    folder: Option<PathBuf>,
}

impl Table {
    pub(super) fn new() -> Self {
        Self { folder: std::env::current_dir().ok() }
    }

    pub(super) fn heading() -> String {
        format!("{:<15}{:>9}  {}\n", "CLASS", "SIZE", "FILE")
    }

    /// A row: its class, the disk's size or else the file's, its name, and below it what is known.
    /// `first` is the row of which this one is a further name, or a copy that shares its blocks.
    pub(super) fn row(&self, row: &Row, first: Option<&Row>) -> String {
        let image = row.seen.image.as_ref();
        let size = image.and_then(|image| image.virtual_size).or(row.seen.size);
        let size = size.map(print::size).unwrap_or_default();
        let name = self.name(&row.path, row.member.as_deref());
        let mut text = format!("{:<15}{size:>9}  {name}\n", row.seen.class.word());
        let first = first.map(|first| self.name(&first.path, first.member.as_deref()));
        for detail in details(row, first.as_deref().unwrap_or("another file")) {
            text.push_str(&wrapped(&detail, INDENT));
        }
        text
    }

    fn name(&self, path: &Path, member: Option<&[u8]>) -> String {
        let below = self.folder.as_ref().and_then(|folder| path.strip_prefix(folder).ok());
        let path = below.filter(|below| !below.as_os_str().is_empty()).unwrap_or(path);
        let path = shown(path);
        match member {
            Some(member) => format!("{path}: {}", escaped(member)),
            None => path,
        }
    }

    /// A family of several, or one with something broken; of others there is nothing to say.
    pub(super) fn family(&self, family: &Family) -> Option<String> {
        if family.members.len() < 2 && family.broken.is_empty() && family.loops.is_empty() {
            return None;
        }
        let name = |place: usize| {
            let member = family.members.get(place)?;
            Some(self.name(&member.path, member.member.as_deref()))
        };
        let name = |place| name(place).unwrap_or_default();
        let mut text = format!("family of {}:\n", family.members.len());
        for (place, member) in family.members.iter().enumerate() {
            text.push_str(&format!("  {:<15}{}\n", member.class.word(), name(place)));
            for other in &member.names {
                text.push_str(&format!("{:17}also {}\n", "", self.name(other, None)));
            }
            for edge in family.edges.iter().filter(|edge| edge.overlay == place) {
                let how = match edge.how {
                    How::Name => "on",
                    How::Moved => "probably on",
                    How::Content => "by content on",
                    How::Confirmed => "as you say on",
                };
                text.push_str(&format!("{:17}{how} {}\n", "", name(edge.base)));
                if edge.evidence.contains(&Evidence::Time { is_same: false }) {
                    text.push_str(&wrapped("written to since the overlay was made", 17));
                }
            }
            for broken in family.broken.iter().filter(|broken| broken.overlay == place) {
                let base = escaped(&broken.name);
                let why = match broken.why {
                    Why::Missing => "missing",
                    Why::Protocol => "no file, and never followed",
                };
                text.push_str(&format!("{:17}on {base}: {why}\n", ""));
                for candidate in &broken.candidates {
                    text.push_str(&self.candidate(candidate));
                }
            }
        }
        for circle in &family.loops {
            let names: Vec<String> = circle.iter().map(|place| name(*place)).collect();
            text.push_str(&format!("  a loop, which nobody can read: {}\n", names.join(", ")));
        }
        Some(text)
    }

    fn candidate(&self, candidate: &Candidate) -> String {
        let name = self.name(&candidate.path, candidate.member.as_deref());
        let words = candidate.evidence.iter().map(|evidence| match evidence {
            Evidence::Path { parts: 1 } => "its name".to_owned(),
            Evidence::Path { parts } => format!("{parts} parts of its path"),
            Evidence::Size { is_same: true } => "as long".to_owned(),
            Evidence::Size { is_same: false } => "not as long".to_owned(),
            Evidence::Time { is_same: true } => "written when recorded".to_owned(),
            Evidence::Time { is_same: false } => "written at another time".to_owned(),
            Evidence::Content { same, of } => format!("{same} of {of} sectors alike"),
        });
        let words: Vec<String> = words.collect();
        let text = format!("{:19}perhaps {name}\n", "");
        text + &wrapped(&format!("{}: {}", candidate.score, words.join(", ")), 21)
    }
}

/// What is known of a row, part by part. `first` is the name of the file whose other name, or copy,
/// it is.
fn details(row: &Row, first: &str) -> Vec<String> {
    let mut details = Vec::new();
    let image = row.seen.image.as_ref();
    if let Some(image) = image {
        details.extend(image_details(row.seen.class, image));
    }
    if row.name_of.is_some() {
        details.push(format!("another name of {first}"));
    } else if row.reflink_of.is_some() {
        details.push(format!("shares all its blocks with {first}"));
    } else if let Some(shared) = row.blocks.and_then(|it| it.shared).filter(|it| *it > 0) {
        details.push(format!("shares {} with other files", print::size(shared)));
    }
    if row.blocks.is_some_and(|blocks| blocks.is_cut) {
        let most = calve_scan::limits::EXTENTS;
        details.push(format!("in more than {most} pieces: what it shares is not all known"));
    }
    for counted in &row.seen.findings {
        let statement = counted.rule().map_or("", |rule| rule.statement());
        let times =
            if counted.count > 1 { format!(", {} times", counted.count) } else { String::new() };
        details.push(format!("{} {statement}{times}", counted.rule));
    }
    let is_told = !row.seen.findings.is_empty() && row.seen.class == Class::Damaged;
    if let Some(problem) = row.seen.problem.as_ref().filter(|_| !is_told) {
        details.push(escaped(problem.as_bytes()));
    }
    if let (None, Some(resembles)) = (image, &row.seen.resembles) {
        details.push(resembles.clone());
    }
    details
}

fn image_details(class: Class, image: &ImageFacts) -> Vec<String> {
    let mut details = Vec::new();
    let is_told = matches!(class, Class::Version1 | Class::Version1Misnamed);
    if image.is_version1() && !is_told {
        details.push("version 1".to_owned());
    }
    let known = image.producer.as_ref().filter(|producer| *producer != "unknown");
    details.extend(known.map(|producer| format!("by {producer}")));
    if image.dialect.as_deref() == Some("xen-little-endian") {
        details.push("in Xen's byte order".to_owned());
    }
    if image.is_encrypted {
        details.push("encrypted".to_owned());
    }
    details.extend(image.backing_name.as_ref().map(|name| format!("on {}", escaped(name))));
    details
}

/// How many there are of each class, and how many of version 1 in all.
///
/// `disk` is what the images take on their devices.
pub(super) fn totals(totals: &[Totals], version1: u64, disk: OnDisk) -> String {
    let words: Vec<String> =
        totals.iter().map(|totals| format!("{} {}", totals.count, totals.class)).collect();
    let all = if words.is_empty() { "no files".to_owned() } else { words.join(", ") };
    let shared = on_disk(disk).map(|text| wrapped(&text, 0)).unwrap_or_default();
    shared + &wrapped(&format!("{all}; version 1 images: {version1}"), 0)
}

/// What images share, where they share anything.
fn on_disk(disk: OnDisk) -> Option<String> {
    if disk.copies == 0 && disk.shared == 0 {
        return None;
    }
    let mut text = format!("images on disk: {}", print::size(disk.bytes));
    if disk.copies > 0 {
        text.push_str(&format!(", with {} reflink copies counted once", disk.copies));
    }
    if disk.shared > 0 {
        text.push_str(&format!(", of which other files have {} too", print::size(disk.shared)));
    }
    Some(text)
}
