//! Families in the journal: how far each of them is.

use rusqlite::{Row, params};

use super::{Journal, now, odd};
use crate::error::{Cause, Error, Result};

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

impl Journal {
    /// The families of a run that were begun, in order.
    pub fn families(&self, run: i64) -> Result<Vec<FamilyRecord>> {
        let sql = "SELECT number, state, began, ended, cause, problem FROM migrated_family \
                   WHERE run = ?1 ORDER BY number";
        self.query(sql, [run], family)
    }

    /// Tells of the families of a run that were begun, in order. An error of `tell` ends it.
    ///
    /// # Errors
    /// That, and [`Error::Journal`].
    pub fn each_family<E: From<Error>>(
        &self,
        run: i64,
        mut tell: impl FnMut(FamilyRecord) -> std::result::Result<(), E>,
    ) -> std::result::Result<(), E> {
        let failed = |source| E::from(self.failed(source));
        let sql = "SELECT number, state, began, ended, cause, problem FROM migrated_family \
                   WHERE run = ?1 ORDER BY number";
        let mut statement = self.connection.prepare(sql).map_err(failed)?;
        let mut rows = statement.query([run]).map_err(failed)?;
        while let Some(row) = rows.next().map_err(failed)? {
            tell(family(row).map_err(failed)?)?;
        }
        Ok(())
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
