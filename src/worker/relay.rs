//! The relay: passes on what a worker says, and ends one that hangs.

use std::io::{ErrorKind, Read};
use std::os::fd::AsFd;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, ChildStderr, ChildStdout, ExitStatus};
use std::time::{Duration, Instant};

use calve_confine::Limits;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::death::{Death, told};
use super::harmless::Harmless;
use super::{Output, Plan};
use crate::evidence::last_word;
use crate::exit::{Code, Failure};
use crate::print;
use crate::signals::{self, Flags};

/// Bytes that are taken from the worker at once.
const PORTION: usize = 64 << 10;

/// Bytes of a report that are held back until the worker has ended well. A longer one is printed
/// as it comes from there on.
const HELD: usize = 1 << 20;

/// How long the relay sleeps at most: a signal may come just before it does.
const NAP: Duration = Duration::from_millis(250);

/// Passes on what the worker says until it ends, and returns its code.
pub(super) fn run(
    plan: &Plan,
    child: Child,
    limits: Limits,
    path: &Path,
    flags: Option<&'static Flags>,
) -> Result<Code, Failure> {
    let mut relay = Relay::new(child, plan.output, limits.wait, flags);
    relay.last_word = plan.evidence.is_asked().then(Vec::new);
    let ended = relay.run();
    let is_whole = relay.is_held();
    match relay.code(ended, path, limits) {
        Ok(code) => {
            plan.evidence.hear(&relay.last_word.take().unwrap_or_default());
            if is_whole {
                plan.evidence.unchanged()?;
            }
            relay.finish().map(|()| code)
        }
        Err(death) => {
            plan.evidence.died(&death);
            // What it said is not believed, where that is not too late.
            if is_whole || plan.output == Output::Streamed {
                (plan.died)(&death)
            } else {
                told(&death)
            }
        }
    }
}

/// How the wait for the worker ended.
enum Ended {
    ByItself(ExitStatus),
    Hung,
    Unknown(std::io::Error),
}

struct Relay {
    child: Child,
    out: Option<ChildStdout>,
    err: Option<ChildStderr>,
    out_text: Harmless,
    err_text: Harmless,
    /// What is held back; `None` where it is printed as it comes.
    held: Option<String>,
    /// What it says last, for a log; `None` where nobody listens.
    last_word: Option<Vec<u8>>,
    /// Why the output could not be printed.
    failure: Option<Failure>,
    /// How much longer the worker is waited for. The time in which others are waited for, such as
    /// a pager, does not count.
    left: Duration,
    flags: Option<&'static Flags>,
    /// The last signal that was passed on.
    passed_on: Option<u8>,
}

impl Relay {
    fn new(
        mut child: Child,
        output: Output,
        wait: Duration,
        flags: Option<&'static Flags>,
    ) -> Self {
        Self {
            out: child.stdout.take(),
            err: child.stderr.take(),
            child,
            out_text: Harmless::default(),
            err_text: Harmless::default(),
            held: (output == Output::Held).then(String::new),
            last_word: None,
            failure: None,
            left: wait,
            flags,
            passed_on: None,
        }
    }

    fn is_held(&self) -> bool {
        self.held.is_some()
    }

    fn run(&mut self) -> Ended {
        let mut portion = vec![0; PORTION];
        while self.out.is_some() || self.err.is_some() {
            self.pass_on_signals();
            if self.left.is_zero() {
                return self.end();
            }
            let [out, err] = match self.wait() {
                Ok(ready) => ready,
                Err(Errno::EINTR) => continue,
                Err(error) => return Ended::Unknown(error.into()),
            };
            if out {
                let count = read(&mut self.out, &mut portion);
                let words = self.up_to_the_last(&portion[..count]);
                let text = self.out_text.text(words);
                self.print(&text);
            }
            if err {
                let count = read(&mut self.err, &mut portion);
                print::err(&self.err_text.text(&portion[..count]));
            }
        }
        self.wait_for_the_end()
    }

