//! What a report rests on: the catalogue of scans, the journal of migrations, the plan.

use std::fs::File;
use std::io::{BufReader, ErrorKind, Read, Seek};
use std::path::{Path, PathBuf};

use calve_fleet::{Catalogue, Written};
use calve_migrate::shard::{Agreed, Journals, Shard};
use calve_migrate::{Journal, RunRecord};
use calve_plan::{Family, PlanReader};

use crate::error::{Error, Result};
use crate::look::{Found, Looked};

/// How much of a plan is read at once.
const READ_AT_ONCE: usize = 64 << 10;

/// What a report rests on, opened for reading.
#[derive(Debug)]
pub struct Sources {
    pub(crate) catalogue: Catalogue,
    pub(crate) journal: Option<Journal>,
    /// Where the journal is, if not in the catalogue.
    pub(crate) other_journal: Option<Elsewhere>,
    pub(crate) run: Option<RunRecord>,
    pub(crate) plan: Option<PlanFile>,
    /// Why there is no plan, where there should be one.
    pub(crate) plan_problem: Option<String>,
    /// Looks at objects.
    pub(crate) objects: fn(&Path) -> Looked,
    /// The databases, as they were before they were opened.
    before: Vec<(PathBuf, Written)>,
}

/// A journal that is not in the catalogue.
#[derive(Debug)]
pub(crate) enum Elsewhere {
    /// In a file of its own.
    File(PathBuf),
    /// In a folder, as one of each shard.
    Shards { folder: PathBuf, agreed: Agreed, begun: Vec<(Shard, i64)> },
}

/// A plan in its file, which is read anew each time: it may be long.
#[derive(Debug)]
pub(crate) struct PlanFile {
    pub(crate) path: PathBuf,
    file: File,
    digest: String,
    catalogue: PathBuf,
    before: Written,
}

impl Sources {
    /// Opens a plan with its catalogue and journal, or a catalogue with the plan of the run. The
    /// run is that of this number; or else the last of the plan, or the last that there is. There
    /// may be none. `journal` is where it is kept, if not in the catalogue; of a folder of
    /// [`calve_migrate::shard`], the journals of all shards are read as one.
    ///
    /// # Errors
    /// [`Error::Refused`] where there is no such run, and what opening each of them says. A plan
    /// that was changed or moved since its run is none, and the report says so.
    pub fn open(file: &Path, journal: Option<&Path>, number: Option<i64>) -> Result<Self> {
        let named = match is_plan(file)? {
            true => Some(PlanFile::read(file)?),
            false => None,
        };
        let path = match &named {
            None => file.to_owned(),
            Some(named) => named.catalogue.clone(),
        };
        let path = path.canonicalize().map_err(|error| match error.kind() {
            ErrorKind::NotFound if named.is_some() => Error::refused(
                &path,
                "is gone, and the plan was made from it: scan its folders into it again, and make \
                 another plan",
            ),
            _ => Error::host("looking for the catalogue", &path, error),
        })?;
        let journal_path = journal.unwrap_or(&path);
        let mut before = vec![(path.clone(), written(&path)?)];
        let catalogue = Catalogue::open_for_reading(&path)?;
        let (journal, other_journal) = match journal {
            Some(folder) if folder.is_dir() => {
                for journal in calve_migrate::shard::journals_in(folder)? {
                    before.push((journal.clone(), written(&journal)?));
                }
                let Journals { agreed, begun, journal } = Journals::of(folder)?;
                if named.as_ref().is_some_and(|plan| plan.digest != agreed.plan_digest) {
                    let why = "is of another plan, or of this one before a change";
                    return Err(Error::refused(folder, why));
                }
                let folder = folder.to_owned();
                (Some(journal), Some(Elsewhere::Shards { folder, agreed, begun }))
            }
            named => {
                before.push((journal_path.to_owned(), written(journal_path)?));
                let other = named.map(|path| Elsewhere::File(path.to_owned()));
                (Journal::open_for_reading(journal_path)?, other)
            }
        };
        let digest = named.as_ref().map(|named| &*named.digest);
        let run = match &journal {
            Some(journal) => chosen(journal, digest, number)?,
            None => None,
        };
        if let (None, Some(number)) = (&run, number) {
            return Err(Error::refused(journal_path, format!("has no run {number}")));
        }
        let mut sources = Self {
            catalogue,
            journal,
            other_journal,
            run,
            plan: named,
            plan_problem: None,
            objects: |_| Looked::nothing(Found::Unreadable("nobody looks into stores".into())),
            before,
        };
        sources.find_plan();
        Ok(sources)
    }

