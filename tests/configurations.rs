//! `migrate --configs`: what names the images follows them, as a patch or with the families, and
//! comes back with them.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use calve_testkit::{Random, qemu, seeds};
use serde_json::Value;

use crate::common::Bench;
use crate::migrate::{
    archive, assert_migrated, files, kill_within, kills, scan_and_plan, two_families,
};

/// A machine of libvirt with disks on these files.
fn domain<'a>(disks: impl IntoIterator<Item = (&'a Path, &'a str)>) -> String {
    let disk = |(path, format): (&Path, &str)| {
        let path = path.to_str().expect("text").replace('&', "&amp;").replace('\'', "&apos;");
        let path = path.replace('<', "&lt;");
        format!(
            "  <disk type='file' device='disk'>\n    <driver name='qemu' type='{format}'/>\n    \
             <source file='{path}'/>\n  </disk>\n"
        )
    };
    let disks: String = disks.into_iter().map(disk).collect();
    format!("<domain type='kvm'>\n<devices>\n{disks}</devices>\n</domain>\n")
}

fn machine(bench: &Bench, disks: &[(&str, &str)]) -> String {
    let paths: Vec<_> = disks.iter().map(|(name, format)| (bench.file(name), *format)).collect();
    domain(paths.iter().map(|(path, format)| (&**path, *format)))
}

fn write_machine(bench: &Bench, name: &str, disks: &[(&str, &str)]) {
    bench.write(name, machine(bench, disks).as_bytes());
}

#[track_caller]
fn assert_machine(bench: &Bench, name: &str, disks: &[(&str, &str)]) {
    assert_eq!(String::from_utf8_lossy(&bench.read(name)), machine(bench, disks), "{name}");
}

/// Two families; one machine with an image of each, one of Proxmox VE, and one that has neither.
fn machines() -> Bench {
    let bench = two_families();
    fs::create_dir(bench.file("etc")).expect("a folder");
    write_machine(&bench, "etc/both.xml", &[("tree/c.qcow", "qcow"), ("tree/z.qcow", "qcow")]);
    write_machine(&bench, "etc/other.xml", &[("elsewhere.qcow", "qcow")]);
    let z = bench.file("tree/z.qcow");
    let conf = format!("scsi0: {},format=qcow,size=1M\nargs: -x {}\n", z.display(), z.display());
    bench.write("etc/100.conf", conf.as_bytes());
    scan_and_plan(&bench, &[]);
    bench
}

/// Changes what a patch says.
#[track_caller]
fn take(bench: &Bench, patch: &str) {
    let mut command = Command::new("patch");
    command.args(["-s", "-p1", "-d", "/", "-i"]).arg(bench.file(patch));
    assert!(command.status().expect("patch runs").success());
}

const MIGRATE: [&str; 4] = ["migrate", "plan", "--configs", "etc"];
const APPLY: [&str; 5] = ["migrate", "plan", "--configs", "etc", "--apply-configs"];
const BOTH: [(&str, &str); 2] = [("tree/c.qcow", "qcow2"), ("tree/z.qcow", "qcow2")];

#[test]
fn a_patch_says_what_has_to_change_and_nothing_is_changed_unasked() {
    let bench = machines();
    let before = files(&bench.file("etc"));
    let none = [&MIGRATE[..], &["--max-duration", "0s"]].concat();
    let said = bench.fails(75, "not begun: 2 families", &none);
    assert!(said.out.contains("no configuration has to change"), "{}", said.out);
    let said = bench.ok(&MIGRATE);
    assert!(said.out.contains("configurations: 2 files to change"), "{}", said.out);
    // What a program leaves to people is told.
    assert!(said.err.contains("100.conf: line 2: has arguments for QEMU"), "{}", said.err);
    assert!(before == files(&bench.file("etc")));
    if qemu::has("patch") {
        take(&bench, "plan.patch");
        assert_machine(&bench, "etc/both.xml", &BOTH);
        let conf = String::from_utf8(bench.read("etc/100.conf")).expect("text");
        assert!(conf.contains(",format=qcow2,size=1M\n"), "{conf}");
        let said = bench.ok(&[&MIGRATE[..], &["--output", "json", "--patches", "p"]].concat());
        assert_eq!(said.json()["patch"]["files"], 0);
        assert_eq!(bench.read("p"), b"");
    }
}

