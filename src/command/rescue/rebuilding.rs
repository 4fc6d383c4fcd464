//! What a rescue guesses where it is asked to: header, tables, the base, the passphrase.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::sync::{Arc, OnceLock};

use calve_disk::open::Through;
use calve_disk::open::shown;
use calve_disk::units::GuestRange;
use calve_disk::{Disk, Judgement, Storage};
use calve_rebuild::{Patched, Patches, Rebuilt, Search, find_base, find_passphrase, is_clear};
use calve_rescue::{MapFile, Marked};

use crate::args::RescueArgs;
use crate::exit::{Code, Failure};
use crate::print;
use crate::source::Request;

/// What was rebuilt when the image was first opened: later openings get the same.
#[derive(Default)]
pub(super) struct Account {
    patches: Patches,
    /// Guest bytes that rest on a guess.
    pub(super) suspect: Vec<GuestRange>,
    /// What was done, a line each.
    pub(super) lines: Vec<String>,
}

/// Which parts of the image are rebuilt.
#[derive(Clone, Copy)]
struct Steps {
    header: bool,
    l1: bool,
    xen: bool,
}

/// What the image is read through, and where the account of it will be.
pub(super) fn through(
    args: &RescueArgs,
) -> Result<(Option<Through>, Arc<OnceLock<Account>>), Failure> {
    let account = Arc::new(OnceLock::new());
    let map = args.source_map.as_deref().map(source_map).transpose()?;
    let steps = Steps { header: args.rebuild_header, l1: args.rebuild_l1, xen: args.xen_layout };
    if map.is_none() && !(steps.header || steps.l1 || steps.xen) {
        return Ok((None, account));
    }
    let kept = Arc::clone(&account);
    let through = Through::new(move |storage| {
        let storage: Box<dyn Storage> = match &map {
            Some(map) => Box::new(Marked::new(storage, map)),
            None => storage,
        };
        if !(steps.header || steps.l1 || steps.xen) {
            return Ok(storage);
        }
        let source = Patched::over(storage)?;
        if let Some(account) = kept.get() {
            return Ok(Box::new(source.with(&account.patches)?));
        }
        let (source, account) = rebuild(source, steps)?;
        let _ = kept.set(account);
        Ok(Box::new(source))
    });
    Ok((Some(through), account))
}

fn rebuild(mut source: Patched, steps: Steps) -> calve_disk::Result<(Patched, Account)> {
    let mut account = Account::default();
    let mut add = |rebuilt: Rebuilt| {
        account.lines.extend(rebuilt.steps.iter().map(|step| format!("rebuilt: {step}")));
        account.lines.extend(
            rebuilt.unplaced.iter().map(|at| format!("an L2 table at {at} has found no place")),
        );
        account.suspect.extend(rebuilt.suspect);
        rebuilt.source
    };
    if steps.header {
        source = add(calve_rebuild::header(&source, &calve_rebuild::Hints::default())?);
    }
    if steps.l1 {
        source = add(calve_rebuild::l1(&source)?);
    }
    if steps.xen {
        source = add(calve_rebuild::xen(&source)?);
    }
    account.patches = source.patches().clone();
    Ok((source, account))
}

/// What a map of ddrescue's says of the source.
fn source_map(path: &Path) -> Result<MapFile, Failure> {
    let text = std::fs::read_to_string(path).map_err(|error| {
        let text = format!("{}: reading the map: {error}", shown(path));
        Failure::new(Code::Failed, text)
    })?;
    MapFile::parse(&text).map_err(|error| {
        let text = format!("{}: {error}", shown(path));
        Failure::new(Code::Refused, text).next("name the map that ddrescue made of this file")
    })
}

/// Looks for the base in `folder`, and has it taken where it is clear which one it is.
pub(super) fn search(
    request: &mut Request,
    folder: &Path,
    args: &RescueArgs,
    program: &str,
) -> Result<(), Failure> {
    request.leave_bases();
    let overlay = request.open()?;
    let search = Search { force_share: args.open.force_share, ..Search::default() };
    let candidates = find_base(&overlay, folder, &search)?;
    let name = |path: &Path| shown(path);
    if let (true, Some(best)) = (is_clear(&candidates), candidates.first()) {
        print::note(program, &format!("{}: taken as the base", name(&best.path)));
        request.take_base(best.path.clone(), best.format);
        return Ok(());
    }
    let text = format!("{}: it is not clear which file is its base", name(&request.path));
    let mut failure =
        Failure::new(Code::Base, text).next("name it with --base, or leave out --search");
    failure.places = candidates
        .iter()
        .take(5)
        .map(|one| format!("{}: may be the base, score {}", name(&one.path), one.score))
        .collect();
    Err(failure)
}

/// Tries the passphrases of a list, one a line, and has the one taken that makes more than noise.
pub(super) fn try_passphrases(
    request: &mut Request,
    list: &Path,
    program: &str,
) -> Result<(), Failure> {
    let failed = |error: std::io::Error| {
        Failure::new(Code::Failed, format!("{}: reading the list: {error}", shown(list)))
    };
    let lines = || {
        let file = std::fs::File::open(list).map_err(failed)?;
        Ok::<_, Failure>(BufReader::new(file).split(b'\n').map_while(Result::ok))
    };
    let (path, options) = request.again();
    let open = |passphrase: &calve_disk::codec::aes::Passphrase| {
        let passphrases = vec![passphrase.clone()];
        Disk::open(&path, &calve_disk::OpenOptions { passphrases, ..options.clone() })
    };
    let tried = find_passphrase(&open, 0, lines()?)?;
    let found = tried.number.or((tried.judgement == Judgement::NothingToTell).then_some(1));
    let line = found.and_then(|number| usize::try_from(number).ok()?.checked_sub(1));
    let found = match line {
        Some(line) => lines()?.nth(line),
        None => None,
    };
    let Some(found) = found else {
        let text = format!(
            "{}: none of {} passphrases makes more than noise of the disk",
            shown(list),
            tried.tried
        );
        return Err(Failure::new(Code::Key, text)
            .next("add others to the list: only the first 16 bytes of each count"));
    };
    if let Some(number) = tried.number {
        print::note(program, &format!("{}: line {number} is the passphrase", shown(list)));
    }
    request.take_passphrase(calve_disk::codec::aes::Passphrase::new(found));
    Ok(())
}
