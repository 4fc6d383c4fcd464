//! Plans as files: a JSON object a line, each with its `kind`.

use std::collections::HashSet;
use std::io::{BufRead, Write};
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::make::VERSION;
use crate::plan::{Family, Head, Image, Plan, Room, Total};

/// The longest line that is read: paths have at most some thousand bytes.
const MAX_LINE: u64 = 1 << 20;

#[derive(Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
enum Line {
    Plan(Head),
    Image(Image),
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
        line(Line::Image(image.clone()))?;
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
    let mut reader = Reader { path, line: 0, from };
    let Some(Line::Plan(head)) = reader.next()? else {
        return Err(reader.wrong("is not the first line of a plan"));
    };
    if head.version != VERSION {
        let what =
            format!("a plan of version {}, of which this program knows {VERSION}", head.version);
        return Err(reader.wrong(&what));
    }
    let (mut families, mut rooms, mut met) = (Vec::new(), Vec::new(), HashSet::new());
    while let Some(line) = reader.next()? {
        match line {
            Line::Plan(_) => return Err(reader.wrong("a second plan begins here")),
            Line::Image(image) => {
                add(&mut families, &mut met, image).map_err(|what| reader.wrong(&what))?;
            }
            Line::Room(room) => rooms.push(room),
            Line::Total(total) => {
                if let Some(family) = families.iter().find(|family| !is_whole(family)) {
                    let what = format!("images of family {} are missing above", family.number);
                    return Err(reader.wrong(&what));
                }
                return match reader.next()? {
                    None => Ok(Plan { head, families, rooms, total }),
                    Some(_) => Err(reader.wrong("comes behind the total")),
                };
            }
        }
    }
    Err(reader.wrong("the plan was cut: its last line, the total, is missing"))
}

/// Puts an image behind those of its family.
fn add(
    families: &mut Vec<Family>,
    met: &mut HashSet<u64>,
    image: Image,
) -> std::result::Result<(), String> {
    if families.last().is_none_or(|family| family.number != image.family) {
        if !met.insert(image.family) {
            return Err(format!("family {} was ended above", image.family));
        }
        families.push(Family { number: image.family, images: Vec::new() });
    }
    let number = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
    if let Some(family) = families.last_mut() {
        if image.order != number(family.images.len()) + 1 {
            return Err(format!(
                "image {} of family {} is not the next",
                image.order, image.family
            ));
        }
        if !image.path.0.is_absolute() {
            return Err("a path is not absolute".into());
        }
        family.images.push(image);
    }
    Ok(())
}

fn is_whole(family: &Family) -> bool {
    let count = u64::try_from(family.images.len()).unwrap_or(u64::MAX);
    family.images.iter().all(|image| image.of == count)
}

struct Reader<'a> {
    path: &'a Path,
    line: usize,
    from: &'a mut dyn BufRead,
}

impl Reader<'_> {
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
