//! A folder of images, a catalogue and a plan of them, and a run that the journal knows.

use std::ffi::OsStr;
use std::ops::ControlFlow;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use calve_fleet::Catalogue;
use calve_migrate::{Cause, FamilyState, ImageRecord, ImageState, Journal, RunRecord, Stamped};
use calve_plan::{
    Damaged, Family, Head, Image, Kept, PathText, Plan, Rate, Stamp, Strategy, Total, Way, Wishes,
};
use calve_report::{Report, Sources};
use calve_scan::{Here, NothingKnown, ScanOptions, scan};

/// How scans here are done.
pub(crate) const OPTIONS: ScanOptions =
    ScanOptions { is_deep: false, with_archives: true, is_one_file_system: false, jobs: 1 };

/// When each report here is made.
pub(crate) const MADE: i64 = 1_700_000_000;

/// Names that harm whoever takes them for anything but names.
pub(crate) const HOSTILE: &[&[u8]] = &[
    b"<script>document.title='taken'</script>",
    b"\"><img src=x onerror=\"document.title='taken'\">",
    b"=cmd|'/c calc'!A1",
    b"@sum",
    b"</td></tr></table><!--",
    b"]]><!DOCTYPE x [<!ENTITY y \"z\">]>&y;",
    "\u{202e}gmi.terces".as_bytes(),
    "\u{2066}\u{200b}\u{feff}\u{fffe}".as_bytes(),
    b"\xff\xfe\x1b[31m\r\n",
    b"&amp;&lt;%00%2e",
    b"\x01\x08\x0c\x7f\xc2\x85\xed\xa0\x80",
    b"  \t two  words ",
    b"-rf ~ $(touch x) `y` \\ 'z' \"q\"",
    b"{\"a\":[1,\n2]},",
];

/// A folder, `tree` in it, and what is made of that.
pub(crate) struct Made {
    folder: tempfile::TempDir,
}

impl Made {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::create_dir(folder.path().join("tree")).expect("a folder");
        drop(Catalogue::open(&folder.path().join("catalogue")).expect("a catalogue"));
        Self { folder }
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.folder.path().canonicalize().expect("a folder").join(name)
    }

    /// The path below `tree` of a name of any bytes.
    pub(crate) fn below(&self, name: &[u8]) -> PathBuf {
        self.file("tree").join(OsStr::from_bytes(name))
    }

    pub(crate) fn write(&self, name: &[u8], bytes: &[u8]) -> PathBuf {
        let path = self.below(name);
        std::fs::write(&path, bytes).expect("a file");
        path
    }

    pub(crate) fn catalogue(&self) -> Catalogue {
        Catalogue::open(&self.file("catalogue")).expect("a catalogue")
    }

    /// Scans `tree` to the end.
    pub(crate) fn scan(&self) {
        self.scan_without(&[]);
    }

    /// The same, where somebody says that this was removed.
    pub(crate) fn scan_without(&self, removed: &[PathBuf]) {
        let (roots, mut catalogue) = ([self.file("tree")], self.catalogue());
        let mut run = catalogue.begin(&roots, &OPTIONS).expect("begins");
        let for_thread = || (Box::new(Here) as Box<_>, Box::new(NothingKnown) as Box<_>);
        scan(&roots, &OPTIONS, &AtomicBool::new(false), for_thread, |event| {
            run.take(&event).expect("taken");
            ControlFlow::Continue(())
        });
        run.finish(removed).expect("ends");
    }

    /// Makes a plan of these families, and begins a run of it.
    pub(crate) fn begin(&self, families: Vec<Family>, kept: Kept) -> (Journal, RunRecord) {
        let wishes = Wishes {
            way: Way::Convert,
            damaged: Damaged::Leave,
            kept: kept.clone(),
            max_extra: None,
            window: None,
            rate: Rate::default(),
        };
        let catalogue = PathText(self.file("catalogue"));
        let head = Head { version: 1, catalogue, scan: 1, wishes };
        let plan = Plan { head, families, rooms: Vec::new(), total: Total::default() };
        let mut text = Vec::new();
        calve_plan::write(&plan, &mut text).expect("memory");
        let path = self.file("plan");
        std::fs::write(&path, &text).expect("a plan");
        let journal = Journal::open(&self.file("catalogue")).expect("a journal");
        let digest = blake3::hash(&text).to_hex().to_string();
        let run = journal.begin(&path, &digest, &kept).expect("a run");
        (journal, run)
    }

    /// What a report of this file says.
    pub(crate) fn report<T>(&self, name: &str, of: impl FnOnce(&Report<'_>) -> T) -> T {
        let sources = Sources::open(&self.file(name), None, None).expect("sources");
        let report = Report::new(&sources, "0.0.0", MADE).expect("a report");
        let told = of(&report);
        sources.assert_unchanged().expect("nobody writes");
        told
    }
}