/// Nobody but whoever applied a patch knows that, and the images are what they were.
#[test]
fn taking_a_run_back_tells_how_the_patch_is_taken_back() {
    let bench = machines();
    let plan = bench.file("a plan");
    fs::rename(bench.file("plan"), &plan).expect("renamed");
    let before = files(&bench.file("etc"));
    bench.ok(&["migrate", "-q", "a plan", "--configs", "etc"]);
    if qemu::has("patch") {
        take(&bench, "a plan.patch");
        assert!(before != files(&bench.file("etc")));
    }
    let said = bench.ok(&["migrate", "--undo", "1", "a plan"]);
    let command = said.err.split_once("the patch was applied: ").expect("what to type").1;
    let command = command.trim_end();
    assert!(command.ends_with("/a plan.patch'"), "{command}");
    if qemu::has("patch") {
        let mut shell = Command::new("sh");
        assert!(shell.args(["-c", command]).output().expect("a shell").status.success());
        assert_machine(&bench, "etc/both.xml", &[BOTH[0], BOTH[1]].map(|(name, _)| (name, "qcow")));
    }
    // What was written over a patch that somebody applied does not know it.
    bench.ok(&["migrate", "-q", "a plan", "--configs", "etc"]);
    fs::write(bench.file("a plan.patch"), b"").expect("written");
    let said = bench.ok(&["migrate", "--undo", "2", "a plan", "--output", "json"]);
    assert!(said.json()["patch-back"].is_null(), "{}", said.out);
    assert!(said.err.contains("a plan.patch became empty: take that back by hand"), "{}", said.err);
    // What an earlier run has left is of no other.
    bench.ok(&["migrate", "-q", "a plan"]);
    let old = fs::File::options().write(true).open(bench.file("a plan.patch")).expect("there");
    old.set_modified(std::time::UNIX_EPOCH).expect("older");
    let said = bench.ok(&["migrate", "--undo", "3", "a plan", "--output", "json"]);
    assert!(said.json()["patch-back"].is_null() && !said.err.contains("patch"), "{}", said.err);
}

#[test]
fn a_patch_of_what_all_shards_have_migrated_is_written_where_their_reports_become_one() {
    let bench = machines();
    let work = ["work", "-q", "--plan", "plan", "--shard"];
    let merge = ["merge-reports", "--plan", "plan", "--configs", "etc", "plan.shards"];
    let before = files(&bench.file("etc"));
    // The chain is the heavier family, and what follows it does not wait for the other one.
    bench.ok(&[&work[..], &["0/2"]].concat());
    let said = bench.fails(75, "1 of 2 shards have no report", &merge);
    assert!(said.out.contains("configurations: 1 file to change"), "{}", said.out);
    bench.ok(&[&work[..], &["1/2"]].concat());
    let said = bench.ok(&merge);
    assert!(said.out.contains("configurations: 2 files to change"), "{}", said.out);
    assert!(said.err.contains("100.conf: line 2: has arguments for QEMU"), "{}", said.err);
    assert!(before == files(&bench.file("etc")));
    if qemu::has("patch") {
        take(&bench, "plan.patch");
        assert_machine(&bench, "etc/both.xml", &BOTH);
        let said = bench.ok(&[&merge[..], &["--output", "json", "--patches", "p"]].concat());
        assert_eq!(said.json()["patch"]["files"], 0);
        assert_eq!(bench.read("p"), b"");
    }
    let one = "plan.shards/shard-0-of-2.report";
    let words = ["merge-reports", "--plan", "plan", "--configs", "etc", one];
    bench.fails(64, "name the folder of the shards alone", &words);
    bench.fails(64, "--plan", &["merge-reports", "--configs", "etc", "plan.shards"]);
}

