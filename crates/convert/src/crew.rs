//! Crew: several threads at one job, of which the first failure is told.

use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::thread;

use calve_disk::Error as DiskError;

use crate::error::{Error, Result};

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
    let fail = |error: Error| {
        close();
        let mut first = failure.lock().unwrap_or_else(PoisonError::into_inner);
        first.get_or_insert(error);
    };
    thread::scope(|scope| {
        for _ in 0..threads.get() {
            let spawned = thread::Builder::new().spawn_scoped(scope, || {
                let _closing = ClosesOnPanic(&close);
                work().unwrap_or_else(&fail);
            });
            if let Err(error) = spawned {
                fail(DiskError::host("starting a thread", Path::new("calve"), error).into());
                break;
            }
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
