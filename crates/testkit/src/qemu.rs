//! Stock QEMU's tools, as a second opinion. Their exit codes prove nothing; content does.

use std::path::Path;
use std::process::{Command, Output};

/// Whether a tool is installed. Where it is not, the test that asks says loudly that it skips;
/// under `CI=true` it fails.
///
/// # Panics
/// Where the tool is missing under `CI=true`.
pub fn has(tool: &str) -> bool {
    let is_there = Command::new(tool).arg("--version").output().is_ok();
    let is_ci = std::env::var("CI").is_ok_and(|ci| ci == "true");
    assert!(is_there || !is_ci, "{tool} is missing: scripts/test installs it");
    if !is_there {
        skipped(&format!("{tool} is not installed"));
    }
    is_there
}

/// Whether a file that tests need is there. Says so where it is not.
///
/// # Panics
/// Under `CI=true`, where it is not: a missing file must not look like success.
pub fn is_installed(path: &Path) -> bool {
    let is_there = path.exists();
    let is_ci = std::env::var("CI").is_ok_and(|ci| ci == "true");
    assert!(is_there || !is_ci, "{} is missing: scripts/test installs it", path.display());
    if !is_there {
        skipped(&format!("{} is not there: scripts/test installs it", path.display()));
    }
    is_there
}

/// Says loudly that a test proves nothing here, and why.
#[expect(clippy::print_stderr, reason = "a skipped test has to be seen")]
pub fn skipped(why: &str) {
    eprintln!("SKIPPED: {why}");
}

/// Runs `qemu-img` in a folder.
///
/// # Panics
/// Where it cannot be started.
pub fn img(folder: &Path, arguments: &[&str]) -> Output {
    run("qemu-img", folder, arguments)
}

/// Runs `qemu-io` in a folder.
///
/// # Panics
/// Where it cannot be started.
pub fn io(folder: &Path, arguments: &[&str]) -> Output {
    run("qemu-io", folder, arguments)
}

fn run(tool: &str, folder: &Path, arguments: &[&str]) -> Output {
    let output = Command::new(tool).current_dir(folder).args(arguments).output();
    output.unwrap_or_else(|error| panic!("starting {tool}: {error}"))
}

/// What `qemu-img` reads of an image; `name` may be a list of options with `options` as
/// arguments before it.
///
/// # Panics
/// Where it reads nothing.
pub fn content(folder: &Path, options: &[&str], name: &str) -> Vec<u8> {
    let out = tempfile::Builder::new().tempfile_in(folder).expect("a temporary file");
    let target = out.path().to_str().expect("a plain name");
    let mut arguments = vec!["convert"];
    arguments.extend_from_slice(options);
    arguments.extend_from_slice(&["-O", "raw", name, target]);
    let output = img(folder, &arguments);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "qemu-img convert {name}: {said}");
    std::fs::read(out.path()).expect("qemu-img wrote a file")
}

/// Asserts that `qemu-img check` finds nothing wrong with a qcow2 image, not even a leak.
///
/// # Panics
/// Where it does.
pub fn assert_clean(folder: &Path, name: &str) {
    let output = img(folder, &["check", "-f", "qcow2", name]);
    let text = String::from_utf8_lossy(&output.stdout);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(text.contains("No errors were found"), "{name}: {text}{said}");
}