/// An image of a plan, of a family of its own.
pub(crate) fn planned(family: u64, path: &Path, strategy: Strategy) -> Family {
    let image = Image {
        family,
        order: 1,
        of: 1,
        path: PathText(path.to_owned()),
        strategy,
        reason: format!("{} <b>&\u{202e}\x1b[31m", path.display()),
        class: "v1".into(),
        format: Some("qcow".into()),
        packed: false,
        encrypted: false,
        virtual_size: None,
        dialect: Some("qemu".into()),
        producer: None,
        stamp: Stamp { device: 1, inode: family, size: 1000 * family, modified: 1 },
        base: None,
        base_order: None,
        base_format: None,
        base_moved: false,
        read: 1,
        write: 1,
        extra: 1,
        seconds: [1.0, 2.0],
    };
    Family { number: family, images: vec![image] }
}

/// What the journal has of an image that was switched; `kept` is its original.
pub(crate) fn record(family: u64, path: &Path, kept: Option<PathBuf>) -> ImageRecord {
    let stamp = Stamped { inode: family, size: 1000 * family, modified: 1 };
    ImageRecord {
        family,
        place: 1,
        path: path.to_owned(),
        strategy: Strategy::Convert,
        state: ImageState::Switched,
        old: stamp,
        new: Some(stamp),
        kept,
        header: None,
        digest: Some(blake3::hash(path.as_os_str().as_bytes()).to_hex().to_string()),
        missing: 0,
        began: MADE - 100,
        ended: Some(MADE - 50),
    }
}

/// Writes down how far a family of one image is.
pub(crate) fn put(
    (journal, run): (&Journal, &RunRecord),
    state: FamilyState,
    failure: Option<(Cause, &str)>,
    image: &ImageRecord,
) {
    journal.set_family(run.number, image.family, state, failure).expect("written");
    journal.set_image(run.number, image).expect("written");
}

/// Makes a run of images with hostile names that is nearly whole: every third family failed, one
/// was not begun, and the plan leaves one.
pub(crate) fn hostile() -> Made {
    let made = Made::new();
    made.scan();
    let paths: Vec<PathBuf> = HOSTILE.iter().map(|name| made.below(name)).collect();
    let families = (1..).zip(&paths).map(|(number, path)| match number {
        3 => planned(number, path, Strategy::Leave),
        _ => planned(number, path, Strategy::Convert),
    });
    let (journal, run) = made.begin(families.collect(), Kept::Days(30));
    for (number, path) in (1..).zip(&paths).filter(|(number, _)| !matches!(number, 3 | 4)) {
        let mut kept = path.clone().into_os_string();
        kept.push(".calve-original");
        let image = record(number, path, Some(kept.into()));
        let what = String::from_utf8_lossy(HOSTILE[usize::try_from(number).expect("small") - 1]);
        match number % 3 {
            0 => {
                let failure = Some((Cause::NoSpace, &*what));
                put((&journal, &run), FamilyState::Failed, failure, &image);
            }
            _ => put((&journal, &run), FamilyState::Done, None, &image),
        }
    }
    made
}
