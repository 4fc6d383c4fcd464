//! The target: whole under its name, or not there; and what is there already stays.

use std::os::unix::fs::symlink;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use crate::common::{Bench, Said, program, signal};
use calve_testkit::qemu;
use nix::sys::signal::Signal;

#[test]
fn an_existing_target_is_refused_and_force_replaces_it() {
    let bench = Bench::new();
    let (image, disk) = crate::common::image();
    bench.write("old.qcow", &image);
    bench.write("new.raw", b"precious");
    bench.fails(18, "--force", &["convert", "old.qcow", "new.raw"]);
    assert_eq!(bench.read("new.raw"), b"precious");
    bench.ok(&["convert", "--force", "old.qcow", "new.raw"]);
    assert!(bench.read("new.raw") == disk);
    bench.fails(18, "--force", &["create", "-f", "qcow2", "new.raw", "1M"]);
    bench.ok(&["create", "--force", "-f", "qcow2", "new.raw", "1M"]);
    assert_eq!(bench.names(), ["new.raw", "old.qcow"]);
}

#[test]
fn a_failed_replacement_leaves_what_was_there() {
    let bench = Bench::new();
    let (mut image, _) = crate::common::image();
    image.truncate(image.len() - 5000);
    bench.write("old.qcow", &image);
    bench.write("new.raw", b"precious");
    bench.fails(10, "lost", &["convert", "--force", "old.qcow", "new.raw"]);
    assert_eq!(bench.read("new.raw"), b"precious");
    assert_eq!(bench.names(), ["new.raw", "old.qcow"]);
}

#[test]
fn the_source_is_never_the_target_by_whatever_name() {
    let bench = Bench::new();
    let (image, _) = crate::common::image();
    bench.write("old.qcow", &image);
    std::fs::hard_link(bench.file("old.qcow"), bench.file("hard")).expect("a link");
    symlink("old.qcow", bench.file("soft")).expect("a link");
    std::fs::create_dir(bench.file("d")).expect("a folder");
    symlink("..", bench.file("d/up")).expect("a link");
    for name in ["old.qcow", "./old.qcow", "hard", "soft", "d/up/old.qcow", "d/../hard"] {
        for more in [&[][..], &["--force"], &["-n"]] {
            let arguments = [&["convert"][..], more, &["old.qcow", name]].concat();
            bench.fails(18, "same file as the source", &arguments);
        }
        assert!(bench.read("old.qcow") == image, "{name}");
    }
}

#[test]
fn a_base_is_never_the_target_either() {
    let bench = Bench::new();
    bench.write("base.raw", &[1; 4096]);
    let builder = calve_testkit::Builder::new(9, 12, 4096).backing(b"base.raw");
    bench.write("old.qcow", &builder.build());
    bench.fails(18, "same file", &["convert", "--force", "old.qcow", "base.raw"]);
    assert_eq!(bench.read("base.raw"), [1; 4096]);
}

#[test]
fn a_link_is_not_followed() {
    let bench = Bench::new();
    let (image, disk) = crate::common::image();
    bench.write("old.qcow", &image);
    bench.write("elsewhere", b"precious");
    symlink("elsewhere", bench.file("link")).expect("a link");
    symlink("nowhere", bench.file("dangling")).expect("a link");
    bench.fails(18, "exists", &["convert", "old.qcow", "link"]);
    bench.fails(18, "exists", &["convert", "old.qcow", "dangling"]);
    bench.fails(18, "symbolic link", &["convert", "-n", "old.qcow", "link"]);
    // Replacing it replaces the link.
    bench.ok(&["convert", "--force", "old.qcow", "link"]);
    assert!(bench.read("link") == disk);
    assert_eq!(bench.read("elsewhere"), b"precious");
    assert_eq!(bench.names(), ["dangling", "elsewhere", "link", "old.qcow"]);
}

#[test]
fn what_exists_is_written_into_with_n() {
    let bench = Bench::new();
    let (image, disk) = crate::common::image();
    bench.write("old.qcow", &image);
    bench.write("device", &vec![0xDD; (1 << 20) + 4096]);
    bench.ok(&["convert", "-n", "old.qcow", "device"]);
    let device = bench.read("device");
    assert!(device[..1 << 20] == disk, "zeros are written too");
    assert!(device[1 << 20..].iter().all(|byte| *byte == 0xDD), "what lies behind stays");
    bench.write("small", &[0; 4096]);
    bench.fails(18, "has room for 4096 bytes", &["convert", "-n", "old.qcow", "small"]);
    bench.fails(1, "missing", &["convert", "-n", "old.qcow", "missing"]);
    bench.write("zeros", &vec![0; 1 << 20]);
    bench.ok(&["convert", "-n", "--target-is-zero", "old.qcow", "zeros"]);
    assert!(bench.read("zeros") == disk);
    bench.fails(64, "--no-create", &["convert", "--target-is-zero", "old.qcow", "x"]);
}

