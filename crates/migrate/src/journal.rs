//! The journal: how far each family and each image of a run is, in a file of SQLite, which may be
//! that of the catalogue. What is written here is on the medium before a file is touched.

mod attempts;
mod families;
mod following;
mod images;
mod joined;

use std::ffi::OsString;
use std::fs::File;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use calve_plan::Kept;
use rusqlite::config::DbConfig;
use rusqlite::{Connection, OptionalExtension, Row, params};

use crate::error::{Error, Result};
use crate::lock;

pub(crate) use attempts::MOST_ATTEMPTS;
pub use families::{FamilyRecord, FamilyState};
pub use images::{ImageRecord, ImageState, Stamped};

const SCHEMA: &str = include_str!("journal/schema.sql");

/// How long another process that writes to the file is waited for.
const PATIENCE: Duration = Duration::from_secs(60);

/// The journal.
#[derive(Debug)]
pub struct Journal {
    connection: Connection,
    path: PathBuf,
}

/// A run: what became of one plan.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RunRecord {
    /// Its number.
    pub number: i64,
    /// The plan's file.
    pub plan: PathBuf,
    /// BLAKE3 of that file.
    pub digest: String,
    /// What becomes of originals.
    pub kept: Kept,
    /// When it began, in seconds since 1970.
    pub began: i64,
    /// When all of it was tried.
    pub ended: Option<i64>,
    /// When it was taken back.
    pub undone: Option<i64>,
}

/// Seconds since 1970.
pub(crate) fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

impl Journal {
    /// The journal in this file, which may be a catalogue, and is made where there is none.
    ///
    /// # Errors
    /// [`Error::Journal`].
    pub fn open(path: &Path) -> Result<Self> {
        Self::open_as(path, false)
    }

    /// The same where nobody else may open it until it is closed: SQLite then needs no memory that
    /// processes share, which a network file system cannot give.
    ///
    /// # Errors
    /// [`Error::Journal`].
    pub fn open_alone(path: &Path) -> Result<Self> {
        Self::open_as(path, true)
    }

    fn open_as(path: &Path, is_alone: bool) -> Result<Self> {
        let failed = |source| Error::journal(path, source);
        let connection = Connection::open(path).map_err(failed)?;
        let prepare = || {
            connection.busy_timeout(PATIENCE)?;
            if is_alone {
                connection.pragma_update(None, "locking_mode", "EXCLUSIVE")?;
            }
            // Plans that depend on values would have statements prepared anew for each value.
            connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
            calve_fleet::log_ahead(&connection)?;
            // In WAL mode nothing less is on the medium when it is committed.
            connection.pragma_update(None, "synchronous", "FULL")?;
            connection.execute_batch(SCHEMA)
        };
        prepare().map_err(failed)?;
        Ok(Self { connection, path: path.to_owned() })
    }

    /// The journal in this file, which is only read: see [`calve_fleet::connect_for_reading`].
    /// `None` where there is none in it.
    ///
    /// # Errors
    /// [`Error::Journal`].
    pub fn open_for_reading(path: &Path) -> Result<Option<Self>> {
        let failed = |source| Error::journal(path, source);
        let connection = calve_fleet::connect_for_reading(path).map_err(failed)?;
        let sql = "SELECT count(*) FROM sqlite_schema WHERE name = 'migrated_image'";
        let count: i64 = connection.query_row(sql, [], |row| row.get(0)).map_err(failed)?;
        Ok((count > 0).then(|| Self { connection, path: path.to_owned() }))
    }

    /// Its file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Locks it until the result is dropped, by a file beside it that stays: for whoever carries out
    /// a run of it, or takes one back. Who only reads it needs no lock. The lock is not on the plan
    /// alone, of which there may be copies, nor on the journal's own file, which SQLite locks.
    ///
    /// # Errors
    /// [`Error::Disk`]: it is in use, or the host fails. [`Error::Refused`] where a link has the
    /// name of that file.
    pub fn lock(&self) -> Result<File> {
        // A link may bear any name.
        let real = self.path.canonicalize();
        let real = real.map_err(|error| Error::host("opening", &self.path, error))?;
        lock::take(&calve_disk::with_end(&real, ".lock")).map_err(|error| match error {
            Error::Disk(calve_disk::Error::InUse { .. }) => {
                calve_disk::Error::InUse { path: self.path.clone() }.into()
            }
            error => error,
        })
    }

