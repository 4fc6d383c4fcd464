//! An archive of 2,000 images in 300 families, of which all is known: scanned, planned, migrated and
//! taken back, beside loops of stock QEMU; and runs that are killed again and again.

use std::collections::BTreeMap;
use std::fs;
use std::hash::Hasher;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use calve_testkit::Random;
use calve_testkit::archive::{Archive, Entry, Truth, What};
use serde_json::Value;

use crate::measure::{self, median};

/// Times that each run is killed.
const KILLS: u64 = 50;

/// Packed clusters that do not unpack are met when they are read: their families fail, and stay.
const MIGRATE: &str = "migrate -q plan 2>/dev/null || [ $? -eq 11 ]";

/// What is measured of one archive. Scans read from the medium only where its page cache can be
/// dropped, which wants root and a disk.
pub(crate) fn table(
    folder: &Path,
    disk: Option<&Path>,
    calve: &str,
    rounds: usize,
) -> io::Result<String> {
    let archive = Archive::default();
    let truth = archive.write(&folder.join("tree"))?;
    let files = truth.files.len();
    let bench = Site { folder, calve, rounds };
    let mut text = format!(
        "\nAn archive of {} images in {} families, {files} files, disks of {} MiB on average:\n\n\
         | what | s | files/s | peak MiB |\n|---|---:|---:|---:|\n",
        archive.images,
        archive.families,
        archive.disk >> 20
    );
    text += &bench.scans("in memory", false, files)?;
    if let Some(disk) = disk {
        fs::create_dir_all(disk)?;
        bench.line(&format!("cp -a tree {}", disk.display()))?;
        let there = Site { folder: disk, ..bench };
        text += &there.scans("on a disk, from the page cache", false, files)?;
        match fs::write("/proc/sys/vm/drop_caches", "3") {
            Ok(()) => text += &there.scans("on a disk, from the medium", true, files)?,
            Err(error) => text += &format!("| from the medium: {error} | | | |\n"),
        }
        fs::remove_dir_all(disk)?;
    }
    text += &bench.classes(&truth)?;
    text += &bench.migrations()?;
    text += &bench.kills(&truth)?;
    Ok(text)
}

#[derive(Clone, Copy)]
struct Site<'a> {
    folder: &'a Path,
    calve: &'a str,
    rounds: usize,
}

