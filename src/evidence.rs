//! `--evidence`: what a verb's sources were before and after, in a log of its own.

pub(crate) mod last_word;

use std::cell::RefCell;
use std::ffi::OsString;

use calve_disk::Disk;
use calve_disk::open::OpenedFile;
use calve_disk::open::shown;
use calve_evidence::{Control, Error as EvidenceError, Failed, Log, Record, Role, Run, Witness};
use serde_json::{Map, Value};

use crate::args::{ProgressArgs, Verb};
use crate::exit::{Code, Failure};
use crate::progress::Reporter;
use crate::source::Request;
use crate::{print, secrets, signals, worker};

use last_word::LastWord;

/// What is taken down of the run of one verb: nothing, unless `--evidence` asks for it.
pub(crate) struct Evidence<'a> {
    asked: Option<Asked<'a>>,
    /// In a worker that has to tell it: what came of the run.
    told: Option<RefCell<Map<String, Value>>>,
}

struct Asked<'a> {
    log: Log,
    run: Run,
    progress: Option<&'a ProgressArgs>,
    witness: RefCell<Witness>,
    result: RefCell<Map<String, Value>>,
    /// What a worker said did not work, or how it died.
    failed: RefCell<Option<Failed>>,
}

impl<'a> Evidence<'a> {
    /// What the words of the verb ask for. A log that cannot be had is found out now.
    pub(crate) fn begin(verb: &'a Verb, words: &[OsString]) -> Result<Self, Failure> {
        let nothing = Self { asked: None, told: None };
        let Some(reading) = verb.reading() else { return Ok(nothing) };
        let Some(path) = &reading.open.evidence else {
            let told = worker::tells_what_came_of_it().then(RefCell::default);
            return Ok(Self { told, ..nothing });
        };
        let log = Log::new(path).map_err(no_log)?;
        reading.makes.iter().try_for_each(|made| log.refuse(made)).map_err(no_log)?;
        let asked = Asked {
            log,
            run: Run::begin(
                concat!("calve ", env!("CARGO_PKG_VERSION")),
                reading.name,
                &secrets::left_out(words),
            ),
            progress: reading.progress,
            witness: RefCell::default(),
            result: RefCell::default(),
            failed: RefCell::default(),
        };
        Ok(Self { asked: Some(asked), ..nothing })
    }

    /// Opens a source with `open`. Its file is looked at before, and what lies behind it as soon
    /// as that is known.
    pub(crate) fn opening(
        &self,
        request: &mut Request,
        open: impl FnOnce(&mut Request) -> Result<Disk, Failure>,
    ) -> Result<Disk, Failure> {
        if let Some(asked) = &self.asked {
            if request.drops_cache() {
                asked.witness.borrow_mut().drop_cache();
            }
            asked.look(|witness, control| witness.see_named(&request.path, control))?;
        }
        let disk = open(request)?;
        self.opened(&disk)?;
        Ok(disk)
    }

    /// Looks at a disk that was opened by other means.
    pub(crate) fn opened(&self, disk: &Disk) -> Result<(), Failure> {
        let Some(asked) = &self.asked else { return Ok(()) };
        asked.look(|witness, control| witness.see(disk, control))
    }

    /// Looks at all sources again, and fails where one has other bytes than before: for a verb
    /// that has not yet said, or named, what it made of them. For the others it is done at the
    /// end.
    pub(crate) fn unchanged(&self) -> Result<(), Failure> {
        let Some(asked) = &self.asked else { return Ok(()) };
        asked.look(Witness::look_again)?;
        asked.changed().map_or(Ok(()), Err)
    }

    /// Takes something down of what came of the run.
    pub(crate) fn note(&self, key: &str, value: impl FnOnce() -> Value) {
        let asked = self.asked.as_ref().map(|asked| &asked.result);
        if let Some(result) = asked.or(self.told.as_ref()) {
            result.borrow_mut().insert(key.to_owned(), value());
        }
    }

    /// Whether a log was asked for.
    pub(crate) fn is_asked(&self) -> bool {
        self.asked.is_some()
    }

    /// Looks at the files that a worker is about to read for `request`: it makes no evidence
    /// itself.
    pub(crate) fn before_worker(
        &self,
        request: &Request,
        opened: &[OpenedFile],
    ) -> Result<(), Failure> {
        let Some(asked) = &self.asked else { return Ok(()) };
        if request.drops_cache() {
            asked.witness.borrow_mut().drop_cache();
        }
        // The image itself comes first.
        let roles = std::iter::once(Role::Image).chain(std::iter::repeat(Role::DataFile));
        for (role, file) in roles.zip(opened) {
            asked.look(|witness, control| witness.see_opened(role, file, control))?;
        }
        // A worker's locks on what it opens itself end with it, before the second look. Where this
        // one is not to be had, the worker's is not either, which it says.
        request.lock(opened);
        Ok(())
    }

    /// Takes down the last word of a worker, as it came.
    pub(crate) fn hear(&self, word: &[u8]) {
        if let (Some(asked), Some(LastWord { error, result })) =
            (&self.asked, LastWord::heard(word))
        {
            asked.failed.replace(error);
            asked.result.replace(result);
        }
    }

    /// Takes down how a worker died.
    pub(crate) fn died(&self, death: &worker::Death) {
        if let (Some(asked), Err(failure)) = (&self.asked, worker::told(death)) {
            asked.failed.replace(Some(failed(&failure)));
        }
    }

