//! The schema of a catalogue: made where there is none, and renewed where it is an earlier one.

use std::time::{Duration, Instant};

use rusqlite::{Connection, ErrorCode, Transaction, TransactionBehavior};

use super::{Catalogue, PATIENCE};
use crate::error::{Error, Result};

const SCHEMA: &str = include_str!("schema.sql");

/// Marks a file of SQLite as a catalogue: "calv".
const APPLICATION: i32 = 0x6361_6C76;

/// The version of the schema. An earlier catalogue becomes one of this version when it is opened for
/// a scan, and is read as it is where it is only read.
const VERSION: i32 = 3;

/// How often it is looked whether it is done, where SQLite does not wait itself.
const STEP: Duration = Duration::from_millis(5);

impl Catalogue {
    pub(super) fn prepared(self) -> Result<Self> {
        let (application, version, objects) = self.identity()?;
        let foreign = |what: String| Error::Foreign { path: self.path.clone(), what };
        match (application, version) {
            (APPLICATION, VERSION) => {}
            (APPLICATION, earlier @ 1..VERSION) => self.renew(earlier)?,
            (0, 0) if objects == 0 => self.make()?,
            (APPLICATION, later) => {
                return Err(foreign(format!(
                    "a catalogue of version {later}, of which this program knows 1 to {VERSION}"
                )));
            }
            _ => return Err(foreign("a database, and not a catalogue".into())),
        }
        Ok(self)
    }

    /// The marks of the file, and how much there is in it.
    pub(super) fn identity(&self) -> Result<(i32, i32, i64)> {
        let sql = "SELECT (SELECT application_id FROM pragma_application_id), \
                   (SELECT user_version FROM pragma_user_version), \
                   (SELECT count(*) FROM sqlite_schema)";
        let found =
            self.connection.query_row(sql, [], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)));
        found.map_err(|source| match source.sqlite_error_code() {
            Some(ErrorCode::NotADatabase) => {
                Error::Foreign { path: self.path.clone(), what: "not a catalogue".into() }
            }
            _ => self.failed(source),
        })
    }

    fn make(&self) -> Result<()> {
        let made = || {
            log_ahead(&self.connection)?;
            let change = self.change()?;
            // Another process may have done it meanwhile.
            if version(&change)? == 0 {
                change.execute_batch(SCHEMA)?;
                change.pragma_update(None, "application_id", APPLICATION)?;
                change.pragma_update(None, "user_version", VERSION)?;
            }
            change.commit()
        };
        made().map_err(|source| self.failed(source))
    }

    /// Makes an earlier catalogue one of this version, for which nothing has to be read again at
    /// once: the next scan asks about images what this one does not know.
    fn renew(&self, earlier: i32) -> Result<()> {
        let renewed = || {
            if self.connection.is_readonly("main")? {
                return self.connection.execute_batch(match earlier {
                    1 => include_str!("view_of_1.sql"),
                    _ => include_str!("view_of_2.sql"),
                });
            }
            let change = self.change()?;
            // Another process may have done it meanwhile, or some of it.
            if version(&change)? == 1 {
                change.execute_batch(include_str!("from_1.sql"))?;
            }
            if version(&change)? == 2 {
                change.execute_batch(include_str!("from_2.sql"))?;
            }
            change.commit()
        };
        renewed().map_err(|source| self.failed(source))
    }

    /// A transaction in which nobody else writes.
    fn change(&self) -> rusqlite::Result<Transaction<'_>> {
        Transaction::new_unchecked(&self.connection, TransactionBehavior::Immediate)
    }
}

/// The version of the schema; 0 of what has none yet.
fn version(connection: &Connection) -> rusqlite::Result<i32> {
    connection.query_row("SELECT user_version FROM pragma_user_version", [], |row| row.get(0))
}

/// Has a database write what changes into a log beside it, so that others can read meanwhile. SQLite
/// waits for nobody else here, as it does everywhere else.
///
/// # Errors
/// What SQLite says.
pub fn log_ahead(connection: &Connection) -> rusqlite::Result<()> {
    let began = Instant::now();
    loop {
        match connection.pragma_update(None, "journal_mode", "WAL") {
            Err(error)
                if error.sqlite_error_code() == Some(ErrorCode::DatabaseBusy)
                    && began.elapsed() < PATIENCE =>
            {
                std::thread::sleep(STEP);
            }
            done => return done,
        }
    }
}
