//! What is converted: corpora made from a seed, and the classes of work on them.

use std::io;
use std::path::Path;

use calve_testkit::corpus::{self, Kind};

/// A class of work.
pub(crate) struct Case {
    pub(crate) name: &'static str,
    /// The image.
    pub(crate) source: &'static str,
    /// The format of the result.
    pub(crate) format: &'static str,
    /// Further options, which calve and qemu-img share.
    pub(crate) options: &'static str,
    /// How many times the time of the better qemu-img the aim was.
    pub(crate) aim: f64,
}

const fn case(
    name: &'static str,
    source: &'static str,
    format: &'static str,
    options: &'static str,
    aim: f64,
) -> Case {
    Case { name, source, format, options, aim }
}

pub(crate) const CASES: [Case; 13] = [
    case("plain", "plain.qcow", "raw", "", 7.0),
    case("plain", "plain.qcow", "qcow2", "", 7.0),
    case("random host order", "scattered.qcow", "raw", "", 5.0),
    case("packed", "packed.qcow", "raw", "", 6.0),
    case("packed", "packed.qcow", "qcow2", "", 6.0),
    case("packed, payloads kept", "packed.qcow", "qcow2", "-c -o cluster_size=4k", 15.0),
    case("AES", "secret.qcow", "raw", "", 5.0),
    case("512-byte overlay on raw", "overlay.qcow", "raw", "", 25.0),
    case("512-byte overlay on raw", "overlay.qcow", "qcow2", "", 25.0),
    case("two overlays on raw", "second.qcow", "raw", "", 25.0),
    case("two overlays on raw", "second.qcow", "qcow2", "", 25.0),
    case("plain, packed by zlib", "part.qcow", "qcow2", "-c", 2.0),
    case("empty, 1 TiB", "empty.qcow", "qcow2", "", f64::NAN),
];

/// Writes the corpora. `size` is that of the plain and packed disks in bytes; overlays, which
/// take qemu-img long, are an eighth of it.
pub(crate) fn prepare(folder: &Path, size: u64) -> io::Result<()> {
    std::fs::create_dir_all(folder)?;
    let path = |name: &str| folder.join(name);
    corpus::write(&path("plain.qcow"), Kind::Plain, size, 1)?;
    corpus::write(&path("packed.qcow"), Kind::Packed, size, 2)?;
    corpus::write_scattered(&path("scattered.qcow"), size, 3)?;
    corpus::write(&path("secret.qcow"), Kind::Encrypted, size, 4)?;
    corpus::write(&path("part.qcow"), Kind::Plain, size / 8, 5)?;
    corpus::write_base(&path("base.raw"), size / 8, 6)?;
    corpus::write(&path("overlay.qcow"), Kind::Overlay, size / 8, 7)?;
    corpus::write(&path("second.qcow"), Kind::SecondOverlay, size / 8, 8)?;
    corpus::write(&path("small.qcow"), Kind::Plain, 4 << 20, 9)?;
    std::fs::write(path("empty.qcow"), corpus::empty(1 << 40))?;
    std::fs::write(path("claims.qcow"), corpus::claim((512 << 40) - (2 << 20)))?;
    std::fs::write(path("key"), b"password")
}
