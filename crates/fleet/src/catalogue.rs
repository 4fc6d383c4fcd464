//! The catalogue: what scans have found, one row for each file and for each image in an archive,
//! in a file of SQLite. Rows are streamed: memory does not depend on how many there are.

mod full;
mod known;
mod reading;
mod row;
mod run;
mod schema;

use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use calve_scan::{Class, ScanOptions};
use rusqlite::{Connection, OpenFlags, OptionalExtension, params};

use crate::error::{Error, Result};

pub use full::is_full;
pub use reading::{Counted, Scan, Written, connect_for_reading, connect_temporary};
pub use row::Row;
pub use run::{Ended, Run};
pub use schema::log_ahead;

/// Rows that are looked at for one overlay, for each thing that speaks for them.
const MOST_ALIKE: usize = 100;

/// How long another process that writes to the catalogue is waited for.
const PATIENCE: Duration = Duration::from_secs(60);

/// What scans have found.
#[derive(Debug)]
pub struct Catalogue {
    connection: Connection,
    /// Its file; a name in angle brackets where it is temporary.
    path: PathBuf,
    is_file: bool,
}

/// Which rows are wanted. Rows of files that are gone are never among them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Which {
    /// All.
    All,
    /// All but those of the class [`Class::Other`] that were read without a problem.
    Notable,
    /// Version 1 images that the scan of this number, and those before it, did not know as such. Of
    /// [`Catalogue::last_scan`], asked before a scan, those are new that no scan has told of: one
    /// that was stopped has told nothing.
    NewVersion1(i64),
    /// Images with a backing file, in whatever class.
    Overlays,
}

/// How many there are of a class. Further names of a file are not counted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Totals {
    /// The class.
    pub class: Class,
    /// Files and members.
    pub count: u64,
    /// Bytes of all files; members are not counted, which lie in files.
    pub bytes: u64,
}

/// What the images that are files take on their devices. Further names of a file, and whole
/// copies that share its blocks, are not counted again.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct OnDisk {
    /// Bytes that they take.
    pub bytes: u64,
    /// Bytes of those that other files take too: as many may be counted more than once, as files
    /// that share some of their blocks are each counted whole.
    pub shared: u64,
    /// Images that are whole copies by shared blocks, and so are not in the other numbers.
    pub copies: u64,
}

/// Something that a scan could not look at.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Trouble {
    /// What it is about: of a folder, all below it is missing.
    pub path: PathBuf,
    /// What the host said.
    pub what: String,
}

impl Catalogue {
    /// What stands for the path of a catalogue that has none.
    pub const TEMPORARY: &str = "<temporary>";

    /// An empty catalogue that nobody else sees, and that goes away with this. What does not fit
    /// into a little memory is put into a file without a name, where the host keeps such files.
    ///
    /// # Errors
    /// [`Error::Catalogue`].
    pub fn temporary() -> Result<Self> {
        let path = PathBuf::from(Self::TEMPORARY);
        let connection = Connection::open("");
        let connection = connection.map_err(|source| failed(&path, source))?;
        Self::prepared(Self { connection, path, is_file: false })
    }

