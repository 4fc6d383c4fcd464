//! `timeline`: in which order the parts of a file were first written.

use calve_disk::open::shown;

use crate::args::{TimelineArgs, TimelineShape};
use crate::evidence::Evidence;
use crate::exit::{Code, Failure};
use crate::print;
use crate::source::{self, Request};
use crate::worker::{self, Plan};

pub(crate) fn run(
    args: &TimelineArgs,
    program: &str,
    evidence: &Evidence,
) -> Result<Code, Failure> {
    let mut request = Request::new(&args.file, None, false, &args.open)?;
    if let Some(code) =
        worker::enter(&Plan::new(program, &args.open.sandbox, evidence), &mut request)?
    {
        return Ok(code);
    }
    let disk = evidence.opening(&mut request, |request| request.open())?;
    source::announce_upgrades(program, &request, &disk);
    let order = calve_examine::judge(disk.top())?;
    let name = shown(disk.path());
    print::note(program, &format!("{name}: {}", order.judgement()));
    print::report(|out| match args.output {
        TimelineShape::Csv => calve_examine::csv(disk.top(), &order, out),
        TimelineShape::Bodyfile => calve_examine::bodyfile(disk.top(), out),
    })?;
    disk.unchanged()?;
    Ok(Code::Done)
}
