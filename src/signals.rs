//! Signals: SIGINT, SIGTERM and SIGHUP ask for a tidy end, SIGUSR1 for a line of progress, SIGUSR2
//! for a pause where a run has one.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1, SIGUSR2, SIGXFSZ};

use crate::exit::{Code, Failure};

/// What the handlers set.
pub(crate) struct Flags {
    /// The run is to stop.
    pub(crate) stop: Arc<AtomicBool>,
    /// A line of progress was asked for.
    pub(crate) tell: Arc<AtomicBool>,
    /// A signal that asks for the end ends the program at once: nobody looks at `stop`.
    at_once: Arc<AtomicBool>,
    signal: Arc<AtomicUsize>,
}

static FLAGS: OnceLock<Flags> = OnceLock::new();

/// Installs the handlers, for good. Before, the signals end the program at once, which is right as
/// long as it waits for a passphrase.
pub(crate) fn install() -> Result<&'static Flags, Failure> {
    let flags = handlers()?;
    flags.at_once.store(false, Ordering::SeqCst);
    Ok(flags)
}

/// What says that the run is to stop, where there can be handlers. Until they are installed the
/// signals end the program at once.
pub(crate) fn stop() -> Option<Arc<AtomicBool>> {
    handlers().ok().map(|flags| Arc::clone(&flags.stop))
}

/// Installs the handlers for as long as the result is kept.
pub(crate) fn install_for_now() -> Result<ForNow, Failure> {
    let flags = handlers()?;
    Ok(ForNow { flags, at_once: flags.at_once.swap(false, Ordering::SeqCst) })
}

/// Handlers that are there for a while.
pub(crate) struct ForNow {
    pub(crate) flags: &'static Flags,
    at_once: bool,
}

impl Drop for ForNow {
    fn drop(&mut self) {
        self.flags.at_once.store(self.at_once, Ordering::SeqCst);
    }
}

fn handlers() -> Result<&'static Flags, Failure> {
    if let Some(flags) = FLAGS.get() {
        return Ok(flags);
    }
    let flags = FLAGS.get_or_init(|| Flags {
        stop: Arc::default(),
        tell: Arc::default(),
        at_once: Arc::new(AtomicBool::new(true)),
        signal: Arc::default(),
    });
    let install = || {
        for signal in [SIGINT, SIGTERM, SIGHUP] {
            let number = usize::try_from(signal).unwrap_or_default();
            signal_hook::flag::register_conditional_default(signal, Arc::clone(&flags.at_once))?;
            signal_hook::flag::register_usize(signal, Arc::clone(&flags.signal), number)?;
            signal_hook::flag::register(signal, Arc::clone(&flags.stop))?;
        }
        outlive_full_files()?;
        signal_hook::flag::register(SIGUSR1, Arc::clone(&flags.tell)).map(drop)
    };
    install().map_err(not_installed)?;
    Ok(flags)
}

/// Makes that a file may not grow further an error of the write. The signal would end the process
/// before it could clean up, or tell.
fn outlive_full_files() -> std::io::Result<()> {
    signal_hook::flag::register(SIGXFSZ, Arc::default()).map(drop)
}

/// The same and nothing else, for a worker that fills a file.
pub(crate) fn install_for_filling() -> Result<(), Failure> {
    outlive_full_files().map_err(not_installed)
}

/// Has SIGUSR1 handled, and no other: for what leaves nothing behind, so that the others may end it
/// at once.
pub(crate) fn install_tell() -> Result<&'static Flags, Failure> {
    handlers()
}

fn not_installed(error: std::io::Error) -> Failure {
    Failure::new(Code::Failed, format!("installing signal handlers: {error}"))
}

/// Has SIGUSR2 set a flag: a run is to pause, or to go on.
pub(crate) fn install_pause() -> Result<Arc<AtomicBool>, Failure> {
    let flag = Arc::new(AtomicBool::new(false));
    signal_hook::flag::register(SIGUSR2, Arc::clone(&flag)).map_err(not_installed)?;
    Ok(flag)
}

/// The signal that asked for the end, if one did.
pub(crate) fn received() -> Option<u8> {
    let number = FLAGS.get()?.signal.load(Ordering::Relaxed);
    u8::try_from(number).ok().filter(|number| *number != 0)
}
