//! A run: one scan as it is taken down.

use std::io::ErrorKind;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use calve_scan::{Blocks, Class, Event, ScanOptions, Seen, Sighting, Stamp};
use rusqlite::{Connection, Result as SqlResult, named_params, params};

use super::{Catalogue, row};
use crate::error::Result;

/// Events that are put on the medium together.
const TOGETHER: u64 = 4096;

/// A scan that is being taken down. What it has taken down stays where it is dropped, and nothing
/// is marked as gone then.
#[derive(Debug)]
pub struct Run<'a> {
    catalogue: &'a Catalogue,
    number: i64,
    options: ScanOptions,
    /// Events since the last that are on the medium.
    pending: u64,
}

/// How a scan ended.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Ended {
    /// Roots below which there is nothing any more.
    pub empty_roots: u64,
    /// How many version 1 images were at or below each path that was said to be removed, and are
    /// gone.
    pub removed: Vec<u64>,
}

const UPSERT: &str = include_str!("upsert.sql");

impl<'a> Run<'a> {
    pub(super) fn begin(
        catalogue: &'a Catalogue,
        roots: &[PathBuf],
        options: &ScanOptions,
    ) -> Result<Self> {
        let connection = &catalogue.connection;
        let begun = || {
            connection.execute_batch("BEGIN IMMEDIATE")?;
            let sql = "INSERT INTO scan (began, is_deep, with_archives, is_one_file_system) \
                       VALUES (?1, ?2, ?3, ?4)";
            let ScanOptions { is_deep, with_archives, is_one_file_system, .. } = *options;
            connection.execute(
                sql,
                params![now() / NANOSECONDS, is_deep, with_archives, is_one_file_system],
            )?;
            let number = connection.last_insert_rowid();
            for root in roots {
                let path = root.as_os_str().as_bytes();
                connection.execute("INSERT INTO root VALUES (?1, ?2)", params![number, path])?;
            }
            Ok(number)
        };
        let number = begun().map_err(|source| catalogue.failed(source))?;
        Ok(Self { catalogue, number, options: *options, pending: 0 })
    }

    /// The number of this scan.
    pub fn number(&self) -> i64 {
        self.number
    }

    /// Takes down what a walk tells.
    ///
    /// # Errors
    /// [`crate::Error::Catalogue`].
    pub fn take(&mut self, event: &Event) -> Result<()> {
        self.taken(event).map_err(|source| self.catalogue.failed(source))
    }

    fn taken(&mut self, event: &Event) -> SqlResult<()> {
        match event {
            Event::Sighted(sighting) => self.sighted(sighting)?,
            Event::Unchanged { path, .. } => self.unchanged(path)?,
            Event::Linked { path, stamp } => self.linked(path, stamp)?,
            Event::Trouble { path, what } => self.trouble(path, what)?,
        }
        self.pending += 1;
        if self.pending >= TOGETHER {
            self.pending = 0;
            self.connection().execute_batch("COMMIT; BEGIN IMMEDIATE")?;
        }
        Ok(())
    }

