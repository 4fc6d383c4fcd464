//! Images in the journal: what each was, what it is, and how it goes back.

use std::path::PathBuf;

use calve_plan::Strategy;
use calve_references::HeaderChange;
use rusqlite::{Row, params};

use super::{Journal, bytes, odd, path};
use crate::error::Result;

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

impl Journal {
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
