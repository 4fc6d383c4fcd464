//! Pace: no more bytes in a second than were asked for.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// A limit that any number of conversions and their workers keep together. It is looked at before
/// each piece that is written, and can be changed meanwhile: also from none to one, and back.
/// Without a limit it costs one look.
#[derive(Debug)]
pub struct Pace {
    /// Bytes a second; 0 where there is no limit.
    rate: AtomicU64,
    account: Mutex<Account>,
}

/// What was asked for, and how much of that may have been written by now.
#[derive(Debug)]
struct Account {
    /// When it was brought up to date last.
    at: Instant,
    /// Bytes that were asked for so far.
    asked: f64,
    /// Bytes for which there was time so far.
    passed: f64,
}

/// The longest that a pause of the writers counts as room for a burst behind it.
const BURST: Duration = Duration::from_millis(100);

/// The longest that a wait goes on without a look at the limit, and at whether to stop.
const STEP: Duration = Duration::from_millis(50);

/// A rate for arithmetic.
#[expect(clippy::cast_precision_loss, reason = "a rate needs no 53 bits")]
fn number(rate: u64) -> f64 {
    rate as f64
}

impl Account {
    /// Counts the time until `now`, in which the rate was this.
    fn settle(&mut self, now: Instant, rate: u64) {
        let gone = now.saturating_duration_since(self.at).as_secs_f64();
        self.at = self.at.max(now);
        let most = self.asked + number(rate) * BURST.as_secs_f64();
        self.passed = match rate {
            // Nothing was counted, and nothing is owed.
            0 => self.asked,
            _ => (self.passed + number(rate) * gone).min(most),
        };
    }

    /// Asks for bytes: they may be written when so much has passed as this returns.
    #[expect(clippy::cast_precision_loss, reason = "a piece is a few MiB")]
    fn ask(&mut self, bytes: usize) -> f64 {
        let due = self.asked;
        self.asked += bytes as f64;
        due
    }

    /// How long it takes at this rate until so much has passed.
    fn left(&self, due: f64, rate: u64) -> Duration {
        match rate {
            0 => Duration::ZERO,
            // Nobody waits for as long as cannot be told.
            _ => Duration::try_from_secs_f64(((due - self.passed) / number(rate)).max(0.0))
                .unwrap_or(Duration::MAX),
        }
    }
}

impl Default for Pace {
    /// Without a limit.
    fn default() -> Self {
        Self::new(None)
    }
}

impl Pace {
    /// A limit in bytes a second; neither `None` nor 0 is one.
    pub fn new(bytes_per_second: Option<u64>) -> Self {
        let account = Account { at: Instant::now(), asked: 0.0, passed: 0.0 };
        let rate = AtomicU64::new(bytes_per_second.unwrap_or(0));
        Self { rate, account: Mutex::new(account) }
    }

    /// Changes the limit, also for those that wait now: what is left of their wait is as long as it
    /// is at the new one.
    pub fn set(&self, bytes_per_second: Option<u64>) {
        let mut account = self.account();
        account.settle(Instant::now(), self.now());
        self.rate.store(bytes_per_second.unwrap_or(0), Ordering::Relaxed);
    }

    /// The limit, in bytes a second.
    pub fn rate(&self) -> Option<u64> {
        Some(self.now()).filter(|rate| *rate > 0)
    }

    fn now(&self) -> u64 {
        self.rate.load(Ordering::Relaxed)
    }

