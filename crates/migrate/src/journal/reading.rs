//! The journal for whoever only reads it: families one after the other, however many there are.

use super::{FamilyRecord, Journal, family};
use crate::error::Error;

impl Journal {
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
}
