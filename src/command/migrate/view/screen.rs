//! What is shown of a run: made of its events and settings, and of nothing else.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use calve_disk::open::{escaped, shown};
use calve_migrate::{Event, Outcome, Settings};
use calve_plan::{Family, Plan, Strategy};

use crate::command::migrate::told;

/// Seconds of which it is remembered how many bytes each had.
const HISTORY: usize = 60;

/// Lines of commands that are remembered.
const SAID: usize = 20;

/// What a key asks for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Wish {
    /// A word that a control socket takes too, and what belongs to it.
    Word(&'static str, Option<String>),
    /// To stop the run.
    Stop,
    /// The same, as Ctrl-C does.
    Interrupt,
    /// To be suspended.
    Suspend,
    /// To have all of it drawn anew.
    Redraw,
}

/// A family that was begun and is not over.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Active {
    /// Its topmost image, harmless.
    pub(super) name: String,
    /// What is done with that.
    pub(super) strategy: &'static str,
    pub(super) images: usize,
    /// When it began.
    pub(super) since: Duration,
}

/// Families of one device.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(super) struct Load {
    pub(super) active: u64,
    pub(super) left: u64,
    pub(super) over: u64,
}

/// Families that failed for one cause.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub(super) struct Failed {
    pub(super) count: u64,
    /// The last of them, harmless.
    pub(super) last: String,
}

/// How much of it there is, by several measures.
#[derive(Clone, Copy, PartialEq, Default, Debug)]
pub(super) struct Work {
    pub(super) families: u64,
    pub(super) bytes: u64,
    /// What the plan expects, at least and at most.
    pub(super) seconds: [f64; 2],
}

impl Work {
    fn of(family: &Family) -> Self {
        let seconds = |place: usize| {
            let images = family.images.iter();
            images.map(|image| image.seconds.get(place).copied().unwrap_or_default()).sum()
        };
        Self { families: 1, bytes: family.bytes(), seconds: [seconds(0), seconds(1)] }
    }

    fn add(&mut self, other: Self) {
        self.families += other.families;
        self.bytes = self.bytes.saturating_add(other.bytes);
        self.seconds[0] += other.seconds[0];
        self.seconds[1] += other.seconds[1];
    }

    fn without(self, other: Self) -> Self {
        Self {
            families: self.families.saturating_sub(other.families),
            bytes: self.bytes.saturating_sub(other.bytes),
            seconds: [
                (self.seconds[0] - other.seconds[0]).max(0.0),
                (self.seconds[1] - other.seconds[1]).max(0.0),
            ],
        }
    }
}

/// What is shown.
#[derive(Clone, Debug)]
pub(in crate::command::migrate) struct Screen {
    pub(super) run: i64,
    pub(super) all: Work,
    /// What is over, in whatever way.
    pub(super) over: Work,
    /// What was migrated in this run: only that took time.
    pub(super) migrated: Work,
    pub(super) done: u64,
    pub(super) known: u64,
    pub(super) active: BTreeMap<u64, Active>,
    pub(super) devices: BTreeMap<u64, Load>,
    pub(super) failed: BTreeMap<&'static str, Failed>,
    pub(super) halted: Option<String>,
    /// What commands said last, harmless.
    pub(super) said: VecDeque<String>,
    /// Whether it is asked if the run is to stop.
    pub(super) asks: bool,
    pub(super) is_stopping: bool,
    pub(super) settings: Option<Settings>,
    pub(super) now: Duration,
    /// How long there was something active.
    worked: Duration,
    /// Bytes of families that were migrated in each of the last seconds.
    history: VecDeque<u64>,
    /// The second that the last of these is about.
    second: u64,
}

/// The file systems that something of a family is done on.
fn devices(family: &Family) -> BTreeSet<u64> {
    let images = family.images.iter().filter(|image| image.strategy != Strategy::Leave);
    images.map(|image| image.stamp.device).collect()
}

/// The topmost image of a family, and what is done with it.
fn topmost(family: &Family) -> (String, &'static str) {
    family
        .images
        .last()
        .map_or_else(Default::default, |image| (shown(&image.path.0), image.strategy.word()))
}

impl Screen {
    pub(in crate::command::migrate) fn new(plan: &Plan, run: i64) -> Self {
        let (mut all, mut loads) = (Work::default(), BTreeMap::<u64, Load>::new());
        for family in plan.families.iter().filter(|family| family.is_migrated()) {
            all.add(Work::of(family));
            devices(family).into_iter().for_each(|it| loads.entry(it).or_default().left += 1);
        }
        Self {
            run,
            all,
            over: Work::default(),
            migrated: Work::default(),
            done: 0,
            known: 0,
            active: BTreeMap::new(),
            devices: loads,
            failed: BTreeMap::new(),
            halted: None,
            said: VecDeque::new(),
            asks: false,
            is_stopping: false,
            settings: None,
            now: Duration::ZERO,
            worked: Duration::ZERO,
            history: VecDeque::from([0]),
            second: 0,
        }
    }

