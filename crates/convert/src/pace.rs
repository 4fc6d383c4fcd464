//! Pace: no more bytes in a second than were asked for.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// A limit that several workers keep together. Without one it costs nothing.
pub(crate) struct Pace {
    limit: Option<Limit>,
}

struct Limit {
    bytes_per_second: f64,
    /// When all that was written so far may have been written at this pace.
    due: Mutex<Instant>,
}

/// The longest that a pause of the writers counts as room for a burst behind it.
const BURST: Duration = Duration::from_millis(100);

/// The longest that a wait goes on without a look at whether to stop.
const STEP: Duration = Duration::from_millis(50);

impl Pace {
    pub(crate) fn new(bytes_per_second: Option<u64>) -> Self {
        let limit = bytes_per_second.filter(|rate| *rate > 0).map(|rate| Limit {
            #[expect(clippy::cast_precision_loss, reason = "a rate needs no 53 bits")]
            bytes_per_second: rate as f64,
            due: Mutex::new(Instant::now()),
        });
        Self { limit }
    }

    /// The most bytes to write at once, so that no tenth of a second has more than its share;
    /// `None` without a limit.
    pub(crate) fn portion(&self) -> Option<usize> {
        const BLOCK: f64 = 4096.0;
        let limit = self.limit.as_ref()?;
        let blocks = (limit.bytes_per_second * BURST.as_secs_f64() / BLOCK).clamp(1.0, 4096.0);
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
        let Some(limit) = &self.limit else { return };
        #[expect(clippy::cast_precision_loss, reason = "a piece is a few MiB")]
        let cost = Duration::from_secs_f64(bytes as f64 / limit.bytes_per_second);
        let start = {
            let mut due = limit.due.lock().unwrap_or_else(PoisonError::into_inner);
            let now = Instant::now();
            let start = (*due).max(now.checked_sub(BURST).unwrap_or(now));
            *due = start + cost;
            start
        };
        // A slow pace means long waits, and whoever wants the run to stop does not want to wait.
        while !stop.load(Ordering::Relaxed) {
            let left = start.saturating_duration_since(Instant::now());
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

    #[test]
    fn what_is_written_at_once_is_a_tenth_of_a_second_in_whole_blocks() {
        let portion = |rate| Pace::new(Some(rate)).portion();
        assert_eq!(portion(10 << 20), Some(256 * 4096));
        assert_eq!(portion(1000), Some(4096));
        assert_eq!(portion(1 << 40), Some(4096 * 4096));
        assert_eq!(Pace::new(None).portion(), None);
    }

    #[test]
    fn no_window_of_time_has_more_than_its_share_and_one_burst() {
        let (pace, stop) = (Pace::new(Some(1 << 20)), AtomicBool::new(false));
        let start = Instant::now();
        let portion = pace.portion().unwrap();
        for number in 1..=4u32 {
            pace.wait_for(portion, &stop);
            // The first goes at once, and one tenth of a second may have been saved up.
            let due = BURST * number.saturating_sub(2);
            assert!(start.elapsed() + Duration::from_millis(5) >= due, "portion {number}");
        }
    }
}