#[test]
fn a_blank_qcow2_is_filled_with_n_and_one_that_holds_something_is_not() {
    let bench = Bench::new();
    let (image, disk) = crate::common::image();
    bench.write("old.qcow", &image);
    bench.write("disk.raw", &disk);
    bench.ok(&["create", "-q", "-f", "qcow2", "-o", "cluster_size=4k", "t.qcow2", "2M"]);
    bench.ok(&["convert", "-n", "-O", "qcow2", "old.qcow", "t.qcow2"]);
    let said = bench.ok(&["compare", "-F", "raw", "t.qcow2", "disk.raw"]);
    assert!(said.out.ends_with("Images are identical.\n"), "{}", said.out);
    let info = bench.ok(&["info", "--output=json", "t.qcow2"]).json();
    assert_eq!((&info["cluster-size"], &info["virtual-size"]), (&4096.into(), &(2 << 20).into()));
    if qemu::has("qemu-img") {
        qemu::assert_clean(bench.path(), "t.qcow2");
    }
    bench.fails(18, "holds data", &["convert", "-n", "-O", "qcow2", "old.qcow", "t.qcow2"]);
}

#[test]
fn what_a_blank_qcow2_has_behind_its_tables_does_not_show() {
    let bench = Bench::new();
    let (image, disk) = crate::common::image();
    bench.write("old.qcow", &image);
    bench.ok(&["create", "-q", "-f", "qcow2", "t.qcow2", "1M"]);
    // As after data that was written and discarded.
    let mut blank = bench.read("t.qcow2");
    blank.resize(4 << 20, 0xFF);
    bench.write("t.qcow2", &blank);
    bench.ok(&["convert", "-n", "-O", "qcow2", "--verify", "old.qcow", "t.qcow2"]);
    if qemu::has("qemu-img") {
        qemu::assert_clean(bench.path(), "t.qcow2");
        assert!(qemu::content(bench.path(), &["-f", "qcow2"], "t.qcow2") == disk);
    }
}

/// Starts a conversion that takes long enough to be interfered with, and waits until it writes.
fn start(bench: &Bench, more: &[&str]) -> Child {
    bench.write("large.qcow", &crate::common::large(16));
    let arguments = [&["convert", "-r", "4M"][..], more, &["large.qcow", "new.raw"]].concat();
    let child = bench
        .command(&arguments)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program runs");
    let end = Instant::now() + Duration::from_secs(20);
    let is_writing = || {
        let names = bench.names();
        let temporary = names.iter().find(|name| name.starts_with(".new.raw.calve-"));
        temporary.is_some_and(|name| bench.read(name).len() > 1 << 20)
    };
    while !is_writing() {
        assert!(Instant::now() < end, "it never wrote");
        std::thread::sleep(Duration::from_millis(10));
    }
    assert!(!bench.file("new.raw").exists(), "the name comes last");
    child
}

#[test]
fn signals_end_it_with_their_code_and_nothing_left_behind() {
    for (sent, code) in [(Signal::SIGINT, 130), (Signal::SIGTERM, 143), (Signal::SIGHUP, 129)] {
        let bench = Bench::new();
        let child = start(&bench, &[]);
        signal(&child, sent);
        let said = Said::of(&child.wait_with_output().expect("it ends"));
        assert_eq!(said.code, Some(code), "{}", said.err);
        assert!(said.err.contains("nothing was left behind"), "{}", said.err);
        assert_eq!(bench.names(), ["large.qcow"]);
    }
}

#[test]
fn the_slowest_pace_stops_at_once() {
    let bench = Bench::new();
    bench.write("large.qcow", &crate::common::large(4));
    let arguments = ["convert", "-r", "1", "large.qcow", "new.raw"];
    let child = bench.command(&arguments).stderr(Stdio::piped()).spawn().expect("it runs");
    // Once its file is there, its handlers are.
    while bench.names().len() < 2 {
        std::thread::sleep(Duration::from_millis(10));
    }
    signal(&child, Signal::SIGTERM);
    let said = Said::of(&child.wait_with_output().expect("it ends"));
    assert_eq!(said.code, Some(143), "{}", said.err);
    assert_eq!(bench.names(), ["large.qcow"]);
}

