//! Overlays follow their bases: what stock QEMU makes of them, what is refused, and what a crash
//! leaves.

use std::path::Path;
use std::sync::Arc;

use calve_disk::Format;
use calve_disk::open::lock_for_writing;
use calve_references::{
    Change, Changes, Child, Error, HEADER_RECORD, HeaderChange, Result, Settled,
};
use calve_testkit::{
    Builder, Crashed, Faulty, Memory, Notes, Random, Recorder, Recording, crashes, qemu, seeds,
};

const FORMAT: u32 = 0xE279_2ACA;

/// The first cluster of an overlay, and a second one.
#[derive(Clone)]
struct Sketch {
    version: u32,
    cluster_bits: u32,
    header_length: u32,
    extensions: Extensions,
    has_end: bool,
    /// Bytes between the extensions and the name.
    gap: usize,
    name: Vec<u8>,
}

impl Sketch {
    fn usual() -> Self {
        Self {
            version: 3,
            cluster_bits: 16,
            header_length: 112,
            extensions: vec![(FORMAT, b"qcow".to_vec()), (0x6803_F857, vec![7; 384])],
            has_end: true,
            gap: 0,
            name: b"base.qcow".to_vec(),
        }
    }

    fn random(random: &mut Random) -> Self {
        let mut extensions = Vec::new();
        for kind in [0x6803_F857, 0x1234_5678, 0x4441_5441, 0xABCD_EF01] {
            if random.once_in(3) {
                let length = random.below(120);
                extensions.push((kind, random.content(length)));
            }
        }
        if random.once_in(2) {
            let at = usize::try_from(random.below(extensions.len() as u64 + 1)).expect("small");
            let format = random.one_of(&[&b"qcow"[..], b"raw", b"a-format-that-nobody-knows"]);
            extensions.insert(at, (FORMAT, format.to_vec()));
        }
        let version = random.one_of(&[2, 3, 3]);
        Self {
            version,
            cluster_bits: random.one_of(&[9, 10, 12]),
            header_length: random.one_of(&[104, 112, 120]),
            extensions,
            has_end: !random.once_in(5),
            gap: random.one_of(&[0, 0, 8, 40]),
            name: vec![b'n'; usize::try_from(1 + random.below(300)).expect("small")],
        }
    }

    /// The image, if it is one.
    fn image(&self) -> Option<Vec<u8>> {
        let cluster = 1 << self.cluster_bits;
        let mut bytes = vec![0; 112];
        bytes[..4].copy_from_slice(b"QFI\xFB");
        bytes[4..8].copy_from_slice(&self.version.to_be_bytes());
        bytes[20..24].copy_from_slice(&self.cluster_bits.to_be_bytes());
        bytes[24..32].copy_from_slice(&(1_u64 << 20).to_be_bytes());
        for (count, place) in [(36, 40), (56, 48)] {
            bytes[count + 3] = 1;
            bytes[place..place + 8].copy_from_slice(&u64::to_be_bytes(cluster));
        }
        bytes[99] = 4;
        bytes[100..104].copy_from_slice(&self.header_length.to_be_bytes());
        let length = if self.version == 2 { 72 } else { self.header_length };
        bytes.resize(usize::try_from(length).expect("small"), 0);
        for (kind, value) in &self.extensions {
            bytes.extend(kind.to_be_bytes());
            bytes.extend(u32::try_from(value.len()).expect("small").to_be_bytes());
            bytes.extend(value);
            bytes.resize(bytes.len().next_multiple_of(8), 0);
        }
        if self.has_end {
            bytes.extend([0; 8]);
            bytes.resize(bytes.len() + self.gap, 0);
        }
        let place = bytes.len() as u64;
        bytes[8..16].copy_from_slice(&place.to_be_bytes());
        let length = u32::try_from(self.name.len()).expect("small");
        bytes[16..20].copy_from_slice(&length.to_be_bytes());
        bytes.extend(&self.name);
        let cluster = usize::try_from(cluster).expect("small");
        let fits = bytes.len() <= cluster;
        bytes.resize(cluster, 0);
        bytes.resize(2 * cluster, 0x5A);
        fits.then_some(bytes)
    }
}

/// Kinds and values.
type Extensions = Vec<(u32, Vec<u8>)>;

/// What an overlay says, as a slow reader finds it.
struct Said {
    /// But for the format of the base.
    extensions: Extensions,
    format: Option<Vec<u8>>,
    name: Vec<u8>,
    /// Where extensions are over, and where the name begins.
    end: usize,
    name_at: usize,
}