    fn failed(&self, source: rusqlite::Error) -> Error {
        Error::journal(&self.path, source)
    }

    /// The run of the plan with this digest that is not taken back, or else a new one.
    ///
    /// # Errors
    /// [`Error::Journal`], as of all that follow.
    pub fn begin(&self, plan: &Path, digest: &str, kept: &Kept) -> Result<RunRecord> {
        let sql = "SELECT number FROM migration WHERE digest = ?1 AND undone IS NULL \
                   ORDER BY number DESC";
        let known = self.connection.query_row(sql, [digest], |row| row.get::<_, i64>(0)).optional();
        let number = match known.map_err(|source| self.failed(source))? {
            Some(number) => {
                let sql = "UPDATE migration SET ended = NULL WHERE number = ?1";
                self.execute(sql, [number])?;
                number
            }
            None => {
                let kept = serde_json::to_string(kept).unwrap_or_default();
                let sql =
                    "INSERT INTO migration (plan, digest, kept, began) VALUES (?1, ?2, ?3, ?4)";
                self.execute(sql, params![bytes(plan), digest, kept, now()])?;
                self.connection.last_insert_rowid()
            }
        };
        self.run(number)?.ok_or_else(|| self.failed(rusqlite::Error::QueryReturnedNoRows))
    }

    /// The run of this number.
    pub fn run(&self, number: i64) -> Result<Option<RunRecord>> {
        Ok(self.runs()?.into_iter().find(|run| run.number == number))
    }

    /// All runs, in order.
    pub fn runs(&self) -> Result<Vec<RunRecord>> {
        let sql = "SELECT number, plan, digest, kept, began, ended, undone FROM migration \
                   ORDER BY number";
        self.query(sql, [], |row| {
            Ok(RunRecord {
                number: row.get(0)?,
                plan: path(row.get(1)?),
                digest: row.get(2)?,
                kept: serde_json::from_str(&row.get::<_, String>(3)?).map_err(|_| odd(3))?,
                began: row.get(4)?,
                ended: row.get(5)?,
                undone: row.get(6)?,
            })
        })
    }

    /// Says that all of a run was tried.
    pub fn end(&self, run: i64) -> Result<()> {
        self.execute("UPDATE migration SET ended = ?2 WHERE number = ?1", [run, now()])
    }

    /// Says that a run was taken back.
    pub fn set_undone(&self, run: i64) -> Result<()> {
        self.execute("UPDATE migration SET undone = ?2 WHERE number = ?1", [run, now()])
    }

    fn execute(&self, sql: &str, values: impl rusqlite::Params) -> Result<()> {
        let done = self.connection.prepare_cached(sql).and_then(|mut it| it.execute(values));
        done.map(drop).map_err(|source| self.failed(source))
    }

    fn query<T>(
        &self,
        sql: &str,
        values: impl rusqlite::Params,
        of: impl FnMut(&Row<'_>) -> rusqlite::Result<T>,
    ) -> Result<Vec<T>> {
        let found = self
            .connection
            .prepare_cached(sql)
            .and_then(|mut it| it.query_map(values, of)?.collect());
        found.map_err(|source| self.failed(source))
    }
}

fn bytes(path: &Path) -> &[u8] {
    path.as_os_str().as_bytes()
}

fn path(bytes: Vec<u8>) -> PathBuf {
    PathBuf::from(OsString::from_vec(bytes))
}

/// A word that nobody writes there.
fn odd(column: usize) -> rusqlite::Error {
    rusqlite::Error::InvalidColumnType(column, "word".into(), rusqlite::types::Type::Text)
}
