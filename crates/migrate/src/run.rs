//! A plan from end to end.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use calve_plan::{Family, Plan};

use crate::budget::{Budget, Spending};
use crate::configurations::Configurations;
use crate::dials::Dials;
use crate::error::{Cause, Error, Result};
use crate::event::{Event, Outcome};
use crate::family::Families;
use crate::hook::Hooks;
use crate::journal::{Journal, RunRecord};
use crate::queue::{Next, Queue};
use crate::step::Site;
use crate::stores::Stores;

/// Threads that wait for families: as many as there may ever be jobs.
const MOST_JOBS: usize = 64;

/// Families that have to be over before a share of failures means something.
const ENOUGH: u64 = 10;

/// What is done with each family, and when a run goes no further.
pub struct Limits<'a> {
    /// So many families of each kind, and then no more.
    pub canary: Option<usize>,
    /// The share of families that may fail, 0 to 1.
    pub most_failures: f64,
    /// Whether families may begin now; asked before each.
    pub is_open: &'a (dyn Fn() -> bool + Sync),
    /// The families that are meant, by their place in the plan; all where that is not said.
    pub places: Option<&'a [usize]>,
    /// What may be used up.
    pub budget: Budget,
    /// Whether disks that are upgraded are digested too, before and after.
    pub digests: bool,
    /// Of images that are objects.
    pub stores: Stores,
}

/// What came of a run.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Summary {
    /// Families that are migrated.
    pub done: u64,
    /// Families that were migrated before.
    pub known: u64,
    /// Families that failed, and are as they were, by what the failure is about.
    pub failed: BTreeMap<Cause, u64>,
    /// Those of them that are half way instead: the next run goes on with these.
    pub open: u64,
    /// Those of them that were left so three times for the same cause: another try alone will not do.
    pub stuck: u64,
    /// Families that were not begun.
    pub left: u64,
    /// Whether some were not begun because the budget was used up.
    pub is_spent: bool,
    /// Bytes of rescued disks that are missing.
    pub missing: u64,
    /// Changes of configurations.
    pub followed: u64,
    /// Why it went no further, where it did not.
    pub halted: Option<String>,
}

impl Summary {
    /// Families that failed.
    pub fn failures(&self) -> u64 {
        self.failed.values().sum()
    }
}

/// Carries out a plan; `configurations` follow its families, where there are any. `stop` is heeded,
/// and set where a result did not read as its source: then nothing may go on.
///
/// # Errors
/// What the journal says. Whatever else fails is the failure of a family, and told as an event.
pub fn run(
    (plan, record): (&Plan, &RunRecord),
    journal: &Mutex<Journal>,
    (limits, dials, hooks): (&Limits<'_>, &Dials, &Hooks),
    configurations: Option<&Configurations>,
    stop: &AtomicBool,
    tell: &(dyn Fn(&Event<'_>) + Sync),
) -> Result<Summary> {
    let meant: Vec<&Family> = meant(plan, limits);
    let queue = Queue::of(meant.iter().copied());
    let (turn, followed) = (Mutex::new(()), AtomicU64::new(0));
    let run = Run {
        record,
        limits,
        dials,
        queue,
        families: Families {
            journal,
            hooks,
            stores: &limits.stores,
            configurations,
            turn: &turn,
            tell,
            followed,
        },
        spending: Spending::new(limits.budget),
        stop,
        tell,
        summary: Mutex::default(),
        broken: Mutex::default(),
    };
    std::thread::scope(|scope| {
        for _ in 0..meant.len().min(MOST_JOBS) {
            scope.spawn(|| run.work());
        }
    });
    let left = run.queue.clear();
    let Run { summary, broken, families, .. } = run;
    if let Some(error) = broken.into_inner().unwrap_or_else(PoisonError::into_inner) {
        return Err(error);
    }
    let mut summary = summary.into_inner().unwrap_or_else(PoisonError::into_inner);
    summary.left += u64::try_from(left).unwrap_or(u64::MAX);
    summary.followed = families.followed.into_inner();
    if summary.left == 0 && summary.failed.is_empty() && limits.canary.is_none() {
        journal.lock().unwrap_or_else(PoisonError::into_inner).end(record.number)?;
    }
    Ok(summary)
}

/// The families that are meant, in order.
fn meant<'a>(plan: &'a Plan, limits: &Limits<'_>) -> Vec<&'a Family> {
    let families: Vec<&Family> = match limits.places {
        None => plan.families.iter().collect(),
        Some(places) => places.iter().filter_map(|place| plan.families.get(*place)).collect(),
    };
    let mut counts: BTreeMap<BTreeSet<Kind<'_>>, usize> = BTreeMap::new();
    let mut meant = Vec::new();
    for family in families.into_iter().filter(|family| family.is_migrated()) {
        let count = counts.entry(kind(family)).or_default();
        *count += 1;
        if limits.canary.is_none_or(|most| *count <= most) {
            meant.push(family);
        }
    }
    meant
}

/// What is done with an image, and whose it is.
type Kind<'a> = (&'a str, Option<&'a str>, Option<&'a str>);

fn kind(family: &Family) -> BTreeSet<Kind<'_>> {
    let of = |image: &calve_plan::Image| image.strategy.word();
    let images = family.images.iter();
    images.map(|it| (of(it), it.dialect.as_deref(), it.producer.as_deref())).collect()
}

struct Run<'a> {
    record: &'a RunRecord,
    limits: &'a Limits<'a>,
    dials: &'a Dials,
    queue: Queue<'a>,
    families: Families<'a>,
    spending: Spending,
    stop: &'a AtomicBool,
    tell: &'a (dyn Fn(&Event<'_>) + Sync),
    summary: Mutex<Summary>,
    /// What the journal said.
    broken: Mutex<Option<Error>>,
}

