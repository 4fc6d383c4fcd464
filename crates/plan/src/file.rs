//! Plans as files: a JSON object a line, each with its `kind`.

use std::collections::HashSet;
use std::io::{BufRead, Write};
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::make::VERSION;
use crate::plan::{Family, Head, Image, Plan, Room, Strategy, Total};

/// The longest line that is read: paths have at most some thousand bytes.
const MAX_LINE: u64 = 1 << 20;

#[derive(Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
enum Line {
    Plan(Head),
    Image(Box<Image>),
    Room(Room),
    Total(Total),
}

/// Writes a plan: its head, its images in order, what is needed on each file system, the total.
///
/// # Errors
/// What `out` says.
pub fn write(plan: &Plan, out: &mut dyn Write) -> std::io::Result<()> {
    let mut line = |line: Line| -> std::io::Result<()> {
        serde_json::to_writer(&mut *out, &line)?;
        out.write_all(b"\n")
    };
    line(Line::Plan(plan.head.clone()))?;
    for image in plan.families.iter().flat_map(|family| &family.images) {
        line(Line::Image(Box::new(image.clone())))?;
    }
    for room in &plan.rooms {
        line(Line::Room(*room))?;
    }
    line(Line::Total(plan.total.clone()))
}

/// Reads a plan, and asserts that it is whole: that it has a last line, and all images of each
/// family. Whoever edits one takes out families, or lines of `room`; the total is not added up
/// again.
///
/// # Errors
/// [`Error::Line`] names the first line that is wrong.
pub fn read(path: &Path, from: &mut dyn BufRead) -> Result<Plan> {
    let mut reader = PlanReader::new(path, from)?;
    let mut families = Vec::new();
    while let Some(family) = reader.family()? {
        families.push(family);
    }
    let PlanReader { head, rooms, total, .. } = reader;
    Ok(Plan { head, families, rooms, total })
}

/// A plan read family by family: one that is long is never in memory as a whole.
pub struct PlanReader<'a> {
    lines: Lines<'a>,
    head: Head,
    rooms: Vec<Room>,
    total: Total,
    /// The first image of the next family.
    next: Option<Image>,
    met: HashSet<u64>,
    /// The first family that lacks images.
    short: Option<u64>,
    is_over: bool,
}

impl<'a> PlanReader<'a> {
    /// Reads the head.
    ///
    /// # Errors
    /// As [`read`].
    pub fn new(path: &'a Path, from: &'a mut dyn BufRead) -> Result<Self> {
        let mut lines = Lines { path, line: 0, from };
        let Some(Line::Plan(head)) = lines.next()? else {
            return Err(lines.wrong("is not the first line of a plan"));
        };
        if head.version != VERSION {
            let what = format!(
                "a plan of version {}, of which this program knows {VERSION}",
                head.version
            );
            return Err(lines.wrong(&what));
        }
        Ok(Self {
            lines,
            head,
            rooms: Vec::new(),
            total: Total::default(),
            next: None,
            met: HashSet::new(),
            short: None,
            is_over: false,
        })
    }

    /// What the first line says.
    pub fn head(&self) -> &Head {
        &self.head
    }

    /// The next family; `None` behind the last, and then the plan was whole.
    ///
    /// # Errors
    /// As [`read`]. A family that lacks images is an error at the end.
    pub fn family(&mut self) -> Result<Option<Family>> {
        let mut family = self.next.take().map(Family::of);
        while !self.is_over {
            match self.lines.next()? {
                None => {
                    let what = "the plan was cut: its last line, the total, is missing";
                    return Err(self.lines.wrong(what));
                }
                Some(Line::Plan(_)) => {
                    return Err(self.lines.wrong("a second plan begins here"));
                }
                Some(Line::Room(room)) => self.rooms.push(room),
                Some(Line::Total(total)) => self.end(total, family.as_ref())?,
                Some(Line::Image(image)) => {
                    let image = *image;
                    let ended = self.add(&mut family, image);
                    if let Some(ended) = ended.map_err(|what| self.lines.wrong(&what))? {
                        self.note(&ended);
                        return Ok(Some(ended));
                    }
                }
            }
        }
        Ok(family)
    }

    /// Puts an image behind those of its family. Where it is the first one of another, that which
    /// was ended by it.
    fn add(
        &mut self,
        family: &mut Option<Family>,
        image: Image,
    ) -> std::result::Result<Option<Family>, String> {
        let is_new = family.as_ref().is_none_or(|family| family.number != image.family);
        if is_new && !self.met.insert(image.family) {
            return Err(format!("family {} was ended above", image.family));
        }
        let known = family.as_ref().filter(|_| !is_new).map_or(0, |family| family.images.len());
        if image.order != number(known) + 1 {
            return Err(format!(
                "image {} of family {} is not the next",
                image.order, image.family
            ));
        }
        let is_object = calve_scan::is_object(&image.path.0);
        let is_for_files =
            matches!(image.strategy, Strategy::Reflink | Strategy::Rescue | Strategy::Quarantine);
        if is_object && is_for_files {
            return Err(format!("{} is for files alone", image.strategy.word()));
        }
        let first = family.as_ref().filter(|_| !is_new).and_then(|family| family.images.first());
        if first.is_some_and(|first| calve_scan::is_object(&first.path.0) != is_object) {
            return Err(format!("family {} has files and objects", image.family));
        }
        if !is_object && !image.path.0.is_absolute() {
            return Err("a path is not absolute".into());
        }
        match family {
            Some(family) if !is_new => {
                family.images.push(image);
                Ok(None)
            }
            Some(_) => {
                self.next = Some(image);
                Ok(family.take())
            }
            None => {
                *family = Some(Family::of(image));
                Ok(None)
            }
        }
    }

    fn end(&mut self, total: Total, last: Option<&Family>) -> Result<()> {
        if let Some(family) = last {
            self.note(family);
        }
        if let Some(number) = self.short {
            let what = format!("images of family {number} are missing above");
            return Err(self.lines.wrong(&what));
        }
        if self.lines.next()?.is_some() {
            return Err(self.lines.wrong("comes behind the total"));
        }
        (self.total, self.is_over) = (total, true);
        Ok(())
    }

    fn note(&mut self, family: &Family) {
        let count = number(family.images.len());
        if !family.images.iter().all(|image| image.of == count) {
            self.short.get_or_insert(family.number);
        }
    }
}

impl Family {
    fn of(first: Image) -> Self {
        Self { number: first.family, images: vec![first] }
    }
}

fn number(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}

struct Lines<'a> {
    path: &'a Path,
    line: usize,
    from: &'a mut dyn BufRead,
}

impl Lines<'_> {
    fn next(&mut self) -> Result<Option<Line>> {
        loop {
            let mut bytes = Vec::new();
            let mut limited = std::io::Read::take(&mut *self.from, MAX_LINE);
            let count = limited
                .read_until(b'\n', &mut bytes)
                .map_err(|source| Error::Host { path: self.path.to_owned(), source })?;
            self.line += 1;
            if count == 0 {
                return Ok(None);
            }
            if bytes.trim_ascii().is_empty() {
                continue;
            }
            return match serde_json::from_slice(&bytes) {
                Ok(line) => Ok(Some(line)),
                Err(error) => Err(self.wrong(&error.to_string())),
            };
        }
    }

    fn wrong(&self, what: &str) -> Error {
        Error::Line { path: self.path.to_owned(), line: self.line.max(1), what: what.into() }
    }
}
