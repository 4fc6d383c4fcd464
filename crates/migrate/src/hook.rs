//! Commands of the user's that run before and after an image is migrated.

mod ear;

use std::io::PipeReader;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use calve_plan::Image;
use rustix::io::Errno;
use rustix::process::{
    Pid, Signal, WaitId, WaitIdOptions, kill_process_group, test_kill_process_group, waitid,
};

use crate::error::{Error, Result};
use crate::event::Event;
use crate::step::Site;
use ear::{Ear, Heard};

/// How often it is looked whether a command has ended.
const STEP: Duration = Duration::from_millis(10);

/// How long a command that is asked to end may take for that.
const PATIENCE: Duration = Duration::from_secs(3);

/// How much earlier a command may meet a signal than this program, if a signal ended it.
const MOMENT: Duration = Duration::from_secs(2);

/// The same of one that ended by itself, and may have met a signal: a run of many that fail would
/// wait for each.
const SHORT_MOMENT: Duration = Duration::from_millis(200);

/// Above this a shell tells by its code that a signal ended what it ran.
const BY_SIGNAL: i32 = 128;

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
    /// Whether what they say on standard output and standard error is told as events, within bounds,
    /// rather than written to standard error of this program.
    pub are_heard: bool,
}

/// Who is told of what they say.
type Tell<'a> = &'a (dyn Fn(&Event<'_>) + Sync);

impl Hooks {
    pub(crate) fn before(&self, site: &Site<'_>, image: &Image, tell: Tell<'_>) -> Result<()> {
        let heard = self.are_heard.then_some(tell);
        self.before.as_deref().map_or(Ok(()), |it| call(("before", it), site, image, heard))
    }

    pub(crate) fn after(&self, site: &Site<'_>, image: &Image, tell: Tell<'_>) -> Result<()> {
        let heard = self.are_heard.then_some(tell);
        self.after.as_deref().map_or(Ok(()), |it| call(("after", it), site, image, heard))
    }
}

fn call(
    (hook, command): (&'static str, &str),
    site: &Site<'_>,
    image: &Image,
    tell: Option<Tell<'_>>,
) -> Result<()> {
    let path = &image.path.0;
    let failed = |what: String| Error::Hook { path: path.clone(), hook, what };
    let (ears, [said, complained]) =
        outputs(tell.is_some()).map_err(|error| failed(format!("could not be heard: {error}")))?;
    calve_disk::open::expect_lingering_locks();
    let mut child = Command::new("/bin/sh")
        .args(["-c", command])
        .env("CALVE_IMAGE", path)
        .env("CALVE_STRATEGY", image.strategy.word())
        .env("CALVE_FAMILY", image.family.to_string())
        .env("CALVE_RUN", site.run.to_string())
        .stdin(Stdio::null())
        .stdout(said)
        .stderr(complained)
        // What it starts is ended with it.
        .process_group(0)
        .spawn()
        .map_err(|error| failed(format!("could not be started: {error}")))?;
    let told = |heard: Heard<'_>| {
        let family = image.family;
        let event = match heard {
            Heard::Line(line, cut) => Event::Said { family, path, hook, line, cut },
            Heard::Untold(lines) => Event::Unsaid { family, path, hook, lines },
        };
        tell.into_iter().for_each(|tell| tell(&event));
    };
    let ear = ears.map(|pipe| Ear::new(pipe, &told)).transpose();
    let ended = match ear {
        Ok(mut ear) => {
            let ended = ended(&mut child, site.stop, ear.as_mut());
            ear.into_iter().for_each(Ear::end);
            ended
        }
        // It is ended and not left alone: nobody would hear it.
        Err(error) => child.kill().and_then(|()| child.wait()).and(Err(error)),
    };
    match ended.map_err(|error| failed(format!("could not be waited for: {error}")))? {
        Ended::With(status) if status.success() => Ok(()),
        Ended::With(status) => Err(failed(format!("ended with {status}"))),
        Ended::Asked => Err(Error::Stopped),
        Ended::AtTerminal => {
            Err(failed("uses the terminal, which a hook may not; it was ended".into()))
        }
    }
}

/// Where a command's standard output and standard error lead to: to standard error of this program,
/// since neither is part of what this program prints, or both into a pipe that is listened to.
fn outputs(are_heard: bool) -> std::io::Result<(Option<PipeReader>, [Stdio; 2])> {
    if !are_heard {
        return Ok((None, [std::io::stderr().into(), Stdio::inherit()]));
    }
    let (reader, writer) = std::io::pipe()?;
    Ok((Some(reader), [writer.try_clone()?.into(), writer.into()]))
}

/// How a command ended.
enum Ended {
    /// By itself.
    With(ExitStatus),
    /// It was made to, because the run stops.
    Asked,
    /// It was made to: it waited for a terminal, for ever.
    AtTerminal,
}

fn ended(
    child: &mut Child,
    stop: &AtomicBool,
    mut ear: Option<&mut Ear<'_>>,
) -> std::io::Result<Ended> {
    let group = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    let group = group.ok_or(std::io::ErrorKind::InvalidData)?;
    let mut status = None;
    let mut asked: Option<Instant> = None;
    loop {
        if status.is_none() {
            status = child.try_wait()?;
        }
        match (status, asked) {
            // Who ends this program may end all that it started too, and that a moment before.
            (Some(status), None) if status.success() || !stops_soon(stop, status) => {
                return Ok(Ended::With(status));
            }
            (_, None) if stop.load(Ordering::Relaxed) => {
                asked = Some(Instant::now());
                // There may be nobody any more.
                let _ = kill_process_group(group, Signal::TERM);
            }
            // What the shell has started may be there still when it has gone.
            (Some(status), Some(_)) if test_kill_process_group(group).is_err() => {
                return Ok(asked_to(status));
            }
            (_, Some(since)) if since.elapsed() >= PATIENCE => {
                let _ = kill_process_group(group, Signal::KILL);
                return Ok(asked_to(child.wait()?));
            }
            (None, _) if waits_for_terminal(group)? => {
                kill_process_group(group, Signal::KILL)?;
                child.wait()?;
                return Ok(Ended::AtTerminal);
            }
            // One that says much does not wait to be heard.
            _ if ear.as_mut().is_some_and(|ear| ear.listen()) => {}
            _ => std::thread::sleep(STEP),
        }
    }
}

/// What an end that was asked for means: a command that ended well has done what it was for.
fn asked_to(status: ExitStatus) -> Ended {
    if status.success() { Ended::With(status) } else { Ended::Asked }
}

/// Whether a command is stopped because it uses the terminal, which only the group of this program
/// may. Nobody would tell it to go on.
fn waits_for_terminal(shell: Pid) -> std::io::Result<bool> {
    let look = WaitIdOptions::STOPPED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    let by = match waitid(WaitId::Pid(shell), look) {
        Ok(status) => status.and_then(|status| status.stopping_signal()),
        // It has ended just now, and will not be stopped.
        Err(Errno::CHILD) => None,
        Err(error) => return Err(error.into()),
    };
    Ok([Signal::TTIN, Signal::TTOU].iter().any(|signal| by == Some(signal.as_raw())))
}

/// Whether the run is to stop now, or in a moment, after a command ended so.
fn stops_soon(stop: &AtomicBool, status: ExitStatus) -> bool {
    let is_by_signal = status.code().is_none_or(|code| code > BY_SIGNAL);
    let moment = if is_by_signal { MOMENT } else { SHORT_MOMENT };
    let since = Instant::now();
    while !stop.load(Ordering::Relaxed) && since.elapsed() < moment {
        std::thread::sleep(STEP);
    }
    stop.load(Ordering::Relaxed)
}
