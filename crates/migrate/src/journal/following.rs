//! Configurations in the journal: what each was before, and which families it follows.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use rusqlite::{Row, params};

use super::{Journal, bytes, path};
use crate::configurations::Following;
use crate::error::Result;

impl Journal {
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
}
