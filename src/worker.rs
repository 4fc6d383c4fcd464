//! The worker: this program once more, in a process that reads an image and can do nothing else.
//!
//! A verb says in a [`Plan`] what it needs. [`start`] then runs the verb in a worker, passes on
//! what that says, and returns its code. In the worker the same verb comes to the same place,
//! opens what it works on, and crosses the [`Threshold`]: from there on it is confined, and only
//! then it looks at the first byte. What the worker is not kept from, and what it may use, stands
//! in `docs/untrusted.md`.

mod death;
mod handed;
mod harmless;
mod relay;

use std::ffi::OsString;
use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use calve_confine::{Confinement, Inherited, Limits};
use calve_disk::open::OpenedFile;

use crate::args::{SandboxArgs, SandboxMode};
use crate::evidence::{self, Evidence};
use crate::exit::{Code, Failure};
use crate::source::Request;
use crate::{print, signals};

pub(crate) use death::{Death, told};
pub(crate) use handed::{Handed, serve};

/// Tells a process that it is a worker, whose standard input is the image; and by [`TELLS`] that
/// it has to tell what came of it.
const MARK: &str = "CALVE_WORKER";
const TELLS: &str = "tells";

/// How a verb is run.
pub(crate) struct Plan<'a> {
    /// What messages begin with.
    pub(crate) program: &'a str,
    pub(crate) sandbox: &'a SandboxArgs,
    /// What is taken down of the run: before the worker is there, and when it is gone.
    pub(crate) evidence: &'a Evidence<'a>,
    /// Whether the verb takes a worker without being asked to.
    pub(crate) is_usual: bool,
    /// Whether only errors are told.
    pub(crate) is_quiet: bool,
    /// Whether signals end it tidily, so that they are passed on to the worker.
    pub(crate) is_tidy: bool,
    /// Folders in which the worker may make files.
    pub(crate) folders: Vec<PathBuf>,
    pub(crate) output: Output,
    /// The verb's own code for an image that cannot be opened.
    pub(crate) not_opened: Option<Code>,
    /// Makes the verb's own report of a dead worker. [`told`] makes it an error.
    pub(crate) died: &'a dyn Fn(&Death) -> Result<Code, Failure>,
}

/// What becomes of the worker's standard output.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Output {
    /// It is printed once the worker has ended well: a short report, whole or not at all.
    Held,
    /// It is printed as it comes.
    Streamed,
}

impl<'a> Plan<'a> {
    /// A verb that reads, and prints as it goes, where `--untrusted` was said.
    pub(crate) fn new(
        program: &'a str,
        sandbox: &'a SandboxArgs,
        evidence: &'a Evidence<'a>,
    ) -> Self {
        Self {
            program,
            sandbox,
            evidence,
            is_usual: false,
            is_quiet: false,
            is_tidy: false,
            folders: Vec::new(),
            output: Output::Streamed,
            not_opened: None,
            died: &told,
        }
    }

    /// A verb with a short report, which takes a worker by itself. `died` makes that report of a
    /// worker that died.
    pub(crate) fn usual(
        program: &'a str,
        sandbox: &'a SandboxArgs,
        evidence: &'a Evidence<'a>,
        died: &'a dyn Fn(&Death) -> Result<Code, Failure>,
    ) -> Self {
        Self { is_usual: true, output: Output::Held, died, ..Self::new(program, sandbox, evidence) }
    }
}

/// Whether this is a worker.
pub(crate) fn is_worker() -> bool {
    std::env::var_os(MARK).is_some()
}

/// Whether this is a worker that has to tell what came of it.
pub(crate) fn tells_what_came_of_it() -> bool {
    std::env::var_os(MARK).is_some_and(|value| value == TELLS)
}

/// Where a verb goes on.
pub(crate) enum Stage<'a> {
    /// A worker ran it, and this is its code.
    Over(Code),
    /// In this process, over this threshold.
    Here(Threshold<'a>),
}

/// What is left to do before an image is looked at.
pub(crate) struct Threshold<'a> {
    plan: &'a Plan<'a>,
    /// What a worker found open; `None` where this is none.
    inherited: Option<Inherited>,
}

/// Runs a verb that reads one image: the worker's code, or `None` where it goes on here, over the
/// threshold already.
pub(crate) fn enter(plan: &Plan, request: &mut Request) -> Result<Option<Code>, Failure> {
    match start(plan, &[request])? {
        Stage::Over(code) => Ok(Some(code)),
        Stage::Here(threshold) => threshold.cross(&mut [request]).map(|()| None),
    }
}