fn said(image: &[u8]) -> Said {
    let number = |at: usize| u32::from_be_bytes(image[at..at + 4].try_into().expect("four bytes"));
    let size = |at: usize| usize::try_from(number(at)).expect("small");
    let (name_at, length) = (size(12), size(16));
    let mut end = if number(4) == 2 { 72 } else { size(100) };
    let (mut extensions, mut format) = (Vec::new(), None);
    while end < name_at && number(end) != 0 {
        let value = image[end + 8..end + 8 + size(end + 4)].to_vec();
        let kind = number(end);
        end += 8 + value.len().next_multiple_of(8);
        match kind {
            FORMAT => format = Some(value),
            _ => extensions.push((kind, value)),
        }
    }
    let name = image[name_at..name_at + length].to_vec();
    Said { extensions, format, name, end, name_at }
}

fn child(memory: &Memory, notes: &Notes) -> Child {
    Child::new(Arc::new(memory.clone()), Box::new(notes.clone()), vec!["/i/top".into()])
}

fn plan(image: &[u8], name: &[u8]) -> Result<Option<HeaderChange>> {
    child(&Memory::new(image.to_vec()), &Notes::new(None)).plan(name, Format::Qcow2)
}

fn with(sketch: &Sketch, change: impl Fn(&mut Vec<u8>)) -> Vec<u8> {
    let mut image = sketch.image().expect("it fits");
    change(&mut image);
    image
}

#[test]
fn any_overlay_says_what_it_is_to_say_and_comes_back_to_the_bit() {
    let (mut changed, mut refused) = (0, 0);
    for seed in seeds("CALVE_CHILD_CASES", 3000) {
        let mut random = Random::new(seed ^ 0xC417D);
        let Some(image) = Sketch::random(&mut random).image() else { continue };
        let length = random.one_of(&[1, 5, 100, 300]);
        let name = if random.once_in(3) { said(&image).name } else { vec![b'm'; length] };
        let (memory, notes) = (Memory::new(image.clone()), Notes::new(None));
        let child = child(&memory, &notes);
        let change = match child.plan(&name, Format::Qcow2) {
            Ok(change) => change.expect("none of them says qcow2"),
            Err(Error::Refused { .. }) => {
                refused += 1;
                continue;
            }
            Err(error) => panic!("seed {seed}: {error}"),
        };
        changed += 1;
        assert_eq!(memory.content(), image, "seed {seed}: a plan writes nothing");
        assert!(child.write(&change).expect("written"), "seed {seed}");
        let new = memory.content();
        let (before, after) = (said(&image), said(&new));
        assert_eq!(after.extensions, before.extensions, "seed {seed}");
        assert_eq!(after.format.as_deref(), Some(&b"qcow2"[..]), "seed {seed}");
        assert_eq!(after.name, name, "seed {seed}");
        let cluster = image.len() / 2;
        let name_end = after.name_at + name.len();
        let rest = [&new[after.end..after.name_at], &new[name_end..cluster]].concat();
        assert!(rest.iter().all(|byte| *byte == 0), "seed {seed}: something old is left");
        let has_end = after.name_at >= after.end + 8;
        assert!(has_end || after.end == before.end, "seed {seed}: no mark of the end");
        assert!(new[cluster..] == image[cluster..], "seed {seed}: only the first cluster");
        assert!(new[20..72] == image[20..72], "seed {seed}: only what is about the base");
        assert_eq!(child.plan(&name, Format::Qcow2).expect("a plan"), None, "seed {seed}");
        assert!(!child.write(&change).expect("there already"), "seed {seed}");
        assert!(child.undo(&change).expect("taken back"), "seed {seed}");
        assert!(memory.content() == image, "seed {seed}: not the same bytes");
        assert!(!child.undo(&change).expect("there already"), "seed {seed}");
        assert_eq!(notes.note(), None, "seed {seed}");
    }
    assert!(changed > 500 && refused > 20, "{changed} changed, {refused} refused");
}

#[test]
fn one_word_is_one_sector_and_needs_no_note() {
    let (memory, recorder) =
        (Memory::new(Sketch::usual().image().expect("it fits")), Recorder::default());
    let notes = Notes::with(None, |_| panic!("a note is not needed"));
    let storage = Arc::new(Recording::new(memory, &recorder));
    let child = Child::new(storage, Box::new(notes), vec!["/i/top".into()]);
    let change = child.plan(b"base.qcow", Format::Qcow2).expect("a plan").expect("a change");
    child.write(&change).expect("written");
    let writes: Vec<_> = recorder
        .accesses()
        .into_iter()
        .filter_map(|access| match access {
            calve_testkit::Access::Write { at, bytes } => Some((at, bytes.len())),
            _ => None,
        })
        .collect();
    assert_eq!(writes, [(0, 512)]);
}

