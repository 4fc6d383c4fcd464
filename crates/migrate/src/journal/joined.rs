//! Several journals as one, for whoever tells of a plan that several workers carried out.

use std::path::Path;

use rusqlite::params;

use super::{FamilyRecord, Journal, RunRecord, SCHEMA, bytes};
use crate::error::{Error, Result};

impl Journal {
    /// The run of a journal of several.
    pub(crate) const JOINED: i64 = 1;

    /// A journal that nobody else sees, and that goes away when it is dropped: see
    /// [`calve_fleet::connect_temporary`]. `path` is what errors name.
    pub(crate) fn temporary(path: &Path) -> Result<Self> {
        match calve_fleet::connect_temporary(SCHEMA) {
            Ok(connection) => Ok(Self { connection, path: path.to_owned() }),
            Err(source) => Err(Error::journal(path, source)),
        }
    }

    /// Takes over all families of a run of another journal, into its only run, which begins with the
    /// first that is added and ends with the last: it is ended, or taken back, only where each is.
    pub(crate) fn add(&self, other: &Self, run: &RunRecord) -> Result<()> {
        let last = |one: Option<i64>, other: Option<i64>| Some(one?.max(other?));
        let all = match self.run(Self::JOINED)? {
            None => run.clone(),
            Some(all) => RunRecord {
                began: all.began.min(run.began),
                ended: last(all.ended, run.ended),
                undone: last(all.undone, run.undone),
                ..all
            },
        };
        let kept = serde_json::to_string(&all.kept).unwrap_or_default();
        let sql = "INSERT OR REPLACE INTO migration (number, plan, digest, kept, began, ended, \
                   undone) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";
        let RunRecord { plan, digest, began, ended, undone, .. } = &all;
        self.execute(sql, params![Self::JOINED, bytes(plan), digest, kept, began, ended, undone])?;
        other.each_family(run.number, |family| {
            self.put_family(&family)?;
            for image in other.images(run.number, family.number)? {
                self.set_image(Self::JOINED, &image)?;
            }
            Ok(())
        })
    }

    /// Says that its run is not over: somebody has not begun.
    pub(crate) fn set_not_over(&self) -> Result<()> {
        self.execute("UPDATE migration SET ended = NULL, undone = NULL", [])
    }

    fn put_family(&self, family: &FamilyRecord) -> Result<()> {
        let sql = "INSERT INTO migrated_family (run, number, state, began, ended, cause, problem) \
                   VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";
        let FamilyRecord { number, state, began, ended, cause, problem } = family;
        let number = number.cast_signed();
        self.execute(sql, params![Self::JOINED, number, state.word(), began, ended, cause, problem])
    }
}
