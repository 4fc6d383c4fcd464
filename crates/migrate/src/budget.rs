//! How long, or for how many bytes, families may begin.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use calve_plan::Family;

/// What a run may use up. What was begun is always ended.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Budget {
    /// So long families may begin.
    pub duration: Option<Duration>,
    /// The most bytes that images of families have which are begun; one family may always begin.
    pub bytes: Option<u64>,
}

/// A budget, and what was used up of it.
pub(crate) struct Spending {
    budget: Budget,
    began: Instant,
    bytes: Mutex<u64>,
}

impl Spending {
    pub(crate) fn new(budget: Budget) -> Self {
        Self { budget, began: Instant::now(), bytes: Mutex::new(0) }
    }

    /// Whether there is nothing to keep to.
    pub(crate) fn is_free(&self) -> bool {
        self.budget == Budget::default()
    }

    /// Whether the time is over.
    pub(crate) fn is_over(&self) -> bool {
        self.budget.duration.is_some_and(|most| self.began.elapsed() >= most)
    }

    /// Whether this family may begin; its bytes are used up then.
    pub(crate) fn take(&self, family: &Family) -> bool {
        if self.is_over() {
            return false;
        }
        let mut used = self.bytes.lock().unwrap_or_else(PoisonError::into_inner);
        let after = used.saturating_add(family.bytes().max(1));
        // A family that is larger than the budget would never begin.
        let may = *used == 0 || self.budget.bytes.is_none_or(|most| after <= most);
        if may {
            *used = after;
        }
        may
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn empty() -> Family {
        Family { number: 1, images: Vec::new() }
    }

    #[test]
    fn the_first_family_may_always_begin_and_others_where_they_fit() {
        let spending = Spending::new(Budget { bytes: Some(2), ..Budget::default() });
        // Each takes up a byte at least.
        assert_eq!([0, 1, 2].map(|_| spending.take(&empty())), [true, true, false]);
        let spending = Spending::new(Budget { bytes: Some(0), ..Budget::default() });
        assert_eq!([0, 1].map(|_| spending.take(&empty())), [true, false]);
    }

    #[test]
    fn none_begins_when_the_time_is_over() {
        let budget = Budget { duration: Some(Duration::ZERO), bytes: None };
        assert!(!Spending::new(budget).take(&empty()));
        assert!(Spending::new(Budget::default()).is_free());
    }
}
