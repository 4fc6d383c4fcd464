//! A worker that is handed open files, one after the other, and says of each what it is. It knows
//! no paths, and can open nothing.
//!
//! Files and what is asked about them come over a socket, its standard input, one message each. Where
//! archives are looked into to the last table, each comes with the spool: a file without a name,
//! the only one that may be written to.
//! What it says goes to its standard output, one line of JSON each; the first line says how far it
//! is confined.

use std::fs::File;
use std::io::{self, BufRead, BufReader, IoSlice, IoSliceMut, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::process::{Child, ChildStdout, Stdio};
use std::time::{Duration, Instant};

use calve_confine::{Confinement, Inherited, Limits};
use calve_scan::{Ask, Look, Looker, Spool};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair,
};
use serde::{Deserialize, Serialize};

use super::{Death, once_more};
use crate::exit::{Code, Failure};
use crate::signals;

/// The longest message: a name has at most 255 bytes, each of which takes four in JSON, and what
/// the host says of a folder is no novel.
const LONGEST_ASK: usize = 16 << 10;

/// Files that come with a message: the one that is asked about, and the spool.
const FILES: usize = 2;

/// The longest line that is listened to. Who says more has said nothing.
const LONGEST_LOOK: u64 = 32 << 20;

/// How long the wait for an answer lasts before a signal is looked for.
const NAP: Duration = Duration::from_millis(250);

/// What a worker says first.
#[derive(Default, Serialize, Deserialize)]
struct Hello {
    /// What this kernel could not keep from it.
    missing: Vec<String>,
}

/// What comes with a file.
#[derive(Serialize, Deserialize)]
struct Handing {
    ask: Ask,
    /// Why there is no spool, where none comes.
    no_spool: String,
}

/// A worker that is handed files.
pub(crate) struct Handed {
    worker: Option<Worker>,
    /// Whether it has a spool.
    spools: bool,
}

/// The process.
struct Worker {
    child: Child,
    socket: OwnedFd,
    said: BufReader<ChildStdout>,
    limits: Limits,
    /// Its spool, or why it has none; `None` where it needs none.
    spool: Option<Result<File, String>>,
}

/// Why there was no answer.
enum Silence {
    /// It ended, or had to be ended: how.
    Died(String),
    /// The run is stopped.
    Stopped,
}

impl Handed {
    /// Starts a worker, with a spool or without: it, and what this kernel could not keep from it.
    pub(crate) fn start(spools: bool) -> io::Result<(Self, Vec<String>)> {
        let mut worker = Worker::start(spools)?;
        let began = Limits::for_reading(0).wait;
        let hello: Hello = match worker.answer(began) {
            Ok(hello) => hello,
            Err(Silence::Died(how)) => return Err(io::Error::other(how)),
            Err(Silence::Stopped) => return Err(io::ErrorKind::Interrupted.into()),
        };
        Ok((Self { worker: Some(worker), spools }, hello.missing))
    }
}

impl Handed {
    /// A worker that is started when it gets its first file.
    pub(crate) fn later(spools: bool) -> Self {
        Self { worker: None, spools }
    }
}

impl Looker for Handed {
    fn look(&mut self, file: &File, ask: &Ask) -> Look {
        if self.worker.is_none() {
            match Self::start(self.spools) {
                Ok((new, _)) => *self = new,
                Err(error) => return Look::unreadable(&format!("starting a worker: {error}")),
            }
        }
        let Some(worker) = &mut self.worker else { return Look::unreadable("no worker") };
        let wait = Limits::for_reading(file.metadata().map_or(0, |metadata| metadata.len())).wait;
        match worker.hand(file, ask).and_then(|()| worker.answer(wait)) {
            Ok(look) => look,
            Err(silence) => {
                // The next file gets a new one.
                self.worker = None;
                match silence {
                    Silence::Died(how) => Look::died(&how),
                    Silence::Stopped => Look::unreadable("stopped"),
                }
            }
        }
    }
}

impl Worker {
    fn start(spools: bool) -> io::Result<Self> {
        let spool = spools.then(|| tempfile::tempfile().map_err(|error| error.to_string()));
        let flags = SocketFlags::CLOEXEC;
        let (socket, its) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
        let mut command = once_more(std::env::args_os(), "1");
        let mut child = command.stdin(Stdio::from(its)).stderr(Stdio::null()).spawn()?;
        let said = child.stdout.take().ok_or(io::ErrorKind::BrokenPipe)?;
        Ok(Self { child, socket, said: BufReader::new(said), limits: limits(), spool })
    }

