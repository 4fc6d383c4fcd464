//! How often a family was left half way and came no further.

use rusqlite::params;

use super::Journal;
use crate::error::{Cause, Result};

/// So many times a family may be left half way for the same cause, and as far, until nothing is
/// expected of another try without somebody's help.
pub(crate) const MOST_ATTEMPTS: u64 = 3;

impl Journal {
    /// Counts an attempt that left a family half way, and returns how many there were in a row with
    /// the same cause that came as far.
    pub(crate) fn count_attempt(&self, run: i64, family: u64, cause: Cause) -> Result<u64> {
        let state = self.family(run, family)?.map_or("", |known| known.state.word());
        let images = self.images(run, family)?;
        let words = images.iter().map(|image| image.state.word());
        let progress = std::iter::once(state).chain(words).collect::<Vec<_>>().join(" ");
        let sql = "INSERT INTO stuck_family (run, number, cause, progress, attempts) \
                   VALUES (?1, ?2, ?3, ?4, 1) ON CONFLICT DO UPDATE SET \
                   attempts = CASE WHEN cause = excluded.cause AND progress = excluded.progress \
                   THEN attempts + 1 ELSE 1 END, \
                   cause = excluded.cause, progress = excluded.progress";
        self.execute(sql, params![run, family.cast_signed(), cause.word(), progress])?;
        self.attempts(run, family)
    }

    /// How many attempts in a row left a family half way, for the same cause and as far.
    pub(crate) fn attempts(&self, run: i64, family: u64) -> Result<u64> {
        let sql = "SELECT attempts FROM stuck_family WHERE run = ?1 AND number = ?2";
        let key = params![run, family.cast_signed()];
        let found = self.query(sql, key, |row| row.get::<_, i64>(0))?;
        Ok(found.first().map_or(0, |attempts| attempts.cast_unsigned()))
    }

    /// Forgets the attempts of a family that is not half way any more.
    pub(crate) fn forget_attempts(&self, run: i64, family: u64) -> Result<()> {
        let sql = "DELETE FROM stuck_family WHERE run = ?1 AND number = ?2";
        self.execute(sql, params![run, family.cast_signed()])
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use calve_plan::Kept;

    use super::*;
    use crate::journal::FamilyState;

    #[test]
    fn attempts_are_counted_as_long_as_cause_and_progress_are_the_same() {
        let folder = tempfile::tempdir().expect("a folder");
        let journal = Journal::open(&folder.path().join("journal")).expect("a journal");
        let run = journal.begin(Path::new("plan"), "digest", &Kept::Beside).expect("a run").number;
        let say = |state| journal.set_family(run, 7, state, None).expect("said");
        let count = |cause| journal.count_attempt(run, 7, cause).expect("counted");
        say(FamilyState::Preparing);
        assert_eq!([count(Cause::Host), count(Cause::Host)], [1, 2]);
        assert_eq!([count(Cause::NoSpace), count(Cause::NoSpace)], [1, 2]);
        say(FamilyState::Switching);
        assert_eq!([count(Cause::NoSpace), count(Cause::NoSpace)], [1, 2]);
        assert_eq!(journal.count_attempt(run, 8, Cause::NoSpace).expect("another"), 1);
        journal.forget_attempts(run, 7).expect("forgotten");
        assert_eq!(journal.attempts(run, 7).expect("known"), 0);
        assert_eq!(count(Cause::NoSpace), 1);
    }
}