#[test]
fn overlays_follow_bases_that_change_and_no_others() {
    let mut changes = Changes::new();
    for (old, new) in [("/i/base.qcow", "/i/base.qcow2"), ("/i/raw", "/i/raw")] {
        let change = Change { old: old.into(), new: new.into(), format: Format::Qcow2 };
        changes.add(change).expect("a change");
    }
    let followed = |name: &str, format: Option<&str>| {
        let mut sketch = Sketch { name: name.into(), ..Sketch::usual() };
        sketch.extensions.remove(0);
        if let Some(format) = format {
            sketch.extensions.insert(0, (FORMAT, format.into()));
        }
        let memory = Memory::new(sketch.image().expect("it fits"));
        let child = child(&memory, &Notes::new(None));
        let Some(change) = child.follow(&changes)? else { return Ok(None) };
        child.write(&change)?;
        let backing = child.backing()?;
        assert_eq!(backing.format.as_deref(), Some(&b"qcow2"[..]));
        assert_eq!(child.follow(&changes)?, None, "the second time there is nothing to do");
        Ok::<_, Error>(Some(String::from_utf8(backing.name).expect("text")))
    };
    let new = Some("base.qcow2".to_owned());
    assert_eq!(followed("base.qcow", Some("qcow")).expect("followed"), new);
    assert_eq!(followed("base.qcow", Some("qcow2")).expect("followed"), new);
    assert_eq!(followed("base.qcow", None).expect("followed"), new);
    assert_eq!(followed("raw", None).expect("followed"), Some("raw".into()));
    assert_eq!(followed("other", Some("qcow")).expect("followed"), None);
    for (name, format) in [("raw", "raw"), ("base.qcow", "vmdk"), ("json:{\"raw\":0}", "qcow")] {
        let outcome = followed(name, Some(format));
        assert!(matches!(outcome, Err(Error::Refused { .. })), "{name}: {outcome:?}");
    }
}

#[test]
fn what_may_not_be_changed_is_refused_untouched() {
    let usual = Sketch::usual();
    assert!(plan(&usual.image().expect("it fits"), b"new").expect("a plan").is_some());
    let raised = |at: usize, byte: u8| with(&usual, |image| image[at] = byte);
    let extended = |kind: u32, value: Vec<u8>| {
        let mut sketch = usual.clone();
        sketch.extensions.push((kind, value));
        sketch.image().expect("it fits")
    };
    let luks = |at: u64| extended(0x0537_BE77, [at.to_be_bytes(), [0; 8]].concat());
    assert!(plan(&luks(1 << 16), b"new").expect("keys are elsewhere").is_some());
    let tight = Sketch {
        cluster_bits: 9,
        extensions: vec![(1, vec![1; 300])],
        name: vec![b'n'; 60],
        ..usual.clone()
    };
    let (long, huge) = (vec![b'm'; 100], vec![b'm'; 1024]);
    for (why, image, name) in [
        ("dirty", raised(79, 1), &b"new"[..]),
        ("corrupt", raised(79, 2), b"new"),
        ("unknown incompatible feature", raised(79, 32), b"new"),
        ("unknown autoclear feature", raised(95, 4), b"new"),
        ("raw data file", raised(95, 2), b"new"),
        ("version 1", raised(7, 1), b"new"),
        ("version 4", raised(7, 4), b"new"),
        ("cluster_bits", raised(23, 30), b"new"),
        ("header length", raised(103, 113), b"new"),
        ("a cut file", usual.image().expect("it fits")[..4096].to_vec(), b"new"),
        ("an empty file", Vec::new(), b"new"),
        ("no base", with(&usual, |image| image[8..20].fill(0)), b"new"),
        ("a name behind the cluster", raised(13, 1), b"new"),
        ("a name in the header", with(&usual, |image| image[14..16].fill(0)), b"new"),
        ("an extension that is too long", raised(117, 200), b"new"),
        (
            "a table in the header",
            with(&usual, |image| image[45..47].copy_from_slice(&[0, 2])),
            b"new",
        ),
        ("keys in the header", luks(4096), b"new"),
        ("two formats", extended(FORMAT, b"raw".to_vec()), b"new"),
        ("no room", tight.image().expect("it fits"), &long),
        ("too long", usual.image().expect("it fits"), &huge),
        ("no name", usual.image().expect("it fits"), b""),
        ("a zero byte", usual.image().expect("it fits"), b"a\0b"),
        ("old tables", with(&usual, |image| image[600] = 1), &long),
    ] {
        let outcome = plan(&image, name);
        assert!(matches!(outcome, Err(Error::Refused { .. })), "{why}: {outcome:?}");
    }
}