#[test]
fn configurations_are_changed_with_their_families_and_come_back_with_them() {
    let bench = machines();
    let (etc, tree) = (files(&bench.file("etc")), files(&bench.file("tree")));
    let said = bench.ok(&[&APPLY[..], &["--events", "events"]].concat());
    assert!(said.out.contains("configurations: 3 changes"), "{}", said.out);
    assert_machine(&bench, "etc/both.xml", &BOTH);
    assert_machine(&bench, "etc/other.xml", &[("elsewhere.qcow", "qcow")]);
    let events = String::from_utf8(bench.read("events")).expect("text");
    let events = events.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
    assert_eq!(events.filter(|event| event["event"] == "followed").count(), 3);
    let again = bench.ok(&[&APPLY[..], &["--output", "json"]].concat()).json();
    assert_eq!((&again["known"], &again["followed"]), (&2.into(), &0.into()));
    bench.ok(&["migrate", "-q", "--undo", "1", "plan"]);
    let content = |all: &std::collections::BTreeMap<_, (String, i64, i64)>| {
        all.values().map(|(digest, ..)| digest.clone()).collect::<Vec<_>>()
    };
    assert_eq!(content(&etc), content(&files(&bench.file("etc"))));
    assert!(tree == files(&bench.file("tree")));
    assert_eq!(bench.names(), ["catalogue", "catalogue.lock", "etc", "events", "plan", "tree"]);
}

#[test]
fn a_family_that_fails_takes_only_its_own_places_back() {
    let bench = machines();
    let hook = "case $CALVE_IMAGE in *c.qcow) exit 3;; esac";
    // The one that fails is the first to change the file that both are named in.
    let words = ["--after", hook, "--jobs", "1", "--max-failures", "100"];
    bench.fails(11, "the hook after", &[&APPLY[..], &words].concat());
    assert_machine(&bench, "etc/both.xml", &[("tree/c.qcow", "qcow"), BOTH[1]]);
    bench.ok(&APPLY);
    assert_machine(&bench, "etc/both.xml", &BOTH);
    // And the first of two that follow it is taken back, while the other is written to.
    let c = bench.file("tree/c.qcow");
    let file = fs::File::options().write(true).open(&c).expect("opens");
    file.set_modified(std::time::UNIX_EPOCH + Duration::from_secs(5)).expect("set");
    bench.fails(11, "family 1 was not taken back", &["migrate", "--undo", "1", "plan"]);
    assert_machine(&bench, "etc/both.xml", &[BOTH[0], ("tree/z.qcow", "qcow")]);
    bench.ok(&["migrate", "-q", "--undo", "1", "--force", "plan"]);
    let both = [("tree/c.qcow", "qcow"), ("tree/z.qcow", "qcow")];
    assert_machine(&bench, "etc/both.xml", &both);
}

#[test]
fn what_is_migrated_already_is_followed_when_that_is_asked_for() {
    let bench = machines();
    bench.ok(&["migrate", "-q", "plan"]);
    let said = bench.ok(&[&APPLY[..], &["--output", "json"]].concat()).json();
    assert_eq!((&said["known"], &said["followed"]), (&2.into(), &3.into()));
    assert_machine(&bench, "etc/both.xml", &BOTH);
    bench.ok(&["migrate", "-q", "--undo", "1", "plan"]);
    let both = [("tree/c.qcow", "qcow"), ("tree/z.qcow", "qcow")];
    assert_machine(&bench, "etc/both.xml", &both);
}

#[test]
fn what_somebody_else_changed_is_not_overwritten() {
    let bench = machines();
    bench.ok(&[&APPLY[..], &["-q"]].concat());
    let edited = [BOTH[0], BOTH[1], ("tree/new.raw", "raw")];
    write_machine(&bench, "etc/both.xml", &edited);
    let said = bench.fails(11, "by somebody else", &["migrate", "--undo", "1", "plan"]);
    assert!(said.err.contains("both.xml"), "{}", said.err);
    assert_machine(&bench, "etc/both.xml", &edited);
    assert_eq!(bench.read("tree/z.qcow")[7], 3, "images and configurations agree");
    let said = bench.ok(&["migrate", "--undo", "1", "--force", "plan"]);
    assert!(said.err.contains("both.xml: was changed by somebody else"), "{}", said.err);
    assert_machine(&bench, "etc/both.xml", &edited);
    assert_eq!(bench.read("tree/z.qcow")[7], 1);
    // The next run begins with what is there.
    write_machine(&bench, "etc/both.xml", &[("tree/z.qcow", "qcow")]);
    bench.ok(&[&APPLY[..], &["-q"]].concat());
    assert_machine(&bench, "etc/both.xml", &[("tree/z.qcow", "qcow2")]);
}

