//! A row: a file, or an image in an archive, and all that is known of it.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

use calve_scan::{Blocks, Class, Counts, ImageFacts, Seen, Stamp};
use rusqlite::{Error, Result, RowIndex, types::Type};

/// A file, or an image in an archive, as the last scan that met it saw it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Row {
    /// Its number in the catalogue, which stays.
    pub id: i64,
    /// The file's path.
    pub path: PathBuf,
    /// The name within the archive at that path; `None` for the file itself.
    pub member: Option<Vec<u8>>,
    /// Which file that is.
    pub stamp: Stamp,
    /// Whether the undo record of an upgrade lies beside it.
    pub has_undo_record: bool,
    /// What it was seen to be.
    pub seen: Seen,
    /// Whether all tables of images were walked when it was looked at.
    pub is_deep: bool,
    /// The first scan that met it, by number.
    pub first_seen: i64,
    /// The last scan that met it.
    pub last_seen: i64,
    /// The scan since which it is known as a version 1 image, if it is one.
    pub version1_since: Option<i64>,
    /// The scan that did not meet it any more.
    pub gone: Option<i64>,
    /// Of several names of one file, all but the first in the order of paths have the row of that
    /// one here.
    pub name_of: Option<i64>,
    /// Of an image that is a file: where it lies, as the host said when it was looked at.
    pub blocks: Option<Blocks>,
    /// Of several files that are the same blocks, all but the first in the order of paths have the
    /// row of that one here: copies that were made by sharing (reflinks).
    pub reflink_of: Option<i64>,
}

/// The columns that a row is made of, in this order.
pub(super) const COLUMNS: &str = "id, path, member, device, inode, links, size, modified, changed, \
     has_undo_record, class, length, resembles, problem, format, virtual_size, cluster_bits, \
     l2_bits, dialect, producer, backing_name, backing_format, backing_time, is_encrypted, total, \
     allocated, packed, zero, lost, leaked_bytes, is_deep, first_seen, last_seen, version1_since, \
     gone, name_of, on_disk, shared, is_all_shared, is_cut, layout, reflink_of";

pub(super) fn path(bytes: Vec<u8>) -> PathBuf {
    PathBuf::from(OsString::from_vec(bytes))
}

impl Row {
    /// The row in these columns; its findings are kept elsewhere.
    pub(super) fn of(row: &rusqlite::Row<'_>) -> Result<Self> {
        let member: Vec<u8> = row.get("member")?;
        Ok(Self {
            id: row.get("id")?,
            path: path(row.get("path")?),
            member: Some(member).filter(|member| !member.is_empty()),
            stamp: Stamp {
                device: number(row, "device")?,
                inode: number(row, "inode")?,
                links: number(row, "links")?,
                size: number(row, "size")?,
                modified: row.get("modified")?,
                changed: row.get("changed")?,
            },
            has_undo_record: row.get("has_undo_record")?,
            seen: seen(row)?,
            is_deep: row.get("is_deep")?,
            first_seen: row.get("first_seen")?,
            last_seen: row.get("last_seen")?,
            version1_since: row.get("version1_since")?,
            gone: row.get("gone")?,
            name_of: row.get("name_of")?,
            blocks: blocks(row)?,
            reflink_of: row.get("reflink_of")?,
        })
    }

    /// Whether it is an object of a store, and no file.
    pub fn is_object(&self) -> bool {
        calve_scan::is_object(&self.path)
    }

    /// Whether it is a version 1 image, whatever its class.
    pub fn is_version1(&self) -> bool {
        self.seen.image.as_ref().is_some_and(ImageFacts::is_version1)
    }
}

fn seen(row: &rusqlite::Row<'_>) -> Result<Seen> {
    let word: String = row.get("class")?;
    let class = Class::from_word(&word).ok_or_else(|| {
        let error = format!("there is no class {word}");
        Error::FromSqlConversionFailure(
            row.as_ref().column_index("class").unwrap_or(0),
            Type::Text,
            error.into(),
        )
    })?;
    Ok(Seen {
        class,
        size: optional(row, "length")?,
        resembles: row.get("resembles")?,
        image: image(row)?,
        findings: Vec::new(),
        problem: row.get("problem")?,
    })
}

/// A number of 64 bits, which SQLite keeps with a sign.
pub(super) fn number(row: &rusqlite::Row<'_>, column: impl RowIndex) -> Result<u64> {
    row.get::<_, i64>(column).map(i64::cast_unsigned)
}

fn optional(row: &rusqlite::Row<'_>, name: &str) -> Result<Option<u64>> {
    row.get::<_, Option<i64>>(name).map(|number| number.map(i64::cast_unsigned))
}

fn image(row: &rusqlite::Row<'_>) -> Result<Option<ImageFacts>> {
    let Some(format) = row.get("format")? else { return Ok(None) };
    Ok(Some(ImageFacts {
        format,
        virtual_size: optional(row, "virtual_size")?,
        cluster_bits: row.get("cluster_bits")?,
        l2_bits: row.get("l2_bits")?,
        dialect: row.get("dialect")?,
        producer: row.get("producer")?,
        backing_name: row.get("backing_name")?,
        backing_format: row.get("backing_format")?,
        backing_time: row.get("backing_time")?,
        is_encrypted: row.get("is_encrypted")?,
        survey: survey(row)?,
    }))
}

fn blocks(row: &rusqlite::Row<'_>) -> Result<Option<Blocks>> {
    let Some(on_disk) = optional(row, "on_disk")? else { return Ok(None) };
    Ok(Some(Blocks {
        on_disk,
        shared: optional(row, "shared")?,
        is_all_shared: row.get("is_all_shared")?,
        is_cut: row.get("is_cut")?,
        layout: row.get("layout")?,
    }))
}

fn survey(row: &rusqlite::Row<'_>) -> Result<Option<Counts>> {
    let Some(total) = optional(row, "total")? else { return Ok(None) };
    Ok(Some(Counts {
        total,
        allocated: number(row, "allocated")?,
        packed: number(row, "packed")?,
        zero: number(row, "zero")?,
        lost: number(row, "lost")?,
        leaked_bytes: number(row, "leaked_bytes")?,
    }))
}