#[test]
fn a_header_that_is_another_by_now_is_left_alone() {
    let image = Sketch::usual().image().expect("it fits");
    let change = plan(&image, b"new").expect("a plan").expect("a change");
    let mut other = image.clone();
    other[200] ^= 1;
    let memory = Memory::new(other.clone());
    let child = child(&memory, &Notes::new(None));
    for change in [
        change.clone(),
        HeaderChange { at: 7, ..change.clone() },
        HeaderChange { at: 1 << 21, ..change.clone() },
        HeaderChange { at: u64::MAX - 511, ..change.clone() },
        HeaderChange { old: vec![], new: vec![], ..change.clone() },
        HeaderChange { new: vec![0; 1024], ..change },
    ] {
        let outcome = child.write(&change);
        assert!(matches!(outcome, Err(Error::Refused { .. })), "{outcome:?}");
    }
    assert!(memory.content() == other);
}

#[test]
fn a_change_is_a_document() {
    let change = plan(&Sketch::usual().image().expect("it fits"), b"new");
    let change = change.expect("a plan").expect("a change");
    let text = serde_json::to_string(&change).expect("a document");
    assert_eq!(serde_json::from_str::<HeaderChange>(&text).expect("read again"), change);
}

/// Images, and changes of them that are more than a sector.
fn long_changes(seed: u64) -> Option<(Vec<u8>, HeaderChange)> {
    let mut random = Random::new(seed ^ 0xC4A54);
    let image = Sketch::random(&mut random).image()?;
    let length = usize::try_from(1 + random.below(500)).expect("small");
    let change = plan(&image, &vec![b'm'; length]).ok()??;
    Some((image, change))
}

#[test]
fn a_crash_at_any_moment_leaves_the_old_header_or_the_new_one() {
    let (mut count, mut long) = (0, 0);
    for seed in seeds("CALVE_CRASH_CASES", 300) {
        let Some((image, change)) = long_changes(seed) else { continue };
        let mut random = Random::new(seed);
        let mut done = image.clone();
        let start = usize::try_from(change.at).expect("small");
        done[start..start + change.new.len()].copy_from_slice(&change.new);
        long += u32::from(change.new.len() > 512);
        for (from, to, change) in
            [(&image, &done, change.clone()), (&done, &image, change.clone().reversed())]
        {
            let recorder = Recorder::default();
            let (memory, notes) = (Memory::new(from.clone()), Notes::recorded(None, &recorder));
            let storage = Arc::new(Recording::new(memory.clone(), &recorder));
            Child::new(storage, Box::new(notes), Vec::new()).write(&change).expect("written");
            assert!(memory.content() == *to, "seed {seed}");
            let start = Crashed { image: from.clone(), note: None };
            crashes(&start, &recorder.accesses(), &mut random, &mut |crashed, what| {
                count += 1;
                let what = format!("seed {seed}, {what}");
                let settled = |wanted: &[u8], act: &dyn Fn(&Child) -> Result<()>| {
                    let memory = Memory::new(crashed.image.clone());
                    let notes = Notes::new(crashed.note.clone());
                    act(&child(&memory, &notes)).unwrap_or_else(|error| panic!("{what}: {error}"));
                    assert_eq!(notes.note(), None, "{what}");
                    let now = memory.content();
                    assert!(now == *wanted || wanted.is_empty() && (now == *from || now == *to));
                };
                settled(&[], &|child| child.settle().map(drop));
                settled(to, &|child| child.write(&change).map(drop));
                settled(from, &|child| child.undo(&change).map(drop));
            });
        }
    }
    assert!(count > 1000 && long > 20, "{count} crashes, {long} changes of several sectors");
}