impl Run<'_> {
    fn work(&self) {
        while !self.stop.load(Ordering::Relaxed) {
            let family = match self.queue.next(&self.dials.now()) {
                Next::Nothing => return,
                Next::Family(family) if (self.limits.is_open)() => family,
                // Nobody waits for hours that come when the time is over.
                Next::Family(family) if self.spending.is_over() => {
                    self.spent();
                    self.queue.over(family);
                    continue;
                }
                Next::Family(family) => {
                    self.queue.put_back(family);
                    self.dials.wait();
                    continue;
                }
                Next::Wait => {
                    self.dials.wait();
                    continue;
                }
            };
            match self.is_afforded(family) {
                Ok(true) => self.one(family),
                Ok(false) => self.spent(),
                Err(error) => self.broke(error),
            }
            self.queue.over(family);
            self.dials.wake();
        }
    }

    /// Whether the budget lasts for a family. One that is migrated already takes nothing, and one that
    /// is half way is settled whatever that takes. When a family was too much, none begins any more.
    fn is_afforded(&self, family: &Family) -> Result<bool> {
        Ok(self.spending.is_free()
            || self.families.is_begun(self.record.number, family)?
            || (!self.summary().is_spent && self.spending.take(family)))
    }

    /// Leaves the family that could not begin.
    fn spent(&self) {
        let mut summary = self.summary();
        summary.left += 1;
        summary.is_spent = true;
    }

    fn one(&self, family: &Family) {
        let began = Instant::now();
        (self.tell)(&Event::Began { family });
        match self.families.migrate(&self.site(), family) {
            Ok(outcome) => {
                let seconds = began.elapsed().as_secs_f64();
                self.count(&outcome);
                (self.tell)(&Event::Ended { family, outcome, seconds });
            }
            Err(error) => self.broke(error),
        }
    }

    /// Ends everything: nothing goes on without a journal.
    fn broke(&self, error: Error) {
        self.stop.store(true, Ordering::Relaxed);
        *self.broken.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
    }

    /// What a family that begins now is given.
    fn site(&self) -> Site<'_> {
        let settings = self.dials.now();
        let processors = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
        let jobs = settings.jobs.max(1);
        Site {
            run: self.record.number,
            kept: &self.record.kept,
            stores: &self.limits.stores,
            stop: self.stop,
            digests: self.limits.digests,
            threads: NonZeroUsize::new(processors / jobs).unwrap_or(NonZeroUsize::MIN),
            pace: self.dials.pace(),
        }
    }

    fn count(&self, outcome: &Outcome) {
        let mut summary = self.summary();
        match outcome {
            Outcome::Done { missing } => {
                summary.done += 1;
                summary.missing += missing;
            }
            Outcome::Known => summary.known += 1,
            Outcome::Failed { cause: Cause::Stopped, is_open: false, .. } => summary.left += 1,
            Outcome::Failed { cause, problem, is_open, is_stuck } => {
                summary.open += u64::from(*is_open);
                summary.stuck += u64::from(*is_stuck);
                *summary.failed.entry(*cause).or_default() += 1;
                let why = self.halts((*cause, problem), &summary);
                if let Some(why) = why.filter(|_| summary.halted.is_none()) {
                    summary.left += u64::try_from(self.queue.clear()).unwrap_or(u64::MAX);
                    summary.halted = Some(why.clone());
                    drop(summary);
                    (self.tell)(&Event::Halted { why });
                }
            }
        }
    }

    /// Why no further family may begin, after a failure.
    fn halts(&self, (cause, problem): (Cause, &str), summary: &Summary) -> Option<String> {
        if cause == Cause::Mismatch {
            self.stop.store(true, Ordering::Relaxed);
            let why = "a result did not read as its source: nothing goes on";
            return Some(format!("{why}: {problem}"));
        }
        let (failed, over) = (summary.failures(), summary.failures() + summary.done);
        #[expect(clippy::cast_precision_loss, reason = "a share needs no 53 bits")]
        let share = failed as f64 / over as f64;
        (over >= ENOUGH && share > self.limits.most_failures)
            .then(|| format!("{failed} of {over} families failed, which is more than may"))
    }

    fn summary(&self) -> MutexGuard<'_, Summary> {
        self.summary.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
