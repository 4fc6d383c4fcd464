//! A bag (RFC 8493): the report in all its shapes as the payload, with SHA-512 of each file.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

use calve_disk::folder_of;
use sha2::{Digest, Sha512};

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

/// Makes a new folder that is a bag. Its declaration is written last: without one it is none.
///
/// # Errors
/// [`Error::Refused`] where something bears the folder's name; what the host says, and the journal.
pub fn write_bag(report: &Report<'_>, folder: &Path) -> Result<()> {
    std::fs::create_dir(folder).map_err(|error| match error.kind() {
        std::io::ErrorKind::AlreadyExists => Error::refused(folder, "exists already"),
        _ => Error::host("making the folder", folder, error),
    })?;
    let data = folder.join("data");
    std::fs::create_dir(&data).map_err(|error| Error::host("making the folder", &data, error))?;
    let (mut manifest, mut octets) = (String::new(), 0);
    for (name, shape) in PAYLOAD {
        let (digest, length) = file(folder, name, |out| shape(report, out))?;
        octets += length;
        manifest.push_str(&format!("{digest}  {name}\n"));
    }
    let mut tags = String::new();
    for (name, content) in [
        ("bag-info.txt", info(report, octets)),
        ("manifest-sha512.txt", manifest),
        ("bagit.txt", "BagIt-Version: 1.0\nTag-File-Character-Encoding: UTF-8\n".into()),
    ] {
        // The manifest of tags has the digest of the declaration, and so is written before it.
        let digest = hexadecimal(&Sha512::digest(content.as_bytes()));
        tags.push_str(&format!("{digest}  {name}\n"));
        if name == "bagit.txt" {
            let tags = std::mem::take(&mut tags);
            file(folder, "tagmanifest-sha512.txt", |out| Ok(out.write_all(tags.as_bytes())?))?;
        }
        file(folder, name, |out| Ok(out.write_all(content.as_bytes())?))?;
    }
    for folder in [&data, folder, folder_of(folder)] {
        File::open(folder)
            .and_then(|folder| folder.sync_all())
            .map_err(|error| Error::host("syncing the folder", folder, error))?;
    }
    Ok(())
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

/// Writes a file, and returns its digest and its length.
fn file(
    folder: &Path,
    name: &str,
    write: impl FnOnce(&mut dyn Write) -> Result<()>,
) -> Result<(String, u64)> {
    let path: PathBuf = folder.join(name);
    let failed = |error| Error::host("writing", &path, error);
    let file = File::create_new(&path).map_err(failed)?;
    let mut out =
        Digesting { file: std::io::BufWriter::new(file), digest: Sha512::new(), length: 0 };
    write(&mut out).map_err(|error| match error {
        Error::Write(source) => Error::host("writing", &path, source),
        other => other,
    })?;
    let Digesting { file, digest, length } = out;
    let file = file.into_inner().map_err(|error| failed(error.into_error()))?;
    file.sync_all().map_err(failed)?;
    Ok((hexadecimal(&digest.finalize()), length))
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