    /// What of it comes before the worker's last word; that is kept apart.
    fn up_to_the_last<'b>(&mut self, bytes: &'b [u8]) -> &'b [u8] {
        let Some(last) = &mut self.last_word else { return bytes };
        let begins = match last.is_empty() {
            true => bytes.iter().position(|byte| *byte == last_word::MARK),
            false => Some(0),
        };
        let (words, rest) = bytes.split_at(begins.unwrap_or(bytes.len()));
        // One that is too long is seen to be that.
        let room = (last_word::LONGEST + 1).saturating_sub(last.len());
        last.extend_from_slice(&rest[..rest.len().min(room)]);
        words
    }

    /// Waits until the worker has said something, or a moment has gone by: which of its two
    /// streams can be read.
    fn wait(&mut self) -> nix::Result<[bool; 2]> {
        let started = Instant::now();
        let streams = [self.out.as_ref().map(AsFd::as_fd), self.err.as_ref().map(AsFd::as_fd)];
        let polled = streams.iter().flatten().map(|stream| PollFd::new(*stream, PollFlags::POLLIN));
        let mut polled: Vec<PollFd> = polled.collect();
        let nap = PollTimeout::try_from(NAP.min(self.left)).unwrap_or(PollTimeout::ZERO);
        let done = poll(&mut polled, nap);
        let mut answers = polled.iter().map(|stream| stream.any().unwrap_or(true));
        // An answer for each stream that was asked about, in their order.
        let ready = streams.map(|stream| stream.is_some() && answers.next().unwrap_or(false));
        // A process that was stopped, with its terminal, did not wait longer than it meant to.
        self.left = self.left.saturating_sub(started.elapsed().min(NAP));
        done.map(|_| ready)
    }

    /// Waits for a worker that has closed its streams, and so has nothing to do but to end.
    fn wait_for_the_end(&mut self) -> Ended {
        let mut nap = Duration::from_micros(50);
        loop {
            match self.child.try_wait() {
                Ok(Some(status)) => return Ended::ByItself(status),
                Ok(None) if self.left.is_zero() => return self.end(),
                Ok(None) => {}
                Err(error) => return Ended::Unknown(error),
            }
            self.pass_on_signals();
            std::thread::sleep(nap);
            self.left = self.left.saturating_sub(nap);
            nap = (nap * 2).min(Duration::from_millis(10));
        }
    }

    fn end(&mut self) -> Ended {
        match self.child.kill().and_then(|()| self.child.wait()) {
            Ok(_) => Ended::Hung,
            Err(error) => Ended::Unknown(error),
        }
    }

    fn pass_on_signals(&mut self) {
        let Some(flags) = self.flags else { return };
        let is_asked = flags.tell.swap(false, std::sync::atomic::Ordering::Relaxed);
        if is_asked {
            self.send(Signal::SIGUSR1);
        }
        let received = signals::received();
        if received != self.passed_on
            && let Some(Ok(signal)) = received.map(|number| Signal::try_from(i32::from(number)))
        {
            self.send(signal);
            self.passed_on = received;
        }
    }

    fn send(&self, signal: Signal) {
        if let Ok(number) = i32::try_from(self.child.id()) {
            // It may have ended; it is not waited for yet, so that the number is still its own.
            let _ = kill(Pid::from_raw(number), signal);
        }
    }

    fn print(&mut self, text: &str) {
        if let Some(held) = &mut self.held {
            held.push_str(text);
            if held.len() <= HELD {
                return;
            }
        }
        let text = self.held.take().unwrap_or_else(|| text.to_owned());
        if self.failure.is_none() {
            self.failure = print::out(&text).err();
        }
    }

    /// The worker's code, or its death.
    fn code(&mut self, ended: Ended, path: &Path, limits: Limits) -> Result<Code, Death> {
        match ended {
            Ended::ByItself(status) => match stopped(status) {
                Some(code) => Ok(code),
                None => Death::of(status, path, limits),
            },
            Ended::Hung => Err(Death::hung(path, limits.wait)),
            Ended::Unknown(error) => {
                Err(Death { path: path.to_owned(), how: format!("it was lost sight of: {error}") })
            }
        }
    }

    /// Prints what was held back.
    fn finish(mut self) -> Result<(), Failure> {
        let rest = std::mem::take(&mut self.out_text).rest();
        let held = self.held.take().unwrap_or_default();
        print::err(&std::mem::take(&mut self.err_text).rest());
        match self.failure {
            Some(failure) => Err(failure),
            None => print::out(&(held + &rest)),
        }
    }
}

/// The code of a worker that a signal ended which this process got too: it came before the worker
/// could tidy up, and so before there was anything to tidy.
fn stopped(status: ExitStatus) -> Option<Code> {
    let received = signals::received()?;
    (status.signal() == Some(i32::from(received))).then_some(Code::Signal(received))
}

/// How many bytes a stream has now. One that has ended, or fails, is closed.
fn read(stream: &mut Option<impl Read>, portion: &mut [u8]) -> usize {
    match stream.as_mut().map(|stream| stream.read(portion)) {
        Some(Ok(count)) if count > 0 => count,
        Some(Err(error)) if error.kind() == ErrorKind::Interrupted => 0,
        _ => {
            *stream = None;
            0
        }
    }
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    fn relayed(script: &str, wait: Duration) -> (Relay, Ended, Duration) {
        let mut command = Command::new("sh");
        command.args(["-c", script]).stdout(Stdio::piped()).stderr(Stdio::null());
        let started = Instant::now();
        let mut relay = Relay::new(command.spawn().expect("a shell"), Output::Held, wait, None);
        let ended = relay.run();
        (relay, ended, started.elapsed())
    }

    #[test]
    fn what_does_not_end_is_ended() {
        let wait = Duration::from_millis(100);
        for script in ["exec sleep 60", "exec sleep 60 >&- 2>&-"] {
            let (_, ended, took) = relayed(script, wait);
            assert!(matches!(ended, Ended::Hung), "{script}");
            assert!(took < Duration::from_secs(30), "{script}: {took:?}");
        }
    }

    #[test]
    fn what_ends_is_waited_for_and_all_of_its_text_is_there() {
        let wait = Duration::from_secs(60);
        let (relay, ended, _) = relayed("echo one; sleep 0.3; echo two; exit 3", wait);
        assert!(matches!(ended, Ended::ByItself(status) if status.code() == Some(3)));
        assert_eq!(relay.held.as_deref(), Some("one\ntwo\n"));
        // The time that it took was counted.
        assert!(relay.left < wait - Duration::from_millis(200));
    }
}