    fn account(&self) -> MutexGuard<'_, Account> {
        self.account.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The most bytes to write at once, so that no tenth of a second has more than its share;
    /// `None` without a limit.
    pub(crate) fn portion(&self) -> Option<usize> {
        const BLOCK: f64 = 4096.0;
        let rate = number(self.rate()?);
        let blocks = (rate * BURST.as_secs_f64() / BLOCK).clamp(1.0, 4096.0);
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "1 to 4096 blocks"
        )]
        let bytes = (blocks as usize) * 4096;
        Some(bytes)
    }

    /// Waits until `bytes` more may be written, or the run is to stop.
    pub(crate) fn wait_for(&self, bytes: usize, stop: &AtomicBool) {
        if self.rate().is_none() {
            return;
        }
        let due = {
            let mut account = self.account();
            account.settle(Instant::now(), self.now());
            account.ask(bytes)
        };
        // A slow pace means long waits, and whoever wants the run to stop, or to be faster, does not
        // want to wait.
        while !stop.load(Ordering::Relaxed) {
            let left = {
                let mut account = self.account();
                let rate = self.now();
                account.settle(Instant::now(), rate);
                account.left(due, rate)
            };
            if left.is_zero() {
                return;
            }
            std::thread::sleep(left.min(STEP));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: usize = 1 << 20;

    fn account(at: Instant) -> Account {
        Account { at, asked: 0.0, passed: 0.0 }
    }

    #[test]
    fn what_is_written_at_once_is_a_tenth_of_a_second_in_whole_blocks() {
        let portion = |rate| Pace::new(Some(rate)).portion();
        assert_eq!(portion(10 << 20), Some(256 * 4096));
        assert_eq!(portion(1000), Some(4096));
        assert_eq!(portion(1 << 40), Some(4096 * 4096));
        assert_eq!((Pace::new(None).portion(), portion(0)), (None, None));
    }

    #[test]
    fn no_window_of_time_has_more_than_its_share_and_one_burst() {
        let start = Instant::now();
        let (mut account, rate) = (account(start), 1 << 20);
        // After a pause of any length, a tenth of a second may have been saved up.
        let begin = start + Duration::from_secs(60);
        for number in 0..100u32 {
            account.settle(begin, rate);
            let due = account.ask(MIB / 16);
            let expected = (Duration::from_millis(62_500) / 1000 * number).saturating_sub(BURST);
            let left = account.left(due, rate);
            assert!(left.abs_diff(expected) < Duration::from_micros(1), "{number}: {left:?}");
        }
    }

    #[test]
    fn a_change_holds_for_what_waits_already() {
        let start = Instant::now();
        let mut account = account(start);
        let at = |seconds| start + Duration::from_secs(seconds);
        // 16 MiB were asked for, at 1 MiB a second: the next has to wait as many seconds.
        account.ask(16 * MIB);
        let due = account.ask(MIB);
        account.settle(at(4), 1 << 20);
        assert_eq!(account.left(due, 1 << 20), Duration::from_secs(12));
        // The rest is faster, or slower, from then on.
        assert_eq!(account.left(due, 4 << 20), Duration::from_secs(3));
        account.settle(at(6), 4 << 20);
        assert_eq!(account.left(due, 4 << 20), Duration::from_secs(1));
        assert_eq!(account.left(due, 1 << 19), Duration::from_secs(8));
        // Without a limit nobody waits; and with one again, nobody owes what was written between.
        assert_eq!(account.left(due, 0), Duration::ZERO);
        account.settle(at(7), 0);
        let due = account.ask(MIB);
        assert_eq!(account.left(due, 1), Duration::ZERO);
        let next = account.ask(MIB);
        assert_eq!(account.left(next, 1 << 20), Duration::from_secs(1));
    }

    #[test]
    fn a_wait_of_years_ends_when_the_limit_is_lifted() {
        let (pace, stop) = (Pace::new(Some(1)), AtomicBool::new(false));
        std::thread::scope(|scope| {
            pace.wait_for(1 << 30, &stop);
            let waits = scope.spawn(|| pace.wait_for(1, &stop));
            pace.set(None);
            waits.join().unwrap();
        });
        assert_eq!((pace.rate(), pace.portion()), (None, None));
        pace.set(Some(1 << 20));
        assert_eq!(pace.portion(), Some(25 * 4096));
    }
}