#[test]
fn a_result_that_reads_differently_is_removed() {
    for more in [&["--verify"][..], &["--verify", "-O", "qcow2"]] {
        let bench = Bench::new();
        let child = start(&bench, more);
        // What was written is spoiled behind the program's back, as failing storage would do it.
        let names = bench.names();
        let name = names.iter().find(|name| name.starts_with(".new.raw.calve-")).expect("a file");
        // Batches are written in any order: far behind the place it has certainly been written.
        while bench.read(name).len() < 9 << 20 {
            std::thread::sleep(Duration::from_millis(10));
        }
        let file = std::fs::File::options().write(true).open(bench.file(name)).expect("a file");
        std::os::unix::fs::FileExt::write_all_at(&file, b"spoiled", 900_000).expect("written");
        let said = Said::of(&child.wait_with_output().expect("it ends"));
        assert_eq!(said.code, Some(17), "{}", said.err);
        assert!(said.err.contains("differs from the source at guest byte"), "{}", said.err);
        assert_eq!(bench.names(), ["large.qcow"]);
    }
}

#[test]
fn a_killed_run_leaves_nothing_under_the_targets_name() {
    let bench = Bench::new();
    let mut child = start(&bench, &[]);
    signal(&child, Signal::SIGKILL);
    child.wait().expect("it ends");
    let names = bench.names();
    assert!(!names.contains(&"new.raw".to_owned()), "{names:?}");
    // What is left says whose it is, and is in nobody's way.
    assert!(names.iter().any(|name| name.starts_with(".new.raw.calve-")), "{names:?}");
    bench.ok(&["convert", "large.qcow", "new.raw"]);
}

#[test]
fn a_request_for_progress_is_one_line_and_the_run_goes_on() {
    let bench = Bench::new();
    let child = start(&bench, &[]);
    signal(&child, Signal::SIGUSR1);
    let said = Said::of(&child.wait_with_output().expect("it ends"));
    assert_eq!(said.code, Some(0), "{}", said.err);
    let lines: Vec<&str> = said.err.lines().collect();
    assert!(matches!(lines[..], [line] if line.ends_with("/100%)")), "{lines:?}");
    assert_eq!(bench.names(), ["large.qcow", "new.raw"]);
}

#[test]
fn qemu_may_not_write_what_is_being_read() {
    if !qemu::has("qemu-io") {
        return;
    }
    let bench = Bench::new();
    let child = start(&bench, &[]);
    let refused = qemu::io(bench.path(), &["-f", "qcow", "-c", "write 0 512", "large.qcow"]);
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(said.contains("lock"), "{said}");
    // Another reader is in nobody's way.
    bench.ok(&["convert", "large.qcow", "other.raw"]);
    let said = Said::of(&child.wait_with_output().expect("it ends"));
    assert_eq!(said.code, Some(0), "{}", said.err);
}

#[test]
fn a_source_that_changes_while_it_is_read_is_noticed() {
    let bench = Bench::new();
    let child = start(&bench, &[]);
    let mut changed = bench.read("large.qcow");
    changed[100_000] ^= 1;
    std::fs::write(bench.file("large.qcow"), &changed).expect("a file");
    let said = Said::of(&child.wait_with_output().expect("it ends"));
    assert_eq!(said.code, Some(14), "{}", said.err);
    assert_eq!(bench.names(), ["large.qcow"]);
}

#[test]
fn a_file_that_may_not_grow_further_is_no_space_and_nothing_is_left() {
    let bench = Bench::new();
    let image = crate::common::large(4);
    bench.write("large.qcow", &image);
    // The limit counts units of 512 bytes or more, and spares what is there already.
    let script = "ulimit -f 1024; exec \"$0\" convert -O qcow2 large.qcow new.qcow2";
    let output = std::process::Command::new("sh")
        .current_dir(bench.path())
        .args(["-c", script, &program()])
        .output()
        .expect("a shell");
    let said = Said::of(&output);
    assert_eq!(said.code, Some(16), "{}", said.err);
    assert_eq!(bench.names(), ["large.qcow"]);
}

