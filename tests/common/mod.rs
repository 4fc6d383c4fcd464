//! Running the real binary in a folder of its own.

pub(crate) mod browser;
pub(crate) mod made;
pub(crate) mod store;

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output};

use calve_testkit::{Builder, Mounted, Random, qemu};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

/// The program that is tried: what `CALVE_PROGRAM` names, or else what was built with these tests. So
/// tests that were built quickly try a program that was built as it is released.
pub(crate) fn program() -> String {
    let named = std::env::var("CALVE_PROGRAM");
    let program = named.unwrap_or_else(|_| env!("CARGO_BIN_EXE_calve").to_owned());
    let path = std::path::absolute(program).expect("a name");
    path.into_os_string().into_string().expect("a plain name")
}

/// A folder, and the program run in it.
pub(crate) struct Bench {
    path: PathBuf,
    _folder: tempfile::TempDir,
    variables: Vec<(String, String)>,
}

/// What a run said.
pub(crate) struct Said {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Bench {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        Self { path: folder.path().to_owned(), _folder: folder, variables: Vec::new() }
    }

    /// The same in memory, temporary files of the program included, where the host has 2 GiB of
    /// room for that: for tests that say nothing of file systems, and else wait for a disk most of
    /// their time, since whatever takes another file's place is brought to the medium before.
    pub(crate) fn in_memory() -> Self {
        let memory = Path::new("/dev/shm");
        let room = rustix::fs::statvfs(memory).map_or(0, |it| it.f_bavail * it.f_frsize);
        let Some(folder) = Some(memory).filter(|_| room > 2 << 30) else { return Self::new() };
        let Ok(folder) = tempfile::tempdir_in(folder) else { return Self::new() };
        let [path, temporary] = ["bench", "temporary"].map(|name| folder.path().join(name));
        for path in [&path, &temporary] {
            std::fs::create_dir(path).expect("a folder");
        }
        let mut bench = Self { path, _folder: folder, variables: Vec::new() };
        bench.set("TMPDIR", temporary.to_str().expect("a plain name"));
        bench
    }

    /// Runs the program with this variable from now on.
    pub(crate) fn set(&mut self, name: &str, value: &str) {
        self.variables.retain(|(known, _)| known != name);
        self.variables.push((name.to_owned(), value.to_owned()));
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, bytes: &[u8]) {
        std::fs::write(self.file(name), bytes).expect("a file");
    }