/// Runs a verb in a worker, where it is to have one. `requests` name all images that it reads.
pub(crate) fn start<'a>(plan: &'a Plan, requests: &[&Request]) -> Result<Stage<'a>, Failure> {
    let here = |inherited| Ok(Stage::Here(Threshold { plan, inherited }));
    let mode = plan.sandbox.sandbox;
    // A worker has no network. Where one was asked for, objects were refused.
    if requests.iter().any(|request| request.has_objects()) {
        return here(None);
    }
    if !(plan.is_usual || plan.sandbox.untrusted) {
        return match mode {
            SandboxMode::Require => Err(Failure::usage("--sandbox=require: bases are opened")
                .next("add --untrusted, which opens none")),
            SandboxMode::Auto | SandboxMode::Off => here(None),
        };
    }
    if mode == SandboxMode::Off {
        return here(None);
    }
    if is_worker() {
        let inherited = Inherited::look().map_err(|error| {
            Failure::new(Code::Failed, format!("looking at the open descriptors: {error}"))
        })?;
        return here(Some(inherited));
    }
    match run(plan, requests)? {
        Some(code) => Ok(Stage::Over(code)),
        None => here(None),
    }
}

/// Runs the worker; `None` where there can be none and none is required.
fn run(plan: &Plan, requests: &[&Request]) -> Result<Option<Code>, Failure> {
    let mut files = Vec::new();
    for request in requests {
        let opened = request.open_named().map_err(|failure| plan.unopened(failure))?;
        let looked = plan.evidence.before_worker(request, &opened);
        looked.map_err(|failure| plan.unopened(failure))?;
        files.extend(opened);
    }
    let Some(image) = files.first() else { return Ok(None) };
    let limits = Limits::for_reading(length(&files)?);
    // Before there is a worker that a signal could miss.
    let flags = if plan.is_tidy { Some(signals::install()?) } else { None };
    let started = image.file().try_clone().and_then(|image| command(image, plan.evidence).spawn());
    let child = match started {
        Ok(child) => child,
        Err(error) if plan.sandbox.sandbox == SandboxMode::Require => {
            return Err(Failure::new(Code::Refused, format!("starting a worker: {error}"))
                .next("--sandbox=off reads without one"));
        }
        Err(error) => {
            plan.note(&format!("no worker can be started ({error}); this process reads itself"));
            return Ok(None);
        }
    };
    let path = requests.first().map(|request| request.path.clone()).unwrap_or_default();
    relay::run(plan, child, limits, &path, flags).map(Some)
}

/// This program once more, with the same words but those about a log, the image as its standard
/// input, and nothing else.
fn command(image: File, evidence: &Evidence) -> Command {
    let mark = if evidence.is_asked() { TELLS } else { "1" };
    let mut command = once_more(evidence::without_log(std::env::args_os()), mark);
    command.stdin(Stdio::from(image)).stderr(Stdio::piped());
    command
}

/// This program once more, as a worker, with these words of which the first is its name.
fn once_more(words: impl IntoIterator<Item = OsString>, mark: &str) -> Command {
    let mut words = words.into_iter();
    let mut command = Command::new("/proc/self/exe");
    if let Some(name) = words.next() {
        command.arg0(name);
    }
    command.args(words).env_clear().env(MARK, mark).stdout(Stdio::piped());
    command
}

fn length(files: &[OpenedFile]) -> Result<u64, Failure> {
    let mut length = 0u64;
    for file in files {
        length = length.saturating_add(file.size()?);
    }
    Ok(length)
}

impl Plan<'_> {
    fn unopened(&self, failure: Failure) -> Failure {
        match self.not_opened {
            Some(code) if !matches!(failure.code, Code::Signal(_)) => failure.with_code(code),
            _ => failure,
        }
    }

    fn note(&self, text: &str) {
        if !self.is_quiet {
            print::note(self.program, text);
        }
    }
}

impl Threshold<'_> {
    /// In a worker: opens what `requests` name, the first of them from the standard input, and
    /// confines this process for good. Elsewhere nothing.
    ///
    /// Whatever else the verb reads, such as passphrases, has been read by now.
    pub(crate) fn cross(self, requests: &mut [&mut Request]) -> Result<(), Failure> {
        let Some(inherited) = self.inherited else { return Ok(()) };
        let mut files = Vec::new();
        for (number, request) in requests.iter_mut().enumerate() {
            let image = if number == 0 { Some(standard_input()?) } else { None };
            files.extend(request.hold(image).map_err(|failure| self.plan.unopened(failure))?);
        }
        inherited.close();
        let limits = Limits::for_reading(length(&files)?);
        let folders = self.plan.folders.clone();
        let confinement = Confinement { limits, folders, takes_files: false, fills_files: false };
        let missing = confinement.enter().map_err(|error| {
            Failure::new(Code::Failed, error.to_string()).next("name a target in one that is there")
        })?;
        if missing.is_empty() {
            return Ok(());
        }
        let missing: Vec<String> = missing.iter().map(ToString::to_string).collect();
        let text = format!("this kernel cannot wholly confine the worker: {}", missing.join(", "));
        if self.plan.sandbox.sandbox == SandboxMode::Require {
            return Err(Failure::new(Code::Refused, text)
                .next("nothing was read; --sandbox=auto confines it as far as that goes"));
        }
        self.plan.note(&format!("{text}; it reads all the same"));
        Ok(())
    }
}

/// The image that the worker was started with.
fn standard_input() -> Result<File, Failure> {
    let image = std::io::stdin().as_fd().try_clone_to_owned();
    image.map(File::from).map_err(|error| {
        Failure::new(Code::Failed, format!("taking the image from the standard input: {error}"))
    })
}
