//! Runs are taken back, and ways back are given up.

use std::path::PathBuf;
use std::sync::atomic::AtomicU64;
use std::sync::{Mutex, MutexGuard};

use calve_plan::{Kept, Strategy};

use crate::error::{Error, Result};
use crate::event::Event;
use crate::family::Families;
use crate::hook::Hooks;
use crate::journal::{FamilyState, ImageRecord, ImageState, Journal, RunRecord, now};
use crate::step;
use crate::stores::Stores;

/// Seconds in a day.
const DAY: i64 = 24 * 60 * 60;

/// What taking a run back came to.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Undone {
    /// Images that are what they were.
    pub images: u64,
    /// Configurations that somebody else changed since, and that stay as they are.
    pub left: Vec<PathBuf>,
    /// Families that could not be taken back, with the reason of each.
    pub failed: Vec<(u64, String)>,
}

/// Takes a run back: the last family first, and of each the last image. One that cannot be taken
/// back keeps no other from it; `force` also takes back what was written to since.
///
/// # Errors
/// [`Error::Refused`] where there is no such run, or it was taken back; [`Error::Journal`].
pub fn undo(
    (journal, stores): (&Mutex<Journal>, &Stores),
    number: i64,
    force: bool,
) -> Result<Undone> {
    let lock = || journal.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let run = wanted(&lock(), number)?;
    let mut undone = Undone::default();
    let families = lock().families(run.number)?;
    let hooks = Hooks::default();
    let (turn, tell) = (Mutex::new(()), |_: &Event<'_>| {});
    let site = Families {
        journal,
        hooks: &hooks,
        stores,
        configurations: None,
        turn: &turn,
        tell: &tell,
        followed: AtomicU64::new(0),
    };
    let is_begun = |state| {
        matches!(state, FamilyState::Done | FamilyState::Switching | FamilyState::Preparing)
    };
    for family in families.iter().rev().filter(|family| is_begun(family.state)) {
        let mut images = lock().images(run.number, family.number)?;
        let released = images.iter().find(|image| image.state == ImageState::Released);
        let back = match released {
            Some(image) => Err(Error::refused(&image.path, "its way back was given up")),
            // Nothing took the place of an image yet, and what was made for that may lie there.
            None if family.state == FamilyState::Preparing => {
                let mut made = images.drain(..);
                made.try_for_each(|image| step::discard(stores, &image)).map(|()| Vec::new())
            }
            None => site.back(run.number, &mut images, force),
        };
        match back {
            Ok(left) => {
                undone.left.extend(left);
                lock().set_family(run.number, family.number, FamilyState::Undone, None)?;
                undone.images += u64::try_from(images.len()).unwrap_or(u64::MAX);
            }
            Err(error @ Error::Journal { .. }) => return Err(error),
            Err(error) => undone.failed.push((family.number, error.to_string())),
        }
    }
    if undone.failed.is_empty() {
        lock().set_undone(run.number)?;
    }
    Ok(undone)
}

/// What giving up ways back came to.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Released {
    /// Images that cannot be taken back any more.
    pub images: u64,
    /// Bytes that became free.
    pub bytes: u64,
    /// Images that are kept for some more days.
    pub waiting: u64,
    /// Images that were put aside, which nobody but a person removes, and that are where they were put.
    pub aside: u64,
    /// The first of these.
    pub first_aside: Option<PathBuf>,
    /// Images whose way back could not be given up, with the reason of each.
    pub failed: Vec<String>,
}

