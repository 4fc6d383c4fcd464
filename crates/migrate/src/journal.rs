//! The journal: how far each family and each image of a run is, in a file of SQLite, which may be
//! that of the catalogue. What is written here is on the medium before a file is touched.

mod attempts;
mod reading;

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use calve_plan::{Kept, Strategy};
use calve_references::HeaderChange;
use rusqlite::config::DbConfig;
use rusqlite::{Connection, OptionalExtension, Row, params};

use crate::configurations::Following;
use crate::error::{Cause, Error, Result};

pub(crate) use attempts::MOST_ATTEMPTS;

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

/// How far a family is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FamilyState {
    /// New files are being made; the images are as they were.
    Preparing,
    /// New files are made, and take the places of images.
    Switching,
    /// It is migrated.
    Done,
    /// It is as it was, for a reason.
    Failed,
    /// It is taken back.
    Undone,
}

impl FamilyState {
    const ALL: [Self; 5] =
        [Self::Preparing, Self::Switching, Self::Done, Self::Failed, Self::Undone];

    /// Its word in the journal.
    pub fn word(self) -> &'static str {
        match self {
            Self::Preparing => "preparing",
            Self::Switching => "switching",
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Undone => "undone",
        }
    }
}

/// What is known of a family.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FamilyRecord {
    /// Its number in the plan.
    pub number: u64,
    /// How far it is.
    pub state: FamilyState,
    /// When it began, in seconds since 1970.
    pub began: i64,
    /// When it was done, or failed.
    pub ended: Option<i64>,
    /// What its failure is about.
    pub cause: Option<String>,
    /// Why it is not migrated.
    pub problem: Option<String>,
}

/// How far an image is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ImageState {
    /// It is as it was; a new file may be ready.
    Prepared,
    /// It is migrated.
    Switched,
    /// It is migrated, and the way back was given up.
    Released,
    /// It is taken back.
    Undone,
}

impl ImageState {
    const ALL: [Self; 4] = [Self::Prepared, Self::Switched, Self::Released, Self::Undone];

    /// Its word in the journal.
    pub fn word(self) -> &'static str {
        match self {
            Self::Prepared => "prepared",
            Self::Switched => "switched",
            Self::Released => "released",
            Self::Undone => "undone",
        }
    }
}

/// Which file it is, and when it was written last.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Stamped {
    /// Its number in its file system.
    pub inode: u64,
    /// Its length in bytes.
    pub size: u64,
    /// When it was written last, in nanoseconds since 1970.
    pub modified: i64,
}

