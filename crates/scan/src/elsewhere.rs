//! Looking at what is no file of the host: an object of a store.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::{Arc, OnceLock};

use calve_disk::open::{Likeness, likeness};
use calve_disk::units::{HostOffset, in_memory};
use calve_disk::{Region, Storage};

use crate::image::{self, Around};
use crate::limits;
use crate::look::{Ask, other};
use crate::members;
use crate::sighting::{Look, shortened};

/// What is said of an archive there: it would have to be fetched as a whole.
pub const ARCHIVE_ELSEWHERE: &str = "an archive in a store is not looked into: fetch it first";

/// Looks at what is no file: reads its first sector, and of an image what its header leads to.
/// Archives are known, and not looked into. Whatever cannot be read makes all of it unreadable:
/// a network that fails says nothing of an image.
pub fn look_elsewhere(storage: Box<dyn Storage>, ask: &Ask) -> Look {
    let failed = Arc::new(OnceLock::new());
    let watched = Watched { storage, failed: Arc::clone(&failed) };
    let looked = catch_unwind(AssertUnwindSafe(|| looked(watched, ask)));
    match (failed.get(), looked) {
        (Some(why), _) => Look::unreadable(why),
        (None, Ok(Ok(look))) => look,
        (None, Ok(Err(error))) => Look::unreadable(&error.to_string()),
        (None, Err(_)) => Look::died("it panicked"),
    }
}

fn looked(storage: Watched, ask: &Ask) -> io::Result<Look> {
    let size = storage.size()?;
    let mut start = vec![0; in_memory(size.min(limits::START as u64))];
    storage.read_at(&mut start, HostOffset::new(0))?;
    let likeness = likeness(&start);
    let mut file = if matches!(likeness, Likeness::Qcow(_) | Likeness::QcowCut) {
        let around = Around {
            is_deep: ask.is_deep,
            is_in_use: false,
            has_undo_record: ask.has_undo_record,
            is_cut: false,
        };
        image::seen(Box::new(storage), likeness, &ask.name, Some(size), around)
    } else {
        let kind = members::Kind::of(&start);
        let mut seen = other(likeness, kind, ask, size);
        seen.problem = kind.filter(|_| ask.with_archives).map(|_| ARCHIVE_ELSEWHERE.to_owned());
        seen
    };
    file.problem = file.problem.map(|problem| shortened(&problem));
    Ok(Look { file, members: Vec::new(), is_shallow: false })
}

/// Storage that remembers that it could not be read.
struct Watched {
    storage: Box<dyn Storage>,
    failed: Arc<OnceLock<String>>,
}

impl Storage for Watched {
    fn path(&self) -> &Path {
        self.storage.path()
    }

    fn size(&self) -> io::Result<u64> {
        self.storage.size()
    }

    fn read_at(&self, out: &mut [u8], at: HostOffset) -> io::Result<()> {
        let done = self.storage.read_at(out, at);
        if let Err(error) = &done
            // What lies behind the end is the image's own mistake.
            && error.kind() != io::ErrorKind::UnexpectedEof
        {
            let _ = self.failed.set(error.to_string());
        }
        done
    }

    fn region(&self, at: HostOffset) -> io::Result<Region> {
        self.storage.region(at)
    }

    fn will_read(&self, at: HostOffset, length: u64) {
        self.storage.will_read(at, length);
    }

    fn is_far(&self) -> bool {
        self.storage.is_far()
    }
}