/// Gives up the ways back of a run: removes originals, and undo records. Those that are kept for
/// days are kept until those are over, and one that is not where it was kept is refused, unless
/// `is_forced`.
///
/// # Errors
/// As [`undo`].
pub fn release(
    (journal, stores): (&Mutex<Journal>, &Stores),
    number: i64,
    is_forced: bool,
) -> Result<Released> {
    let lock = || journal.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let run = wanted(&lock(), number)?;
    let days = match run.kept {
        Kept::Days(days) if !is_forced => i64::from(days),
        _ => 0,
    };
    let mut released = Released::default();
    // A lock that is taken in the head of a loop is held until its end.
    let families = lock().families(run.number)?;
    for family in families.iter().filter(|family| family.state == FamilyState::Done) {
        let images = lock().images(run.number, family.number)?;
        for mut image in images {
            let until = image.ended.unwrap_or_default().saturating_add(days * DAY);
            let may_wait = image.strategy != Strategy::Quarantine;
            if may_wait && image.state == ImageState::Switched && days > 0 && now() < until {
                released.waiting += 1;
                continue;
            }
            let done = match image.strategy {
                Strategy::Quarantine => {
                    release_aside((&lock, stores), run.number, &mut image, is_forced)
                }
                _ => release_one((&lock, stores), run.number, &mut image, is_forced),
            };
            match done {
                Ok(Became::Released(bytes)) => {
                    released.images += 1;
                    released.bytes += bytes;
                }
                Ok(Became::Stays(kept)) => {
                    released.aside += 1;
                    released.first_aside.get_or_insert(kept);
                }
                Ok(Became::Over) => {}
                Err(error @ Error::Journal { .. }) => return Err(error),
                Err(error) => released.failed.push(error.to_string()),
            }
        }
    }
    Ok(released)
}

/// What became of the way back of one image.
enum Became {
    /// It was given up, which frees so many bytes.
    Released(u64),
    /// What was put aside stays there.
    Stays(PathBuf),
    /// There is nothing to do: it was done before.
    Over,
}

/// Gives up the way back of one image.
fn release_one<'a>(
    (lock, stores): (&impl Fn() -> MutexGuard<'a, Journal>, &Stores),
    run: i64,
    image: &mut ImageRecord,
    is_forced: bool,
) -> Result<Became> {
    let before = image.state;
    match (before, step::has_way_back(stores, image)?) {
        (ImageState::Switched, Some(false)) if image.strategy.replaces() && !is_forced => {
            let kept = image.kept.as_deref().unwrap_or(&image.path);
            let why = "the original is not there: wherever it is, it is version 1 still. Where it \
                       was removed, --force takes that for done";
            return Err(Error::refused(kept, why));
        }
        // A process that was killed may have left it.
        (ImageState::Switched, _) | (ImageState::Released, Some(true)) => {}
        _ => return Ok(Became::Over),
    }
    // Known before it is done: whoever goes on ends it, and asks for nothing that is gone.
    image.state = ImageState::Released;
    lock().set_image(run, image)?;
    let freed = step::release(stores, image);
    if freed.is_err() {
        image.state = before;
    }
    lock().set_image(run, image)?;
    freed.map(Became::Released)
}

/// What was put aside has nothing in its place: it stays, and can be put back. Where it is not there any
/// more, somebody has removed it by hand, or moved it.
fn release_aside<'a>(
    (lock, stores): (&impl Fn() -> MutexGuard<'a, Journal>, &Stores),
    run: i64,
    image: &mut ImageRecord,
    is_forced: bool,
) -> Result<Became> {
    let Some(kept) = image.kept.clone() else { return Ok(Became::Over) };
    let is_over = image.state != ImageState::Switched;
    match (stores.look(&kept), is_forced) {
        (Ok(Some(_)), _) => Ok(Became::Stays(kept)),
        _ if is_over => Ok(Became::Over),
        (Err(error), _) => Err(error),
        (Ok(None), false) => {
            let why = "what was put aside is not there: wherever it is, it is version 1 still. Where \
                       it was removed, --force takes that for done";
            Err(Error::refused(&kept, why))
        }
        (Ok(None), true) => {
            image.state = ImageState::Released;
            lock().set_image(run, image)?;
            Ok(Became::Released(0))
        }
    }
}

/// Asks whether [`undo`] or [`release`] would begin, and changes nothing.
///
/// # Errors
/// As [`undo`].
pub fn can_end(journal: &Mutex<Journal>, number: i64) -> Result<()> {
    let journal = journal.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    wanted(&journal, number).map(drop)
}

fn wanted(journal: &Journal, number: i64) -> Result<RunRecord> {
    let run = journal.run(number)?;
    let refused = |why: String| Error::refused(journal.path(), why);
    let run = run.ok_or_else(|| refused(format!("has no run {number}")))?;
    match run.undone {
        None => Ok(run),
        Some(_) => Err(refused(format!("run {number} was taken back already"))),
    }
}