    pub(crate) fn read(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.file(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    /// The names of all files, sorted.
    pub(crate) fn names(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.path()).expect("a folder");
        let mut names: Vec<String> = entries
            .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        names
    }

    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(program());
        command.current_dir(self.path()).args(arguments);
        command.envs(self.variables.iter().map(|(name, value)| (name, value)));
        command
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Said {
        Said::of(&self.command(arguments).output().expect("the program runs"))
    }

    /// Runs with a kernel that fails the call `call` with `fault`, once: the time of this number.
    pub(crate) fn run_with_fault(
        &self,
        (call, fault, number): (&str, &str, u32),
        arguments: &[&str],
    ) -> Said {
        let output = Command::new("strace")
            .current_dir(self.path())
            .args(["-f", "-qq", "-o", "/dev/null", "-e", &format!("trace={call}")])
            .args(["-e", &format!("inject={call}:error={fault}:when={number}")])
            .arg(program())
            .args(arguments)
            .output();
        Said::of(&output.expect("strace runs"))
    }

    /// Runs in so many KiB of address space. It ends with an abort where that is too little.
    pub(crate) fn run_within(&self, kibibytes: u64, arguments: &[&str]) -> Said {
        let output = Command::new("sh")
            .current_dir(self.path())
            .args(["-c", &format!("ulimit -v {kibibytes} && exec \"$0\" \"$@\"")])
            .arg(program())
            .args(arguments)
            .output();
        Said::of(&output.expect("a shell"))
    }

    /// Runs what has to succeed.
    pub(crate) fn ok(&self, arguments: &[&str]) -> Said {
        let said = self.run(arguments);
        assert_eq!(said.code, Some(0), "{arguments:?}: {}{}", said.out, said.err);
        said
    }

    /// Runs what has to end with this code, and say one line that holds `text`.
    pub(crate) fn fails(&self, code: i32, text: &str, arguments: &[&str]) -> Said {
        let said = self.run(arguments);
        assert_eq!(said.code, Some(code), "{arguments:?}: {}{}", said.out, said.err);
        assert!(said.err.contains(text), "{arguments:?}: {}", said.err);
        assert!(!said.err.contains("panicked"), "{}", said.err);
        said
    }
}

impl Said {
    pub(crate) fn of(output: &Output) -> Self {
        Self {
            code: output.status.code(),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {}", self.out))
    }
}

/// Sends a signal to a process that was started and not yet waited for.
pub(crate) fn signal(child: &Child, signal: Signal) {
    let id = i32::try_from(child.id()).expect("a process id");
    kill(Pid::from_raw(id), signal).expect("it runs");
}

/// Whether system calls can be watched here; says so loudly where not.
pub(crate) fn may_trace() -> bool {
    if !qemu::has("strace") {
        return false;
    }
    let traced = Command::new("strace").args(["-o", "/dev/null", "true"]).output();
    let is_allowed = traced.is_ok_and(|output| output.status.success());
    if !is_allowed {
        // Not a missing tool: some hosts let nobody trace.
        qemu::skipped("strace is not allowed to trace");
    }
    is_allowed
}

/// A mounted file system; `None`, and a loud word, where that cannot be had here.
pub(crate) fn mounted(bench: &Bench, kind: &str) -> Option<Mounted> {
    if !qemu::has(&format!("mkfs.{kind}")) {
        return None;
    }
    let mounted = Mounted::new(bench.path(), kind, 512 << 20).expect("a file system");
    if mounted.is_none() {
        // Not a missing tool: only root may mount, and not everywhere.
        qemu::skipped(&format!("mounting {kind} from a file needs root and loop devices"));
    }
    mounted
}

/// Bytes that the extents of a file have for themselves, as the file system tells.
pub(crate) fn exclusive(path: &str) -> u64 {
    let output = Command::new("filefrag").args(["-v", path]).output().expect("filefrag is there");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let extents = text.lines().filter(|line| line.trim_start().starts_with(char::is_numeric));
    // "0: 0.. 31: 1024.. 1055: 32: last,shared,eof"
    let own = extents.filter(|line| !line.contains("shared"));
    own.filter_map(|line| line.split(':').nth(3)?.trim().parse::<u64>().ok()).sum::<u64>() * 4096
}

/// A small image with plain and packed clusters, and what its disk holds.
pub(crate) fn image() -> (Vec<u8>, Vec<u8>) {
    let mut builder = Builder::new(12, 9, 1 << 20);
    let mut disk = vec![0; 1 << 20];
    for cluster in [0u64, 1, 2, 40, 41, 100, 255] {
        let content = Random::new(cluster + 7).content(4096);
        builder.plain(cluster, &content);
        let start = usize::try_from(cluster * 4096).expect("small");
        disk[start..start + 4096].copy_from_slice(&content);
    }
    builder.packed(7, &[0x37; 4096]);
    disk[7 * 4096..8 * 4096].fill(0x37);
    (builder.build(), disk)
}

/// A disk of this many MiB, all of it stored, that takes a while to convert slowly.
pub(crate) fn large(mebibytes: u64) -> Vec<u8> {
    let mut builder = Builder::new(16, 9, mebibytes << 20);
    for cluster in 0..mebibytes * 16 {
        builder.plain(cluster, &Random::new(cluster).number().to_be_bytes().repeat(8192));
    }
    builder.build()
}
