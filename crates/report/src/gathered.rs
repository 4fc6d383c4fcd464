//! What is gathered for one report and told in another order than it is met: in a database that
//! nobody else sees and that goes away with this. What does not fit into a little memory is put
//! into a file without a name.

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use rusqlite::types::Type;
use rusqlite::{Connection, OptionalExtension, Row, params};

use crate::certificate::{Reason, Remaining};
use crate::error::Result;
use crate::known::{By, Known};
use crate::look::{Found, Looked};

const SCHEMA: &str = include_str!("gathered.sql");

/// A family that failed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FailedFamily {
    /// Its number.
    pub number: u64,
    /// Its topmost image.
    pub path: PathBuf,
    /// What went wrong.
    pub problem: String,
}

/// The database.
#[derive(Debug)]
pub(crate) struct Gathered {
    connection: Connection,
}

impl Gathered {
    pub(crate) fn new() -> Result<Self> {
        Ok(Self { connection: calve_fleet::connect_temporary(SCHEMA)? })
    }

    /// Takes down who knows of a path. Of several, the one that is last in the order of [`By`] has
    /// the say.
    pub(crate) fn put_known(&self, path: &Path, by: By, may_be_missing: bool) -> Result<()> {
        let sql = "INSERT INTO known VALUES (?1, ?2, ?3, ?4) ON CONFLICT DO UPDATE SET \
                   who = excluded.who, run = excluded.run, may_be_missing = excluded.may_be_missing \
                   WHERE (excluded.who, excluded.run) > (who, run)";
        let (who, run) = by.numbers();
        let mut statement = self.connection.prepare_cached(sql)?;
        statement.execute(params![bytes(path), who, run, may_be_missing])?;
        Ok(())
    }

