//! What names the images: told of, and written as a patch where it is not to be changed.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{Duration, UNIX_EPOCH};

use calve_disk::open::shown;
use calve_disk::{PendingFile, may_replace, shell, with_end};
use calve_migrate::{Configurations, Journal, RunRecord};
use calve_plan::Plan;
use serde_json::{Value, json};

use crate::exit::Failure;
use crate::print;

/// The configurations that name images of the plan, where some were named. What is for a person to
/// judge is told.
pub(crate) fn find(
    paths: &[PathBuf],
    plan: &Plan,
    (program, is_quiet): (&str, bool),
) -> Result<Option<Configurations>, Failure> {
    if paths.is_empty() {
        return Ok(None);
    }
    let found = Configurations::find(paths, plan).map_err(|error| {
        Failure::from(error).next("nothing was begun: mend that, or leave it out of --configs")
    })?;
    if !is_quiet {
        let (notes, further) = found.notes();
        for noted in notes {
            let (path, note) = (name(&noted.path), &noted.note);
            print::note(program, &format!("{path}: line {}: {}", note.line, note.text));
        }
        if further > 0 {
            print::note(program, &format!("{further} more places stay as they are"));
        }
        if found.counts().0 == 0 {
            print::note(program, "--configs: there is no configuration of a virtual machine");
        }
    }
    Ok(Some(found))
}

/// A patch that was written.
pub(crate) struct Patch {
    path: PathBuf,
    files: u64,
}

/// Where a patch is put: beside the plan, where nobody says it.
fn place_of_patch(named: Option<&Path>, plan: &Path) -> PathBuf {
    named.map_or_else(|| with_end(plan, ".patch"), Path::to_owned)
}

/// Whether a patch can be put there, before anything is done that it is about.
pub(crate) fn may_patch(named: Option<&Path>, plan: &Path) -> Result<(), Failure> {
    Ok(may_replace(&place_of_patch(named, plan))?)
}

/// Writes what has to change, for all that is migrated by now; a patch that was written before is
/// replaced. Where no file is named, it goes beside the plan.
pub(crate) fn write_patch(
    (named, plan): (Option<&Path>, &Path),
    configurations: &Configurations,
    (journal, run): (&Mutex<Journal>, i64),
) -> Result<Patch, Failure> {
    let path = place_of_patch(named, plan);
    let patches = configurations.patches(journal, run)?;
    let (mut file, pending) = PendingFile::create(&path, true, 0o644)?;
    let failed = |error| calve_disk::Error::host("writing", &path, error);
    file.write_all(&patches.bytes).and_then(|()| file.sync_all()).map_err(failed)?;
    pending.take_name(true)?;
    Ok(Patch { path, files: patches.files })
}

impl Patch {
    pub(crate) fn json(&self) -> Value {
        json!({ "path": name(&self.path), "files": self.files })
    }

    /// What to type about it, for people; `otherwise` says what else may be typed.
    pub(crate) fn text(&self, otherwise: &str) -> String {
        if self.files == 0 {
            return print::wrapped("no configuration has to change", 0);
        }
        let files = print::count(self.files, "file", "files");
        let mut text = print::wrapped(&format!("configurations: {files} to change:"), 0);
        text.push_str(&format!("    $ patch -p1 -d / < {}\n", shell::path(&self.path)));
        if !otherwise.is_empty() {
            text.push_str(&print::wrapped(otherwise, 0));
        }
        text
    }
}

/// A patch that lies beside the plan of a run, and was written since that began. Whether somebody
/// applied it, or one that it replaced, nobody knows.
pub(crate) struct Written {
    path: PathBuf,
    is_empty: bool,
}

impl Written {
    pub(crate) fn of(run: &RunRecord) -> Option<Self> {
        let path = place_of_patch(None, &run.plan);
        let there = path.metadata().ok().filter(std::fs::Metadata::is_file)?;
        let began = UNIX_EPOCH + Duration::from_secs(u64::try_from(run.began).ok()?);
        let is_of_run = there.modified().is_ok_and(|written| written >= began);
        is_of_run.then_some(Self { path, is_empty: there.len() == 0 })
    }

    /// What to type to take back what it changed; nothing where it changes nothing.
    pub(crate) fn command(&self) -> Option<String> {
        let command = || format!("patch -R -p1 -d / < {}", shell::path(&self.path));
        (!self.is_empty).then(command)
    }

    /// What is told of it when the run is taken back, wholly or in part.
    pub(crate) fn note(&self, is_whole: bool) -> String {
        let when = if is_whole { "where" } else { "when all of it is taken back, and where" };
        match self.command() {
            Some(command) => {
                format!(
                    "configurations are not taken back; {when} the patch was applied: {command}"
                )
            }
            None => format!(
                "configurations are not taken back; {when} one was applied before {} became empty: \
                 take that back by hand",
                name(&self.path)
            ),
        }
    }
}

fn name(path: &Path) -> String {
    shown(path)
}
