//! Opening sources: names or lists of options, with the keys that their layers need.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use calve_convert::Cache;
use calve_disk::codec::aes::Passphrase;
use calve_disk::open::{FormatOrigin, escaped};
use calve_disk::{Disk, Error as DiskError, Format, Judgement, OpenOptions, Specific};
use calve_upgrade::State;

use crate::args::OpenArgs;
use crate::command::target;
use crate::exit::{self, Code, Failure};
use crate::secrets::{self, Keys};
use crate::{list, print};

/// An image to open, as it was asked for.
pub(crate) struct Request {
    pub(crate) path: PathBuf,
    options: OpenOptions,
}

/// How often a passphrase that yields noise is asked for again.
const ATTEMPTS: usize = 3;

impl Request {
    /// What `file` and the options beside it ask for.
    pub(crate) fn new(
        file: &OsStr,
        format: Option<&str>,
        with_bases: bool,
        args: &OpenArgs,
    ) -> Result<Self, Failure> {
        let options = OpenOptions {
            format: format.map(exit::format_named).transpose()?,
            with_bases,
            bases: args.base.clone(),
            base_formats: formats(&args.backing_format)?,
            base_roots: args.base_root.clone(),
            passphrases: Vec::new(),
            data_file: args.data_file.clone(),
            force_share: args.force_share,
            drop_cache: false,
            opened: Vec::new(),
        };
        let mut request = Self { path: PathBuf::from(file), options };
        if args.image_opts {
            request.path = PathBuf::new();
            let secrets = secrets::objects(&args.objects)?;
            let Some(text) = file.to_str() else {
                return Err(Failure::usage("--image-opts: the options are not UTF-8"));
            };
            for (key, value) in list::pairs(text) {
                request.set(&key, value, 0, &secrets)?;
            }
            if request.path.as_os_str().is_empty() {
                return Err(
                    Failure::usage("--image-opts: no file is named").next("add file.filename=PATH")
                );
            }
        }
        Ok(request)
    }

    /// Sets one of the options of `--image-opts`, of the image itself or of one `depth` below.
    fn set(
        &mut self,
        key: &str,
        value: String,
        depth: usize,
        secrets: &std::collections::HashMap<String, Passphrase>,
    ) -> Result<(), Failure> {
        if let Some(key) = key.strip_prefix("backing.") {
            return self.set(key, value, depth + 1, secrets);
        }
        let unknown = |text: String| Err(Failure::usage(format!("--image-opts: {text}")));
        match key {
            "driver" if value == "file" => {}
            "driver" if depth == 0 => self.options.format = Some(exit::format_named(&value)?),
            "driver" => {
                let format = exit::format_named(&value)?;
                if self.options.base_formats.len() != depth - 1 {
                    return unknown("name the drivers of bases from the top down".into());
                }
                self.options.base_formats.push(format);
            }
            "file.filename" | "filename" if depth == 0 => self.path = PathBuf::from(value),
            "file.filename" | "filename" => {
                if self.options.bases.len() != depth - 1 {
                    return unknown("name the files of bases from the top down".into());
                }
                self.options.bases.push(PathBuf::from(value));
            }
            "data-file.filename" | "data-file.file.filename" if depth == 0 => {
                self.options.data_file = Some(PathBuf::from(value));
            }
            "encrypt.key-secret" | "key-secret" => match secrets.get(&value) {
                Some(secret) => self.options.passphrases.push(secret.clone()),
                None => return unknown(format!("no --object defines the secret '{value}'")),
            },
            "file.locking" => {
                self.options.force_share |= value != "auto" && !list::is_on(key, &value)?;
            }
            "encrypt.format" if value == "aes" => {}
            "file.driver" if value == "file" => {}
            "data-file.driver" | "read-only" | "file.read-only" => {}
            _ => return unknown(format!("'{key}={value}' is not supported")),
        }
        Ok(())
    }

    /// Reads as the cache mode `mode` has it: past the page cache, or through it.
    pub(crate) fn reading(mut self, mode: &str) -> Result<Self, Failure> {
        let cache = target::cache(mode)?;
        self.options.drop_cache = matches!(cache, Cache::None | Cache::Directsync);
        Ok(self)
    }

