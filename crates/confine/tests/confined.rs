//! What a confined process can and cannot do: each case runs in a process of its own, which is
//! this test again.

use std::fs::{self, File};
use std::io::{ErrorKind, Read, Seek, Write};
use std::net::{TcpListener, UdpSocket};
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use calve_confine::{Confinement, Inherited, Limits};
use calve_testkit::qemu::skipped;

/// Names the case in the process that is to be confined.
const CASE: &str = "CALVE_CONFINED_CASE";

/// A folder in which cases work; it is the working folder of the process.
fn bench() -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    fs::create_dir(folder.path().join("allowed")).expect("a folder");
    fs::write(folder.path().join("outside"), "outside").expect("a file");
    fs::write(folder.path().join("allowed/there"), "there").expect("a file");
    folder
}

fn command(folder: &Path, case: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().expect("a name"));
    command
        .args(["--exact", "in_a_process_of_its_own", "--nocapture", "--test-threads=1"])
        .env(CASE, case)
        .current_dir(folder);
    command
}

fn run(case: &str) -> (tempfile::TempDir, Output) {
    let folder = bench();
    let output = command(folder.path(), case).output().expect("starts");
    (folder, output)
}

/// What a process ends with where this kernel cannot confine it.
const CANNOT: i32 = 77;

/// How the process of this case ended, and in which folder; `None`, and a loud word, where this
/// kernel cannot confine it.
fn confined(case: &str) -> Option<(tempfile::TempDir, Output)> {
    let (folder, output) = run(case);
    if output.status.code() == Some(CANNOT) {
        skipped("this kernel cannot confine a process");
        return None;
    }
    Some((folder, output))
}

fn passes(case: &str) -> Option<tempfile::TempDir> {
    let (folder, output) = confined(case)?;
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{case}: {}: {said}", output.status);
    Some(folder)
}

#[track_caller]
fn ends_by(case: &str, signal: i32) {
    if let Some((_, output)) = confined(case) {
        assert_eq!(output.status.signal(), Some(signal));
    }
}

/// Confines this thread. Ends where the kernel cannot, since nothing is proved then.
fn confine(folders: &[&str]) {
    let folders = folders.iter().map(PathBuf::from).collect();
    let confinement = Confinement {
        limits: Limits::for_reading(0),
        folders,
        takes_files: false,
        fills_files: false,
    };
    let missing = confinement.enter().expect("the folders are there");
    if !missing.is_empty() {
        std::process::exit(CANNOT);
    }
}

#[track_caller]
fn denied<T>(done: std::io::Result<T>) {
    let Err(error) = done else { panic!("it was allowed") };
    // Moving a file between folders of other rights is told as moving it between devices.
    let is_denied = matches!(error.kind(), ErrorKind::PermissionDenied | ErrorKind::CrossesDevices);
    assert!(is_denied, "{error}");
}

/// The process that the other tests start; nothing where the tests themselves run.
#[test]
fn in_a_process_of_its_own() {
    let Ok(case) = std::env::var(CASE) else { return };
    match case.as_str() {
        "reader" => reader(),
        "open files" => open_files(),
        "filler" => filler(),
        "writer" => writer(),
        "threads" => threads(),
        "memory" => memory(),
        "time" => time(),
        "inherited" => inherited(),
        "twice" => twice(),
        "no folder" => no_folder(),
        other => panic!("no case {other}"),
    }
}

fn reader() {
    confine(&[]);
    denied(File::open("outside"));
    denied(File::open("allowed/there"));
    denied(File::create("allowed/new"));
    denied(fs::metadata("outside"));
    denied(fs::read_dir("."));
    denied(fs::rename("outside", "moved"));
    denied(fs::remove_file("outside"));
    denied(fs::hard_link("outside", "linked"));
    denied(fs::create_dir("folder"));
    denied(fs::set_permissions("outside", fs::Permissions::from_mode(0o777)));
    denied(std::os::unix::fs::symlink("outside", "link"));
    denied(std::env::set_current_dir("allowed"));
    denied(TcpListener::bind("127.0.0.1:0"));
    denied(UdpSocket::bind("127.0.0.1:0"));
    denied(std::os::unix::net::UnixStream::pair());
    denied(Command::new("/bin/true").status());
}

#[test]
fn a_reader_opens_nothing_connects_to_nothing_and_starts_nothing() {
    let Some(folder) = passes("reader") else { return };
    let names = fs::read_dir(folder.path()).expect("a folder").count();
    assert_eq!(names, 2, "nothing came and nothing went");
}

fn open_files() {
    let mut file = File::options().read(true).write(true).open("outside").expect("opens");
    confine(&[]);
    let mut text = [0; 7];
    file.read_exact_at(&mut text, 0).expect("reads");
    assert_eq!(&text, b"outside");
    file.rewind().expect("seeks");
    let mut whole = Vec::new();
    file.try_clone().expect("a copy").read_to_end(&mut whole).expect("reads");
    assert_eq!(whole, b"outside");
    // Also a file that was opened for writing: no file may grow, and no call is left to cut one.
    denied(file.set_len(1));
    denied(file.set_permissions(fs::Permissions::from_mode(0o777)));
    denied(file.write_all_at(b"changed", 0));
}

#[test]
fn what_was_open_before_can_be_read_and_not_changed() {
    let Some(folder) = passes("open files") else { return };
    assert_eq!(fs::read(folder.path().join("outside")).expect("reads"), b"outside");
}

