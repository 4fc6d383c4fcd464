//! The catalogue for whoever only reads it: what it has of scans, and in numbers, and what may be
//! version 1.

use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use calve_scan::Class;
use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags, params};

use super::{Catalogue, PATIENCE, Row, row};
use crate::error::{Error, Result};

/// A scan that was ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Scan {
    /// Its number.
    pub number: i64,
    /// When it began, in seconds since 1970.
    pub began: i64,
    /// When it ended.
    pub ended: i64,
    /// Whether all tables of images were walked.
    pub is_deep: bool,
    /// Whether archives were looked into.
    pub with_archives: bool,
    /// Whether it stayed on the file systems of its roots.
    pub is_one_file_system: bool,
    /// The folders and files that it looked below.
    pub roots: Vec<PathBuf>,
}

/// How many there are of one class and format. Further names of a file are not counted.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Counted {
    /// The class.
    pub class: Class,
    /// The format; none of what is no image.
    pub format: Option<String>,
    /// Files and members.
    pub count: u64,
    /// Bytes of all files; members are not counted, which lie in files.
    pub bytes: u64,
}

/// Opens a database for reading, and leaves no trace of that. Where no other process has it open,
/// it is read as a file that nobody changes: SQLite would otherwise make two files beside it, and
/// leave them there. Whoever reads it that way looks afterwards whether somebody did change it.
///
/// # Errors
/// What SQLite says.
pub fn connect_for_reading(path: &Path) -> rusqlite::Result<Connection> {
    let mut flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = match has_log(path) {
        true => Connection::open_with_flags(path, flags)?,
        false => {
            flags |= OpenFlags::SQLITE_OPEN_URI;
            Connection::open_with_flags(address(path), flags)?
        }
    };
    connection.busy_timeout(PATIENCE)?;
    // Plans that depend on values would have statements prepared anew for each value.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    // One state of it for all questions.
    connection.execute_batch("BEGIN")?;
    Ok(connection)
}

/// What is kept of a temporary database in memory, in KiB, as SQLite wants to have it said.
const MEMORY: i64 = -8192;

/// A database with these tables that nobody else sees, and that goes away with the connection; it is
/// in a transaction. What does not fit into 8 MiB is in a file without a name where temporary files
/// are kept.
///
/// # Errors
/// What SQLite says.
pub fn connect_temporary(schema: &str) -> rusqlite::Result<Connection> {
    let connection = Connection::open("")?;
    connection.pragma_update(None, "cache_size", MEMORY)?;
    // Nothing of it is ever taken back, and nobody looks for it after a crash.
    connection.pragma_update(None, "journal_mode", "OFF")?;
    // Plans that depend on values would have statements prepared anew for each value.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    connection.execute_batch(schema)?;
    connection.execute_batch("BEGIN")?;
    Ok(connection)
}

/// What changes where somebody writes to a database: its length and time, or a log beside it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Written {
    size: u64,
    modified: (i64, i64),
    has_log: bool,
}

impl Written {
    /// As it is now, before it is opened by [`connect_for_reading`].
    ///
    /// # Errors
    /// What the host says.
    pub fn of(path: &Path) -> io::Result<Self> {
        let metadata = path.metadata()?;
        Ok(Self {
            size: metadata.len(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            has_log: has_log(path),
        })
    }

    /// Whether what was read since then may be of two ages. Where there was a log, SQLite has kept
    /// one state for whoever reads.
    ///
    /// # Errors
    /// What the host says.
    pub fn may_be_mixed(&self, path: &Path) -> io::Result<bool> {
        Ok(!self.has_log && Self::of(path)? != *self)
    }
}

/// Whether something was written that is not in the database itself yet.
fn has_log(path: &Path) -> bool {
    calve_disk::with_end(path, "-wal").exists()
}

/// The file as an address that SQLite understands.
fn address(path: &Path) -> String {
    let mut address = String::from("file:");
    if path.is_absolute() {
        address.push_str("//");
    }
    for byte in path.as_os_str().as_bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'/' | b'.' | b'_' | b'-' => {
                address.push(char::from(*byte));
            }
            other => address.push_str(&format!("%{other:02X}")),
        }
    }
    address + "?immutable=1"
}

impl Catalogue {
    /// The catalogue in a file that is there, for reading: see [`connect_for_reading`].
    ///
    /// # Errors
    /// As [`Catalogue::open`].
    pub fn open_for_reading(path: &Path) -> Result<Self> {
        let opened = connect_for_reading(path);
        let connection = opened.map_err(|source| match source.sqlite_error_code() {
            Some(rusqlite::ErrorCode::NotADatabase) => {
                Error::Foreign { path: path.to_owned(), what: "not a catalogue".into() }
            }
            _ => super::failed(path, source),
        })?;
        let catalogue = Self { connection, path: path.to_owned(), is_file: true };
        match catalogue.identity()? {
            (0, 0, 0) => {
                Err(Error::Foreign { path: path.to_owned(), what: "not a catalogue".into() })
            }
            _ => catalogue.prepared(),
        }
    }

