//! How a conversion grows with threads: by the processors there are, and beyond them on storage
//! that is slow to answer, where threads wait instead of working.

use std::io;
use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use calve_convert::{Cache, Control, Copying, Options, Placement, Salvage, TargetFormat, convert};
use calve_disk::formats::qcow1::Qcow1Image;
use calve_disk::units::HostOffset;
use calve_disk::{Disk, HostFile, Layer, Storage};

/// Storage that answers each read only after a while, as a disk far away does.
struct Slow {
    inner: HostFile,
    answer: Duration,
}

impl Storage for Slow {
    fn path(&self) -> &Path {
        self.inner.path()
    }

    fn size(&self) -> io::Result<u64> {
        self.inner.size()
    }

    fn read_at(&self, out: &mut [u8], at: HostOffset) -> io::Result<()> {
        std::thread::sleep(self.answer);
        self.inner.read_at(out, at)
    }
}

/// Seconds that converting `source` to raw takes.
pub(crate) fn seconds(
    source: &Path,
    target: &Path,
    answer: Duration,
    threads: usize,
) -> io::Result<f64> {
    let file = HostFile::new(std::fs::File::open(source)?, source.to_owned());
    let storage: Box<dyn Storage> = match answer {
        Duration::ZERO => Box::new(file),
        answer => Box::new(Slow { inner: file, answer }),
    };
    let image = Qcow1Image::open(storage, None).map_err(io::Error::other)?;
    let disk = Disk::of_layers(vec![Layer::detached(Box::new(image))]);
    let options = Options {
        format: TargetFormat::Raw,
        sparse_size: 4096,
        placement: Placement::Replace,
        cache: Cache::Unsafe,
        salvage: Salvage::Refuse,
        copying: Copying::Read,
        verify: false,
        threads: NonZeroUsize::new(threads).unwrap_or(NonZeroUsize::MIN),
        pace: Arc::default(),
    };
    let stop = AtomicBool::new(false);
    let control = Control { stop: &stop, progress: &|_| {} };
    let start = Instant::now();
    convert(vec![disk], target, &options, &control).map_err(io::Error::other)?;
    let took = start.elapsed();
    std::fs::remove_file(target)?;
    Ok(took.as_secs_f64())
}
