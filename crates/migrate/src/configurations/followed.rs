//! Configurations that were changed with families, and how they are taken back. Whoever calls has
//! the turn: no two of these at once.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use calve_references::{Storages, replace};

use super::{Configurations, changes_of, read, rewritten};
use crate::error::{Error, Result};
use crate::journal::Journal;

/// A configuration that follows families of a run.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Following {
    pub(crate) path: PathBuf,
    /// Counts one up where somebody else changed it in between.
    pub(crate) generation: i64,
    /// What it was before all of them.
    pub(crate) original: Vec<u8>,
    /// What it was before the last change, and is after it.
    pub(crate) before: Vec<u8>,
    pub(crate) after: Vec<u8>,
    pub(crate) storages: Vec<u8>,
    pub(crate) families: BTreeSet<u64>,
}

/// Changes the configurations that name images of a migrated family, and returns which were
/// changed. What was done already is not done again.
pub(crate) fn follow(
    configurations: &Configurations,
    journal: &Mutex<Journal>,
    run: i64,
    family: u64,
) -> Result<Vec<PathBuf>> {
    let mut followed = Vec::new();
    for path in configurations.by_family.get(&family).into_iter().flatten() {
        let known = lock(journal).following(run, path)?;
        if let Some(known) = known.as_ref().filter(|known| known.families.contains(&family)) {
            // It was begun; or somebody changed it since, and knows.
            settle(known)?;
            continue;
        }
        if let Some(known) = &known {
            settle(known)?;
        }
        // A machine that is gone names nothing.
        let Some(now) = read(path)? else { continue };
        let mut next = match known {
            Some(known) if known.after == now && !known.families.is_empty() => known,
            known => Following {
                path: path.to_path_buf(),
                generation: known.map_or(1, |known| known.generation + 1),
                original: now.clone(),
                before: now.clone(),
                after: now.clone(),
                storages: configurations.storages.clone(),
                families: BTreeSet::new(),
            },
        };
        let previous = next.clone();
        next.families.insert(family);
        next.before = now;
        next.after = made(&lock(journal), run, &next)?;
        if next.after == next.before {
            continue;
        }
        change(journal, run, &previous, &next)?;
        followed.push(path.to_path_buf());
    }
    Ok(followed)
}

/// Fails where a configuration that follows the family is neither what it was left as nor what it
/// was before.
pub(crate) fn can_go_back(journal: &Mutex<Journal>, run: i64, family: u64) -> Result<()> {
    for (path, generation) in following_family(journal, run, family)? {
        if latest(journal, run, &path, generation)?.is_none_or(|known| !is_ours(&known)) {
            let why = "was changed by somebody else since: say there by hand that its images are \
                       version 1 again, and take the run back with --force";
            return Err(Error::changed(&path, why));
        }
    }
    Ok(())
}

/// Takes configurations back that follow the family, and returns those that stay because somebody
/// else changed them.
pub(crate) fn back(journal: &Mutex<Journal>, run: i64, family: u64) -> Result<Vec<PathBuf>> {
    let mut left = Vec::new();
    for (path, generation) in following_family(journal, run, family)? {
        let known = latest(journal, run, &path, generation)?;
        let Some(known) = known.filter(is_ours) else {
            lock(journal).forget_following(run, family, &path, generation)?;
            left.push(path);
            continue;
        };
        settle(&known)?;
        // It follows the family until that is done: a crash in between is found again.
        let mut others = known.clone();
        others.families.remove(&family);
        let after = made(&lock(journal), run, &others)?;
        let next = Following { before: known.after.clone(), after, ..known.clone() };
        change(journal, run, &known, &next)?;
        lock(journal).forget_following(run, family, &path, generation)?;
    }
    Ok(left)
}

/// Says in the journal what a configuration becomes, and makes it that. Where that fails, the
/// journal says again what it said.
fn change(
    journal: &Mutex<Journal>,
    run: i64,
    previous: &Following,
    next: &Following,
) -> Result<()> {
    lock(journal).set_following(run, next)?;
    match replace(&next.path, &next.before, &next.after) {
        Ok(_) => Ok(()),
        Err(error) => {
            lock(journal).set_following(run, previous)?;
            Err(error.into())
        }
    }
}

/// What it has to be for its families.
fn made(journal: &Journal, run: i64, following: &Following) -> Result<Vec<u8>> {
    let changes = changes_of(journal, run, following.families.iter().copied())?;
    let storages = Storages::parse(&following.storages);
    let Following { path, original, .. } = following;
    let made = rewritten(path, original, &changes, &storages)?;
    Ok(made.and_then(|made| made.bytes).unwrap_or_else(|| original.clone()))
}

/// Ends a change that a crash may have left undone. One that somebody else changed stays.
fn settle(known: &Following) -> Result<()> {
    if read(&known.path)?.is_some_and(|now| now == known.before && now != known.after) {
        replace(&known.path, &known.before, &known.after)?;
    }
    Ok(())
}

/// Whether the file is as the last change left it, or as it was before that.
fn is_ours(known: &Following) -> bool {
    let now = read(&known.path).ok().flatten();
    now.is_some_and(|now| now == known.after || now == known.before)
}

fn following_family(
    journal: &Mutex<Journal>,
    run: i64,
    family: u64,
) -> Result<Vec<(PathBuf, i64)>> {
    lock(journal).following_family(run, family)
}

/// What is known of a configuration, unless this generation of it is over.
fn latest(
    journal: &Mutex<Journal>,
    run: i64,
    path: &Path,
    generation: i64,
) -> Result<Option<Following>> {
    let known = lock(journal).following(run, path)?;
    Ok(known.filter(|known| known.generation == generation))
}

fn lock(journal: &Mutex<Journal>) -> MutexGuard<'_, Journal> {
    journal.lock().unwrap_or_else(PoisonError::into_inner)
}
