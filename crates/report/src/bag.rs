//! A bag (RFC 8493): the report in all its shapes as the payload, with SHA-512 of each file.

use std::fs::{File, Permissions};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use calve_disk::{folder_of, temporary_start};
use sha2::{Digest, Sha512};
use tempfile::TempDir;

use crate::error::{Error, Result};
use crate::report::Report;
use crate::text;

type Shape = fn(&Report<'_>, &mut dyn Write) -> Result<()>;

/// The payload, in the order of its names.
const PAYLOAD: [(&str, Shape); 5] = [
    ("data/disks.blake3", write_disks),
    ("data/premis.xml", crate::write_premis),
    ("data/report.csv", crate::write_csv),
    ("data/report.html", crate::write_html),
    ("data/report.json", crate::write_json),
];

/// A bag in the making: a folder beside the one that is asked for, removed when dropped.
struct Bag<'a> {
    made: TempDir,
    /// What it will be called, and is called where something fails.
    target: &'a Path,
}

/// Makes a new folder that is a bag, which bears its name when it is whole.
///
/// # Errors
/// [`Error::Refused`] where something bears the folder's name; [`Error::Changed`] where somebody
/// wrote to what the report rests on; what the host says, and the journal.
pub fn write_bag(report: &Report<'_>, folder: &Path) -> Result<()> {
    let bag = Bag::begin(folder)?;
    let (mut manifest, mut octets) = (String::new(), 0);
    for (name, shape) in PAYLOAD {
        let (digest, length) = bag.file(name, |out| shape(report, out))?;
        octets += length;
        manifest.push_str(&format!("{digest}  {name}\n"));
    }
    let mut tags = String::new();
    for (name, content) in [
        ("bag-info.txt", info(report, octets)),
        ("bagit.txt", "BagIt-Version: 1.0\nTag-File-Character-Encoding: UTF-8\n".into()),
        ("manifest-sha512.txt", manifest),
    ] {
        let (digest, _) = bag.file(name, |out| Ok(out.write_all(content.as_bytes())?))?;
        tags.push_str(&format!("{digest}  {name}\n"));
    }
    bag.file("tagmanifest-sha512.txt", |out| Ok(out.write_all(tags.as_bytes())?))?;
    report.sources().assert_unchanged()?;
    bag.take_name()
}

impl<'a> Bag<'a> {
    fn begin(target: &'a Path) -> Result<Self> {
        if target.symlink_metadata().is_ok() {
            return Err(Error::refused(target, "exists already"));
        }
        let failed = |error| Error::host("making the folder", target, error);
        let name = target.file_name().ok_or_else(|| Error::refused(target, "is no name"))?;
        let made = tempfile::Builder::new()
            .prefix(&temporary_start(name))
            .permissions(Permissions::from_mode(0o777))
            .tempdir_in(folder_of(target))
            .map_err(failed)?;
        std::fs::create_dir(made.path().join("data")).map_err(failed)?;
        Ok(Self { made, target })
    }

    /// Writes a file, and returns its digest and its length.
    fn file(
        &self,
        name: &str,
        write: impl FnOnce(&mut dyn Write) -> Result<()>,
    ) -> Result<(String, u64)> {
        let failed = |error| Error::host("writing", &self.target.join(name), error);
        let file = File::create_new(self.made.path().join(name)).map_err(failed)?;
        let mut out =
            Digesting { file: std::io::BufWriter::new(file), digest: Sha512::new(), length: 0 };
        write(&mut out).map_err(|error| match error {
            Error::Write(source) => failed(source),
            other => other,
        })?;
        let Digesting { file, digest, length } = out;
        let file = file.into_inner().map_err(|error| failed(error.into_error()))?;
        file.sync_all().map_err(failed)?;
        Ok((hexadecimal(&digest.finalize()), length))
    }

    fn take_name(self) -> Result<()> {
        for folder in [&*self.made.path().join("data"), self.made.path()] {
            File::open(folder)
                .and_then(|folder| folder.sync_all())
                .map_err(|error| Error::host("syncing the folder", self.target, error))?;
        }
        calve_disk::give_name(self.made.path(), self.target)?;
        // What bears its name is no longer to be removed.
        let _ = self.made.keep();
        Ok(())
    }
}

fn info(report: &Report<'_>, octets: u64) -> String {
    let about = match report.run() {
        Some(run) => format!("run {}", run.number),
        None => "no run yet".into(),
    };
    format!(
        "Bag-Software-Agent: calve {}\nBagging-Date: {}\nPayload-Oxum: {octets}.{}\n\
         External-Description: What a migration of version 1 images came to, {about}\n",
        report.version,
        text::day(report.made),
        PAYLOAD.len()
    )
}

/// Digests of disks, as `b3sum` writes lists of files. They are of what guests read, which is no
/// file: so they are no fixity of the bag, and nothing that `fetch.txt` could fetch.
fn write_disks(report: &Report<'_>, out: &mut dyn Write) -> Result<()> {
    report.rows(|row| {
        let Some(digest) = row.digest() else { return Ok(()) };
        Ok(writeln!(out, "{digest}  {}", text::name(row.path()))?)
    })
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A file that is digested while it is written.
struct Digesting {
    file: std::io::BufWriter<File>,
    digest: Sha512,
    length: u64,
}

impl Write for Digesting {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.digest.update(&bytes[..written]);
        self.length += u64::try_from(written).unwrap_or_default();
        Ok(written)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.file.flush()
    }
}
