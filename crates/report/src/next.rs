//! What to do next: words for people, and a command that a shell takes.

use std::path::{Path, PathBuf};

use calve_disk::shell::path as quoted;
use calve_migrate::Cause;
use calve_migrate::shard::{Agreed, Shard};
use calve_plan::Weight;

use crate::certificate::Reason;
use crate::sources::{Elsewhere, Sources};

/// What to do next.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Next {
    /// What for, or what has to be done by hand before.
    pub words: &'static str,
    /// The command.
    pub command: String,
}

/// The words of commands about one report.
pub(crate) struct Commands {
    catalogue: String,
    roots: String,
    /// What carries the plan out once more.
    again: String,
    journal: Journals,
}

/// Whose ways back there are.
enum Journals {
    /// The catalogue's, or those of the file that these words name, and the run that is told of.
    One(String, i64),
    /// The shards', each with its run.
    Shards(Vec<(String, i64)>),
}

impl Commands {
    pub(crate) fn of<'a>(
        sources: &Sources,
        roots: impl IntoIterator<Item = &'a Path>,
        number: i64,
    ) -> Self {
        let catalogue = quoted(sources.catalogue.path());
        let run = sources.run.as_ref().map(|run| &*run.plan);
        let plan = sources.plan.as_ref().map(|file| &*file.path).or(run);
        let plan = plan.map_or_else(|| "PLAN".into(), quoted);
        let mut roots: Vec<String> = roots.into_iter().map(quoted).collect();
        roots.sort();
        roots.dedup();
        if roots.is_empty() {
            roots.push("FOLDER".into());
        }
        let (again, journal) = match &sources.other_journal {
            None => (format!("calve migrate {plan}"), Journals::One(String::new(), number)),
            Some(Elsewhere::File(path)) => {
                let words = format!("--journal {} ", quoted(&real(path)));
                (format!("calve migrate {words}{plan}"), Journals::One(words, number))
            }
            Some(Elsewhere::Shards { folder, agreed, begun }) => {
                let folder = &real(folder);
                let of_shard = |(shard, run): &(Shard, i64)| (quoted(&shard.journal(folder)), *run);
                let ways = begun.iter().map(of_shard).collect();
                (work(&plan, folder, agreed), Journals::Shards(ways))
            }
        };
        Self { catalogue, roots: roots.join(" "), again, journal }
    }

    /// Gives up the ways back; `run` is who knows of the first of them.
    fn release(&self, run: Option<i64>) -> String {
        match &self.journal {
            Journals::One(words, number) => {
                let run = run.unwrap_or(*number);
                format!("calve migrate {words}--release {run} {}", self.catalogue)
            }
            Journals::Shards(all) => {
                let one =
                    |(path, run): &(String, i64)| format!("calve migrate --release {run} {path}");
                // One whose originals are kept for days ends with a code of its own.
                all.iter().map(one).collect::<Vec<_>>().join("; ")
            }
        }
    }

    fn scan(&self) -> String {
        format!("calve scan --catalogue {} {}", self.catalogue, self.roots)
    }

    fn plan(&self, words: &str) -> String {
        format!("calve plan {words}--save NEW.plan {}", self.catalogue)
    }

    /// What to do about families that failed. `first` is an image of the first of them, and
    /// `are_clones` says whether the plan wants clones of any.
    pub(crate) fn after(&self, cause: Option<Cause>, first: &Path, are_clones: bool) -> Next {
        let again = || self.again.clone();
        let (words, command) = match cause {
            // What no file system of theirs can do fails each time.
            Some(Cause::Refused) if are_clones => (
                "Do what each of them says. Where their file system makes no clones, make a plan \
                 with another --way.",
                self.plan("--way convert "),
            ),
            Some(Cause::Host) => {
                ("Look at what the host says, mend that, and run the same again.", again())
            }
            Some(Cause::Damaged) => (
                "Look for better copies. Where there are none, scan deeply and make a plan that \
                 takes what is left.",
                format!(
                    "{} && {}",
                    self.scan().replacen("scan ", "scan --deep ", 1),
                    self.plan("--damaged rescue ")
                ),
            ),
            Some(Cause::Key) => (
                "Convert these by hand: the passphrase is asked for.",
                format!("calve convert -p --verify -O qcow2 {} NEW.qcow2", quoted(first)),
            ),
            Some(Cause::Base) => (
                "Find the bases, and see what belongs together by then.",
                self.scan().replacen("scan ", "scan --families ", 1),
            ),
            Some(Cause::Changed) => (
                "They are not the files that the plan was made of: scan again, and make another.",
                format!("{} && {}", self.scan(), self.plan("")),
            ),
            Some(Cause::InUse) => {
                ("End the programs that use them, and run the same again.", again())
            }
            Some(Cause::NoSpace) => ("Make room, and run the same again.", again()),
            Some(Cause::Mismatch) => (
                "Test this machine's memory and disks before anything else, then run the same \
                 again.",
                again(),
            ),
            Some(Cause::Hook) => (
                "See to the command that --before or --after named, and run the same again.",
                again(),
            ),
            Some(Cause::Stopped) => ("Nothing is wrong: run the same again.", again()),
            Some(Cause::Refused) | None => (
                "Do what each of them says, and run the same again; what cannot be done so needs a \
                 plan with another --way.",
                again(),
            ),
        };
        Next { words, command }
    }

    /// What to do about what speaks against a certificate. `first` is the first path, and `run` the
    /// run that knows of it.
    pub(crate) fn about(&self, reason: Reason, first: &Path, run: Option<i64>) -> Next {
        let (words, command) = match reason {
            Reason::Version1 => (
                "Migrate them: what the plan leaves and what failed is told above with what to do; \
                 all else needs a scan and a plan.",
                format!("{} && {}", self.scan(), self.plan("")),
            ),
            Reason::InUse => ("End the programs that use them, and scan again.", self.scan()),
            Reason::Original => (
                "They are kept so that the run can be taken back. When that is not needed any more, \
                 give it up: what is kept for days waits for these. An image that was put aside \
                 stays: remove it by hand, and say so with --force.",
                self.release(run),
            ),
            Reason::InArchive => (
                "Unpack and migrate what is needed, remove the archives, and scan again.",
                self.scan(),
            ),
            Reason::Unfinished => ("Go on with the run.", self.again.clone()),
            Reason::Changed => (
                "Whoever did it may have kept originals. Where calve did, with a journal or with \
                 workers, report with its --journal; else scan again, and make another plan.",
                self.scan(),
            ),
            Reason::Missing => (
                "They may be anywhere, or on a file system that is not mounted: find out, and scan \
                 again. Where one was removed on purpose, say so then with --removed PATH, of a \
                 file or of a folder with all that was in it.",
                self.scan(),
            ),
            Reason::NoFile => ("Look at what is there, and scan again.", self.scan()),
            Reason::Unreadable => (
                "Look at permissions and the medium, and report again.",
                format!("ls -l {}", quoted(first)),
            ),
            Reason::NotLookedInto | Reason::Trouble => (
                "Look at permissions, the medium, and what is mounted, unpack the archives, and scan \
                 again.",
                self.scan(),
            ),
            Reason::NoScan => ("Scan, to the end.", self.scan()),
        };
        Next { words, command }
    }
}

/// Where a file or folder is, for whoever types its name elsewhere.
fn real(path: &Path) -> PathBuf {
    path.canonicalize().unwrap_or_else(|_| path.to_owned())
}

/// Has each shard be carried out, one after the other: those that are done find nothing to do.
fn work(plan: &str, folder: &Path, agreed: &Agreed) -> String {
    let by = match agreed.by {
        Weight::Bytes => "",
        Weight::Families => " --by families",
    };
    let (count, last) = (agreed.shards, agreed.shards.saturating_sub(1));
    format!(
        "for i in $(seq 0 {last}); do calve work --plan {plan} --journals {}{by} --shard $i/{count}; done",
        quoted(folder)
    )
}