#[test]
fn a_configuration_that_cannot_be_understood_or_written_keeps_the_images_as_they_are() {
    let bench = machines();
    let tree = files(&bench.file("tree"));
    bench.write("etc/broken.xml", b"<domain><devices><disk></devices></domain>");
    bench.fails(18, "etc/broken.xml: line 1", &APPLY);
    assert!(tree == files(&bench.file("tree")));
    fs::remove_file(bench.file("etc/broken.xml")).expect("removed");
    bench.fails(1, "no/such", &["migrate", "plan", "--configs", "no/such"]);
    // A full disk: the family is what it was, and so is the file.
    if qemu::has("strace") {
        let etc = files(&bench.file("etc"));
        let words = [&APPLY[..], &["-q", "--jobs", "1"]].concat();
        let mut failed = 0;
        for number in 1..9 {
            let said = bench.run_with_fault(("renameat", "ENOSPC", number), &words);
            failed += usize::from(said.code == Some(11));
            bench.run(&["migrate", "-q", "--undo", &number.to_string(), "plan"]);
            assert!(tree == files(&bench.file("tree")), "{number}: {}", said.err);
            let now = files(&bench.file("etc"));
            assert!(etc.iter().all(|(path, it)| now[path].0 == it.0), "{number}: {}", said.err);
        }
        assert!(failed > 0, "no renaming failed");
    }
    bench.ok(&[&APPLY[..], &["-q"]].concat());
    assert_machine(&bench, "etc/both.xml", &BOTH);
}

#[test]
fn images_are_found_over_links() {
    let bench = two_families();
    fs::create_dir(bench.file("etc")).expect("a folder");
    symlink("tree", bench.file("link")).expect("a link");
    fs::hard_link(bench.file("tree/z.qcow"), bench.file("hard.qcow")).expect("a name");
    write_machine(&bench, "etc/a.xml", &[("link/c.qcow", "qcow"), ("hard.qcow", "qcow")]);
    scan_and_plan(&bench, &[]);
    bench.ok(&[&APPLY[..], &["-q"]].concat());
    let after = [("link/c.qcow", "qcow2"), ("hard.qcow", "qcow2")];
    assert_machine(&bench, "etc/a.xml", &after);
}

#[test]
fn killed_at_any_moment_images_and_configurations_agree_in_the_end() {
    let kills = kills();
    for seed in seeds("CALVE_MIGRATE_CASES", 1) {
        let mut random = Random::new(seed);
        let (bench, truth) = archive(seed);
        let way = ["upgrade", "convert"][usize::try_from(seed % 2).expect("small")];
        let planned = scan_and_plan(&bench, &["--way", way]);
        let images = planned.iter().filter(|image| image["format"] == "qcow");
        let images: Vec<(&Path, bool)> = images
            .map(|image| {
                let path = Path::new(image["path"].as_str().expect("a path"));
                (path, image["strategy"] != "leave")
            })
            .collect();
        fs::create_dir(bench.file("etc")).expect("a folder");
        let machine = |number: usize, is_migrated: bool| {
            // Three disks, of other families mostly.
            let disks = (0..3).map(|disk| images[(number + disk * 7) % images.len()]);
            domain(disks.map(|(path, is_meant)| match is_meant && is_migrated {
                true => (path, "qcow2"),
                false => (path, "qcow"),
            }))
        };
        let name = |number: usize| format!("etc/{number}.xml");
        for number in 0..images.len() {
            bench.write(&name(number), machine(number, false).as_bytes());
        }
        for _ in 0..kills {
            let run = bench.command(&[&APPLY[..], &["-q"]].concat()).spawn().expect("starts");
            kill_within(run, random.below(400_000));
        }
        bench.ok(&[&APPLY[..], &["-q"]].concat());
        assert_migrated(&bench, &truth, &planned);
        let text = |number: usize| String::from_utf8(bench.read(&name(number))).expect("text");
        for number in 0..images.len() {
            assert_eq!(text(number), machine(number, true), "seed {seed}, {number}");
        }
        for _ in 0..kills.min(3) {
            let words = ["migrate", "-q", "--undo", "1", "plan"];
            let run = bench.command(&words).spawn().expect("starts");
            kill_within(run, random.below(100_000));
        }
        let said = bench.run(&["migrate", "-q", "--undo", "1", "plan"]);
        assert!(matches!(said.code, Some(0 | 18)), "seed {seed}: {}", said.err);
        for number in 0..images.len() {
            assert_eq!(text(number), machine(number, false), "seed {seed}: {}", said.err);
        }
        let left = files(&bench.file("etc")).len();
        assert_eq!(left, images.len(), "seed {seed}: something lies beside them");
    }
}