#[test]
fn a_full_file_system_is_no_space_and_nothing_is_left() {
    let bench = Bench::new();
    bench.write("large.qcow", &crate::common::large(4));
    std::fs::create_dir(bench.file("small")).expect("a folder");
    let mounted = std::process::Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=1m", "tmpfs"])
        .arg(bench.file("small"))
        .output();
    if !mounted.is_ok_and(|output| output.status.success()) {
        // Not a missing tool: only root may mount. The limit on file sizes stands in for it.
        qemu::skipped("mounting a small tmpfs needs root");
        return;
    }
    for format in ["raw", "qcow2"] {
        let arguments = ["convert", "-O", format, "large.qcow", "small/new"];
        let said = bench.run(&arguments);
        let left = std::fs::read_dir(bench.file("small")).expect("a folder").count();
        assert_eq!((said.code, left), (Some(16), 0), "{}", said.err);
    }
    let unmounted = std::process::Command::new("umount").arg(bench.file("small")).output();
    assert!(unmounted.is_ok_and(|output| output.status.success()), "unmounted again");
}

/// Each system call that matters fails in its turn, in the kernel's own words.
#[test]
fn a_host_that_fails_at_any_step_leaves_nothing_behind() {
    if !crate::common::may_trace() {
        return;
    }
    let bench = Bench::new();
    let (image, disk) = crate::common::image();
    bench.write("old.qcow", &image);
    let mut failures = 0;
    for (call, fault) in [
        ("pread64", "EIO"),
        ("pwritev", "EIO"),
        ("pwritev", "ENOSPC"),
        ("pwrite64", "EIO"),
        ("pwrite64", "ENOSPC"),
        ("ftruncate", "ENOSPC"),
        ("fsync", "EIO"),
        ("renameat2", "EACCES"),
        ("openat2", "EACCES"),
        ("lseek", "EIO"),
    ] {
        // Only what lies together in the result, and not in the source, is written in parts.
        let format = if call == "pwritev" { "qcow2" } else { "raw" };
        for number in 1..=12 {
            let arguments = ["convert", "--verify", "-O", format, "old.qcow", "new"];
            let said = bench.run_with_fault((call, fault, number), &arguments);
            let what = format!("{call} number {number}: {}", said.err);
            match said.code {
                Some(0) => {
                    bench.ok(&["convert", "-q", "new", "raw"]);
                    assert!(bench.read("raw") == disk, "{what}");
                    std::fs::remove_file(bench.file("raw")).expect("a file");
                    std::fs::remove_file(bench.file("new")).expect("a file");
                }
                // The loader failed, and the program never ran.
                Some(127) => {}
                Some(1 | 10 | 14 | 16) => failures += 1,
                other => panic!("{other:?}: {what}"),
            }
            assert_eq!(bench.names(), ["old.qcow"], "{what}");
        }
    }
    assert!(failures > 10, "too few of the faults were met: {failures}");
}

#[test]
fn a_block_device_is_written_into() {
    let bench = Bench::new();
    let (image, disk) = crate::common::image();
    bench.write("old.qcow", &image);
    bench.write("backing", &vec![0xDD; 2 << 20]);
    let losetup = |arguments: &[&str]| {
        let output = std::process::Command::new("losetup").args(arguments).output().ok()?;
        let name = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        output.status.success().then_some(name)
    };
    let backing = bench.file("backing");
    let backing = backing.to_str().expect("a plain name");
    let Some(device) = losetup(&["--find", "--show", backing]) else {
        // Not a missing tool: only root has loop devices, and not everywhere.
        qemu::skipped("a loop device needs root and a kernel that has them");
        return;
    };
    let refused = bench.run(&["convert", "old.qcow", &device]);
    let written = bench.run(&["convert", "-n", "old.qcow", &device]);
    let compared = bench.run(&["compare", "-F", "raw", "old.qcow", &device]);
    losetup(&["--detach", &device]);
    assert_eq!(refused.code, Some(18), "{}", refused.err);
    assert_eq!(written.code, Some(0), "{}", written.err);
    assert!(compared.out.starts_with("Warning: Image size mismatch!"), "{}", compared.out);
    let device = bench.read("backing");
    assert!(device[..1 << 20] == disk && device[1 << 20..].iter().all(|byte| *byte == 0xDD));
}

#[test]
fn a_result_may_be_read_by_nobody_who_may_not_read_the_source() {
    use std::os::unix::fs::PermissionsExt;
    let bench = Bench::new();
    let (image, _) = crate::common::image();
    bench.write("old.qcow", &image);
    let only_me = std::fs::Permissions::from_mode(0o600);
    std::fs::set_permissions(bench.file("old.qcow"), only_me).expect("permissions");
    bench.ok(&["convert", "old.qcow", "new.raw"]);
    let mode = std::fs::metadata(bench.file("new.raw")).expect("a file").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}
