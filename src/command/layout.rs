//! `layout`: what every byte of the file is.

use calve_examine::{Report, write_dfxml, write_html, write_human, write_json, write_svg};

use crate::args::{LayoutArgs, LayoutShape};
use crate::evidence::Evidence;
use crate::exit::{Code, Failure};
use crate::print;
use crate::source::{self, Request};
use crate::worker::{self, Plan};

pub(crate) fn run(args: &LayoutArgs, program: &str, evidence: &Evidence) -> Result<Code, Failure> {
    let mut request = Request::new(&args.file, None, false, &args.open)?;
    if let Some(code) =
        worker::enter(&Plan::new(program, &args.open.sandbox, evidence), &mut request)?
    {
        return Ok(code);
    }
    let disk = evidence.opening(&mut request, |request| request.open())?;
    source::announce_upgrades(program, &request, &disk);
    let report = Report { image: disk.top(), version: env!("CARGO_PKG_VERSION") };
    let write = match args.output {
        LayoutShape::Human => write_human,
        LayoutShape::Json => write_json,
        LayoutShape::Dfxml => write_dfxml,
        LayoutShape::Svg => write_svg,
        LayoutShape::Html => write_html,
    };
    print::report(|out| write(&report, out))?;
    disk.unchanged()?;
    Ok(Code::Done)
}