    /// Whether the journal has a run that the report tells of.
    pub fn has_run(&self) -> bool {
        self.run.is_some()
    }

    /// BLAKE3 of the plan, where one was named or found.
    pub fn plan_digest(&self) -> Option<&str> {
        self.plan.as_ref().map(|plan| &*plan.digest)
    }

    /// Objects are looked at by `look`.
    #[must_use]
    pub fn with_objects(self, look: fn(&Path) -> Looked) -> Self {
        Self { objects: look, ..self }
    }

    /// Takes the plan of the run, where none was named.
    fn find_plan(&mut self) {
        let Some(run) = self.run.as_ref().filter(|_| self.plan.is_none()) else { return };
        match PlanFile::read(&run.plan) {
            Ok(file) if file.digest == run.digest => self.plan = Some(file),
            Ok(_) => self.plan_problem = Some("was changed since it was carried out".into()),
            Err(error) => self.plan_problem = Some(error.to_string()),
        }
    }

    /// Fails where somebody wrote to the catalogue, the journal or the plan since they were opened
    /// here: they may have been read half before and half afterwards.
    ///
    /// # Errors
    /// [`Error::Changed`].
    pub fn assert_unchanged(&self) -> Result<()> {
        let plan = self.plan.iter().map(|plan| (&plan.path, &plan.before));
        for (path, before) in self.before.iter().map(|(path, before)| (path, before)).chain(plan) {
            let mixed = before.may_be_mixed(path);
            if mixed.map_err(|error| Error::host("looking at", path, error))? {
                return Err(Error::Changed { path: path.clone() });
            }
        }
        Ok(())
    }
}

fn written(path: &Path) -> Result<Written> {
    Written::of(path).map_err(|error| Error::host("looking at", path, error))
}

/// Whether a file begins as plans do: whatever else there is, the catalogue has to say what it is.
fn is_plan(path: &Path) -> Result<bool> {
    let mut start = Vec::new();
    File::open(path)
        .and_then(|file| file.take(1).read_to_end(&mut start))
        .map_err(|error| Error::host("opening", path, error))?;
    Ok(start == b"{")
}

/// The run that is told of.
fn chosen(
    journal: &Journal,
    digest: Option<&str>,
    number: Option<i64>,
) -> Result<Option<RunRecord>> {
    let mut runs = journal.runs()?;
    runs.retain(|run| number.is_none_or(|number| run.number == number));
    let is_there = !runs.is_empty();
    runs.retain(|run| digest.is_none_or(|digest| run.digest == digest));
    match (runs.pop(), number) {
        (None, Some(number)) if is_there => {
            let why = format!("its run {number} is of another plan");
            Err(Error::refused(journal.path(), why))
        }
        (run, _) => Ok(run),
    }
}

impl PlanFile {
    /// Opens a plan, and asserts that it is whole.
    fn read(path: &Path) -> Result<Self> {
        let failed = |error| Error::host("reading the plan", path, error);
        let path = path.canonicalize().map_err(failed)?;
        let before = written(&path)?;
        let file = File::open(&path).map_err(failed)?;
        let mut hasher = blake3::Hasher::new();
        hasher.update_reader(&file).map_err(failed)?;
        let digest = hasher.finalize().to_hex().to_string();
        let mut plan = Self { path, file, digest, catalogue: PathBuf::new(), before };
        plan.catalogue = plan.families(|_| Ok(()))?;
        Ok(plan)
    }

    /// Tells of all families, in order, and returns which catalogue the plan was made from. An
    /// error of `tell` ends it.
    pub(crate) fn families(&self, mut tell: impl FnMut(&Family) -> Result<()>) -> Result<PathBuf> {
        let mut file = &self.file;
        file.rewind().map_err(|error| Error::host("reading the plan", &self.path, error))?;
        let mut from = BufReader::with_capacity(READ_AT_ONCE, file);
        let mut plan = PlanReader::new(&self.path, &mut from)?;
        while let Some(family) = plan.family()? {
            tell(&family)?;
        }
        Ok(plan.head().catalogue.0.clone())
    }
}
