//! Converting to an object: the result is made here, in the folder of temporary files, and sent
//! when it is whole.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use calve_convert::{Summary, Unnamed};
use calve_disk::open::shown;
use calve_disk::{Disk, Storage};
use calve_store::{Condition, Error, Kind, Object, ObjectName, Traffic, Upload, pieces};

use crate::args::{ConvertArgs, CopyHow};
use crate::exit::{Code, Failure};
use crate::store;

/// An object that a conversion makes.
pub(super) struct ObjectTarget {
    object: Object,
    path: PathBuf,
    folder: tempfile::TempDir,
    replaces: bool,
}

impl ObjectTarget {
    /// The object that is meant, or `None` where the target is a file.
    pub(super) fn of(
        target: &Path,
        sources: &[Disk],
        args: &ConvertArgs,
        program: &str,
    ) -> Result<Option<Self>, Failure> {
        if !store::is_object(target) {
            return Ok(None);
        }
        let object = store::object(target)?;
        // Paths would be the same with two slashes for one, and keys are not.
        let is_target =
            |path: &Path| ObjectName::parse(path).is_ok_and(|name| name == *object.name());
        let is_source = |disk: &Disk| disk.layers().iter().any(|layer| is_target(&layer.path));
        if sources.iter().any(is_source) {
            let text = format!("{}: is the same object as a source", shown(target));
            return Err(Failure::new(Code::Refused, text).next("name another target"));
        }
        if !args.force && store::is_there(&object, program)? {
            return Err(Error::new(Kind::Exists, target, "the target", "exists already").into());
        }
        let folder = tempfile::Builder::new().prefix("calve-").tempdir().map_err(|error| {
            Failure::from(Error::host(target, "making a temporary folder for it", &error))
        })?;
        Ok(Some(Self { object, path: target.to_owned(), folder, replaces: args.force }))
    }

    /// Where the result is made.
    pub(super) fn spool(&self) -> PathBuf {
        self.folder.path().join("result")
    }

    /// Makes the object of a whole result.
    pub(super) fn publish(
        &self,
        result: &Unnamed,
        stop: &AtomicBool,
        tell: &(dyn Fn(u64, u64) + Sync),
    ) -> Result<Summary, Failure> {
        let file = result.file();
        let failed = |error| Error::host(&self.path, "looking at the result", &error);
        let size = file.size().map_err(failed)?;
        let upload = Upload::begin(&self.object, None)?;
        let done = AtomicU64::new(0);
        let progress = |sent| tell(done.fetch_add(sent, Ordering::Relaxed) + sent, size);
        upload.put(&pieces::all_new(size), file, None, stop, &progress)?;
        let condition = if self.replaces { Condition::Any } else { Condition::IsNew };
        upload.complete(&condition, size)?;
        Ok(Summary { target: self.path.clone(), ..result.summary().clone() })
    }

    /// What went to and fro.
    pub(super) fn traffic(&self) -> &Traffic {
        self.object.traffic()
    }
}

/// Refuses what makes sense for files alone.
pub(super) fn check(target: &Path, args: &ConvertArgs) -> Result<(), Failure> {
    if !store::is_object(target) {
        return Ok(());
    }
    if args.no_create {
        return Err(Failure::usage(
            "-n writes into what is there, and objects are made as a whole",
        )
        .next("leave out -n; --force replaces an object"));
    }
    if args.copy == CopyHow::Clone {
        return Err(Failure::usage("--copy clone shares blocks of files, and the target is none"));
    }
    if args.open.sandbox.untrusted {
        return store::refuse("--untrusted, whose worker has no network,", [target]);
    }
    Ok(())
}
