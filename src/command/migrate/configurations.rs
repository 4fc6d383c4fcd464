//! What names the images: told of, and written as a patch where it is not to be changed.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use calve_disk::PendingFile;
use calve_disk::open::escaped;
use calve_migrate::{Configurations, Journal};
use calve_plan::Plan;
use serde_json::{Value, json};

use crate::args::MigrateArgs;
use crate::exit::Failure;
use crate::print;

/// The configurations that name images of the plan, where some were named. What is for a person to
/// judge is told.
pub(super) fn find(
    args: &MigrateArgs,
    plan: &Plan,
    program: &str,
) -> Result<Option<Configurations>, Failure> {
    if args.configs.is_empty() {
        return Ok(None);
    }
    let found = Configurations::find(&args.configs, plan).map_err(|error| {
        Failure::from(error).next("nothing was begun: mend that, or leave it out of --configs")
    })?;
    if !args.carry.quiet {
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
pub(super) struct Patch {
    path: PathBuf,
    files: u64,
}

/// Writes what has to change, for all that is migrated by now; a patch that was written before is
/// replaced.
pub(super) fn write_patch(
    args: &MigrateArgs,
    configurations: &Configurations,
    (journal, run): (&Mutex<Journal>, i64),
) -> Result<Patch, Failure> {
    let path = args.patches.clone().unwrap_or_else(|| {
        let mut name = args.file.clone().into_os_string();
        name.push(".patch");
        name.into()
    });
    let patches = configurations.patches(journal, run)?;
    let (mut file, pending) = PendingFile::create(&path, true, 0o644)?;
    let failed = |error| calve_disk::Error::host("writing", &path, error);
    file.write_all(&patches.bytes).and_then(|()| file.sync_all()).map_err(failed)?;
    pending.take_name(true)?;
    Ok(Patch { path, files: patches.files })
}

impl Patch {
    pub(super) fn json(&self) -> Value {
        json!({ "path": name(&self.path), "files": self.files })
    }

    pub(super) fn line(&self) -> String {
        match self.files {
            0 => "no configuration has to change".into(),
            files => {
                let files = if files == 1 { "1 file".into() } else { format!("{files} files") };
                let path = name(&self.path);
                format!(
                    "configurations: {files} to change: patch -p1 -d / < {path}, or run the same \
                     again with --apply-configs"
                )
            }
        }
    }
}

fn name(path: &Path) -> String {
    escaped(path.as_os_str().as_encoded_bytes())
}
