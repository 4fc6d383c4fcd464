//! Carving: what lies in the file that nothing refers to any more, each find in a file of its own.
//!
//! Nothing of what is found is believed: a find is bytes, and where they lay. Which guest bytes
//! they were the format does not record, but in a table that is an orphan itself.

mod files;
mod grid;
mod scan;
mod table;
mod window;

use std::path::Path;

use calve_disk::codec::Unpacker;
use calve_disk::units::{HostOffset, in_memory};
use calve_disk::{Error, Image, Result, Specific};
use serde_json::json;

use crate::layout::{Label, layout};
use crate::require_claims;
use files::{Finds, Found};
use grid::Grid;
use scan::{Piece, Scan};
use table::Shape;
use window::Window;

/// Files that are made at most.
pub const MOST_FILES: u64 = 1_000_000;

/// All unpacked clusters together may be so many times as long as the image's file.
pub const MOST_GROWTH: u64 = 256;

/// What a find is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// Whole clusters that follow one another in the file.
    Cluster,
    /// A packed cluster, unpacked.
    Packed,
    /// An L2 table.
    Table,
    /// Bytes that are none of these.
    Rest,
}

impl Kind {
    /// The kind in one word, which its files' names begin with.
    pub const fn word(self) -> &'static str {
        match self {
            Kind::Cluster => "cluster",
            Kind::Packed => "packed",
            Kind::Table => "table",
            Kind::Rest => "rest",
        }
    }
}

/// How carving ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ending {
    /// All of the file was looked at.
    Whole,
    /// A limit was reached at this place, and nothing behind it was looked at: [`MOST_FILES`] or
    /// [`MOST_GROWTH`].
    Limit {
        /// The first byte that was not looked at.
        at: HostOffset,
    },
    /// The caller asked for the end; there is no manifest.
    Stopped,
}

/// What was found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Carved {
    /// Files of each kind, in the order of the variants of [`Kind`].
    pub files: [u64; 4],
    /// Bytes of the image's file that the finds of each kind took.
    pub bytes: [u64; 4],
    /// Bytes that nothing refers to, zeros and holes included.
    pub unreferenced: u64,
    /// How it ended.
    pub ending: Ending,
}

/// Looks for what nothing refers to.
pub struct Carver<'a> {
    image: &'a dyn Image,
    version: &'a str,
    is_stopped: &'a dyn Fn() -> bool,
    unpacker: Unpacker,
    unpacked: Vec<u8>,
    unpacked_in_all: u64,
    carved: Carved,
}

impl<'a> Carver<'a> {
    /// Of an image. `is_stopped` is asked now and then; `version` is the program's, for the
    /// manifest.
    ///
    /// # Errors
    /// [`Error::Unsupported`] where the image is not version 1.
    pub fn new(
        image: &'a dyn Image,
        version: &'a str,
        is_stopped: &'a dyn Fn() -> bool,
    ) -> Result<Self> {
        require_claims(image)?;
        let cluster = image.facts().cluster_size.map_or(0, calve_disk::units::ClusterSize::bytes);
        Ok(Self {
            image,
            version,
            is_stopped,
            unpacker: Unpacker::default(),
            unpacked: vec![0; in_memory(cluster)],
            unpacked_in_all: 0,
            carved: Carved { files: [0; 4], bytes: [0; 4], unreferenced: 0, ending: Ending::Whole },
        })
    }

    /// How many files were made so far.
    pub fn files_made(&self) -> u64 {
        self.carved.files.iter().sum()
    }

    /// Writes what is found to files in `folder`, which is there and empty, with the permissions
    /// `mode`, and at the end `manifest.json`, which tells of each of them.
    ///
    /// # Errors
    /// Where the host fails. What was written by then stays, without a manifest.
    pub fn run(&mut self, folder: &Path, mode: u32) -> Result<Carved> {
        let image = self.image;
        let Some(shape) = Shape::of(image) else { return Ok(self.carved) };
        let grid = Grid::of(image)?;
        let mut finds = Finds::new(folder, mode, &self.head())?;
        let mut held: Option<(u64, u64)> = None;
        layout(image, &mut |region| {
            let is_orphan = matches!(region.label, Label::Slack | Label::Unreferenced);
            if let Some((start, end)) = held {
                if is_orphan && region.at.get() == end {
                    held = Some((start, region.end()));
                    return Ok(());
                }
                held = None;
                self.range(start, end, shape, grid, &mut finds)?;
            }
            if is_orphan {
                held = Some((region.at.get(), region.end()));
            }
            Ok(())
        })?;
        if let Some((start, end)) = held {
            self.range(start, end, shape, grid, &mut finds)?;
        }
        if self.carved.ending != Ending::Stopped {
            finds.finish(&self.tail())?;
        }
        Ok(self.carved)
    }

