//! What is known of files when they are met again.

use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use calve_scan::{Class, DIED, Known, ScanOptions, Stamp, is_object};
use rusqlite::{Connection, OptionalExtension};

use super::row::number;

/// Nanoseconds that a file must have been as it is before it was looked at: hosts keep time in
/// ticks, and within one of them a change leaves no trace.
const TICK: i64 = 20_000_000;

/// Asks the catalogue, for one thread.
pub(super) struct Reader {
    connection: Connection,
    is_deep: bool,
    with_archives: bool,
}

/// What the catalogue has of a file.
struct Before {
    stamp: Stamp,
    has_undo_record: bool,
    class: Option<Class>,
    is_image: bool,
    /// Whether the host was asked where it lies, which catalogues of version 1 do not know.
    has_blocks: bool,
    /// Whether images were found in it.
    has_members: bool,
    /// Whether whoever looked at it died of it, which may be for want of memory or time.
    has_died: bool,
    is_deep: bool,
    with_archives: bool,
    looked: i64,
}

const BEFORE: &str = "SELECT device, inode, links, size, modified, changed, has_undo_record, class, \
     format IS NOT NULL, is_deep, with_archives, looked, on_disk IS NOT NULL, \
     EXISTS (SELECT 1 FROM file WHERE path = ?1 AND member <> x''), \
     ifnull(substr(problem, 1, length(?2)) = ?2, 0) \
     FROM file WHERE path = ?1 AND member = x'' AND is_stub = 0";

impl Reader {
    pub(super) fn new(connection: Connection, options: &ScanOptions) -> Self {
        let ScanOptions { is_deep, with_archives, .. } = *options;
        Self { connection, is_deep, with_archives }
    }

    fn before(&self, path: &Path) -> rusqlite::Result<Option<Before>> {
        let mut statement = self.connection.prepare_cached(BEFORE)?;
        let found = statement.query_row((path.as_os_str().as_bytes(), DIED), |row| {
            Ok(Before {
                stamp: Stamp {
                    device: number(row, 0)?,
                    inode: number(row, 1)?,
                    links: number(row, 2)?,
                    size: number(row, 3)?,
                    modified: row.get(4)?,
                    changed: row.get(5)?,
                },
                has_undo_record: row.get(6)?,
                class: Class::from_word(row.get_ref(7)?.as_str()?),
                is_image: row.get(8)?,
                is_deep: row.get(9)?,
                with_archives: row.get(10)?,
                looked: row.get(11)?,
                has_blocks: row.get(12)?,
                has_members: row.get(13)?,
                has_died: row.get(14)?,
            })
        });
        found.optional()
    }
}

impl Known for Reader {
    fn is_known(&mut self, path: &Path, stamp: &Stamp, has_undo_record: bool) -> bool {
        // What the catalogue cannot tell is looked at; that it fails shows when it is written to.
        let Ok(Some(before)) = self.before(path) else { return false };
        // Whether it is in use, or can be read, may be otherwise without a trace in its stamp.
        let is_settled = !matches!(before.class, None | Some(Class::InUse | Class::Unreadable));
        let has_tables = before.is_image || before.has_members && self.with_archives;
        is_settled
            && !before.has_died
            && before.stamp == *stamp
            && stamp.changed.saturating_add(TICK) < before.looked
            && (before.has_undo_record == has_undo_record || !before.is_image)
            && (before.has_blocks || !before.is_image || is_object(path))
            && (before.is_deep || !self.is_deep || !has_tables)
            && (before.with_archives || !self.with_archives || before.is_image)
    }
}