#[test]
fn whatever_step_fails_the_header_is_old_or_the_next_call_makes_it_so() {
    let cases = seeds("CALVE_FAULT_CASES", 60).filter_map(long_changes);
    for (image, change) in cases {
        for failing in 0.. {
            let memory = Memory::new(image.clone());
            let storage = Faulty::new(memory.clone(), failing);
            let counting = storage.clone();
            let notes = Notes::with(None, move |_| counting.step());
            let child = Child::new(Arc::new(storage.clone()), Box::new(notes.clone()), Vec::new());
            let outcome = child.write(&change);
            if !storage.has_failed() {
                outcome.expect("nothing failed");
                break;
            }
            match outcome {
                Err(Error::HalfWay { .. } | Error::Record(_)) => {}
                Err(_) => assert!(memory.content() == image, "step {failing}"),
                Ok(_) => panic!("step {failing} failed, and nothing told"),
            }
            let after = Notes::new(notes.note());
            self::child(&memory, &after).undo(&change).expect("settled");
            assert!(memory.content() == image && after.note().is_none(), "step {failing}");
        }
    }
}

#[test]
fn what_another_program_wrote_in_the_midst_of_a_change_is_not_lost() {
    let (image, change) = (0..)
        .find_map(|seed| long_changes(seed).filter(|(_, change)| change.new.len() > 512))
        .expect("one of any number");
    let recorder = Recorder::default();
    let (memory, notes) = (Memory::new(image.clone()), Notes::recorded(None, &recorder));
    child(&memory, &notes).write(&change).expect("written");
    let note = recorder.accesses().into_iter().find_map(|access| match access {
        calve_testkit::Access::Noted(note) => note,
        _ => None,
    });
    let (written, notes) = (memory.content(), Notes::new(note.clone()));
    assert_eq!(child(&memory, &notes).settle().expect("settled"), Some(Settled::Finished));
    let mut other = written;
    other[usize::try_from(change.at).expect("small") + 24] ^= 0xFF;
    let (memory, notes) = (Memory::new(other.clone()), Notes::new(note));
    assert!(matches!(child(&memory, &notes).settle(), Err(Error::Refused { .. })));
    assert!(memory.content() == other && notes.note().is_some(), "both are kept");
}