    /// Looks at all sources again, and writes the log. The result is the verb's own `outcome`,
    /// unless a source has other bytes than before, or there is no log.
    pub(crate) fn finish(
        self,
        program: &str,
        outcome: Result<Code, Failure>,
    ) -> Result<Code, Failure> {
        if let Some(told) = self.told {
            let error = outcome.as_ref().err().map(failed);
            let said = LastWord { error, result: told.into_inner() }.say();
            return outcome.and_then(|code| said.map(|()| code));
        }
        let Some(asked) = self.asked else { return outcome };
        if outcome.as_ref().map_or_else(|failure| failure.code, |code| *code) == Code::Usage {
            // Nothing was asked for that makes sense, so that nothing was done.
            return outcome;
        }
        // Whoever interrupts what follows gets a log all the same, without what is missing.
        let _handlers = signals::install_for_now()?;
        let outcome = asked.judged(program, outcome);
        match asked.write(&outcome) {
            Ok(()) => outcome,
            Err(failure) => Err(match outcome {
                Ok(_) => failure.next("what was asked for is done; there is no log of it"),
                Err(first) => {
                    print::failure(program, &first);
                    failure
                }
            }),
        }
    }
}

impl Asked<'_> {
    /// Has the witness look at something, which takes time and can be stopped.
    fn look(
        &self,
        look: impl FnOnce(&mut Witness, &Control) -> calve_evidence::Result<()>,
    ) -> Result<(), Failure> {
        let handlers = signals::install_for_now()?;
        let reporter = self.progress.map(|args| Reporter::new(args, handlers.flags)).transpose()?;
        let progress = |done, total| {
            if let Some(reporter) = &reporter {
                reporter.tell_digested(done, total);
            }
        };
        let control = Control { stop: &handlers.flags.stop, progress: &progress };
        let looked = look(&mut self.witness.borrow_mut(), &control);
        if let Some(reporter) = &reporter {
            reporter.pause();
        }
        looked.map_err(Failure::from)
    }

    /// The outcome, in the light of a second look at all sources.
    fn judged(&self, program: &str, outcome: Result<Code, Failure>) -> Result<Code, Failure> {
        let looked = self.look(Witness::look_again);
        let judged = match (outcome, looked, self.changed()) {
            (Err(first), _, _) if first.code == Code::Changed => Err(first),
            (outcome, _, Some(changed)) => {
                if let Err(first) = outcome {
                    print::failure(program, &first);
                }
                Err(changed)
            }
            (Err(first), _, None) => Err(first),
            // A worker has said that it was stopped.
            (Ok(code), Err(failure), None) if code == failure.code => Ok(code),
            (Ok(_), Err(failure), None) => Err(failure),
            (Ok(code), Ok(()), None) => self.digested(program, code),
        };
        judged.map_err(|failure| match failure.code {
            Code::Signal(_) => failure.next("nothing but the log was left behind"),
            _ => failure,
        })
    }

    fn changed(&self) -> Option<Failure> {
        let witness = self.witness.borrow();
        let path = shown(witness.changed()?);
        let text = format!("{path}: changed while it was read: its digests are not what they were");
        Some(
            Failure::new(Code::Changed, text)
                .next("stop whatever writes to it, then run this again"),
        )
    }

    /// Evidence that is missing is no success.
    fn digested(&self, program: &str, code: Code) -> Result<Code, Failure> {
        let witness = self.witness.borrow();
        let Some(error) = witness.undigested() else { return Ok(code) };
        let failure = Failure::new(Code::Failed, error)
            .next("what was asked for is done; the log has no digests of that file");
        if code == Code::Done {
            return Err(failure);
        }
        print::failure(program, &failure);
        Ok(code)
    }

    fn write(&self, outcome: &Result<Code, Failure>) -> Result<(), Failure> {
        let (code, failed) = match outcome {
            Ok(code) => (code, self.failed.borrow().clone()),
            Err(failure) => (&failure.code, Some(failed(failure))),
        };
        let (run, result) = (self.run.clone(), self.result.borrow().clone());
        let record = Record::new(run, &self.witness.borrow(), code.number(), failed, result);
        self.log.write(&record).map_err(no_log)
    }
}

fn failed(failure: &Failure) -> Failed {
    Failed::new(&failure.text, failure.next.as_deref(), &failure.places)
}

/// The words of a command line without those about the log: a worker writes none.
pub(crate) fn without_log(words: impl IntoIterator<Item = OsString>) -> Vec<OsString> {
    const OPTION: &str = "--evidence";
    let mut words = words.into_iter();
    let mut kept = Vec::new();
    while let Some(word) = words.next() {
        let value = word.as_encoded_bytes().strip_prefix(OPTION.as_bytes());
        match value {
            Some([]) => _ = words.next(),
            Some([b'=', ..]) => {}
            _ if word == "--" => {
                kept.push(word);
                kept.extend(words.by_ref());
            }
            _ => kept.push(word),
        }
    }
    kept
}

fn no_log(error: EvidenceError) -> Failure {
    let failure = Failure::from(error);
    let failure = Failure { text: format!("--evidence: {}", failure.text), ..failure };
    match failure.code {
        Code::Refused => failure.next("name another log: none is ever replaced"),
        _ => failure,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_about_the_log_are_no_words_for_a_worker() {
        for (words, expected) in [
            ("calve info --evidence log f", "calve info f"),
            ("calve info --evidence=log f", "calve info f"),
            ("calve info f --evidence log", "calve info f"),
            ("calve info --evidence log -- --evidence=f", "calve info -- --evidence=f"),
        ] {
            let kept = without_log(words.split(' ').map(OsString::from));
            let kept: Vec<&str> = kept.iter().map(|word| word.to_str().expect("text")).collect();
            assert_eq!(kept.join(" "), expected);
        }
    }
}
