//! Turnstile: lets batches place their pieces in guest order, whichever worker is quicker.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// A value that is entered turn by turn.
pub(crate) struct Turnstile<T> {
    state: Mutex<State<T>>,
    moved: Condvar,
}

struct State<T> {
    turn: u64,
    is_closed: bool,
    value: T,
}

impl<T> Turnstile<T> {
    pub(crate) fn new(value: T) -> Self {
        let state = State { turn: 0, is_closed: false, value };
        Self { state: Mutex::new(state), moved: Condvar::new() }
    }

    /// Waits for `turn`, does `work` on the value alone, and lets the next turn in. `None` where
    /// the turnstile was closed instead: then nothing was done.
    pub(crate) fn enter<R>(&self, turn: u64, work: impl FnOnce(&mut T) -> R) -> Option<R> {
        let waiting = |state: &mut State<T>| state.turn != turn && !state.is_closed;
        let guard = self.moved.wait_while(self.lock(), waiting);
        let mut state = guard.unwrap_or_else(PoisonError::into_inner);
        if state.is_closed {
            return None;
        }
        let result = work(&mut state.value);
        state.turn += 1;
        self.moved.notify_all();
        Some(result)
    }

    /// Lets nobody in any more and everybody who waits go.
    pub(crate) fn close(&self) {
        self.lock().is_closed = true;
        self.moved.notify_all();
    }

    /// The value, when all turns are over.
    pub(crate) fn into_inner(self) -> T {
        self.state.into_inner().unwrap_or_else(PoisonError::into_inner).value
    }

    fn lock(&self) -> MutexGuard<'_, State<T>> {
        // A panicking worker closes the turnstile on its way out; nobody works on what it left.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn turns_are_taken_in_order_whoever_comes_first() {
        let turnstile = Turnstile::new(Vec::new());
        std::thread::scope(|scope| {
            for worker in 0..4 {
                let turnstile = &turnstile;
                scope.spawn(move || {
                    for turn in (0..100).filter(|turn| turn % 4 == worker) {
                        turnstile.enter(turn, |order| order.push(turn));
                    }
                });
            }
        });
        assert_eq!(turnstile.into_inner(), (0..100).collect::<Vec<_>>());
    }

    #[test]
    fn closing_frees_those_who_wait() {
        let turnstile = Turnstile::new(0);
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| turnstile.enter(1, |value| *value += 1));
            turnstile.close();
            assert_eq!(waiting.join().unwrap(), None);
        });
        assert_eq!(turnstile.into_inner(), 0);
    }
}