    /// The catalogue in a file, which is made where there is none.
    ///
    /// # Errors
    /// [`Error::Foreign`] where the file is something else, or of a later version.
    pub fn open(path: &Path) -> Result<Self> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
            | OpenFlags::SQLITE_OPEN_CREATE
            | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = connect(path, flags)?;
        Self::prepared(Self { connection, path: path.to_owned(), is_file: true })
    }

    fn failed(&self, source: rusqlite::Error) -> Error {
        match self.is_file {
            true => failed(&self.path, source),
            false => failed_temporarily(&self.path, source),
        }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What one thread of a scan asks about files that are known; `None` of a temporary catalogue,
    /// in which nothing is.
    ///
    /// # Errors
    /// [`Error::Catalogue`].
    pub fn known(&self, options: &ScanOptions) -> Result<Option<Box<dyn calve_scan::Known>>> {
        if !self.is_file {
            return Ok(None);
        }
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = connect(&self.path, flags)?;
        Ok(Some(Box::new(known::Reader::new(connection, options))))
    }

    /// Begins to take down a scan of these roots.
    ///
    /// # Errors
    /// [`Error::Catalogue`].
    pub fn begin(&mut self, roots: &[PathBuf], options: &ScanOptions) -> Result<Run<'_>> {
        Run::begin(self, roots, options)
    }

    /// The number of the last scan that was ended, if there was one.
    ///
    /// # Errors
    /// [`Error::Catalogue`].
    pub fn last_scan(&self) -> Result<Option<i64>> {
        let sql = "SELECT max(number) FROM scan WHERE ended IS NOT NULL";
        self.connection.query_row(sql, [], |row| row.get(0)).map_err(|source| self.failed(source))
    }

    /// Tells of rows in the order of their paths. An error of `tell` ends it.
    ///
    /// # Errors
    /// That, and [`Error::Catalogue`].
    pub fn rows<E: From<Error>>(
        &self,
        which: Which,
        mut tell: impl FnMut(Row) -> std::result::Result<(), E>,
    ) -> std::result::Result<(), E> {
        let (condition, scan) = match which {
            Which::All => ("?1 = ?1", 0),
            Which::Notable => ("(class <> 'other' OR problem IS NOT NULL) AND ?1 = ?1", 0),
            Which::NewVersion1(scan) => ("version1_since > ?1", scan),
            Which::Overlays => ("backing_name IS NOT NULL AND ?1 = ?1", 0),
        };
        let sql = format!(
            "SELECT {} FROM file WHERE gone IS NULL AND {condition} ORDER BY path, member",
            row::COLUMNS
        );
        let failed = |source| E::from(self.failed(source));
        let mut statement = self.connection.prepare(&sql).map_err(failed)?;
        let mut rows = statement.query([scan]).map_err(failed)?;
        while let Some(found) = rows.next().map_err(failed)? {
            let mut row = Row::of(found).map_err(failed)?;
            row.seen.findings = self.findings(row.id).map_err(failed)?;
            tell(row)?;
        }
        Ok(())
    }

    /// The row of this number.
    ///
    /// # Errors
    /// [`Error::Catalogue`].
    pub fn row(&self, id: i64) -> Result<Option<Row>> {
        let sql = format!("SELECT {} FROM file WHERE id = ?1", row::COLUMNS);
        let found = || {
            let row = self.connection.prepare_cached(&sql)?.query_row([id], Row::of).optional()?;
            let Some(mut row) = row else { return Ok(None) };
            row.seen.findings = self.findings(id)?;
            Ok(Some(row))
        };
        found().map_err(|source| self.failed(source))
    }

    /// The row of the file at `path`, or of a member of the archive there: of a further name, that
    /// of the first one.
    pub(crate) fn find(&self, path: &Path, member: &[u8]) -> Result<Option<Row>> {
        let sql = "SELECT coalesce(name_of, id) FROM file \
                   WHERE path = ?1 AND member = ?2 AND gone IS NULL";
        let found = || {
            let mut statement = self.connection.prepare_cached(sql)?;
            let path = path.as_os_str().as_bytes();
            statement.query_row(params![path, member], |row| row.get(0)).optional()
        };
        match found().map_err(|source| self.failed(source))? {
            Some(id) => self.row(id),
            None => Ok(None),
        }
    }

    /// The further names of the file of this row.
    pub(crate) fn names_of(&self, id: i64) -> Result<Vec<PathBuf>> {
        let sql = "SELECT other.path FROM file JOIN file AS other ON other.device = file.device \
             AND other.inode = file.inode AND other.links > 1 WHERE file.id = ?1 \
             AND other.name_of = ?1 AND other.gone IS NULL ORDER BY other.path";
        let found = || {
            let mut statement = self.connection.prepare_cached(sql)?;
            statement
                .query_map([id], |row| Ok(row::path(row.get(0)?)))?
                .collect::<rusqlite::Result<_>>()
        };
        found().map_err(|source| self.failed(source))
    }

    /// Rows that may be a base of this name, written last at this time (seconds since 1970), as
    /// long as this; the last only of images, and where the others lead to nothing. Objects, or
    /// files: neither lies on the other.
    pub(crate) fn may_be_base(
        &self,
        is_object: bool,
        name: &[u8],
        time: Option<u32>,
        size: Option<u64>,
    ) -> Result<Vec<Row>> {
        let rows = |condition: &str, value: &dyn rusqlite::ToSql| {
            let sql = format!(
                "SELECT {} FROM file WHERE gone IS NULL AND name_of IS NULL AND {condition} \
                 AND (substr(path, 1, 5) = CAST('s3://' AS BLOB)) = ?2 \
                 ORDER BY path, member LIMIT {MOST_ALIKE}",
                row::COLUMNS
            );
            let mut statement = self.connection.prepare_cached(&sql)?;
            statement
                .query_map(params![value, is_object], Row::of)?
                .collect::<rusqlite::Result<Vec<_>>>()
        };
        let found = || {
            let mut all = rows("name = ?1", &name)?;
            if let Some(time) = time.filter(|_| !is_object) {
                all.extend(rows("modified / 1000000000 = ?1", &time)?);
            }
            if let (true, Some(size)) = (all.is_empty(), size) {
                all.extend(rows("virtual_size = ?1", &size.cast_signed())?);
            }
            all.sort_by_key(|row| row.id);
            all.dedup_by_key(|row| row.id);
            Ok(all)
        };
        found().map_err(|source| self.failed(source))
    }

    fn findings(&self, id: i64) -> rusqlite::Result<Vec<calve_scan::Counted>> {
        let sql = "SELECT rule, count, at FROM finding WHERE file = ?1 ORDER BY rule";
        let mut statement = self.connection.prepare_cached(sql)?;
        let found = statement.query_map([id], |row| {
            Ok(calve_scan::Counted {
                rule: row.get(0)?,
                count: row::number(row, 1)?,
                at: row.get::<_, Option<i64>>(2)?.map(i64::cast_unsigned),
            })
        })?;
        found.collect()
    }

    /// How many there are of each class that there is.
    ///
    /// # Errors
    /// [`Error::Catalogue`].
    pub fn totals(&self) -> Result<Vec<Totals>> {
        let sql = "SELECT class, count(*), coalesce(sum(size) FILTER (WHERE member = x''), 0) \
                   FROM file WHERE gone IS NULL AND name_of IS NULL GROUP BY class";
        let found = || {
            let mut statement = self.connection.prepare_cached(sql)?;
            let mut rows = statement.query([])?;
            let mut totals = Vec::new();
            while let Some(row) = rows.next()? {
                let Some(class) = Class::from_word(row.get_ref(0)?.as_str()?) else { continue };
                totals.push(Totals {
                    class,
                    count: row::number(row, 1)?,
                    bytes: row::number(row, 2)?,
                });
            }
            let order = |class| Class::ALL.iter().position(|known| *known == class);
            totals.sort_by_key(|totals| order(totals.class));
            Ok(totals)
        };
        found().map_err(|source| self.failed(source))
    }

    /// What images that are files take on their devices, of this format or of all.
    ///
    /// # Errors
    /// [`Error::Catalogue`].
    pub fn on_disk(&self, format: Option<&str>) -> Result<OnDisk> {
        let sql = "SELECT coalesce(sum(on_disk) FILTER (WHERE reflink_of IS NULL), 0), \
                   coalesce(sum(min(shared, on_disk)) FILTER (WHERE reflink_of IS NULL), 0), \
                   count(reflink_of) FROM file \
                   WHERE gone IS NULL AND name_of IS NULL AND on_disk IS NOT NULL \
                   AND format = coalesce(?1, format)";
        let found = self.connection.query_row(sql, [format], |row| {
            Ok(OnDisk {
                bytes: row::number(row, 0)?,
                shared: row::number(row, 1)?,
                copies: row::number(row, 2)?,
            })
        });
        found.map_err(|source| self.failed(source))
    }

    fn count(&self, sql: &str, values: impl rusqlite::Params) -> Result<u64> {
        let count = self.connection.query_row(sql, values, |found| row::number(found, 0));
        count.map_err(|source| self.failed(source))
    }

    /// How many files, and members of archives, could not be read, or not be looked into, or only
    /// in part. Those at which a worker died are among them.
    ///
    /// # Errors
    /// [`Error::Catalogue`].
    pub fn count_problems(&self) -> Result<u64> {
        let sql = "SELECT count(*) FROM file WHERE gone IS NULL AND name_of IS NULL \
                   AND (class = 'unreadable' OR (class IN ('other', 'other-misnamed') \
                   AND problem IS NOT NULL) OR substr(problem, 1, length(?1)) = ?1 \
                   OR substr(problem, 1, length(?2)) = ?2)";
        self.count(sql, [calve_scan::NOT_WALKED, calve_scan::DIED])
    }

    /// How many archives lie in stores, and were not looked into.
    ///
    /// # Errors
    /// [`Error::Catalogue`].
    pub fn count_archives_elsewhere(&self) -> Result<u64> {
        let sql = "SELECT count(*) FROM file WHERE gone IS NULL AND problem = ?1";
        self.count(sql, [calve_scan::ARCHIVE_ELSEWHERE])
    }

    /// How many version 1 images there are, in whatever class. Further names of a file are not
    /// counted.
    ///
    /// # Errors
    /// [`Error::Catalogue`].
    pub fn count_version1(&self) -> Result<u64> {
        let sql = "SELECT count(*) FROM file WHERE gone IS NULL AND name_of IS NULL \
                   AND format = 'qcow'";
        self.count(sql, [])
    }

    /// How many version 1 images a scan did not meet any more. Further names of a file are counted
    /// too.
    ///
    /// # Errors
    /// [`Error::Catalogue`].
    pub fn count_gone_version1(&self, scan: i64) -> Result<u64> {
        let sql = "SELECT count(*) FROM file WHERE gone = ?1 AND format = 'qcow'";
        self.count(sql, [scan])
    }

    /// How many version 1 images are gone that somebody said were removed on purpose.
    ///
    /// # Errors
    /// [`Error::Catalogue`].
    pub fn count_removed_version1(&self) -> Result<u64> {
        self.count("SELECT count(*) FROM file WHERE removed = gone AND format = 'qcow'", [])
    }

    /// How many there are of [`Which::NewVersion1`]. Further names of a file are not counted.
    ///
    /// # Errors
    /// [`Error::Catalogue`].
    pub fn count_new_version1(&self, scan: i64) -> Result<u64> {
        let sql = "SELECT count(*) FROM file WHERE gone IS NULL AND name_of IS NULL \
                   AND version1_since > ?1";
        self.count(sql, [scan])
    }

    /// Tells of all that a scan could not look at: an error of `tell` ends it.
    ///
    /// # Errors
    /// That, and [`Error::Catalogue`].
    pub fn troubles<E: From<Error>>(
        &self,
        scan: i64,
        mut tell: impl FnMut(Trouble) -> std::result::Result<(), E>,
    ) -> std::result::Result<(), E> {
        let failed = |source| E::from(self.failed(source));
        let sql = "SELECT path, what FROM trouble WHERE scan = ?1 ORDER BY path";
        let mut statement = self.connection.prepare(sql).map_err(failed)?;
        let mut rows = statement.query(params![scan]).map_err(failed)?;
        while let Some(row) = rows.next().map_err(failed)? {
            let trouble = || Ok(Trouble { path: row::path(row.get(0)?), what: row.get(1)? });
            tell(trouble().map_err(failed)?)?;
        }
        Ok(())
    }
}

fn connect(path: &Path, flags: OpenFlags) -> Result<Connection> {
    let opened = Connection::open_with_flags(path, flags);
    let connection = opened.map_err(|source| failed(path, source))?;
    connection.busy_timeout(PATIENCE).map_err(|source| failed(path, source))?;
    Ok(connection)
}

fn failed(path: &Path, source: rusqlite::Error) -> Error {
    let is_full = is_full(&source, calve_disk::folder_of(path));
    Error::Catalogue { path: path.to_owned(), source, is_full }
}

/// The same of a catalogue that has no file of its own, but one where temporary files are kept.
fn failed_temporarily(path: &Path, source: rusqlite::Error) -> Error {
    let is_full = is_full(&source, &std::env::temp_dir());
    Error::Catalogue { path: path.to_owned(), source, is_full }
}
