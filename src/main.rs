//! The command line of calve: arguments in, text and exit codes out. What it does is in the
//! crates below.

mod args;
mod command;
mod evidence;
mod exit;
mod findings;
mod list;
mod print;
mod progress;
mod reading;
mod secrets;
mod signals;
mod size;
mod source;
mod store;
mod threads;
mod worker;
mod writing;

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

use args::{Args, Verb};
use clap::{CommandFactory, FromArgMatches};
use evidence::Evidence;
use exit::{Code, Failure};

fn main() -> ExitCode {
    let words: Vec<OsString> = std::env::args_os().collect();
    let program = program_name(words.first());
    let code = match run(&words, &program) {
        Ok(code) => code,
        Err(failure) => {
            print::failure(&program, &failure);
            failure.code
        }
    };
    ExitCode::from(code.number())
}

fn run(words: &[OsString], program: &str) -> Result<Code, Failure> {
    let command = Args::command().bin_name(program.to_owned());
    let args =
        command.try_get_matches_from(words).and_then(|matches| Args::from_arg_matches(&matches));
    let args = match args {
        Ok(args) => args,
        Err(error) => {
            // Help and version are asked for; everything else is a mistake.
            return match error.print() {
                _ if error.use_stderr() => Ok(Code::Usage),
                Err(failed) if failed.kind() != std::io::ErrorKind::BrokenPipe => {
                    Err(Failure::not_printed(&failed))
                }
                _ => Ok(Code::Done),
            };
        }
    };
    if let Some(code) = args.explain {
        return exit::explain(code).map(|()| Code::Done);
    }
    let Some(verb) = args.verb else {
        return Err(Failure::usage("name a verb; --help lists them"));
    };
    let evidence = Evidence::begin(&verb, words)?;
    let outcome = match &verb {
        Verb::Info(args) => command::info::run(args, program, &evidence),
        Verb::Check(args) => command::check::run(args, program, &evidence),
        Verb::Map(args) => command::map::run(args, program, &evidence),
        Verb::Convert(args) => command::convert::run(args, program, &evidence),
        Verb::Compare(args) => command::compare::run(args, program, &evidence),
        Verb::Rescue(args) => command::rescue::run(args, program, &evidence),
        Verb::Layout(args) => command::layout::run(args, program, &evidence),
        Verb::Timeline(args) => command::timeline::run(args, program, &evidence),
        Verb::Carve(args) => command::carve::run(args, program, &evidence),
        Verb::Create(args) => command::create::run(args, program),
        Verb::MergeReports(args) => command::merge_reports::run(args, program),
        Verb::Migrate(args) => command::migrate::run(args, program),
        Verb::Plan(args) => command::plan::run(args, program),
        Verb::Report(args) => command::report::run(args, program),
        Verb::Scan(args) => command::scan::run(args, program),
        Verb::AuditSources(args) => command::sources::run(args, program),
        Verb::Upgrade(args) => command::upgrade::run(args, program),
        Verb::Work(args) => command::work::run(args, program),
    };
    evidence.finish(program, outcome)
}

/// What the program was called as, which its messages begin with.
fn program_name(word: Option<&OsString>) -> String {
    let name = word.and_then(|word| Path::new(word).file_name());
    name.map_or_else(|| "calve".into(), |name| name.to_string_lossy().into_owned())
}