    /// Looks for everything in one range.
    fn range(
        &mut self,
        start: u64,
        end: u64,
        shape: Shape,
        grid: Grid,
        finds: &mut Finds,
    ) -> Result<()> {
        if self.carved.ending != Ending::Whole {
            return Ok(());
        }
        self.carved.unreferenced += end - start;
        let window = Window::new(self.image.storage(), start, end);
        let mut scan = Scan::new(window, shape, grid, &mut self.unpacker, &mut self.unpacked)?;
        while let Some(piece) = scan.next()? {
            let at = HostOffset::new(piece.at);
            if (self.is_stopped)() {
                self.carved.ending = Ending::Stopped;
                return finds.end_of_run().map(drop);
            }
            let growth = match piece.kind {
                Kind::Packed => shape.cluster,
                _ => 0,
            };
            self.unpacked_in_all += growth;
            let most = self.image.facts().file_size.saturating_mul(MOST_GROWTH);
            let made: u64 = self.carved.files.iter().sum();
            if self.unpacked_in_all > most || made >= MOST_FILES {
                self.carved.ending = Ending::Limit { at };
                return finds.end_of_run().map(drop);
            }
            self.carved.bytes[piece.kind as usize] += piece.length;
            let is_new = keep(&piece, &mut scan, finds)?;
            self.carved.files[piece.kind as usize] += u64::from(is_new);
        }
        finds.end_of_run()
    }

    /// The manifest up to its list of files, as the members of an object.
    fn head(&self) -> Vec<(&'static str, serde_json::Value)> {
        let facts = self.image.facts();
        let path = self.image.storage().path().as_os_str().as_encoded_bytes();
        let Specific::Qcow1(qcow1) = &facts.specific else { return Vec::new() };
        vec![
            ("schema", 1.into()),
            ("program", format!("calve {}", self.version).into()),
            ("image", calve_disk::open::escaped(path).into()),
            ("image-size", facts.file_size.into()),
            ("cluster-size", (1u64 << qcow1.cluster_bits).into()),
            ("table-entries", (1u64 << qcow1.l2_bits).into()),
            ("is-encrypted", facts.is_encrypted.into()),
        ]
    }

    /// The members of the manifest behind its list of files.
    fn tail(&self) -> Vec<(&'static str, serde_json::Value)> {
        let mut totals = json!({ "unreferenced-bytes": self.carved.unreferenced });
        for kind in [Kind::Cluster, Kind::Packed, Kind::Table, Kind::Rest] {
            totals[kind.word()] = json!({
                "files": self.carved.files[kind as usize],
                "host-bytes": self.carved.bytes[kind as usize],
            });
        }
        let limit = match self.carved.ending {
            Ending::Limit { at } => Some(at.get()),
            Ending::Whole | Ending::Stopped => None,
        };
        vec![
            ("totals", totals),
            ("is-complete", limit.is_none().into()),
            ("not-looked-at-from", limit.into()),
        ]
    }
}

/// Writes one find, and says whether a file was made for it.
fn keep(piece: &Piece, scan: &mut Scan, finds: &mut Finds) -> Result<bool> {
    let found = Found { kind: piece.kind, at: piece.at, length: piece.length };
    match piece.kind {
        Kind::Packed => finds.write_packed(&found, scan.unpacked()),
        Kind::Table => {
            let bytes = scan.bytes(piece.at, piece.length)?.to_vec();
            finds.write_table(&found, &bytes, &table::entries(&bytes, scan.shape()))
        }
        Kind::Cluster | Kind::Rest => {
            let is_new = finds.begin_run(&found)?;
            let (mut at, end) = (piece.at, piece.at + piece.length);
            while at < end {
                let now = (end - at).min(window::AHEAD);
                finds.append(scan.bytes(at, now)?)?;
                at += now;
            }
            Ok(is_new)
        }
    }
}

/// A failure of the host to read what nothing refers to.
fn unread(storage: &dyn calve_disk::Storage, at: u64, source: std::io::Error) -> Error {
    Error::io("reading what nothing refers to", storage, HostOffset::new(at), source)
}