    fn hand(&mut self, file: &File, ask: &Ask) -> Result<(), Silence> {
        let mut files = vec![file.as_fd()];
        let mut no_spool = String::new();
        match &self.spool {
            Some(Ok(spool)) => files.push(spool.as_fd()),
            Some(Err(why)) => no_spool.clone_from(why),
            None => {}
        }
        let handing = Handing { ask: ask.clone(), no_spool };
        let message =
            serde_json::to_vec(&handing).map_err(|error| Silence::Died(error.to_string()))?;
        let mut room = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FILES))];
        let mut control = SendAncillaryBuffer::new(&mut room);
        control.push(SendAncillaryMessage::ScmRights(&files));
        let sent = rustix::io::retry_on_intr(|| {
            sendmsg(&self.socket, &[IoSlice::new(&message)], &mut control, SendFlags::NOSIGNAL)
        });
        sent.map(drop).map_err(|_| self.death())
    }

    /// The next line that the worker says, which is waited for so long.
    fn answer<T: for<'a> Deserialize<'a>>(&mut self, wait: Duration) -> Result<T, Silence> {
        let mut line = Vec::new();
        let until = Instant::now() + wait;
        loop {
            if self.said.buffer().is_empty() {
                self.wait_until(until, wait)?;
            }
            let bytes = self.said.fill_buf().unwrap_or_default();
            if bytes.is_empty() {
                return Err(self.death());
            }
            let end = bytes.iter().position(|byte| *byte == b'\n');
            let part = end.map_or(bytes, |end| &bytes[..end]);
            line.extend_from_slice(part);
            let taken = part.len() + usize::from(end.is_some());
            self.said.consume(taken);
            if line.len() as u64 > LONGEST_LOOK {
                return Err(self.end("it said more than any file is worth"));
            }
            if end.is_some() {
                let said = serde_json::from_slice(&line);
                return said.map_err(|_| self.end("what it said makes no sense"));
            }
        }
    }

    fn wait_until(&mut self, until: Instant, wait: Duration) -> Result<(), Silence> {
        loop {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                let how =
                    format!("it had not ended after {} seconds, and was ended", wait.as_secs());
                return Err(self.end(&how));
            }
            let nap = PollTimeout::try_from(NAP.min(left)).unwrap_or(PollTimeout::ZERO);
            let mut polled = [PollFd::new(self.said.get_ref().as_fd(), PollFlags::POLLIN)];
            if poll(&mut polled, nap).is_ok_and(|ready| ready > 0) {
                return Ok(());
            }
            if signals::received().is_some() {
                self.end("stopped");
                return Err(Silence::Stopped);
            }
        }
    }

    /// Ends it: it will not be heard any more.
    fn end(&mut self, how: &str) -> Silence {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
        Silence::Died(how.to_owned())
    }

    /// How it ended, which closed its streams.
    fn death(&mut self) -> Silence {
        let status = self.child.wait();
        if signals::received().is_some() {
            return Silence::Stopped;
        }
        Silence::Died(match status.map(|status| Death::of(status, Path::new(""), self.limits)) {
            Ok(Err(death)) => death.how,
            Ok(Ok(code)) => format!("it ended with {}", code.number()),
            Err(error) => format!("it was lost sight of: {error}"),
        })
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.end("");
    }
}

/// What a worker may use for all files together. How long each takes is for this process to see
/// to.
fn limits() -> Limits {
    Limits::for_reading(u64::MAX)
}

/// In a worker: confines this process for good, and looks at the files that it is handed until
/// there are no more.
///
/// Where it `spools`, each comes with a file that it may write to.
pub(crate) fn serve(spools: bool) -> Result<Code, Failure> {
    let failed =
        |doing: &str, error: io::Error| Failure::new(Code::Failed, format!("{doing}: {error}"));
    let inherited =
        Inherited::look().map_err(|error| failed("looking at the open descriptors", error))?;
    inherited.close();
    if spools {
        signals::install_for_filling()?;
    }
    let confinement = Confinement {
        limits: limits(),
        folders: Vec::new(),
        takes_files: true,
        fills_files: spools,
    };
    let missing =
        confinement.enter().map_err(|error| Failure::new(Code::Failed, error.to_string()))?;
    let missing = missing.iter().map(ToString::to_string).collect();
    say(&Hello { missing }).map_err(|error| failed("telling of the confinement", error))?;
    let taken = || handed().map_err(|error| failed("taking a file", error));
    while let Some((file, ask, mut spool)) = taken()? {
        let look = calve_scan::look(&file, &ask, &mut spool);
        say(&look).map_err(|error| failed("telling of a file", error))?;
    }
    Ok(Code::Done)
}

fn say(what: &impl Serialize) -> io::Result<()> {
    let mut line = serde_json::to_vec(what)?;
    line.push(b'\n');
    let mut out = io::stdout().lock();
    out.write_all(&line)?;
    out.flush()
}

/// The next file, what is asked about it, and the spool; `None` where there are no more.
fn handed() -> io::Result<Option<(File, Ask, Spool)>> {
    let mut message = [0; LONGEST_ASK];
    let mut room = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FILES))];
    let mut control = RecvAncillaryBuffer::new(&mut room);
    let length = rustix::io::retry_on_intr(|| {
        let parts = &mut [IoSliceMut::new(&mut message)];
        recvmsg(io::stdin(), parts, &mut control, RecvFlags::CMSG_CLOEXEC).map(|got| got.bytes)
    })?;
    if length == 0 {
        return Ok(None);
    }
    let files = control.drain().filter_map(|part| match part {
        RecvAncillaryMessage::ScmRights(files) => Some(files),
        _ => None,
    });
    let mut files = files.flatten();
    let file = files.next().ok_or(io::ErrorKind::InvalidData)?;
    let Handing { ask, no_spool } = serde_json::from_slice(&message[..length])?;
    let spool = match files.next() {
        Some(spool) => Spool::of(File::from(spool)),
        None => Spool::missing(&no_spool),
    };
    Ok(Some((File::from(file), ask, spool)))
}