    /// Tells of all paths that are known, in order.
    pub(crate) fn each_known(
        &self,
        mut tell: impl FnMut(&Path, Known) -> Result<()>,
    ) -> Result<()> {
        let sql = "SELECT path, who, run, may_be_missing FROM known ORDER BY path";
        let mut statement = self.connection.prepare(sql)?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let by = By::of(row.get(1)?, row.get(2)?).ok_or_else(|| odd(1))?;
            tell(&path(row, 0)?, Known { by, may_be_missing: row.get(3)? })?;
        }
        Ok(())
    }

    pub(crate) fn put_looked(&self, path: &Path, looked: &Looked) -> Result<()> {
        let sql = "INSERT INTO looked VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)";
        let (found, problem) = looked.found.number();
        self.connection.prepare_cached(sql)?.execute(params![
            bytes(path),
            found,
            problem,
            looked.is_in_use,
            looked.inode.cast_signed(),
            looked.size.cast_signed(),
            looked.spent.cast_signed(),
            looked.modified
        ])?;
        Ok(())
    }

    /// What is at a path now, if it is one that is known.
    pub(crate) fn at(&self, path: &Path) -> Result<Option<Looked>> {
        let sql = "SELECT found, problem, is_in_use, inode, size, spent, modified FROM looked \
                   WHERE path = ?1";
        let number = |row: &Row<'_>, place: usize| row.get::<_, i64>(place).map(i64::cast_unsigned);
        let looked = |row: &Row<'_>| {
            Ok(Looked {
                found: Found::of(row.get(0)?, row.get(1)?).ok_or_else(|| odd(0))?,
                is_in_use: row.get(2)?,
                inode: number(row, 3)?,
                size: number(row, 4)?,
                spent: number(row, 5)?,
                modified: row.get(6)?,
            })
        };
        let mut statement = self.connection.prepare_cached(sql)?;
        Ok(statement.query_row([bytes(path)], looked).optional()?)
    }

    /// Takes down what speaks against a certificate; what is said twice counts once.
    pub(crate) fn put_remaining(&self, remaining: &Remaining) -> Result<()> {
        let sql = "INSERT OR IGNORE INTO remaining VALUES (?1, ?2, ?3, ?4)";
        let member = remaining.member.as_deref().unwrap_or_default();
        self.connection.prepare_cached(sql)?.execute(params![
            remaining.reason.number(),
            bytes(&remaining.path),
            member,
            remaining.run.unwrap_or_default()
        ])?;
        Ok(())
    }

    /// How often each reason speaks against a certificate.
    pub(crate) fn count_remaining(&self) -> Result<Vec<(Reason, u64)>> {
        let sql = "SELECT reason, count(*) FROM remaining GROUP BY reason ORDER BY reason";
        let mut statement = self.connection.prepare(sql)?;
        let counted = statement.query_map([], |row| {
            let reason = Reason::of(row.get(0)?).ok_or_else(|| odd(0))?;
            Ok((reason, row.get::<_, i64>(1)?.cast_unsigned()))
        })?;
        Ok(counted.collect::<rusqlite::Result<_>>()?)
    }

    /// Tells what speaks against a certificate for one reason, by path.
    pub(crate) fn each_remaining(
        &self,
        reason: Reason,
        mut tell: impl FnMut(&Remaining) -> Result<()>,
    ) -> Result<()> {
        let sql = "SELECT path, member, run FROM remaining WHERE reason = ?1 \
                   ORDER BY path, member, run";
        let mut statement = self.connection.prepare_cached(sql)?;
        let mut rows = statement.query([reason.number()])?;
        while let Some(row) = rows.next()? {
            let (member, run): (Vec<u8>, i64) = (row.get(1)?, row.get(2)?);
            tell(&Remaining {
                reason,
                path: path(row, 0)?,
                member: Some(member).filter(|member| !member.is_empty()),
                run: Some(run).filter(|run| *run != 0),
            })?;
        }
        Ok(())
    }

    /// The first that speaks against a certificate for one reason.
    pub(crate) fn first_remaining(&self, reason: Reason) -> Result<Option<(PathBuf, Option<i64>)>> {
        let sql = "SELECT path, run FROM remaining WHERE reason = ?1 \
                   ORDER BY path, member, run LIMIT 1";
        let first = |row: &Row<'_>| {
            Ok((path(row, 0)?, row.get(1).map(|run: i64| Some(run).filter(|run| *run != 0))?))
        };
        let mut statement = self.connection.prepare_cached(sql)?;
        Ok(statement.query_row([reason.number()], first).optional()?)
    }

    /// Takes down a family that failed, in the order of the plan.
    pub(crate) fn put_failed(&self, cause: &str, place: u64, family: &FailedFamily) -> Result<()> {
        let sql = "INSERT INTO failed VALUES (?1, ?2, ?3, ?4, ?5)";
        self.connection.prepare_cached(sql)?.execute(params![
            cause,
            place.cast_signed(),
            family.number.cast_signed(),
            bytes(&family.path),
            family.problem
        ])?;
        Ok(())
    }

    /// Tells of the families that failed for one cause, in the order of the plan.
    pub(crate) fn each_failed(
        &self,
        cause: &str,
        mut tell: impl FnMut(&FailedFamily) -> Result<()>,
    ) -> Result<()> {
        let sql = "SELECT family, path, problem FROM failed WHERE cause = ?1 ORDER BY place";
        let mut statement = self.connection.prepare_cached(sql)?;
        let mut rows = statement.query([cause])?;
        while let Some(row) = rows.next()? {
            tell(&FailedFamily {
                number: row.get::<_, i64>(0)?.cast_unsigned(),
                path: path(row, 1)?,
                problem: row.get(2)?,
            })?;
        }
        Ok(())
    }

    /// Takes down an image that the plan leaves, in its order.
    pub(crate) fn put_left(&self, reason: &str, place: u64, path: &Path) -> Result<()> {
        let sql = "INSERT INTO left_over VALUES (?1, ?2, ?3)";
        let mut statement = self.connection.prepare_cached(sql)?;
        statement.execute(params![reason, place.cast_signed(), bytes(path)])?;
        Ok(())
    }

    /// Tells of the images that the plan leaves for one reason, in its order.
    pub(crate) fn each_left(
        &self,
        reason: &str,
        mut tell: impl FnMut(&Path) -> Result<()>,
    ) -> Result<()> {
        let sql = "SELECT path FROM left_over WHERE reason = ?1 ORDER BY place";
        let mut statement = self.connection.prepare_cached(sql)?;
        let mut rows = statement.query([reason])?;
        while let Some(row) = rows.next()? {
            tell(&path(row, 0)?)?;
        }
        Ok(())
    }
}

fn bytes(path: &Path) -> &[u8] {
    path.as_os_str().as_bytes()
}

fn path(row: &Row<'_>, place: usize) -> rusqlite::Result<PathBuf> {
    row.get(place).map(|bytes| PathBuf::from(OsString::from_vec(bytes)))
}

/// A number that nobody writes there.
fn odd(column: usize) -> rusqlite::Error {
    rusqlite::Error::InvalidColumnType(column, "number".into(), Type::Integer)
}