/// What is known of an image.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ImageRecord {
    /// Its family.
    pub family: u64,
    /// Its place in the family, from 1.
    pub place: u64,
    /// Its path.
    pub path: PathBuf,
    /// What is done with it.
    pub strategy: Strategy,
    /// How far it is.
    pub state: ImageState,
    /// The file before.
    pub old: Stamped,
    /// The file afterwards; of one that waits to take a place, that one.
    pub new: Option<Stamped>,
    /// Where the original is kept.
    pub kept: Option<PathBuf>,
    /// What its header was, and is, where only that is changed.
    pub header: Option<HeaderChange>,
    /// BLAKE3 of the disk.
    pub digest: Option<String>,
    /// Bytes of the disk that are missing.
    pub missing: u64,
    /// When it began, in seconds since 1970.
    pub began: i64,
    /// When it was done.
    pub ended: Option<i64>,
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
        let failed = |source| Error::Journal { path: path.to_owned(), source };
        let connection = Connection::open(path).map_err(failed)?;
        let prepare = || {
            connection.busy_timeout(PATIENCE)?;
            if is_alone {
                connection.pragma_update(None, "locking_mode", "EXCLUSIVE")?;
            }
            // Plans that depend on values would have statements prepared anew for each value.
            connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
            connection.pragma_update(None, "journal_mode", "WAL")?;
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
        let failed = |source| Error::Journal { path: path.to_owned(), source };
        let connection = calve_fleet::connect_for_reading(path).map_err(failed)?;
        let sql = "SELECT count(*) FROM sqlite_schema WHERE name = 'migrated_image'";
        let count: i64 = connection.query_row(sql, [], |row| row.get(0)).map_err(failed)?;
        Ok((count > 0).then(|| Self { connection, path: path.to_owned() }))
    }

    /// Its file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn failed(&self, source: rusqlite::Error) -> Error {
        Error::Journal { path: self.path.clone(), source }
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

    /// The families of a run that were begun, in order.
    pub fn families(&self, run: i64) -> Result<Vec<FamilyRecord>> {
        let sql = "SELECT number, state, began, ended, cause, problem FROM migrated_family \
                   WHERE run = ?1 ORDER BY number";
        self.query(sql, [run], family)
    }

    /// One family of a run, where it was begun.
    pub fn family(&self, run: i64, number: u64) -> Result<Option<FamilyRecord>> {
        let sql = "SELECT number, state, began, ended, cause, problem FROM migrated_family \
                   WHERE run = ?1 AND number = ?2";
        Ok(self.query(sql, [run, number.cast_signed()], family)?.pop())
    }

    /// Says how far a family is.
    pub fn set_family(
        &self,
        run: i64,
        number: u64,
        state: FamilyState,
        failure: Option<(Cause, &str)>,
    ) -> Result<()> {
        let is_over = !matches!(state, FamilyState::Preparing | FamilyState::Switching);
        let (cause, problem) = failure.unzip();
        let sql = "INSERT INTO migrated_family (run, number, state, began, ended, cause, problem) \
                   VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7) ON CONFLICT DO UPDATE SET \
                   state = excluded.state, ended = excluded.ended, cause = excluded.cause, \
                   problem = excluded.problem";
        let ended = is_over.then(now);
        let cause = cause.map(Cause::word);
        self.execute(
            sql,
            params![run, number.cast_signed(), state.word(), now(), ended, cause, problem],
        )
    }

    /// The images of a family that were begun, in order.
    pub fn images(&self, run: i64, family: u64) -> Result<Vec<ImageRecord>> {
        let sql = "SELECT family, place, path, strategy, state, old_inode, old_size, old_modified, \
                   new_inode, new_size, new_modified, kept, digest, missing, began, ended, header \
                   FROM migrated_image WHERE run = ?1 AND family = ?2 ORDER BY place";
        self.query(sql, [run, family.cast_signed()], image)
    }

    /// Says what is known of an image.
    pub fn set_image(&self, run: i64, image: &ImageRecord) -> Result<()> {
        let sql = "INSERT OR REPLACE INTO migrated_image (run, family, place, path, strategy, \
                   state, old_inode, old_size, old_modified, new_inode, new_size, new_modified, \
                   kept, digest, missing, began, ended, header) \
                   VALUES (?1,?2,?3,?4,?5,?6,?7,?8,?9,?10,?11,?12,?13,?14,?15,?16,?17,?18)";
        let (old, new) = (image.old, image.new);
        let header = image.header.as_ref().and_then(|it| serde_json::to_string(it).ok());
        self.execute(
            sql,
            params![
                run,
                image.family.cast_signed(),
                image.place.cast_signed(),
                bytes(&image.path),
                image.strategy.word(),
                image.state.word(),
                old.inode.cast_signed(),
                old.size.cast_signed(),
                old.modified,
                new.map(|new| new.inode.cast_signed()),
                new.map(|new| new.size.cast_signed()),
                new.map(|new| new.modified),
                image.kept.as_deref().map(bytes),
                image.digest,
                image.missing.cast_signed(),
                image.began,
                image.ended,
                header
            ],
        )
    }

    /// What is known of a configuration: its last generation.
    pub(crate) fn following(&self, run: i64, path: &Path) -> Result<Option<Following>> {
        let sql = "SELECT generation, original, before, after, storages \
                   FROM followed_configuration WHERE run = ?1 AND path = ?2 \
                   ORDER BY generation DESC LIMIT 1";
        let found = self.query(sql, params![run, bytes(path)], |row| {
            Ok(Following {
                path: path.to_owned(),
                generation: row.get(0)?,
                original: row.get(1)?,
                before: row.get(2)?,
                after: row.get(3)?,
                storages: row.get(4)?,
                families: BTreeSet::new(),
            })
        })?;
        let Some(mut following) = found.into_iter().next() else { return Ok(None) };
        let sql = "SELECT family FROM followed_family \
                   WHERE run = ?1 AND path = ?2 AND generation = ?3";
        let key = params![run, bytes(path), following.generation];
        let families = self.query(sql, key, |row| row.get::<_, i64>(0))?;
        following.families = families.into_iter().map(i64::cast_unsigned).collect();
        Ok(Some(following))
    }

    /// The configurations that follow a family, and their generations.
    pub(crate) fn following_family(&self, run: i64, family: u64) -> Result<Vec<(PathBuf, i64)>> {
        let sql = "SELECT path, generation FROM followed_family WHERE run = ?1 AND family = ?2";
        let of = |row: &Row<'_>| Ok((path(row.get(0)?), row.get(1)?));
        self.query(sql, [run, family.cast_signed()], of)
    }

    /// Says what is known of a configuration, and which families it follows.
    pub(crate) fn set_following(&self, run: i64, following: &Following) -> Result<()> {
        let Following { generation, original, before, after, storages, .. } = following;
        let path = bytes(&following.path);
        let all = self.connection.unchecked_transaction().map_err(|it| self.failed(it))?;
        let sql = "INSERT OR REPLACE INTO followed_configuration \
                   (run, path, generation, original, before, after, storages) \
                   VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";
        self.execute(sql, params![run, path, generation, original, before, after, storages])?;
        let sql = "DELETE FROM followed_family WHERE run = ?1 AND path = ?2 AND generation = ?3";
        self.execute(sql, params![run, path, generation])?;
        let sql = "INSERT INTO followed_family (run, family, path, generation) \
                   VALUES (?1, ?2, ?3, ?4)";
        for family in &following.families {
            self.execute(sql, params![run, family.cast_signed(), path, generation])?;
        }
        all.commit().map_err(|source| self.failed(source))
    }

    /// Says that a configuration does not follow a family any more.
    pub(crate) fn forget_following(
        &self,
        run: i64,
        family: u64,
        path: &Path,
        generation: i64,
    ) -> Result<()> {
        let sql = "DELETE FROM followed_family \
                   WHERE run = ?1 AND family = ?2 AND path = ?3 AND generation = ?4";
        self.execute(sql, params![run, family.cast_signed(), bytes(path), generation])
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

fn family(row: &Row<'_>) -> rusqlite::Result<FamilyRecord> {
    let word: String = row.get(1)?;
    let state = FamilyState::ALL.into_iter().find(|state| state.word() == word);
    Ok(FamilyRecord {
        number: row.get::<_, i64>(0)?.cast_unsigned(),
        state: state.ok_or_else(|| odd(1))?,
        began: row.get(2)?,
        ended: row.get(3)?,
        cause: row.get(4)?,
        problem: row.get(5)?,
    })
}

fn image(row: &Row<'_>) -> rusqlite::Result<ImageRecord> {
    let number = |place: usize| row.get::<_, i64>(place).map(i64::cast_unsigned);
    let (strategy, state): (String, String) = (row.get(3)?, row.get(4)?);
    let strategy = Strategy::ALL.into_iter().find(|known| known.word() == strategy);
    let state = ImageState::ALL.into_iter().find(|known| known.word() == state);
    let new = match row.get::<_, Option<i64>>(8)? {
        None => None,
        Some(inode) => {
            Some(Stamped { inode: inode.cast_unsigned(), size: number(9)?, modified: row.get(10)? })
        }
    };
    Ok(ImageRecord {
        family: number(0)?,
        place: number(1)?,
        path: path(row.get(2)?),
        strategy: strategy.ok_or_else(|| odd(3))?,
        state: state.ok_or_else(|| odd(4))?,
        old: Stamped { inode: number(5)?, size: number(6)?, modified: row.get(7)? },
        new,
        kept: row.get::<_, Option<Vec<u8>>>(11)?.map(path),
        digest: row.get(12)?,
        missing: number(13)?,
        began: row.get(14)?,
        ended: row.get(15)?,
        header: match row.get::<_, Option<String>>(16)? {
            None => None,
            Some(header) => Some(serde_json::from_str(&header).map_err(|_| odd(16))?),
        },
    })
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
