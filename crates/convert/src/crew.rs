//! Crew: several threads at one job, of which the first failure is told.

use std::num::NonZeroUsize;
use std::sync::{Mutex, PoisonError};

use crate::error::Result;

/// Does `work` on each of so many threads. Where one fails or panics, `close` lets those go that
/// wait for it; the first failure is the result.
pub(crate) fn run(
    threads: NonZeroUsize,
    close: impl Fn() + Sync,
    work: impl Fn() -> Result<()> + Sync,
) -> Result<()> {
    if threads == NonZeroUsize::MIN {
        // One needs nobody to wait for.
        return work();
    }
    let failure = Mutex::new(None);
    std::thread::scope(|scope| {
        for _ in 0..threads.get() {
            scope.spawn(|| {
                let _closing = ClosesOnPanic(&close);
                if let Err(error) = work() {
                    close();
                    let mut first = failure.lock().unwrap_or_else(PoisonError::into_inner);
                    first.get_or_insert(error);
                }
            });
        }
    });
    failure.into_inner().unwrap_or_else(PoisonError::into_inner).map_or(Ok(()), Err)
}

struct ClosesOnPanic<'a, F: Fn()>(&'a F);

impl<F: Fn()> Drop for ClosesOnPanic<'_, F> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            (self.0)();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Error;
    use crate::turnstile::Turnstile;

    #[test]
    fn those_who_wait_for_one_that_failed_go_home() {
        let turnstile = Turnstile::new(());
        let is_first = std::sync::atomic::AtomicBool::new(true);
        let done = run(
            NonZeroUsize::new(4).unwrap(),
            || turnstile.close(),
            || {
                if is_first.swap(false, std::sync::atomic::Ordering::SeqCst) {
                    return Err(Error::Stopped);
                }
                turnstile.enter(1, |()| ());
                Ok(())
            },
        );
        assert!(matches!(done, Err(Error::Stopped)));
    }
}
