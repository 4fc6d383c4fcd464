//! Commands of the user's that run before and after an image is migrated.

use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use calve_plan::Image;
use rustix::process::{Pid, Signal, kill_process_group};

use crate::error::{Error, Result};
use crate::step::Site;

/// How often it is looked whether a command has ended.
const STEP: Duration = Duration::from_millis(10);

/// How long a command that is asked to end may take for that.
const PATIENCE: Duration = Duration::from_secs(3);

/// How much earlier a command may meet a signal than this program.
const MOMENT: Duration = Duration::from_millis(300);

/// Commands for a shell. They are told of the image by the variables `CALVE_IMAGE`,
/// `CALVE_STRATEGY`, `CALVE_FAMILY` and `CALVE_RUN`; one that does not end with 0 makes the family
/// what it was. Where the run is to stop, so are they: by SIGTERM, and SIGKILL where that does
/// nothing.
#[derive(Clone, Debug, Default)]
pub struct Hooks {
    /// Before anything is done with the image.
    pub before: Option<String>,
    /// When all images of its family are migrated.
    pub after: Option<String>,
}

impl Hooks {
    pub(crate) fn before(&self, site: &Site<'_>, image: &Image) -> Result<()> {
        call("before", self.before.as_deref(), site, image)
    }

    pub(crate) fn after(&self, site: &Site<'_>, image: &Image) -> Result<()> {
        call("after", self.after.as_deref(), site, image)
    }
}

fn call(hook: &'static str, command: Option<&str>, site: &Site<'_>, image: &Image) -> Result<()> {
    let Some(command) = command else { return Ok(()) };
    let path = &image.path.0;
    let failed = |what: String| Error::Hook { path: path.clone(), hook, what };
    let mut child = Command::new("/bin/sh")
        .args(["-c", command])
        .env("CALVE_IMAGE", path)
        .env("CALVE_STRATEGY", image.strategy.word())
        .env("CALVE_FAMILY", image.family.to_string())
        .env("CALVE_RUN", site.run.to_string())
        .stdin(Stdio::null())
        // What it says is no part of what this program prints.
        .stdout(Stdio::null())
        // What it starts is ended with it.
        .process_group(0)
        .spawn()
        .map_err(|error| failed(format!("could not be started: {error}")))?;
    let ended = ended(&mut child, site.stop);
    match ended.map_err(|error| failed(format!("could not be waited for: {error}")))? {
        Some(status) if status.success() => Ok(()),
        Some(status) => Err(failed(format!("ended with {status}"))),
        None => Err(Error::Stopped),
    }
}

/// How a command ended; `None` where it was made to, because the run stops.
fn ended(child: &mut Child, stop: &AtomicBool) -> std::io::Result<Option<ExitStatus>> {
    let mut asked = None;
    loop {
        if let Some(status) = child.try_wait()? {
            // Who ends this program may end all that it started too, and that a moment before.
            let is_stopped = asked.is_some() || (status.signal().is_some() && stops_soon(stop));
            // One that ended well has done what it was for, whatever was asked meanwhile.
            return Ok((status.success() || !is_stopped).then_some(status));
        }
        let group = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
        match (asked, group) {
            (None, Some(group)) if stop.load(Ordering::Relaxed) => {
                asked = Some(Instant::now());
                kill_process_group(group, Signal::TERM)?;
            }
            (Some(since), Some(group)) if since.elapsed() >= PATIENCE => {
                kill_process_group(group, Signal::KILL)?;
                child.wait()?;
                return Ok(None);
            }
            _ => std::thread::sleep(STEP),
        }
    }
}

/// Whether the run is to stop now, or in a moment.
fn stops_soon(stop: &AtomicBool) -> bool {
    let since = Instant::now();
    while !stop.load(Ordering::Relaxed) && since.elapsed() < MOMENT {
        std::thread::sleep(STEP);
    }
    stop.load(Ordering::Relaxed)
}