impl Site<'_> {
    /// Runs a line, and returns seconds and MiB.
    fn line(&self, line: &str) -> io::Result<(f64, i64)> {
        measure::run(self.folder, line).map(|run| (run.wall, run.peak >> 10))
    }

    fn scans(&self, place: &str, is_cold: bool, files: usize) -> io::Result<String> {
        let calve = self.calve;
        let all = "find tree -type f -print0 | xargs -0 -n1 -I{}";
        let lines = [
            ("calve scan".to_owned(), format!("{calve} scan -q tree")),
            ("calve scan --deep".to_owned(), format!("{calve} scan -q --deep tree")),
            (
                "calve scan, known already".to_owned(),
                format!("{calve} scan -q --catalogue known tree"),
            ),
            (
                "qemu-img info, one file after the other".to_owned(),
                format!("{all} qemu-img info -U {{}} 2>&1 || true"),
            ),
        ];
        self.line(&format!("{calve} scan -q --catalogue known tree"))?;
        let mut took = lines.each_ref().map(|_| (Vec::new(), 0));
        for _ in 0..self.rounds {
            for ((_, line), (seconds, peak)) in lines.iter().zip(&mut took) {
                if is_cold {
                    sync()?;
                    fs::write("/proc/sys/vm/drop_caches", "3")?;
                }
                let run = self.line(line)?;
                seconds.push(run.0);
                *peak = (*peak).max(run.1);
            }
        }
        let mut text = String::new();
        for ((name, _), (seconds, peak)) in lines.into_iter().zip(took) {
            let seconds = median(seconds);
            #[expect(clippy::cast_precision_loss, reason = "a few thousand files")]
            let rate = files as f64 / seconds;
            text += &format!("| {name}, {place} | {seconds:.2} | {rate:.0} | {peak} |\n");
        }
        Ok(text)
    }

    /// How often a scan says something else than what is known.
    fn classes(&self, truth: &Truth) -> io::Result<String> {
        let root = self.folder.join("tree").canonicalize()?;
        let mut found: BTreeMap<PathBuf, Value> = BTreeMap::new();
        for row in self.json("scan -q --deep --all --output jsonl tree")? {
            if let Some(name) = row["filename"].as_str() {
                found.insert(PathBuf::from(name), row);
            }
        }
        let (mut wrong, mut sound) = (0, 0);
        let mut damaged = [0; 3];
        for entry in &truth.files {
            let names = std::iter::once(&entry.path).chain(&entry.hard_links);
            for name in names {
                let row = found.get(&root.join(name)).unwrap_or(&Value::Null);
                if entry.damage.is_some() {
                    let has_finding = row["findings"].as_array().is_some_and(|it| !it.is_empty());
                    damaged[match (row["class"] == "damaged", has_finding) {
                        (true, _) => 0,
                        (false, true) => 1,
                        (false, false) => 2,
                    }] += 1;
                } else {
                    sound += 1;
                    wrong += usize::from(!is_right(entry, name == &entry.path, row));
                }
            }
        }
        let [called, told, unseen] = damaged;
        Ok(format!(
            "\n{sound} names of sound files: {wrong} called something else than they are (format, \
             name that lies, encryption, size of the disk). Damaged images: {called} called damaged by \
             their tables, {told} of which the disk is whole called version 1 with findings, {unseen} \
             damaged in payloads only, which `check --deep` reads and a scan does not.\n"
        ))
    }

    fn json(&self, words: &str) -> io::Result<Vec<Value>> {
        let line = format!("{} {words}", self.calve);
        let output = Command::new("sh").current_dir(self.folder).args(["-c", &line]).output()?;
        let rows = serde_json::Deserializer::from_slice(&output.stdout).into_iter();
        rows.collect::<Result<Vec<Value>, _>>().map_err(io::Error::other)
    }

    /// Makes a plan by this way, and returns its images.
    fn plan(&self, way: &str) -> io::Result<Vec<Value>> {
        let calve = self.calve;
        self.line(&format!(
            "rm -f catalogue* plan; {calve} scan -q --deep --catalogue catalogue tree"
        ))?;
        let words = format!("plan catalogue -q --save plan --way {way} --output jsonl");
        let mut images = self.json(&words)?;
        images.retain(|row| row["kind"] == "image");
        Ok(images)
    }

    fn migrations(&self) -> io::Result<String> {
        let calve = self.calve;
        let processors = std::thread::available_parallelism()?;
        let mut text = String::from("\n| what | images | s | peak MiB |\n|---|---:|---:|---:|\n");
        for way in ["upgrade", "convert"] {
            let images = self.plan(way)?.iter().filter(is_meant).count();
            let lines = [
                (format!("plan --way {way}"), format!("{calve} plan catalogue --way {way} -q")),
                (format!("migrate, {way}"), format!("{calve} {MIGRATE}")),
                ("migrate --undo".to_owned(), format!("{calve} migrate -q --undo {{}} plan")),
            ];
            let mut took = lines.each_ref().map(|_| (Vec::new(), 0));
            for round in 1..=self.rounds {
                for ((_, line), (seconds, peak)) in lines.iter().zip(&mut took) {
                    let run = self.line(&line.replace("{}", &round.to_string()))?;
                    seconds.push(run.0);
                    *peak = (*peak).max(run.1);
                }
            }
            for ((name, _), (seconds, peak)) in lines.into_iter().zip(took) {
                let seconds = median(seconds);
                text += &format!("| {name} | {images} | {seconds:.2} | {peak} |\n");
            }
        }
        let images = self.plan("convert")?;
        let is_plain = |image: &&Value| image["strategy"] == "convert" && image["format"] == "qcow";
        let mut list = String::new();
        for (number, image) in images.iter().filter(is_plain).enumerate() {
            let base = image["base"].as_str().map(|base| {
                let of = images.iter().find(|image| image["path"] == base);
                let format = of.and_then(|image| image["format"].as_str()).unwrap_or("raw");
                format!("-B {} -F {format} ", quoted(base))
            });
            let base = base.unwrap_or_default();
            let path = quoted(image["path"].as_str().unwrap_or_default());
            list += &format!("qemu-img convert -f qcow -O qcow2 {base}{path} out/{number}.qcow2\n");
        }
        let count = list.lines().count();
        fs::write(self.folder.join("list"), list)?;
        let mut seconds = Vec::new();
        for _ in 0..self.rounds {
            self.line("rm -rf out; mkdir out")?;
            seconds.push(self.line(&format!("parallel -j {processors} < list || true"))?.0);
        }
        self.line("rm -rf out")?;
        text += &format!(
            "| GNU parallel of qemu-img convert, bases kept, nothing verified | {count} | {:.2} | |\n",
            median(seconds)
        );
        Ok(text)
    }

    /// Runs that are killed and begun again; then every disk is compared with a copy, and all files
    /// after the run is taken back.
    fn kills(&self, truth: &Truth) -> io::Result<String> {
        let mut text = String::new();
        self.line("cp -a tree backup")?;
        let before = files(&self.folder.join("tree"))?;
        let root = self.folder.join("tree").canonicalize()?;
        // Damaged disks and those that need a passphrase are not read.
        let is_unread = |layer: &&Entry| layer.passphrase.is_some() || layer.damage.is_some();
        let unread = truth.files.iter().filter(|entry| truth.chain(entry).iter().any(is_unread));
        let names = |entry: &'_ Entry| {
            std::iter::once(entry.path.clone()).chain(entry.hard_links.clone()).collect::<Vec<_>>()
        };
        let unread: Vec<String> = unread.flat_map(names).collect();
        for (seed, way) in [(1, "upgrade"), (2, "convert")] {
            let images = self.plan(way)?;
            let mut random = Random::new(seed);
            let began = std::time::Instant::now();
            self.line(&format!("{} {MIGRATE}", self.calve))?;
            let whole = began.elapsed();
            self.line(&format!("{} migrate -q --undo 1 plan", self.calve))?;
            let mut killed = 0;
            for _ in 0..KILLS {
                let mut run = Command::new(self.calve)
                    .current_dir(self.folder)
                    .args(["migrate", "-q", "plan"])
                    .stderr(Stdio::null())
                    .spawn()?;
                let most = u64::try_from(whole.as_micros()).unwrap_or(u64::MAX) / 12;
                std::thread::sleep(Duration::from_micros(random.below(most)));
                killed += usize::from(run.try_wait()?.is_none());
                run.kill()?;
                run.wait()?;
            }
            self.line(&format!("{} {MIGRATE}", self.calve))?;
            let (mut compared, mut wrong) = (0, 0);
            for image in images.iter().filter(is_meant) {
                let path = PathBuf::from(image["path"].as_str().unwrap_or_default());
                let name = path.strip_prefix(&root).unwrap_or(&path);
                if unread.iter().any(|unread| name == Path::new(unread)) {
                    continue;
                }
                compared += 1;
                let (old, new) = (Path::new("backup").join(name), Path::new("tree").join(name));
                let said = Command::new(self.calve)
                    .current_dir(self.folder)
                    .args(["compare", "-q", "--base-root", "."])
                    .args([&old, &new])
                    .stdin(Stdio::null())
                    .stderr(Stdio::null())
                    .status()?;
                wrong += usize::from(!said.success());
            }
            self.line(&format!("{} migrate -q --undo 2 plan", self.calve))?;
            let after = files(&self.folder.join("tree"))?;
            let other = before.iter().filter(|(path, it)| after.get(*path) != Some(it)).count();
            let new = after.keys().filter(|path| !before.contains_key(*path)).count();
            text += &format!(
                "\n{way}: killed {killed} of {KILLS} times; {compared} disks compared with their \
                 originals afterwards, {wrong} differ; taken back, {other} of {} files are other bytes \
                 than before, {new} are new.\n",
                before.len()
            );
        }
        self.line("rm -rf backup")?;
        Ok(text)
    }
}