    /// Opens without keys: for what needs no guest byte.
    pub(crate) fn open(&self) -> Result<Disk, Failure> {
        let options = OpenOptions { passphrases: Vec::new(), ..self.options.clone() };
        Ok(Disk::open(&self.path, &options)?)
    }

    /// Opens with the keys that the encrypted layers need, and judges what they yield.
    pub(crate) fn open_with_keys(&self, keys: &mut Keys) -> Result<Disk, Failure> {
        let disk = self.open()?;
        let encrypted: Vec<String> = disk
            .layers()
            .iter()
            .filter(|layer| layer.image.facts().is_encrypted)
            .map(|layer| escaped(layer.path.as_os_str().as_encoded_bytes()))
            .collect();
        if encrypted.is_empty() && self.options.passphrases.is_empty() {
            return Ok(disk);
        }
        drop(disk);
        if !self.options.passphrases.is_empty() {
            return self.open_judged(self.options.passphrases.clone(), keys.accept_noise);
        }
        if let Some(passphrases) = keys.take(encrypted.len()) {
            return self.open_judged(passphrases, keys.accept_noise);
        }
        self.open_asking(&encrypted, keys.accept_noise)
    }

    fn open_asking(&self, encrypted: &[String], accept_noise: bool) -> Result<Disk, Failure> {
        let mut attempt = 1;
        loop {
            let asked = encrypted.iter().map(|path| secrets::ask(path));
            let asked: Option<Vec<Passphrase>> = asked.collect::<Result<_, _>>()?;
            let nobody_to_ask = asked.is_none();
            match self.open_judged(asked.unwrap_or_default(), accept_noise) {
                Err(Failure { code: Code::Key, text, .. })
                    if attempt < ATTEMPTS && !nobody_to_ask =>
                {
                    print::line(&format!("{}; try again", escaped(text.as_bytes())));
                    attempt += 1;
                }
                done => return done,
            }
        }
    }

    fn open_judged(
        &self,
        passphrases: Vec<Passphrase>,
        accept_noise: bool,
    ) -> Result<Disk, Failure> {
        let options = OpenOptions { passphrases, ..self.options.clone() };
        let disk = Disk::open(&self.path, &options)?;
        disk.require_keys()?;
        if accept_noise {
            return Ok(disk);
        }
        for (number, layer) in disk.layers().iter().enumerate() {
            if disk.judge_key(number)? == Judgement::Noise {
                let why = "the passphrase makes nothing but noise of it".into();
                let error = DiskError::Key { path: layer.path.clone(), why };
                return Err(Failure::from(error).next(
                    "try another passphrase (only its first 16 bytes count), or add \
                     --force-passphrase where the disk really holds noise",
                ));
            }
        }
        Ok(disk)
    }
}

fn formats(names: &[String]) -> Result<Vec<Format>, Failure> {
    names.iter().map(|name| exit::format_named(name)).collect()
}

/// Tells of layers whose upgrade was interrupted. They read as what they are at the moment.
pub(crate) fn announce_upgrades(program: &str, disk: &Disk) {
    for layer in disk.layers() {
        if let Ok(Some(State::Interrupted)) = calve_upgrade::state_of(&layer.path) {
            let name = layer.path.display();
            let text = format!(
                "{name}: is version 1, and its upgrade was interrupted; \
                 calve upgrade --recover settles it"
            );
            print::note(program, &text);
        }
    }
}

/// Tells what the user should know of a source before its bytes are taken.
pub(crate) fn announce(program: &str, disk: &Disk) {
    announce_upgrades(program, disk);
    for (number, layer) in disk.layers().iter().enumerate() {
        let facts = layer.image.facts();
        let name = layer.path.display();
        if facts.format == Format::Raw && layer.format_origin == FormatOrigin::Probed {
            let option = if number == 0 { "-f raw" } else { "--backing-format raw" };
            let text = format!("{name}: has no known format and is read as raw; {option} says so");
            print::note(program, &text);
        }
        if let Specific::Qcow2(qcow2) = &facts.specific
            && qcow2.snapshots > 0
            && number == 0
        {
            let count = qcow2.snapshots;
            print::note(program, &format!("{name}: has {count} snapshots, which are not copied"));
        }
    }
}

/// The name of a file that stands in an image, looked up from that image's folder.
pub(crate) fn beside(image: &Path, name: &Path) -> PathBuf {
    image.parent().unwrap_or_else(|| Path::new("")).join(name)
}