/// What `qemu-img info` tells of an image, but for what every file has of its own.
fn info(folder: &Path, name: &str) -> serde_json::Value {
    let output = qemu::img(folder, &["info", "-f", "qcow2", "--output", "json", name]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{name}: {said}");
    let mut told: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    for own in ["filename", "actual-size", "children"] {
        told.as_object_mut().expect("an object").remove(own);
    }
    told
}

fn stock(folder: &Path, arguments: &[&str]) {
    let output = qemu::img(folder, arguments);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {said}");
}

/// As version 1 never was: encrypted, so that stock QEMU changes no header without a passphrase.
const LUKS: &str = "encrypt.format=luks,encrypt.key-secret=key,encrypt.iter-time=10";

/// Creates `ours.qcow2` and a copy of it, over `base.qcow`.
fn create_overlay(at: &Path, options: &str) {
    let mut create = vec!["create", "-f", "qcow2", "-o", options, "-b", "base.qcow"];
    create.extend(["-F", "qcow", "ours.qcow2"]);
    if options == LUKS {
        create.splice(1..1, ["--object", "secret,id=key,data=1"]);
    }
    let _ = std::fs::remove_file(at.join("data.raw"));
    stock(at, &create);
    if options != LUKS {
        let write = ["-f", "qcow2", "-c", "write -P 9 64k 9k", "ours.qcow2"];
        assert!(qemu::io(at, &write).status.success(), "{options}");
    }
    if options.starts_with("compat=1.1,cluster") {
        stock(at, &["bitmap", "--add", "ours.qcow2", "a"]);
    }
    std::fs::copy(at.join("ours.qcow2"), at.join("theirs.qcow2")).expect("copied");
}

/// Compares what the overlay became with what stock QEMU makes of its copy. Whether there was room.
fn is_followed_as_stock_does(at: &Path, options: &str, new: &str, content: &[u8]) -> bool {
    let ours = at.join("ours.qcow2");
    let original = std::fs::read(&ours).expect("it is there");
    let child = Child::open(&ours).expect("opened");
    let mut changes = Changes::new();
    let (old, moved) = (at.join("base.qcow"), at.join(new));
    changes.add(Change { old, new: moved, format: Format::Qcow2 }).expect("a change");
    let rebase = ["rebase", "-u", "-f", "qcow2", "-F", "qcow2", "-b", new, "theirs.qcow2"];
    let change = match child.follow(&changes) {
        Ok(change) => change.expect("it lies on that"),
        Err(error) => {
            let has_room = qemu::img(at, &rebase).status.success();
            assert!(!has_room, "{options}, {new}: {error}");
            return false;
        }
    };
    child.write(&change).expect("written");
    drop(child);
    std::fs::copy(at.join("base.qcow2"), at.join("base.qcow")).expect("copied");
    if options == LUKS {
        let told = info(at, "ours.qcow2");
        assert_eq!(told["backing-filename-format"], "qcow2");
        assert_eq!(told["backing-filename"], new);
    } else {
        stock(at, &rebase);
        assert_eq!(info(at, "ours.qcow2"), info(at, "theirs.qcow2"), "{options}, {new}");
        qemu::assert_clean(at, "ours.qcow2");
        let disk = qemu::content(at, &["-f", "qcow2"], "ours.qcow2");
        assert!(disk == qemu::content(at, &["-f", "qcow2"], "theirs.qcow2"), "{options}, {new}");
        assert!(disk[..512] == *content && disk[64 << 10..73 << 10] == [9; 9 << 10]);
    }
    let child = Child::open(&ours).expect("opened");
    child.undo(&change).expect("taken back");
    assert!(std::fs::read(&ours).expect("it is there") == original, "{options}, {new}");
    true
}

#[test]
fn stock_qemu_finds_what_it_would_have_written_itself() {
    if !qemu::has("qemu-img") || !qemu::has("qemu-io") {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let at = folder.path();
    let content = Random::new(7).content(512);
    let mut builder = Builder::new(9, 6, 1 << 20);
    builder.plain(0, &content);
    let base = builder.build();
    std::fs::write(at.join("base.qcow"), &base).expect("written");
    let long = format!("{}.qcow2", "n".repeat(200));
    for new in ["base.qcow2", "a-longer-name.qcow2", &long] {
        stock(at, &["convert", "-f", "qcow", "-O", "qcow2", "base.qcow", new]);
    }
    let (mut count, mut refused) = (0, 0);
    for (options, names) in [
        ("compat=1.1", &["base.qcow", &*long][..]),
        ("compat=0.10", &["base.qcow", &long]),
        ("compat=1.1,cluster_size=512", &["base.qcow2", &long]),
        ("compat=0.10,cluster_size=512", &["a-longer-name.qcow2", &long]),
        ("cluster_size=4096,refcount_bits=64", &["base.qcow", "base.qcow2"]),
        ("cluster_size=2M,extended_l2=on,lazy_refcounts=on", &["base.qcow2", &long]),
        ("compression_type=zstd", &["base.qcow", "a-longer-name.qcow2"]),
        ("data_file=data.raw", &["base.qcow", "a-longer-name.qcow2"]),
        (LUKS, &["base.qcow2"]),
    ] {
        for &new in names {
            std::fs::write(at.join("base.qcow"), &base).expect("written");
            create_overlay(at, options);
            match is_followed_as_stock_does(at, options, new, &content) {
                true => count += 1,
                false => refused += 1,
            }
        }
    }
    assert!(count >= 15, "{count} followed, {refused} had no room");
}

#[test]
fn an_overlay_in_use_or_with_a_way_back_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let (path, link) = (folder.path().join("top.qcow2"), folder.path().join("link"));
    std::fs::write(&path, Sketch::usual().image().expect("it fits")).expect("written");
    std::os::unix::fs::symlink("top.qcow2", &link).expect("a link");
    let note = HEADER_RECORD.beside(&path.canonicalize().expect("a path"));
    assert!(Child::open(&link).is_ok());
    std::fs::write(&note, "nonsense").expect("written");
    let child = Child::open(&link).expect("opened");
    assert!(matches!(child.plan(b"new", Format::Qcow2), Err(Error::Record(_))));
    drop(child);
    std::fs::remove_file(note).expect("removed");
    let undo = folder.path().join("top.qcow2.calve-undo");
    std::fs::write(&undo, "").expect("written");
    assert!(matches!(Child::open(&link), Err(Error::Refused { .. })));
    std::fs::remove_file(undo).expect("removed");
    let other = std::fs::File::open(&path).expect("opened");
    let writer = std::fs::File::options().read(true).write(true).open(&path).expect("opened");
    lock_for_writing(&writer, &path).expect("locked");
    let outcome = Child::open(&path);
    assert!(matches!(outcome, Err(Error::Disk(calve_disk::Error::InUse { .. }))));
    drop((other, writer));
    assert!(Child::open(&path).is_ok());
}