fn writer() {
    confine(&["allowed"]);
    denied(File::open("outside"));
    denied(File::create("new"));
    denied(fs::write("outside", "changed"));
    denied(fs::remove_file("outside"));
    denied(fs::rename("outside", "allowed/moved"));
    denied(fs::rename("allowed/there", "moved"));
    denied(fs::hard_link("outside", "allowed/linked"));
    denied(fs::create_dir("allowed/folder"));
    denied(std::os::unix::fs::symlink("../outside", "allowed/link"));
    denied(TcpListener::bind("127.0.0.1:0"));
    denied(Command::new("/bin/true").status());
    // A way out by name is none.
    denied(File::open("allowed/../outside"));
    let mut file = File::create_new("allowed/new").expect("creates");
    file.write_all(b"content").expect("writes");
    file.set_len(4).expect("cuts");
    file.sync_all().expect("syncs");
    fs::rename("allowed/new", "allowed/done").expect("renames");
    assert_eq!(fs::read("allowed/done").expect("reads"), b"cont");
    fs::remove_file("allowed/there").expect("removes");
}

#[test]
fn a_writer_makes_files_in_its_folder_and_nowhere_else() {
    let Some(folder) = passes("writer") else { return };
    assert_eq!(fs::read(folder.path().join("outside")).expect("reads"), b"outside");
    let names = fs::read_dir(folder.path().join("allowed")).expect("a folder");
    let names: Vec<_> = names.map(|entry| entry.expect("an entry").file_name()).collect();
    assert_eq!(names, ["done"]);
}

fn filler() {
    let spool = tempfile::tempfile().expect("a file");
    let outside = File::open("outside").expect("opens");
    let confinement = Confinement {
        limits: Limits::for_reading(0),
        folders: Vec::new(),
        takes_files: true,
        fills_files: true,
    };
    if !confinement.enter().expect("no folders").is_empty() {
        std::process::exit(CANNOT);
    }
    spool.write_all_at(b"unpacked", 4096).expect("written");
    spool.set_len(8192).expect("made longer");
    rustix::fs::fstatvfs(&spool).expect("how much room is left");
    let mut read = [1; 8192];
    spool.read_exact_at(&mut read, 0).expect("reads");
    assert_eq!((&read[..4], &read[4096..4104]), (&[0; 4][..], &b"unpacked"[..]));
    spool.set_len(0).expect("emptied");
    // What is open for reading stays as it is, and nothing else can be opened.
    assert!(outside.write_all_at(b"changed", 0).is_err());
    assert!(outside.set_len(0).is_err());
    denied(File::open("outside"));
    denied(File::create("allowed/new"));
    denied(fs::remove_file("outside"));
}

#[test]
fn who_fills_a_file_that_is_open_changes_nothing_else() {
    let Some(folder) = passes("filler") else { return };
    assert_eq!(fs::read(folder.path().join("outside")).expect("reads"), b"outside");
}

fn threads() {
    confine(&[]);
    let sums = (0..4u64).map(|number| std::thread::spawn(move || (0..1000 + number).sum::<u64>()));
    let sums: Vec<u64> = sums.map(|thread| thread.join().expect("ends")).collect();
    assert_eq!(sums[0], 499_500);
    // They are as confined as their maker.
    std::thread::spawn(|| denied(File::open("outside"))).join().expect("ends");
    std::thread::sleep(Duration::from_millis(1));
}

#[test]
fn threads_work_and_are_confined_too() {
    passes("threads");
}

fn memory() {
    confine(&[]);
    let mut kept: Vec<Vec<u8>> = Vec::new();
    loop {
        kept.push(vec![1; 1 << 20]);
        assert!(kept.len() < 600, "more than 512 MiB");
    }
}

#[test]
fn too_much_memory_ends_the_process_by_itself() {
    const ABORT: i32 = 6;
    ends_by("memory", ABORT);
}

fn time() {
    let limits = Limits { seconds: 1, ..Limits::for_reading(0) };
    Confinement { limits, folders: Vec::new(), takes_files: false, fills_files: false }
        .enter()
        .expect("no folders");
    let started = Instant::now();
    while started.elapsed() < Duration::from_secs(60) {}
}

#[test]
fn too_much_time_ends_the_process() {
    const TIME: i32 = 24;
    ends_by("time", TIME);
}

fn inherited() {
    let inherited = Inherited::look().expect("told");
    let own = File::open("outside").expect("opens");
    assert!(File::open("/proc/self/fd/9").is_ok());
    inherited.close();
    assert!(File::open("/proc/self/fd/9").is_err());
    assert_eq!(own.metadata().expect("still open").len(), 7);
}

#[test]
fn what_the_parent_left_open_is_closed_and_nothing_else() {
    let folder = bench();
    let program = std::env::current_exe().expect("a name");
    let output = Command::new("sh")
        .args(["-c", "exec 9<outside; exec \"$0\" \"$@\""])
        .arg(program)
        .args(["--exact", "in_a_process_of_its_own", "--nocapture", "--test-threads=1"])
        .env(CASE, "inherited")
        .current_dir(folder.path())
        .stdin(Stdio::null())
        .output()
        .expect("starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

fn twice() {
    confine(&["allowed"]);
    let confinement = Confinement {
        limits: Limits::for_reading(0),
        folders: Vec::new(),
        takes_files: false,
        fills_files: false,
    };
    // Not all of it can be had from inside, and none of it widens anything.
    let _ = confinement.enter();
    denied(File::open("outside"));
}

#[test]
fn confining_again_widens_nothing() {
    passes("twice");
}

fn no_folder() {
    let folders = vec![PathBuf::from("/nowhere/at/all")];
    let error = Confinement {
        limits: Limits::for_reading(0),
        folders,
        takes_files: false,
        fills_files: false,
    }
    .enter();
    assert!(
        error
            .expect_err("no folder")
            .to_string()
            .starts_with("/nowhere/at/all: opening the folder: ")
    );
}

#[test]
fn a_folder_that_is_not_there_is_an_error() {
    passes("no folder");
}
