//! `audit-sources`: which scripts and settings still make version 1 images, or name them.

use std::io::{self, BufWriter, Write};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;

use calve_disk::open::{escaped, shown};
use calve_sources::{AuditOptions, Event, Finding, Weight, audit, limits};
use serde_json::{Map, Value, json};

use crate::args::{SourcesArgs, SourcesShape};
use crate::command::scan;
use crate::exit::{self, Code, Failure};
use crate::{print, signals};

pub(crate) fn run(args: &SourcesArgs, program: &str) -> Result<Code, Failure> {
    for path in &args.paths {
        path.metadata().map_err(|source| {
            Failure::from(calve_disk::Error::host("looking for it", path, source))
        })?;
    }
    let options = AuditOptions {
        is_one_file_system: args.one_file_system,
        jobs: scan::jobs(args.jobs.as_deref())?.get(),
    };
    let flags = signals::install()?;
    let is_stopped = || flags.stop.load(Ordering::Relaxed);
    let mut audited = Audited::default();
    audit(&args.paths, &options, &flags.stop, |event| {
        audited.take(event);
        if is_stopped() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    if is_stopped() {
        return Err(exit::stopped());
    }
    audited.files.sort_by(|one, other| one.0.cmp(&other.0));
    audited.troubles.sort();
    audited.tell(args)?;
    Ok(audited.code(args, program))
}

/// What came of a walk.
#[derive(Default)]
struct Audited {
    /// Files in which something was found.
    files: Vec<(PathBuf, Vec<Finding>)>,
    /// What was not looked into, and why.
    troubles: Vec<(PathBuf, String)>,
    /// Files that were looked into.
    read: u64,
    findings: u64,
    notes: u64,
    /// What is not listed, because there is too much of it.
    further: u64,
    more_troubles: u64,
}

impl Audited {
    fn take(&mut self, event: Event) {
        match event {
            Event::Trouble { .. } if self.troubles.len() >= limits::FINDINGS => {
                self.more_troubles += 1;
            }
            Event::Trouble { path, what } => self.troubles.push((path, what)),
            Event::Looked { path, mut looked } => {
                self.read += 1;
                self.further += looked.further;
                let left = limits::FINDINGS.saturating_sub(self.listed());
                let dropped = looked.findings.len().saturating_sub(left);
                self.further += dropped as u64;
                looked.findings.truncate(left);
                let is_note = |finding: &&Finding| finding.rule.weight() == Weight::Note;
                let notes = looked.findings.iter().filter(is_note).count();
                self.notes += notes as u64;
                self.findings += (looked.findings.len() - notes) as u64;
                if !looked.findings.is_empty() {
                    self.files.push((path, looked.findings));
                }
            }
        }
    }

    fn listed(&self) -> usize {
        usize::try_from(self.findings + self.notes).unwrap_or(usize::MAX)
    }

    fn tell(&self, args: &SourcesArgs) -> Result<(), Failure> {
        let out = BufWriter::new(io::stdout().lock());
        let told = match args.output {
            SourcesShape::Human if args.quiet => return Ok(()),
            SourcesShape::Human => self.human(out),
            SourcesShape::Json => self.json(out),
            SourcesShape::Jsonl => self.lines(out),
        };
        match told {
            // A reader who has gone away has seen enough.
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
                Err(Failure::not_printed(&error))
            }
            _ => Ok(()),
        }
    }

    fn all(&self) -> impl Iterator<Item = (&Path, &Finding)> {
        self.files
            .iter()
            .flat_map(|(path, findings)| findings.iter().map(|finding| (path.as_path(), finding)))
    }

    fn human(&self, mut out: impl Write) -> io::Result<()> {
        for (path, finding) in self.all() {
            let Finding { line, column, rule, text } = finding;
            let path = shown(path);
            let (does, write) = (rule.statement(), rule.instead());
            writeln!(out, "{path}:{line}:{column}: {rule}: {does}: {write}\n    {text}")?;
        }
        let files = self.files.len();
        let (findings, notes) = (self.findings, self.notes);
        writeln!(out, "findings: {findings}, notes: {notes}, in {files} of {} files", self.read)?;
        if self.further > 0 {
            writeln!(out, "further findings that are not listed: {}", self.further)?;
        }
        out.flush()
    }

    fn json(&self, mut out: impl Write) -> io::Result<()> {
        let mut separator = "\n";
        write!(out, "{{\n\"findings\": [")?;
        for (path, finding) in self.all() {
            let object = Value::Object(of_finding(path, finding));
            write!(out, "{}{object}", std::mem::replace(&mut separator, ",\n"))?;
        }
        write!(out, "\n],\n\"troubles\": [")?;
        separator = "\n";
        for (path, what) in &self.troubles {
            let object = Value::Object(of_trouble(path, what));
            write!(out, "{}{object}", std::mem::replace(&mut separator, ",\n"))?;
        }
        writeln!(out, "\n],\n\"totals\": {}\n}}", Value::Object(self.totals()))?;
        out.flush()
    }

    fn lines(&self, mut out: impl Write) -> io::Result<()> {
        for (path, finding) in self.all() {
            writeln!(out, "{}", print::of_kind("finding", of_finding(path, finding)))?;
        }
        for (path, what) in &self.troubles {
            writeln!(out, "{}", print::of_kind("trouble", of_trouble(path, what)))?;
        }
        writeln!(out, "{}", print::of_kind("totals", self.totals()))?;
        out.flush()
    }

    fn totals(&self) -> Map<String, Value> {
        let mut object = Map::new();
        let mut set = |key: &str, value: u64| _ = object.insert(key.into(), json!(value));
        set("files", self.read);
        set("findings", self.findings);
        set("notes", self.notes);
        set("not-listed", self.further);
        set("not-looked-into", self.troubles.len() as u64 + self.more_troubles);
        object
    }

    /// The code, and what could not be looked into.
    fn code(&self, args: &SourcesArgs, program: &str) -> Code {
        for (path, what) in self.troubles.iter().filter(|_| !args.quiet) {
            let path = shown(path);
            print::note(program, &format!("{path}: not looked into: {what}"));
        }
        // What is not listed may be notes, and may be more.
        if self.findings + self.further > 0 {
            Code::Corruption
        } else if self.troubles.is_empty() {
            Code::Done
        } else {
            Code::Losses
        }
    }
}

fn of_finding(path: &Path, finding: &Finding) -> Map<String, Value> {
    let mut object = Map::new();
    print::put_path(&mut object, "filename", path);
    let mut set = |key: &str, value: Value| _ = object.insert(key.into(), value);
    set("line", json!(finding.line));
    set("column", json!(finding.column));
    set("rule", json!(finding.rule.number()));
    set("weight", json!(finding.rule.weight().word()));
    set("statement", json!(finding.rule.statement()));
    set("instead", json!(finding.rule.instead()));
    set("text", json!(finding.text));
    object
}

fn of_trouble(path: &Path, what: &str) -> Map<String, Value> {
    let mut object = Map::new();
    print::put_path(&mut object, "filename", path);
    object.insert("what".into(), json!(escaped(what.as_bytes())));
    object
}