    /// All scans that were ended, in order.
    ///
    /// # Errors
    /// [`Error::Catalogue`].
    pub fn scans(&self) -> Result<Vec<Scan>> {
        let sql = "SELECT number, began, ended, is_deep, with_archives, is_one_file_system \
                   FROM scan WHERE ended IS NOT NULL ORDER BY number";
        let found = || {
            let mut statement = self.connection.prepare(sql)?;
            let scans = statement.query_map([], |row| {
                Ok(Scan {
                    number: row.get(0)?,
                    began: row.get(1)?,
                    ended: row.get(2)?,
                    is_deep: row.get(3)?,
                    with_archives: row.get(4)?,
                    is_one_file_system: row.get(5)?,
                    roots: Vec::new(),
                })
            })?;
            let mut scans: Vec<Scan> = scans.collect::<rusqlite::Result<_>>()?;
            let sql = "SELECT path FROM root WHERE scan = ?1 ORDER BY path";
            let mut statement = self.connection.prepare(sql)?;
            for scan in &mut scans {
                let roots =
                    statement.query_map(params![scan.number], |row| Ok(row::path(row.get(0)?)))?;
                scan.roots = roots.collect::<rusqlite::Result<_>>()?;
            }
            Ok(scans)
        };
        found().map_err(|source| self.failed(source))
    }

    /// How many there are of each class and format that there is, in the order of classes.
    ///
    /// # Errors
    /// [`Error::Catalogue`].
    pub fn inventory(&self) -> Result<Vec<Counted>> {
        let sql = "SELECT class, format, count(*), \
                   coalesce(sum(size) FILTER (WHERE member = x''), 0) FROM file \
                   WHERE gone IS NULL AND name_of IS NULL GROUP BY class, format ORDER BY format";
        let found = || {
            let mut statement = self.connection.prepare(sql)?;
            let mut rows = statement.query([])?;
            let mut all = Vec::new();
            while let Some(found) = rows.next()? {
                let Some(class) = Class::from_word(found.get_ref(0)?.as_str()?) else { continue };
                all.push(Counted {
                    class,
                    format: found.get(1)?,
                    count: row::number(found, 2)?,
                    bytes: row::number(found, 3)?,
                });
            }
            all.sort_by_key(|counted| Class::ALL.iter().position(|it| *it == counted.class));
            Ok(all)
        };
        found().map_err(|source| self.failed(source))
    }

    /// Tells, in the order of their paths, of rows that were version 1 when they were seen last,
    /// and of those of which nobody knew, because they could not be read or not be looked into.
    /// Further names, and files that are gone since, are among them. Rows have no findings here.
    /// An error of `tell` ends it.
    ///
    /// # Errors
    /// That, and [`Error::Catalogue`].
    pub fn suspects<E: From<Error>>(
        &self,
        mut tell: impl FnMut(Row) -> std::result::Result<(), E>,
    ) -> std::result::Result<(), E> {
        let sql = format!(
            "SELECT {} FROM file WHERE format = 'qcow' OR class = 'unreadable' OR \
             (class = 'damaged' AND format IS NULL) OR \
             (class IN ('other', 'other-misnamed') AND problem IS NOT NULL) \
             ORDER BY path, member",
            row::COLUMNS
        );
        let failed = |source| E::from(self.failed(source));
        let mut statement = self.connection.prepare(&sql).map_err(failed)?;
        let mut rows = statement.query([]).map_err(failed)?;
        while let Some(found) = rows.next().map_err(failed)? {
            tell(Row::of(found).map_err(failed)?)?;
        }
        Ok(())
    }

    /// Tells of paths at which something was, in whatever format, that is gone and that somebody said
    /// was removed on purpose ([`super::Run::finish`]). An error of `tell` ends it.
    ///
    /// # Errors
    /// That, and [`Error::Catalogue`].
    pub fn removed<E: From<Error>>(
        &self,
        mut tell: impl FnMut(PathBuf) -> std::result::Result<(), E>,
    ) -> std::result::Result<(), E> {
        let failed = |source| E::from(self.failed(source));
        let sql = "SELECT DISTINCT path FROM file WHERE removed = gone";
        let mut statement = self.connection.prepare(sql).map_err(failed)?;
        let mut rows = statement.query([]).map_err(failed)?;
        while let Some(found) = rows.next().map_err(failed)? {
            tell(row::path(found.get(0).map_err(failed)?))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_with_any_bytes_are_addresses() {
        let path = Path::new("/a b/c?d%e#f\u{e4}.catalogue");
        assert_eq!(address(path), "file:///a%20b/c%3Fd%25e%23f%C3%A4.catalogue?immutable=1");
        assert_eq!(address(Path::new("x")), "file:x?immutable=1");
    }

    #[test]
    fn a_catalogue_is_read_without_a_trace_and_none_is_made() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("a ?b");
        assert!(Catalogue::open_for_reading(&path).is_err());
        assert!(!path.exists());
        drop(Catalogue::open(&path).expect("a catalogue"));
        let before = std::fs::read(&path).expect("a file");
        let read = Catalogue::open_for_reading(&path).expect("a catalogue");
        assert_eq!(read.scans().expect("none"), []);
        drop(read);
        assert!(std::fs::read(&path).expect("a file") == before);
        assert_eq!(std::fs::read_dir(folder.path()).expect("a folder").count(), 1);
        std::fs::write(&path, "a text that is no database").expect("a file");
        assert!(matches!(Catalogue::open_for_reading(&path), Err(Error::Foreign { .. })));
        std::fs::write(&path, "").expect("a file");
        assert!(matches!(Catalogue::open_for_reading(&path), Err(Error::Foreign { .. })));
    }
}
