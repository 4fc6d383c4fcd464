//! Files: what was found, each in a file whose name is its kind and its place, and the manifest.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use calve_disk::{Error, Named, PendingFile, Result};
use rustix::fs::{Mode, OFlags};
use serde_json::{Value, json};

use super::Kind;

/// Something found: what, and where in the image's file.
#[derive(Clone, Copy)]
pub(super) struct Found {
    pub(super) kind: Kind,
    pub(super) at: u64,
    pub(super) length: u64,
}

/// Neighbouring finds that are written to one file.
struct Run {
    file: File,
    name: String,
    found: Found,
    digest: blake3::Hasher,
}

/// The folder, its manifest, and the file that is being written.
pub(super) struct Finds {
    folder: File,
    path: PathBuf,
    mode: u32,
    manifest: BufWriter<File>,
    pending: PendingFile,
    is_first: bool,
    run: Option<Run>,
}

/// The manifest's name.
const MANIFEST: &str = "manifest.json";

impl Finds {
    /// In the folder `path`. The manifest begins with the members of `head`.
    pub(super) fn new(path: &Path, mode: u32, head: &[(&str, Value)]) -> Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let folder = rustix::fs::open(path, flags, Mode::empty())
            .map_err(|error| Error::host("opening the folder", path, error))?;
        let (file, pending) = PendingFile::create(&path.join(MANIFEST), false, mode)?;
        let mut finds = Self {
            folder: folder.into(),
            path: path.to_owned(),
            mode,
            manifest: BufWriter::new(file),
            pending,
            is_first: true,
            run: None,
        };
        finds.note("{\n")?;
        finds.members(head)?;
        finds.note("\"files\": [")?;
        Ok(finds)
    }

    /// Writes an unpacked cluster.
    pub(super) fn write_packed(&mut self, found: &Found, content: &[u8]) -> Result<bool> {
        let is_zero = content.iter().all(|byte| *byte == 0);
        self.write(found, content, ("is-zero", is_zero.into()))
    }

    /// Writes a table, with what its entries say.
    pub(super) fn write_table(
        &mut self,
        found: &Found,
        content: &[u8],
        entries: &[Value],
    ) -> Result<bool> {
        self.write(found, content, ("entries", entries.into()))
    }

    fn write(&mut self, found: &Found, content: &[u8], more: (&str, Value)) -> Result<bool> {
        self.end_of_run()?;
        let mut run = self.create(found)?;
        self.put(&mut run, content)?;
        self.close(run, Some(more)).map(|()| true)
    }

    /// Goes on with the file of the find before, where this one is its neighbour and of its kind,
    /// or begins another one. Says whether it did.
    pub(super) fn begin_run(&mut self, found: &Found) -> Result<bool> {
        if let Some(run) = &mut self.run
            && run.found.kind == found.kind
            && run.found.at + run.found.length == found.at
        {
            run.found.length += found.length;
            return Ok(false);
        }
        self.end_of_run()?;
        self.run = Some(self.create(found)?);
        Ok(true)
    }

    /// Adds bytes to the file that was begun.
    pub(super) fn append(&mut self, bytes: &[u8]) -> Result<()> {
        let Some(mut run) = self.run.take() else { return Ok(()) };
        self.put(&mut run, bytes)?;
        self.run = Some(run);
        Ok(())
    }

    /// Ends the file that was begun, if one was.
    pub(super) fn end_of_run(&mut self) -> Result<()> {
        match self.run.take() {
            Some(run) => self.close(run, None),
            None => Ok(()),
        }
    }

    /// Ends the manifest with the members of `tail`, and gives it its name.
    pub(super) fn finish(mut self, tail: &[(&str, Value)]) -> Result<()> {
        self.end_of_run()?;
        self.note("\n],\n")?;
        let (last, members) = tail.split_last().unzip();
        self.members(members.unwrap_or_default())?;
        if let Some((name, value)) = last {
            self.note(&format!("{}: {value}\n", Value::from(*name)))?;
        }
        self.note("}\n")?;
        let path = self.path.join(MANIFEST);
        let failed = |source| Error::host("writing the manifest", &path, source);
        let file = self.manifest.into_inner().map_err(|error| failed(error.into_error()))?;
        file.sync_all().map_err(failed)?;
        match self.pending.take_name(true)? {
            Named::Yes => Ok(()),
            Named::Taken => Err(Error::Refused {
                path,
                why: "somebody else put a file of that name there meanwhile".into(),
            }),
        }
    }

    fn create(&self, found: &Found) -> Result<Run> {
        let name = format!("{}-{:012x}.bin", found.kind.word(), found.at);
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW;
        let mode = Mode::from_raw_mode(self.mode);
        let file = rustix::fs::openat(&self.folder, &name, flags | OFlags::CLOEXEC, mode)
            .map_err(|error| Error::host("creating the file", &self.path.join(&name), error))?;
        Ok(Run { file: file.into(), name, found: *found, digest: blake3::Hasher::new() })
    }

    fn put(&self, run: &mut Run, bytes: &[u8]) -> Result<()> {
        run.digest.update(bytes);
        run.file
            .write_all(bytes)
            .map_err(|error| Error::host("writing", &self.path.join(&run.name), error))
    }

    /// Closes a file, which then is on the medium, and tells the manifest of it.
    fn close(&mut self, run: Run, more: Option<(&str, Value)>) -> Result<()> {
        let failed = |source| Error::host("writing", &self.path.join(&run.name), source);
        run.file.sync_all().map_err(failed)?;
        let size = run.file.metadata().map_err(failed)?.len();
        let mut entry = json!({
            "name": run.name,
            "kind": run.found.kind.word(),
            "host-offset": run.found.at,
            "host-length": run.found.length,
            "size": size,
            "blake3": run.digest.finalize().to_hex().as_str(),
        });
        if let Some((name, value)) = more {
            entry[name] = value;
        }
        let before = if std::mem::take(&mut self.is_first) { "\n" } else { ",\n" };
        self.note(&format!("{before}{entry}"))
    }

    fn members(&mut self, members: &[(&str, Value)]) -> Result<()> {
        members
            .iter()
            .try_for_each(|(name, value)| self.note(&format!("{}: {value},\n", Value::from(*name))))
    }

    fn note(&mut self, text: &str) -> Result<()> {
        self.manifest.write_all(text.as_bytes()).map_err(|source| {
            Error::host("writing the manifest", &self.path.join(MANIFEST), source)
        })
    }
}