/// Whether something is to be done with an image of a plan.
fn is_meant(image: &&Value) -> bool {
    image["strategy"] != "leave"
}

/// Whether a row says what is true of a sound file.
fn is_right(entry: &Entry, is_first_name: bool, row: &Value) -> bool {
    let class = row["class"].as_str().unwrap_or_default();
    let kind = class.strip_suffix("-misnamed");
    let expected = match &entry.what {
        What::Version1(_) => "v1",
        What::Qcow2 { .. } => "qcow2",
        What::Raw | What::Other => "other",
    };
    let is_image = matches!(entry.what, What::Version1(_) | What::Qcow2 { .. });
    kind.unwrap_or(class) == expected
        && (!is_first_name || kind.is_some() == entry.name_lies)
        && (!is_image || row["encrypted"] == entry.passphrase.is_some())
        && (!is_image || entry.virtual_size.is_none_or(|size| row["virtual-size"] == size))
}

fn quoted(path: &str) -> String {
    format!("'{}'", path.replace('\'', "'\\''"))
}

/// A digest of an image's bytes; of the start only where it is no image: those are long, and all of
/// them holes.
fn digest(path: &Path) -> io::Result<u64> {
    let mut bytes = Vec::new();
    fs::File::open(path)?.take(4096).read_to_end(&mut bytes)?;
    if bytes.starts_with(b"QFI\xfb") {
        bytes = fs::read(path)?;
    }
    let mut digest = std::hash::DefaultHasher::new();
    digest.write(&bytes);
    Ok(digest.finish())
}

/// Every file below a folder: a digest of its bytes, and when it was written.
fn files(folder: &Path) -> io::Result<BTreeMap<PathBuf, (u64, i64, i64)>> {
    let mut all = BTreeMap::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let metadata = path.symlink_metadata()?;
        if metadata.is_dir() {
            all.extend(files(&path)?);
        } else if metadata.is_file() {
            let digest = digest(&path)?;
            all.insert(path, (digest, metadata.mtime(), metadata.mtime_nsec()));
        }
    }
    Ok(all)
}

/// What was written is on the medium, so that its pages can be dropped.
fn sync() -> io::Result<()> {
    Command::new("sync").status().map(drop)
}