    fn connection(&self) -> &'a Connection {
        &self.catalogue.connection
    }

    fn sighted(&self, sighting: &Sighting) -> SqlResult<()> {
        self.put(sighting, b"", (&sighting.look.file, sighting.blocks.as_ref()))?;
        for member in &sighting.look.members {
            self.put(sighting, &member.name, (&member.seen, None))?;
        }
        let sql = "UPDATE file SET gone = ?1, version1_since = NULL \
                   WHERE path = ?2 AND member <> x'' AND last_seen < ?1";
        let path = sighting.path.as_os_str().as_bytes();
        self.connection().prepare_cached(sql)?.execute(params![self.number, path])?;
        Ok(())
    }

    fn put(
        &self,
        sighting: &Sighting,
        member: &[u8],
        (seen, blocks): (&Seen, Option<&Blocks>),
    ) -> SqlResult<()> {
        let path = sighting.path.as_os_str().as_bytes();
        let name = last_part(if member.is_empty() { path } else { member });
        let stamp = &sighting.stamp;
        let image = seen.image.as_ref();
        let survey = image.and_then(|image| image.survey);
        let signed = |number: Option<u64>| number.map(u64::cast_signed);
        let id: i64 = self.connection().prepare_cached(UPSERT)?.query_row(
            named_params! {
                ":path": path, ":member": member, ":name": name,
                ":device": stamp.device.cast_signed(), ":inode": stamp.inode.cast_signed(),
                ":links": stamp.links.cast_signed(), ":size": stamp.size.cast_signed(),
                ":modified": stamp.modified, ":changed": stamp.changed,
                ":has_undo_record": sighting.has_undo_record,
                ":class": seen.class.word(), ":length": signed(seen.size),
                ":resembles": seen.resembles, ":problem": seen.problem,
                ":format": image.map(|image| &image.format),
                ":virtual_size": signed(image.and_then(|image| image.virtual_size)),
                ":cluster_bits": image.and_then(|image| image.cluster_bits),
                ":l2_bits": image.and_then(|image| image.l2_bits),
                ":dialect": image.and_then(|image| image.dialect.as_ref()),
                ":producer": image.and_then(|image| image.producer.as_ref()),
                ":backing_name": image.and_then(|image| image.backing_name.as_ref()),
                ":backing_format": image.and_then(|image| image.backing_format.as_ref()),
                ":backing_time": image.and_then(|image| image.backing_time),
                ":is_encrypted": image.is_some_and(|image| image.is_encrypted),
                ":total": signed(survey.map(|survey| survey.total)),
                ":allocated": signed(survey.map(|survey| survey.allocated)),
                ":packed": signed(survey.map(|survey| survey.packed)),
                ":zero": signed(survey.map(|survey| survey.zero)),
                ":lost": signed(survey.map(|survey| survey.lost)),
                ":leaked_bytes": signed(survey.map(|survey| survey.leaked_bytes)),
                ":is_deep": self.options.is_deep && !sighting.look.is_shallow,
                ":with_archives": self.options.with_archives,
                ":looked": now(), ":scan": self.number,
                ":on_disk": signed(blocks.map(|blocks| blocks.on_disk)),
                ":shared": signed(blocks.and_then(|blocks| blocks.shared)),
                ":is_all_shared": blocks.map(|blocks| blocks.is_all_shared),
                ":is_cut": blocks.map(|blocks| blocks.is_cut),
                ":layout": blocks.and_then(|blocks| blocks.layout),
            },
            |row| row.get(0),
        )?;
        self.put_findings(id, seen)
    }

    fn put_findings(&self, id: i64, seen: &Seen) -> SqlResult<()> {
        let connection = self.connection();
        connection.prepare_cached("DELETE FROM finding WHERE file = ?1")?.execute([id])?;
        for finding in &seen.findings {
            let sql = "INSERT OR REPLACE INTO finding VALUES (?1, ?2, ?3, ?4)";
            let (count, at) = (finding.count.cast_signed(), finding.at.map(u64::cast_signed));
            connection.prepare_cached(sql)?.execute(params![id, finding.rule, count, at])?;
        }
        Ok(())
    }

    /// The file and all that is in it are met again.
    fn unchanged(&self, path: &Path) -> SqlResult<()> {
        // Of an archive, those members that were there when it was last read.
        let sql = "UPDATE file SET last_seen = max(last_seen, ?1), gone = NULL, \
                   version1_since = iif(gone IS NOT NULL AND format = 'qcow', ?1, version1_since) \
                   WHERE path = ?2 AND looked >= (SELECT looked FROM file \
                   WHERE path = ?2 AND member = x'')";
        let path = path.as_os_str().as_bytes();
        self.connection().prepare_cached(sql)?.execute(params![self.number, path])?;
        Ok(())
    }

    fn linked(&self, path: &Path, stamp: &Stamp) -> SqlResult<()> {
        let sql = "INSERT INTO file (path, member, name, device, inode, links, size, modified, \
             changed, has_undo_record, class, problem, is_encrypted, is_deep, with_archives, looked, \
             first_seen, last_seen, is_stub) \
             VALUES (?1, x'', ?2, ?3, ?4, ?5, ?6, ?7, ?8, 0, 'unreadable', \
             'another name of a file that went away', 0, 0, 0, 0, ?9, ?9, 1) \
             ON CONFLICT (path, member) DO UPDATE SET device = excluded.device, \
             inode = excluded.inode, links = excluded.links, size = excluded.size, \
             modified = excluded.modified, changed = excluded.changed, last_seen = ?9, is_stub = 1";
        let bytes = path.as_os_str().as_bytes();
        self.connection().prepare_cached(sql)?.execute(params![
            bytes,
            last_part(bytes),
            stamp.device.cast_signed(),
            stamp.inode.cast_signed(),
            stamp.links.cast_signed(),
            stamp.size.cast_signed(),
            stamp.modified,
            stamp.changed,
            self.number
        ])?;
        // What was found in it under this name is still there, where it has not changed.
        let sql = "UPDATE file SET last_seen = ?1 \
                   WHERE path = ?2 AND member <> x'' AND gone IS NULL AND changed = ?3";
        self.connection().prepare_cached(sql)?.execute(params![
            self.number,
            bytes,
            stamp.changed
        ])?;
        Ok(())
    }

    fn trouble(&self, path: &Path, what: &str) -> SqlResult<()> {
        let bytes = path.as_os_str().as_bytes();
        let below = [bytes, b"/"].concat();
        let sql = "INSERT INTO trouble VALUES (?1, ?2, ?3, ?4)";
        self.connection().prepare_cached(sql)?.execute(params![self.number, bytes, below, what])?;
        Ok(())
    }

    /// Ends a scan that was stopped: what was taken down stays, and nothing is marked as gone.
    ///
    /// # Errors
    /// [`crate::Error::Catalogue`].
    pub fn stop(mut self) -> Result<()> {
        self.fill_names()
            .and_then(|()| self.commit())
            .map_err(|source| self.catalogue.failed(source))
    }

    /// Ends a scan of everything: what it has not met below its roots is gone. But a root below which
    /// there is nothing now, and was something when it was scanned last, is trouble, as where a file
    /// system is not mounted; unless somebody says that all of it was removed. What was `removed`, and
    /// is no object, may lie elsewhere: it is gone where there is nothing at its path.
    ///
    /// # Errors
    /// [`crate::Error::Catalogue`].
    pub fn finish(mut self, removed: &[PathBuf]) -> Result<Ended> {
        self.finished(removed).map_err(|source| self.catalogue.failed(source))
    }

    fn finished(&mut self, removed: &[PathBuf]) -> SqlResult<Ended> {
        let mut ended = Ended::default();
        for root in self.roots()? {
            let is_removed = removed.iter().any(|it| root.starts_with(it));
            let was_there = if is_removed { 0 } else { self.were_below(&root)? };
            if was_there > 0 {
                let files = match was_there {
                    1 => "1 file was".into(),
                    files => format!("{files} files were"),
                };
                let what = format!(
                    "nothing is below it, where {files} when it was scanned last: is its file \
                     system not mounted?"
                );
                self.trouble(&root, &what)?;
                ended.empty_roots += 1;
            } else {
                self.mark_gone(&root, self.options.is_one_file_system)?;
            }
        }
        for path in removed {
            if !calve_scan::is_object(path) && is_nothing_at(path) {
                self.mark_gone(path, false)?;
            }
            ended.removed.push(self.mark_removed(path)?);
        }
        self.fill_names()?;
        let sql = "UPDATE scan SET ended = ?1 WHERE number = ?2";
        self.connection().execute(sql, params![now() / NANOSECONDS, self.number])?;
        self.commit()?;
        Ok(ended)
    }

    fn roots(&self) -> SqlResult<Vec<PathBuf>> {
        let mut roots = self.connection().prepare("SELECT path FROM root WHERE scan = ?1")?;
        roots.query_map([self.number], |root| Ok(row::path(root.get(0)?)))?.collect()
    }

    /// How many files and members were at or below a root, below which there is nothing now: neither
    /// one of them, nor what could not be looked at.
    fn were_below(&self, root: &Path) -> SqlResult<i64> {
        let sql = "SELECT iif(max(last_seen) = ?1, 0, count(*)) FROM file \
                   WHERE gone IS NULL AND (path = ?2 OR (path >= ?3 AND path < ?4)) \
                   AND NOT EXISTS (SELECT 1 FROM trouble WHERE trouble.scan = ?1 \
                   AND (trouble.path = ?2 OR (trouble.path >= ?3 AND trouble.path < ?4)))";
        let (path, from, to) = within(root);
        self.connection()
            .query_row(sql, params![self.number, path, from, to], |row| row.get::<_, Option<_>>(0))
            .map(Option::unwrap_or_default)
    }

    /// Takes down that all that is gone at or below a path was removed on purpose, and says how many
    /// version 1 images that were.
    fn mark_removed(&self, path: &Path) -> SqlResult<u64> {
        let (path, from, to) = within(path);
        let condition = "gone IS NOT NULL AND (path = ?1 OR (path >= ?2 AND path < ?3))";
        let sql = format!("SELECT count(*) FROM file WHERE {condition} AND format = 'qcow'");
        let values = params![path, from, to];
        let count = self.connection().query_row(&sql, values, |found| row::number(found, 0))?;
        let sql = format!("UPDATE file SET removed = gone WHERE {condition}");
        self.connection().execute(&sql, values)?;
        Ok(count)
    }

    fn commit(&mut self) -> SqlResult<()> {
        self.connection().execute_batch("COMMIT")
    }

    /// Marks what was not met at or below a path: all of it, or what is on the file systems that were
    /// looked at.
    fn mark_gone(&self, root: &Path, is_one: bool) -> SqlResult<()> {
        let (root, from, to) = within(root);
        let sql = "UPDATE file SET gone = ?1, version1_since = NULL \
            WHERE gone IS NULL AND last_seen < ?1 AND (path = ?2 OR (path >= ?3 AND path < ?4)) \
            AND NOT EXISTS (SELECT 1 FROM trouble WHERE trouble.scan = ?1 AND \
            (trouble.path = file.path OR substr(file.path, 1, length(below)) = below)) \
            AND (?5 = 0 OR substr(path, 1, 5) = CAST('s3://' AS BLOB) \
            OR device IN (SELECT device FROM file WHERE last_seen = ?1))";
        self.connection().execute(sql, params![self.number, root, from, to, is_one]).map(drop)
    }

    /// Gives further names of files what their first name has, and has them point at it.
    fn fill_names(&self) -> SqlResult<()> {
        self.connection().execute(include_str!("fill_names.sql"), [self.number])?;
        self.name_classes()?;
        let first = "UPDATE file SET name_of = NULL WHERE name_of IS NOT NULL";
        self.connection().execute(first, [])?;
        let sql = "UPDATE file SET name_of = nullif((SELECT other.id FROM file AS other \
             WHERE other.device = file.device AND other.inode = file.inode AND other.links > 1 \
             AND other.member = file.member AND other.gone IS NULL ORDER BY other.path LIMIT 1), id) \
             WHERE links > 1 AND gone IS NULL";
        self.connection().execute(sql, [])?;
        let none = "UPDATE file SET reflink_of = NULL WHERE reflink_of IS NOT NULL";
        self.connection().execute(none, [])?;
        self.connection().execute(include_str!("reflinks.sql"), []).map(drop)
    }

    /// What was filled in has the class of the first name; this one may promise something else.
    fn name_classes(&self) -> SqlResult<()> {
        let connection = self.connection();
        let mut stubs =
            connection.prepare("SELECT id, class, name, path FROM file WHERE is_stub = 1")?;
        let mut rows = stubs.query([])?;
        while let Some(row) = rows.next()? {
            let (id, name): (i64, Vec<u8>) = (row.get(0)?, row.get(2)?);
            let class = Class::from_word(row.get_ref(1)?.as_str()?).unwrap_or(Class::Unreadable);
            let has_record = calve_scan::has_undo_record(&row::path(row.get(3)?));
            let class = match (class, has_record) {
                (Class::Qcow2 | Class::Qcow2Misnamed, true) => Class::Migrated,
                (Class::Migrated, false) => Class::Qcow2.under_name(&name),
                _ => class.under_name(&name),
            };
            let sql = "UPDATE file SET class = ?2, has_undo_record = ?3, is_stub = 0 WHERE id = ?1";
            connection.prepare_cached(sql)?.execute(params![id, class.word(), has_record])?;
        }
        Ok(())
    }
}

impl Drop for Run<'_> {
    fn drop(&mut self) {
        // What was taken down is true, however the run ended; after an end nothing is open.
        if !self.connection().is_autocommit() {
            let _ = self.connection().execute_batch("COMMIT");
        }
    }
}

const NANOSECONDS: i64 = 1_000_000_000;

/// Nanoseconds since 1970.
fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}

/// Whether nothing is at a path, for certain.
fn is_nothing_at(path: &Path) -> bool {
    let found = path.symlink_metadata();
    found.is_err_and(|error| matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory))
}

/// A path, and from where to where all paths are that are below it: from the path and a slash to the
/// path and the next byte.
fn within(path: &Path) -> (&[u8], Vec<u8>, Vec<u8>) {
    let path = match path.as_os_str().as_bytes() {
        b"/" => b"",
        path => path,
    };
    (path, [path, b"/"].concat(), [path, b"0"].concat())
}

fn last_part(path: &[u8]) -> &[u8] {
    path.rsplit(|byte| *byte == b'/').next().unwrap_or(path)
}