    /// Takes note of something that happened.
    pub(in crate::command::migrate) fn take(&mut self, event: &Event<'_>) {
        match event {
            Event::Began { family } => {
                let (name, strategy) = topmost(family);
                let active =
                    Active { name, strategy, images: family.images.len(), since: self.now };
                self.active.insert(family.number, active);
                for device in devices(family) {
                    let load = self.devices.entry(device).or_default();
                    load.active += 1;
                    load.left = load.left.saturating_sub(1);
                }
            }
            Event::Ended { family, outcome, .. } => {
                self.active.remove(&family.number);
                for device in devices(family) {
                    let load = self.devices.entry(device).or_default();
                    load.active = load.active.saturating_sub(1);
                    load.over += 1;
                }
                self.over.add(Work::of(family));
                self.end(family, outcome);
            }
            Event::Halted { why } => self.halted = Some(escaped(why.as_bytes())),
            Event::Said { .. } | Event::Unsaid { .. } => {
                self.said.extend(told::said(event));
                while self.said.len() > SAID {
                    self.said.pop_front();
                }
            }
            // What follows a family is told at the end.
            Event::Followed { .. } => {}
        }
    }

    fn end(&mut self, family: &Family, outcome: &Outcome) {
        match outcome {
            Outcome::Done { .. } => {
                self.done += 1;
                let work = Work::of(family);
                self.migrated.add(work);
                if let Some(last) = self.history.back_mut() {
                    *last = last.saturating_add(work.bytes);
                }
            }
            Outcome::Known => self.known += 1,
            Outcome::Failed { cause, problem, .. } => {
                let failed = self.failed.entry(cause.word()).or_default();
                failed.count += 1;
                let problem = escaped(problem.as_bytes());
                failed.last = format!("family {}: {problem}", family.number);
            }
        }
    }

    /// Takes note of the time since the run began, and of the settings.
    pub(super) fn tick(&mut self, now: Duration, settings: Settings) {
        if !self.active.is_empty() {
            self.worked += now.saturating_sub(self.now);
        }
        (self.now, self.settings) = (now, Some(settings));
        // Whoever was suspended for hours has nothing of that time.
        let missed = now.as_secs().saturating_sub(self.second).min(HISTORY as u64);
        for _ in 0..missed {
            self.history.push_back(0);
        }
        self.second = now.as_secs();
        while self.history.len() > HISTORY {
            self.history.pop_front();
        }
    }

    /// What a key asks for.
    pub(super) fn press(&mut self, key: char) -> Option<Wish> {
        if self.asks {
            self.asks = false;
            self.is_stopping |= key == 'y';
            return (key == 'y').then_some(Wish::Stop);
        }
        let settings = self.settings?;
        let word = |word, count: usize| Some(Wish::Word(word, Some(count.to_string())));
        match key {
            'p' if settings.is_paused => Some(Wish::Word("resume", None)),
            'p' => Some(Wish::Word("pause", None)),
            '+' => word("jobs", settings.jobs.saturating_add(1)),
            '-' => word("jobs", settings.jobs.saturating_sub(1)),
            ']' => word("per-device", settings.per_device.saturating_add(1)),
            '[' => word("per-device", settings.per_device.saturating_sub(1)),
            'q' => {
                self.asks = true;
                None
            }
            _ => None,
        }
    }

    pub(super) fn failures(&self) -> u64 {
        self.failed.values().map(|failed| failed.count).sum()
    }

    /// Families that were not begun.
    pub(super) fn left(&self) -> u64 {
        let active = u64::try_from(self.active.len()).unwrap_or(u64::MAX);
        self.all.families.saturating_sub(self.over.families).saturating_sub(active)
    }

    /// Bytes of families that were migrated in each of the last seconds that are over.
    pub(super) fn history(&self) -> impl Iterator<Item = u64> {
        self.history.iter().take(self.history.len().saturating_sub(1)).copied()
    }

    /// Bytes a second, as long as something was active.
    pub(super) fn rate(&self) -> Option<f64> {
        let seconds = self.worked.as_secs_f64();
        #[expect(clippy::cast_precision_loss, reason = "three digits are shown")]
        let bytes = self.migrated.bytes as f64;
        (seconds >= 1.0 && bytes > 0.0).then(|| bytes / seconds)
    }

    /// Seconds that it may still take, at least and at most: what was migrated so far, as a share by
    /// bytes, by families and by what the plan expects. Before anything was, what the plan expects.
    pub(super) fn expected(&self) -> [f64; 2] {
        let left = self.all.without(self.over);
        let worked = self.worked.as_secs_f64();
        #[expect(clippy::cast_precision_loss, reason = "minutes are shown")]
        let measures = [
            (self.migrated.bytes as f64, left.bytes as f64),
            (self.migrated.families as f64, left.families as f64),
            (self.migrated.seconds[1], left.seconds[1]),
        ];
        let all = measures.into_iter().filter(|(done, _)| *done > 0.0);
        let all: Vec<f64> = all.map(|(done, left)| worked * left / done).collect();
        if all.is_empty() || worked < 1.0 {
            let jobs = self.settings.map_or(1, |settings| settings.jobs.max(1));
            #[expect(clippy::cast_precision_loss, reason = "64 at most")]
            let jobs = jobs as f64;
            return left.seconds.map(|seconds| seconds / jobs);
        }
        let least = all.iter().copied().fold(f64::INFINITY, f64::min);
        [least, all.iter().copied().fold(0.0, f64::max)]
    }
}
