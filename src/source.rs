//! Opening sources: names or lists of options, with the keys that their layers need.

use std::ffi::OsStr;
use std::fs::File;
use std::path::{Path, PathBuf};

use calve_convert::Cache;
use calve_disk::codec::aes::Passphrase;
use calve_disk::open::shown;
use calve_disk::open::{FormatOrigin, OpenedFile, Through, escaped, lock_for_reading};
use calve_disk::{
    Disk, Error as DiskError, Format, HostErrors, Judgement, Layer, OpenOptions, Specific,
};
use calve_inplace::UNDO_RECORD;
use calve_store::ObjectJournal;
use calve_upgrade::{FoundRecord, State};

use crate::args::{OpenArgs, SandboxMode};
use crate::command::target;
use crate::exit::{self, Code, Failure};
use crate::secrets::{self, Keys, Secret};
use crate::{list, print, store};

/// An image to open, as it was asked for.
pub(crate) struct Request {
    pub(crate) path: PathBuf,
    options: OpenOptions,
    /// Passphrases that are not read yet.
    secrets: Vec<Secret>,
    is_untrusted: bool,
    /// Whether a disk will do of which a base is missing.
    takes_parts: bool,
    /// The undo record beside the image, where it had to be looked for before anything was read.
    record: Option<FoundRecord>,
    is_held: bool,
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
            with_bases: with_bases && !args.sandbox.untrusted,
            bases: args.base.clone(),
            base_formats: formats(&args.backing_format)?,
            base_roots: args.base_root.clone(),
            passphrases: Vec::new(),
            data_file: args.data_file.clone(),
            force_share: args.force_share,
            host_errors: HostErrors::Fail,
            through: None,
            drop_cache: false,
            opened: Vec::new(),
            elsewhere: store::elsewhere(),
        };
        let mut request = Self {
            path: PathBuf::from(file),
            options,
            secrets: Vec::new(),
            is_untrusted: args.sandbox.untrusted,
            takes_parts: false,
            record: None,
            is_held: false,
        };
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
        if request.is_untrusted && !request.options.bases.is_empty() {
            return Err(Failure::usage("--untrusted opens no base, and one is named"));
        }
        request.refuse_objects(args)?;
        Ok(request)
    }

    /// Refuses objects with what needs files.
    fn refuse_objects(&self, args: &OpenArgs) -> Result<(), Failure> {
        let what = if self.is_untrusted {
            "--untrusted, whose worker has no network,"
        } else if args.sandbox.sandbox == SandboxMode::Require {
            "--sandbox=require, whose worker has no network,"
        } else if args.evidence.is_some() {
            "--evidence, which looks at files before and after,"
        } else {
            return Ok(());
        };
        store::refuse(what, self.names())
    }

    /// The names of all files that the caller gave.
    fn names(&self) -> impl Iterator<Item = &Path> {
        let options = &self.options;
        let named = std::iter::once(&self.path).chain(&options.bases).chain(&options.data_file);
        named.map(|path| &**path)
    }

    /// Whether one of them is an object.
    pub(crate) fn has_objects(&self) -> bool {
        self.names().any(store::is_object)
    }

    /// Sets one of the options of `--image-opts`, of the image itself or of one `depth` below.
    fn set(
        &mut self,
        key: &str,
        value: String,
        depth: usize,
        secrets: &std::collections::HashMap<String, Secret>,
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
                Some(secret) => self.secrets.push(secret.clone()),
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

    /// Goes on where the host cannot read a table: what it speaks of is lost.
    pub(crate) fn past_host_errors(mut self) -> Self {
        // What the network does not bring is not lost.
        if !self.has_objects() {
            self.options.host_errors = HostErrors::LoseAtOnce;
        }
        self
    }

    /// Reads as the cache mode `mode` has it: past the page cache, or through it.
    pub(crate) fn reading(mut self, mode: &str) -> Result<Self, Failure> {
        let cache = target::cache(mode)?;
        self.options.drop_cache = matches!(cache, Cache::None | Cache::Directsync);
        Ok(self)
    }

    /// Reads what can be read of a damaged image, `through` something where that is given: tables
    /// that the host cannot read lose what they speak of, and a base that is not opened loses its
    /// bytes.
    pub(crate) fn rescuing(mut self, through: Option<Through>) -> Self {
        (self.options.host_errors, self.takes_parts) = (HostErrors::Lose, true);
        self.options.through = through;
        self
    }

    /// Leaves bases closed from now on, and says whether they were to be opened.
    pub(crate) fn leave_bases(&mut self) -> bool {
        std::mem::replace(&mut self.options.with_bases, false)
    }

    /// Opens this file as the top image's base, in this format.
    pub(crate) fn take_base(&mut self, path: PathBuf, format: Format) {
        self.options.with_bases = true;
        (self.options.bases, self.options.base_formats) = (vec![path], vec![format]);
    }

    /// Takes this passphrase without asking for one.
    pub(crate) fn take_passphrase(&mut self, passphrase: Passphrase) {
        self.options.passphrases = vec![passphrase];
    }

    /// How to open the disk once more, with the keys that it was opened with.
    pub(crate) fn again(&self) -> (PathBuf, OpenOptions) {
        (self.path.clone(), self.options.clone())
    }

    /// Whether the page cache of what is read is given back.
    pub(crate) fn drops_cache(&self) -> bool {
        self.options.drop_cache
    }

    /// Opens the files that were named, and looks into none of them.
    pub(crate) fn open_named(&self) -> Result<Vec<OpenedFile>, Failure> {
        let named = std::iter::once(&self.path).chain(&self.options.data_file);
        Ok(named.map(|path| OpenedFile::open(path)).collect::<Result<_, _>>()?)
    }

    /// Locks files that were opened as opening the disk will, where that can be had.
    pub(crate) fn lock(&self, opened: &[OpenedFile]) {
        if !self.options.force_share {
            for file in opened {
                let _ = lock_for_reading(file.file(), file.path());
            }
        }
    }

    /// Opens all that opening the disk will need, before this process is confined; the image
    /// itself is open already, as `image`, where one is given. Returns what was opened.
    pub(crate) fn hold(&mut self, image: Option<File>) -> Result<Vec<OpenedFile>, Failure> {
        self.options.opened = match image {
            Some(image) => {
                let image = OpenedFile::new(image, self.path.clone());
                let data = self.options.data_file.as_deref().map(OpenedFile::open).transpose()?;
                std::iter::once(image).chain(data).collect()
            }
            None => self.open_named()?,
        };
        self.record = FoundRecord::beside(&self.path);
        self.is_held = true;
        Ok(self.options.opened.clone())
    }

    /// What state the upgrade of a layer of this disk is in, where there is an undo record.
    pub(crate) fn upgrade_state(&self, layer: &Layer) -> calve_upgrade::Result<Option<State>> {
        if store::is_object(&layer.path) {
            let storage = layer.image.storage();
            let object = store::object(&layer.path).map_err(DiskError::from)?;
            let journal = ObjectJournal::of(&object, UNDO_RECORD);
            let state = calve_upgrade::state_by(storage, &journal)?;
            if state.is_none() && journal.is_hidden() {
                let denied = std::io::ErrorKind::PermissionDenied;
                let doing = "looking for its undo record";
                return Err(DiskError::host(doing, &layer.path, denied).into());
            }
            return Ok(state);
        }
        if !self.is_held {
            return calve_upgrade::state_of(&layer.path);
        }
        match &self.record {
            Some(record) => record.state(layer.image.storage()),
            None => Ok(None),
        }
    }

    /// Reads the passphrases that were named with the image.
    pub(crate) fn read_secrets(&mut self) -> Result<(), Failure> {
        for secret in self.secrets.drain(..) {
            self.options.passphrases.push(secret.read()?);
        }
        Ok(())
    }

    /// Opens without keys: for what needs no guest byte.
    pub(crate) fn open(&self) -> Result<Disk, Failure> {
        Ok(self.open_without_keys()?)
    }

    /// The same, with the library's own error.
    pub(crate) fn open_without_keys(&self) -> Result<Disk, DiskError> {
        let options = OpenOptions { passphrases: Vec::new(), ..self.options.clone() };
        Disk::open(&self.path, &options)
    }

    /// Opens with the keys that the encrypted layers need, and judges what they yield.
    pub(crate) fn open_with_keys(&mut self, keys: &mut Keys) -> Result<Disk, Failure> {
        self.read_secrets()?;
        let disk = self.open()?;
        self.require_whole(&disk)?;
        let encrypted: Vec<String> = disk
            .layers()
            .iter()
            .filter(|layer| layer.image.facts().is_encrypted)
            .map(|layer| shown(&layer.path))
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

    /// A disk whose bytes are wanted has all of them, though no base is opened.
    fn require_whole(&self, disk: &Disk) -> Result<(), Failure> {
        let facts = disk.top().facts();
        let has_base = facts.backing.is_some() || calve_disk::open::has_lost_name(facts);
        if self.takes_parts || !(self.is_untrusted && has_base) {
            return Ok(());
        }
        let overlay = self.path.clone();
        let why = "has a backing file, and --untrusted opens none".into();
        Err(Failure::from(DiskError::Base { overlay, why })
            .next("map --untrusted lists what the image itself stores"))
    }

    fn open_asking(&mut self, encrypted: &[String], accept_noise: bool) -> Result<Disk, Failure> {
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
        &mut self,
        passphrases: Vec<Passphrase>,
        accept_noise: bool,
    ) -> Result<Disk, Failure> {
        let options = OpenOptions { passphrases, ..self.options.clone() };
        let disk = Disk::open(&self.path, &options)?;
        disk.require_keys()?;
        self.options.passphrases = options.passphrases;
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
pub(crate) fn announce_upgrades(program: &str, request: &Request, disk: &Disk) {
    for layer in disk.layers() {
        let name = shown(&layer.path);
        match request.upgrade_state(layer) {
            Ok(Some(State::Interrupted)) => {
                let text = format!(
                    "{name}: is version 1, and its upgrade was interrupted; \
                     calve upgrade --recover settles it"
                );
                print::note(program, &text);
            }
            // Of a file the record is told of where it matters.
            Err(error) if store::is_object(&layer.path) => {
                let text = format!("{name}: whether it has an undo record is not known: {error}");
                print::note(program, &text);
            }
            _ => {}
        }
    }
}

/// Tells what the user should know of a source before its bytes are taken.
pub(crate) fn announce(program: &str, request: &Request, disk: &Disk) {
    announce_upgrades(program, request, disk);
    for (number, layer) in disk.layers().iter().enumerate() {
        let facts = layer.image.facts();
        let name = shown(&layer.path);
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
