//! Objects among the names of images: `s3://BUCKET/KEY`.

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use calve_disk::open::shown;
use calve_disk::open::{Elsewhere, Place, escaped};
use calve_disk::{Error as DiskError, Result as DiskResult, Storage};
use calve_migrate::Stores;
use calve_store::{Error, Kind, Object, ObjectFile, ObjectName, Settings, Store, Traffic};
use serde_json::{Value, json};

use crate::exit::{Code, Failure};
use crate::print;

/// Whether a name is meant to be an object's.
pub(crate) fn is_object(path: &Path) -> bool {
    ObjectName::is_meant_by(path)
}

/// Refuses objects, in a verb or with an option that takes files alone.
pub(crate) fn refuse<'a>(
    what: &str,
    names: impl IntoIterator<Item = &'a Path>,
) -> Result<(), Failure> {
    match names.into_iter().find(|name| is_object(name)) {
        None => Ok(()),
        Some(name) => {
            let text = format!("{}: is an object, and {what} takes files alone", shown(name));
            Err(Failure::new(Code::Unsupported, text)
                .next("convert it to a file first: calve convert reads objects"))
        }
    }
}

/// Where images may be beside the host's files.
pub(crate) fn elsewhere() -> Elsewhere {
    Elsewhere::new(Arc::new(Objects))
}

/// How a migration opens objects.
pub(crate) fn stores() -> Stores {
    Stores::new(object, elsewhere())
}

/// The object of that name.
pub(crate) fn object(path: &Path) -> Result<Object, Error> {
    let name = ObjectName::parse(path)?;
    Ok(Object::new(&store(path)?, name))
}

/// Whether there is an object, as far as the store tells: who may not list a bucket is told of no
/// object that it is missing. One that is there all the same is not replaced, and this is told.
pub(crate) fn is_there(object: &Object, program: &str) -> Result<bool, Error> {
    match object.head() {
        Ok(head) => Ok(head.is_some()),
        Err(Error { kind: Kind::Denied, .. }) => {
            let text = format!(
                "{}: was not allowed to be looked at, and is taken to be missing; the store is to \
                 refuse it at the end where it is not",
                object.name()
            );
            print::note(program, &text);
            Ok(false)
        }
        Err(error) => Err(error),
    }
}

/// The store that the environment tells of, which is the same for the whole run.
pub(crate) fn store(path: &Path) -> Result<Arc<Store>, Error> {
    static STORE: OnceLock<Result<Arc<Store>, Error>> = OnceLock::new();
    let made = STORE.get_or_init(|| {
        let settings = Settings::from_environment()
            .map_err(|why| Error::new(Kind::Settings, path, "the settings of its store:", why))?;
        let store = Store::new(settings)?;
        if let Some(stop) = crate::signals::stop() {
            store.heed(stop);
        }
        Ok(store)
    });
    made.clone()
}

/// What went to and fro, as a document says it.
pub(crate) fn traffic_json(traffic: &Traffic) -> Value {
    json!({
        "received-bytes": traffic.received(),
        "sent-bytes": traffic.sent(),
        "copied-bytes": traffic.copied(),
        "requests": traffic.requests(),
    })
}

/// What went to and fro, in words.
pub(crate) fn traffic_words(traffic: &Traffic) -> String {
    let copied = match traffic.copied() {
        0 => String::new(),
        copied => format!(", {} were copied by the store", print::size(copied)),
    };
    format!(
        "{} came from the store and {} went to it{copied}",
        print::size(traffic.received()),
        print::size(traffic.sent())
    )
}

/// Objects, as places of images.
struct Objects;

impl Place for Objects {
    fn open(&self, name: &Path) -> Option<DiskResult<Box<dyn Storage>>> {
        is_object(name).then(|| {
            let file = object(name).and_then(ObjectFile::open)?;
            Ok(Box::new(file) as Box<dyn Storage>)
        })
    }

    fn base(&self, overlay: &Path, name: &[u8], roots: &[&Path]) -> Option<DiskResult<PathBuf>> {
        is_object(overlay).then(|| {
            let refused = |why: &str| DiskError::Base {
                overlay: overlay.to_owned(),
                why: format!("its backing file {} {why}", escaped(name)),
            };
            let is_protocol =
                name.split(|byte| *byte == b'/').next().unwrap_or(&[]).contains(&b':');
            if is_protocol {
                return Err(refused(
                    "is no object beside it but a protocol, which is never followed",
                ));
            }
            if name.starts_with(b"/") {
                return Err(refused("is a file of some host, which is not looked for"));
            }
            let image = ObjectName::parse(overlay)?;
            let base = std::str::from_utf8(name).ok().and_then(|name| image.beside(name));
            let base = base.ok_or_else(|| refused("can be no object of the same bucket"))?;
            match roots.iter().any(|root| base.is_in(root)) {
                true => Ok(base.path()),
                false => Err(refused("lies outside the folders where bases may be")),
            }
        })
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        if error.kind == Kind::Stopped {
            return crate::exit::stopped();
        }
        let (code, next) = outcome(&error);
        Self { code, text: error.to_string(), next: next.map(str::to_owned), places: Vec::new() }
    }
}

/// The exit code of a store's failure, and what to do next.
pub(crate) fn outcome(error: &Error) -> (Code, Option<&'static str>) {
    let code = match error.kind {
        Kind::Name | Kind::Settings => Code::Usage,
        Kind::Changed => Code::Changed,
        Kind::Exists => Code::Refused,
        Kind::Stopped => Code::Signal(crate::signals::received().unwrap_or(2)),
        Kind::Host(kind) => {
            let (code, next) = crate::exit::host_error(&kind.into());
            // The file that has no room is a temporary one.
            return match code {
                Code::NoSpace => (code, Some("make room in the folder of temporary files, TMPDIR")),
                _ => (code, next),
            };
        }
        Kind::Credentials
        | Kind::Missing
        | Kind::NoBucket
        | Kind::Denied
        | Kind::Unclear
        | Kind::Unreachable
        | Kind::Odd
        | Kind::NoList => Code::Failed,
    };
    (code, error.next())
}
